"""Results are reused for one recording, expert, weights, settings and version, or not at all."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

import predict
from evaluation import export_formats, prediction_files, reuse
from evaluation.reuse import Origin, Place, names_of, namesakes_of
from evaluation.stagers import catalogue
from tests.stand_in import StandIn
from tests.test_nothing_lost import night, stage
from utils import manifest
from utils.files import is_ours

EEG = {"EEG Fpz-Cz": 100}


@pytest.fixture
def stager(monkeypatch) -> StandIn:
    """What every model is in these tests, and the recordings that it has staged."""
    stager = StandIn()
    monkeypatch.setattr(catalogue, "load", lambda name, device: stager)
    # pictures and pages take a second each
    quick = {k: one for k, one in export_formats.EXPORTS.items() if k not in ("png", "html")}
    monkeypatch.setattr(export_formats, "EXPORTS", quick)
    monkeypatch.setattr(prediction_files, "write_second_look", lambda folder, rows: None)
    return stager


def epochs_in(path: Path) -> int:
    return len(path.read_text().splitlines()) - 1


def edf(tmp_path: Path) -> Path:
    return tmp_path / "nights" / "n.edf"


# each changes one thing that decides the result; the words are those of the command
def other_recording(tmp_path, stager, monkeypatch):
    night(edf(tmp_path), 3)


def one_sample(tmp_path, stager, monkeypatch):
    content = bytearray(edf(tmp_path).read_bytes())
    content[-1] ^= 1
    edf(tmp_path).write_bytes(content)


def same_size_and_time(tmp_path, stager, monkeypatch):
    status = edf(tmp_path).stat()
    one_sample(tmp_path, stager, monkeypatch)
    os.utime(edf(tmp_path), ns=(status.st_atime_ns, status.st_mtime_ns))


def expert_arrives(tmp_path, stager, monkeypatch):
    edf(tmp_path).with_suffix(".txt").write_text("N2\nN2\n")


def weights(tmp_path, stager, monkeypatch):
    stager.fingerprint = "2"


def preparation(tmp_path, stager, monkeypatch):
    stager.preparation = {"bandpass": [0.3, 35]}


def version(tmp_path, stager, monkeypatch):
    monkeypatch.setattr(reuse, "VERSION", "0.0.1")


def channels(tmp_path, stager, monkeypatch):
    return ["--channels", "EEG=EEG Fpz-Cz"]


def age(tmp_path, stager, monkeypatch):
    return ["--age", "30", "--sex", "female"]


def pages(tmp_path, stager, monkeypatch):
    return ["--is_interpret", "True"]


def file_is_gone(tmp_path, stager, monkeypatch):
    for path in (tmp_path / "out").rglob("n.csv"):
        path.unlink()


CHANGES = (
    other_recording, one_sample, same_size_and_time, expert_arrives, weights, preparation, version,
    channels, age, pages, file_is_gone,
)  # fmt: skip


@pytest.mark.parametrize("output", ["out", "out/{}.csv"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_one_changed_thing_stages_anew(tmp_path, stager, monkeypatch, change, output):
    night(edf(tmp_path))
    stage(edf(tmp_path), tmp_path / output)
    stage(edf(tmp_path), tmp_path / output)
    assert stager.staged == ["n"]
    more = change(tmp_path, stager, monkeypatch) or []
    stage(edf(tmp_path), tmp_path / output, *more)
    assert stager.staged == ["n", "n"]
    stage(edf(tmp_path), tmp_path / output, *more)
    assert stager.staged == ["n", "n"]
    # in the place of the former result, which was this recording's too
    assert len(list((tmp_path / "out").rglob("n.csv"))) == 1


@pytest.mark.parametrize("change", ["edited", "removed", "none"])
def test_an_experts_file_that_changes_is_compared_with_again(tmp_path, stager, change):
    night(edf(tmp_path))
    expert = edf(tmp_path).with_suffix(".txt")
    expert.write_text("N2\nN2\n")
    stage(edf(tmp_path), tmp_path / "out")
    table = tmp_path / "out" / "n" / "n.csv"
    assert ",N2," in table.read_text()
    if change == "removed":
        expert.unlink()
    if change == "edited":
        expert.write_text("N3\nN3\n")
    stage(edf(tmp_path), tmp_path / "out", *(["--expert", "none"] if change == "none" else []))
    assert (",N3," in table.read_text()) == (change == "edited") and stager.staged == ["n", "n"]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a/x.edf", "b/y.edf"], ["x", "y"]),
        (["p1/psg.edf", "p2/psg.edf"], ["p1/psg", "p2/psg"]),
        (["psg.edf", "p2/psg.edf", "z.edf"], ["psg", "p2/psg", "z"]),
        (["a/1/psg.edf", "a/2/psg.edf", "b/1/PSG.edf"], ["a/1/psg", "a/2/psg", "b/1/PSG"]),
        (["a/s/1/psg.edf", "a/s/2/psg.edf"], ["1/psg", "2/psg"]),
        (["n.edf", "n.bdf"], ["n.edf", "n.bdf"]),
        (["a/n.edf", "a/n.rec", "b/n.edf"], ["a/n.edf", "a/n.rec", "b/n"]),
    ],
)
def test_names_mirror_the_tree_where_recordings_share_one(tmp_path, files, names):
    paths = [tmp_path / name for name in files]
    namesakes = namesakes_of(paths)
    assert [next(names_of(path, namesakes)) for path in paths] == names
    for path in paths:  # and there are others, all different, should those be taken
        more = list(names_of(path, namesakes))
        assert len(set(more)) == len(more) > 1 and all(name.endswith(more[0]) for name in more)


@pytest.mark.parametrize("output", ["out", "out/{}.csv"])
def test_recordings_namesakes_of_are_staged_together(tmp_path, stager, output):
    """Was: refused, "stage them apart"."""
    night(tmp_path / "s" / "p1" / "psg.edf", 2)
    night(tmp_path / "s" / "p2" / "psg.edf", 3)
    stage(tmp_path / "s", tmp_path / output)
    staged = {p.relative_to(tmp_path / "out").parts[0]: p for p in tmp_path.rglob("psg.csv")}
    assert {name: epochs_in(path) for name, path in staged.items()} == {"p1": 2, "p2": 3}
    if output == "out":
        with (tmp_path / "out" / "summary.csv").open() as file:
            rows = {row["file"]: row["epochs"] for row in csv.DictReader(file)}
        assert rows == {"p1/psg.edf": "2", "p2/psg.edf": "3"}


@pytest.mark.parametrize("output", ["out", "out/{}.csv", ["out/{}.csv", "out/{}.json"]])
@pytest.mark.parametrize("twins", [("p1/psg.edf", "p2/psg.edf"), ("a/s/n.edf", "b/s/n.edf")])
def test_recordings_namesakes_of_are_staged_one_after_the_other(
    tmp_path, stager, output, twins, capsys
):
    """Was: the first one's results were passed off as the second's."""
    targets = [tmp_path / name for name in ([output] if isinstance(output, str) else output)]
    first, second = (night(tmp_path / twin, n) for n, twin in enumerate(twins, start=2))
    stage(first, targets)
    capsys.readouterr()
    stage(second, targets)
    assert f"holds the results of {first}" in capsys.readouterr().out
    for _ in range(2):  # nothing is staged again, whatever the order
        stage(second, targets)
        stage(first, targets)
    assert len(stager.staged) == 2
    tables = sorted(map(epochs_in, tmp_path.rglob(f"{first.stem}.csv")))
    assert tables == [2, 3]
    shutil.copy(second, first)  # the first recording is replaced by another
    stage(first, targets)
    assert sorted(map(epochs_in, tmp_path.rglob(f"{first.stem}.csv"))) == [3, 3]


def test_copies_of_one_recording_are_two(tmp_path, stager):
    """Else the results of both would be one, although an expert may lie beside either."""
    first = night(tmp_path / "p1" / "psg.edf")
    second = tmp_path / "p2" / "psg.edf"
    second.parent.mkdir()
    shutil.copy(first, second)
    stage(first, tmp_path / "out")
    stage(second, tmp_path / "out")
    assert len(stager.staged) == 2 and len(list(tmp_path.rglob("psg.csv"))) == 2


def test_a_recording_that_was_moved_is_not_staged_again(tmp_path, stager):
    first = night(tmp_path / "p1" / "psg.edf")
    stage(first, tmp_path / "out")
    first.parent.rename(tmp_path / "moved")
    stage(tmp_path / "moved" / "psg.edf", tmp_path / "out")
    (tmp_path / "study").mkdir()
    for name in ("moved", "out"):  # the whole project
        (tmp_path / name).rename(tmp_path / "study" / name)
    stage(tmp_path / "study" / "moved" / "psg.edf", tmp_path / "study" / "out")
    assert stager.staged == ["psg"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_results_never_lie_in_the_folder_of_others(tmp_path, stager, order):
    """A recording may be called as the folder of another."""
    files = [
        night(tmp_path / "s" / name, n)
        for n, name in enumerate(("p1.edf", "p1/psg.edf", "p2/psg.edf"), start=2)
    ]
    for k in order:
        stage(files[k], tmp_path / "out")
    stage(tmp_path / "s", tmp_path / "out", "--again")
    stage(tmp_path / "s", tmp_path / "out")
    tables = [p for p in (tmp_path / "out").rglob("*.csv") if p.name in ("p1.csv", "psg.csv")]
    assert {2, 3, 4} == {epochs_in(path) for path in tables}
    for path in tables:
        assert sum((above / "made_with.json").exists() for above in path.parents) == 1


def test_what_decided_a_result_is_written_with_it(tmp_path, stager):
    night(edf(tmp_path)).with_suffix(".txt").write_text("N2\nN2\n")
    stager.preparation = {"bandpass": (0.3, 35)}
    stage(edf(tmp_path), tmp_path / "out", "--channels", "EEG=EEG Fpz-Cz")
    stage(edf(tmp_path), tmp_path / "out" / "{}.csv")
    made = json.loads((tmp_path / "out" / "n" / "made_with.json").read_text())
    assert made["version"] == reuse.VERSION and made["source"] == "../../nights/n.edf"
    assert made["sha256"] == manifest.sha256(edf(tmp_path))
    assert made["expert"]["file"] == "n.txt" and len(made["expert"]["sha256"]) == 64
    assert made["stagers"] == [{"weights": "1", "preparation": {"bandpass": [0.3, 35]}}]
    assert made["settings"]["channels"] == ["EEG=EEG Fpz-Cz"]
    source, checksum, _ = manifest.read(tmp_path / "out").files["n.csv"].origin
    assert (source, checksum) == ("../nights/n.edf", made["sha256"])


def test_results_from_before_are_staged_anew_in_their_place(tmp_path, stager):
    """Which recording they were of is not known."""
    night(edf(tmp_path))
    stage(edf(tmp_path), tmp_path / "out")
    path = tmp_path / "out" / "n" / "made_with.json"
    before = {"weights": ["1"], "channels": [], "expert": None, "explained": 0}
    path.write_text(json.dumps(before))
    manifest.write_for_tree(path.parent, "staged night")
    stage(edf(tmp_path), tmp_path / "out")
    assert stager.staged == ["n", "n"] and "sha256" in json.loads(path.read_text())


def test_edited_results_are_still_not_replaced(tmp_path, stager):
    night(edf(tmp_path))
    stage(edf(tmp_path), tmp_path / "out")
    table = tmp_path / "out" / "n" / "n.csv"
    table.write_text("mine")
    stager.fingerprint = "2"
    with pytest.raises(predict.UserError, match=r"holds n\.csv"):
        stage(edf(tmp_path), tmp_path / "out")
    assert table.read_text() == "mine" and not is_ours(table)


def test_a_recording_that_changes_while_it_is_staged_is_refused(tmp_path, stager, monkeypatch):
    night(edf(tmp_path))
    compute = stager.compute

    def changing(*arguments):
        one_sample(tmp_path, stager, monkeypatch)
        return compute(*arguments)

    monkeypatch.setattr(stager, "compute", changing)
    with pytest.raises(predict.UserError, match="was changed while it was staged"):
        stage(edf(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out" / "n").exists()


def test_targets_that_were_typed_are_written_anew(tmp_path, stager):
    first, second = night(tmp_path / "p1" / "n.edf", 2), night(tmp_path / "p2" / "n.edf", 3)
    for file in (first, second, second):
        stage(file, tmp_path / "mine.csv")
    assert epochs_in(tmp_path / "mine.csv") == 3 and len(stager.staged) == 3


def test_origins(tmp_path):
    here = tmp_path / "a.edf"
    here.touch()
    one = Origin(here, "1", "s")
    assert one.is_of(one) and one.is_current(one)
    assert one.is_of(Origin(here, "2", "s")) and not one.is_current(Origin(here, "2", "s"))
    assert not one.is_of(Origin(tmp_path / "b.edf", "1", "s"))  # a copy
    gone = Origin(tmp_path / "gone.edf", "1", "s")
    assert gone.is_current(one) and not gone.is_of(Origin(here, "2", "s"))
    assert Origin(None).is_of(one) and not Origin(None).is_current(one)
    assert Place(tmp_path, tmp_path / "n").holder(one) == ""


def test_one_version_everywhere():
    root = Path(__file__).parents[1]
    assert f'version = "{reuse.VERSION}"\n' in (root / "pyproject.toml").read_text()
    assert f"version: {reuse.VERSION}\n" in (root / "CITATION.cff").read_text()


@pytest.mark.parametrize("pattern", ["{}.edf", "{}/eeg.edf", "a/{}/b/eeg.edf"])
def test_names_take_no_longer_where_recordings_are_many(tmp_path, monkeypatch, pattern):
    """Whom a recording shares its name with is not searched among all, again and again."""
    asked = []
    parent = type(tmp_path).parent
    monkeypatch.setattr(
        type(tmp_path), "parent", property(lambda path: asked.append(1) or parent.fget(path))
    )
    paths = [tmp_path / pattern.format(k) for k in range(100)]
    namesakes = namesakes_of(paths)
    assert len({next(names_of(path, namesakes)) for path in paths}) == 100
    assert len(asked) <= 20 * len(paths)
