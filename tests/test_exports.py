"""Exports for other programs: read back by them where they install, else by our readers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from datetime import datetime, timedelta
from pathlib import Path

import edfio
import mne
import numpy as np
import pandas
import pytest
import yasa

import predict
from datasets.readers.edf import EdfFile
from datasets.readers.expert_annotations import find, is_export, read
from evaluation import export_formats, prediction_files
from evaluation.export_formats import EXPORTS, format_of
from evaluation.exports import bids_dataset
from evaluation.exports.edf_export import write_edf
from evaluation.exports.exported_stages import codes_of
from evaluation.exports.night_tables import write_events
from evaluation.exports.text_exports import write_annot, write_eannot, write_snooz, write_yasa
from evaluation.exports.xml_exports import write_edfbrowser, write_nsrr, write_profusion
from evaluation.stagers import catalogue
from tests.edf_files import START, write_psg
from tests.listing import below
from tests.stand_in import StandIn
from utils.errors import UserError, run_script
from utils.files import write_text, written_whole
from utils.staged_night import StagedNight
from utils.stages import MADE_BY_A_MODEL

DOCS = Path(__file__).parents[1] / "docs" / "staging.md"
STAGES = np.array([0, 0, 1, 2, 2, 3, 4, 4, 2, 0, 0, 3], np.int8)
TRUTH = [0, 0, 1, 2, 2, 3, 4, 4, -1, 0, 0, 3]  # one epoch has no signal
SECONDS = 375.5  # the thirteenth epoch is cut short
BEGAN = datetime.combine(*START)
WRITERS = {
    "night.annot": write_annot,
    "night.eannot": write_eannot,
    "night_snooz.tsv": write_snooz,
    "night-profusion.xml": write_profusion,
    "night-nsrr.xml": write_nsrr,
    "night_edfbrowser.xml": write_edfbrowser,
    "night-Hypnogram.edf": write_edf,
}
TEXTS = [name for name in WRITERS if not name.endswith((".edf", ".eannot"))]


def night(**more) -> StagedNight:
    probabilities = (np.eye(5)[STAGES] * 0.9 + 0.02).astype(np.float32)
    lost = np.arange(len(STAGES)) == 8
    about = {"start": BEGAN.isoformat(), "lost": lost, "seconds": SECONDS} | more
    return StagedNight("night", "night", probabilities, np.full(len(STAGES), -1, np.int8), **about)


@pytest.fixture
def recording(tmp_path) -> EdfFile:
    write_psg(tmp_path / "night.edf", SECONDS / 30, {"EEG": 10}, record_seconds=0.5)
    return EdfFile(tmp_path / "night.edf")


def anonymous(path: Path) -> Path:
    """A copy of an export without the mark of its origin."""
    copy = path.with_name(f"x{path.name}")
    mark = MADE_BY_A_MODEL.encode()
    copy.write_bytes(path.read_bytes().replace(mark, b"x" * len(mark)))
    return copy


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("start", [BEGAN, BEGAN.replace(hour=23, minute=58)], ids=["day", "night"])
def test_every_format_gives_the_stages_back(tmp_path, name, start):
    WRITERS[name](tmp_path / name, night(start=start.isoformat()))
    stages, note = read(anonymous(tmp_path / name), recorded(tmp_path, start), 13)
    assert (stages.tolist(), note) == ([*TRUTH, -1], "")


@pytest.mark.parametrize("name", WRITERS)
def test_what_lies_around_the_staged_part_is_unscored(recording, tmp_path, name):
    part = night(first_epoch=3, seconds=30.0 * 20 + 12)
    write_psg(tmp_path / "r.edf", 20.4, {"EEG": 10}, record_seconds=1)
    WRITERS[name](tmp_path / name, part)
    stages, note = read(anonymous(tmp_path / name), EdfFile(tmp_path / "r.edf"), 20)
    assert (stages.tolist(), note) == ([-1] * 3 + TRUTH + [-1] * 5, "")
    assert codes_of(part) == stages.tolist()


@pytest.mark.parametrize("name", TEXTS)
def test_an_export_is_no_experts_until_somebody_corrects_it(recording, tmp_path, name):
    WRITERS[name](tmp_path / name, night())
    assert is_export(tmp_path / name) and find(recording.path) is None
    with pytest.raises(UserError, match="exported, unchanged: no expert's; correct them in it"):
        read(tmp_path / name, recording, 12)
    text = (tmp_path / name).read_text()
    for deep in ("N3\t.", "stage\t3\t", "<SleepStage>3<", "Stage 3 sleep|3", "stage N3"):
        text = text.replace(deep, deep.replace("3", "2"))
    (tmp_path / name).write_text(text)
    assert not is_export(tmp_path / name)
    wanted = [2 if code == 3 else code for code in TRUTH]
    assert read(tmp_path / name, recording, 12)[0].tolist() == wanted


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_has_no_room_for_a_mark_is_known_by_the_list_of_its_folder(recording, tmp_path, kind):
    if kind == "file":
        place = tmp_path / "night.eannot"
        with written_whole(place, what=prediction_files.STAGED) as temporary:
            write_eannot(temporary.with_name("scratch"), night())
            shutil.move(temporary.with_name("scratch"), temporary)
    else:
        place = tmp_path / "results" / "night.eannot"
        with prediction_files.written_folder(place.parent, prediction_files.STAGED) as folder:
            write_eannot(folder / place.name, night())
    assert is_export(place)
    with pytest.raises(UserError, match="exported, unchanged: no expert's"):
        read(place, recording, 12)
    place.write_text(place.read_text().replace("N3", "N2"))
    assert not is_export(place)
    assert read(place, recording, 12)[0].tolist() == [2 if code == 3 else code for code in TRUTH]
    # one of the same name that another script wrote is no export
    write_text(tmp_path / "other.eannot", "W\n" * 12)
    assert not is_export(tmp_path / "other.eannot")


def test_yasa_reads_stages_start_and_probabilities(tmp_path):
    write_yasa(tmp_path / "n.json", night())
    theirs = yasa.Hypnogram.from_json(tmp_path / "n.json")
    assert theirs.hypno.tolist() == [("WAKE", "N1", "N2", "N3", "REM", "UNS")[k] for k in TRUTH]
    assert theirs.start == pandas.Timestamp(BEGAN) and theirs.freq == "30s"
    assert theirs.proba.to_numpy() == pytest.approx(night().probabilities, abs=1e-6)
    write_profusion(tmp_path / "n.xml", night())
    codes = yasa.Hypnogram.from_profusion(tmp_path / "n.xml").as_int().tolist()
    # YASA takes what Profusion calls unscored for Wake
    assert codes == [0 if code == -1 else code for code in TRUTH]


@pytest.mark.parametrize("fraction", [0, 250_000])
def test_mne_and_edfio_read_the_hypnogram_on_its_clock(tmp_path, fraction):
    start = BEGAN.replace(microsecond=fraction)
    path = write_edf(tmp_path / "h.edf", night(start=start.isoformat()))
    names = [f"Sleep stage {['W', 'N1', 'N2', 'N3', 'R', '?'][code]}" for code in TRUTH]
    theirs = mne.read_annotations(path)
    spread = [
        name
        for name, seconds in zip(theirs.description, theirs.duration, strict=True)
        for _ in range(round(seconds / 30))
    ]
    assert spread == names and theirs.onset[0] == 0
    edf = edfio.read_edf(path)
    assert datetime.combine(edf.startdate, edf.starttime) == start
    assert [a.onset for a in edf.annotations] == theirs.onset.tolist()
    assert read(anonymous(path), recorded(tmp_path, BEGAN), 12)[0].tolist() == TRUTH


def recorded(folder: Path, start: datetime) -> EdfFile:
    day = start.date(), start.time()
    write_psg(folder / "r.edf", SECONDS / 30, {"EEG": 10}, record_seconds=0.5, start=day)
    return EdfFile(folder / "r.edf")


def test_a_clock_without_a_date_is_kept(tmp_path):
    known = night(start=None, clock="1985-01-01T22:10:00")
    edf = edfio.read_edf(write_edf(tmp_path / "h.edf", known))
    assert edf.starttime.isoformat() == "22:10:00"
    write_nsrr(tmp_path / "n.xml", known)
    assert "<ClockTime>01.01.85 22.10.00<" in (tmp_path / "n.xml").read_text()
    write_nsrr(tmp_path / "n.xml", night(start=None))
    assert "ClockTime" not in (tmp_path / "n.xml").read_text()


def test_nsrr_has_the_recordings_start_and_length_and_bouts_without_gaps(tmp_path):
    write_nsrr(tmp_path / "n.xml", night())
    events = ElementTree.parse(tmp_path / "n.xml").getroot().findall("ScoredEvents/ScoredEvent")
    first = {child.tag: child.text for child in events[0]}
    assert first["EventConcept"] == "Recording Start Time" and first["Duration"] == "375.5"
    assert first["ClockTime"] == "24.04.89 16.13.00"
    at, epochs = 0.0, []
    for event in events[1:]:
        assert float(event.findtext("Start")) == at
        seconds = float(event.findtext("Duration"))
        epochs += [event.findtext("EventConcept").partition("|")[2]] * round(seconds / 30)
        at += seconds
    assert epochs == [str({-1: 9, 4: 5}.get(code, code)) for code in TRUTH]


def test_edfbrowser_finds_each_bout_at_its_clock_time(tmp_path):
    """It reads ``YYYY-MM-DDThh:mm:ss.`` at fixed places and passes over anything shorter."""
    write_edfbrowser(tmp_path / "n.xml", night(start="1989-04-24T23:58:30.500000"))
    rows = ElementTree.parse(tmp_path / "n.xml").getroot().findall("annotation")
    start, at = datetime(1989, 4, 24, 23, 58, 30, 500_000), 0.0
    for row in rows:
        onset = row.findtext("onset")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}", onset)
        assert datetime.fromisoformat(onset[:-1]) == start + timedelta(seconds=at)
        at += float(row.findtext("duration"))
    assert at == 360


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("SC4001E0-PSG", "sub-SC4001E0PSG/eeg/sub-SC4001E0PSG_task-sleep"),
        ("p1/psg", "sub-p1psg/eeg/sub-p1psg_task-sleep"),
        ("sub-01_task-Sleep_acq-psg_eeg", "sub-01/eeg/sub-01_task-Sleep_acq-psg"),
        ("sub-01_ses-2_eeg", "sub-01/ses-2/eeg/sub-01_ses-2_task-sleep"),
        ("sub-01_desc-raw_run-1_ieeg", "sub-01/eeg/sub-01_task-sleep_run-1"),
        ("Ünal_2", "sub-Unal2/eeg/sub-Unal2_task-sleep"),
    ],
)
def test_names_of_recordings_as_entities(tmp_path, name, wanted):
    path = bids_dataset.path_of(tmp_path, name)
    assert path == tmp_path / "bids" / f"{wanted}_desc-staging_events.tsv"


def test_a_name_in_another_alphabet_has_a_label_of_its_own(tmp_path):
    paths = {bids_dataset.path_of(tmp_path, name) for name in ("睡眠", "夜")}
    assert len(paths) == 2
    assert all(re.fullmatch(r"sub-x[0-9a-f]{8}", path.parts[-3]) for path in paths)


def test_a_description_of_somebody_else_stays(tmp_path):
    mine = tmp_path / "bids" / "dataset_description.json"
    mine.parent.mkdir()
    mine.write_text('{"Name": "mine", "DatasetType": "derivative"}')
    bids_dataset.check(tmp_path)
    bids_dataset.describe(tmp_path)
    assert json.loads(mine.read_text())["Name"] == "mine"
    assert (tmp_path / "bids" / "README.md").is_file()
    mine.write_text('{"Name": "mine"}')
    with pytest.raises(UserError, match="data set of recordings, among which no stages"):
        bids_dataset.check(tmp_path)


def test_the_longest_ending_is_the_format_of_a_file():
    own = {name for name, one in EXPORTS.items() if format_of(f"a/x{one.own_ending}") is one}
    assert own == {*EXPORTS} - {"bids"}
    assert format_of("A_YASA.JSON") is EXPORTS["yasa"] and format_of("a.xml") is None
    assert format_of("night_events.tsv") is EXPORTS["events"]


@pytest.fixture
def stager(monkeypatch) -> StandIn:
    """What every model is in these tests; pictures and pages take a second each."""
    stager = StandIn()
    monkeypatch.setattr(catalogue, "load", lambda name, device: stager)
    kept = {name: one for name, one in EXPORTS.items() if name not in ("png", "html")}
    monkeypatch.setattr(export_formats, "EXPORTS", kept)
    return stager


def stage(*words: object) -> None:
    predict.main([str(word) for word in words])


def test_every_export_of_a_folder_and_one_data_set_of_all(tmp_path, stager, capsys):
    (tmp_path / "raw").mkdir()
    for name in ("n", "sub-7_task-Sleep_eeg"):
        write_psg(tmp_path / "raw" / f"{name}.edf", 4.5, {"EEG": 100}, record_seconds=1)
    words = ["--edf", tmp_path / "raw", "--export", "all", "-o", tmp_path / "out"]
    stage(*words)
    endings = [one.file.format("n") for one in export_formats.EXPORTS.values() if one.file]
    assert {*endings} < {path.name for path in (tmp_path / "out" / "n").iterdir()}
    assert [name for name in below(tmp_path / "out" / "bids") if "." in name] == [
        "README.md", "dataset_description.json",
        "sub-7/eeg/sub-7_task-Sleep_desc-staging_events.json",
        "sub-7/eeg/sub-7_task-Sleep_desc-staging_events.tsv",
        "sub-n/eeg/sub-n_task-sleep_desc-staging_events.json",
        "sub-n/eeg/sub-n_task-sleep_desc-staging_events.tsv",
    ]  # fmt: skip
    about = json.loads(next((tmp_path / "out" / "bids" / "sub-n").rglob("*s.json")).read_text())
    assert (about["RecordingStart"], about["RecordingDuration"]) == (BEGAN.isoformat(), 135.0)
    # what is there is current, and staged again where a part of it is missing
    stage(*words)
    assert stager.staged == ["n", "sub-7_task-Sleep_eeg"]
    next((tmp_path / "out" / "bids" / "sub-n").rglob("*.tsv")).unlink()
    stage(*words)
    assert stager.staged[2:] == ["n"]
    assert "desc-staging_events.tsv" in capsys.readouterr().out


def test_two_names_of_one_label_do_not_share_a_file(tmp_path, stager, capsys):
    for name in ("a_b", "ab"):
        write_psg(tmp_path / f"{name}.edf", 3, {"EEG": 100})
    stage("--edf", tmp_path / "a_b.edf", "--export", "bids", "-o", tmp_path / "o")
    stage("--edf", tmp_path / "ab.edf", "--export", "bids", "-o", tmp_path / "o")
    assert "holds the results of" in capsys.readouterr().out
    assert len([*(tmp_path / "o" / "bids").glob("sub-*")]) == 2


def test_single_files_of_other_programs(tmp_path, stager):
    write_psg(tmp_path / "n.edf", 3, {"EEG": 100})
    endings = {one.own_ending for one in export_formats.EXPORTS.values()} - {"", ".edf"}
    stage("--edf", tmp_path / "n.edf", "-o", *(tmp_path / f"{{}}{end}" for end in sorted(endings)))
    assert (tmp_path / "n_snooz.tsv").read_text().startswith("group\t")
    assert (tmp_path / "n-nsrr.xml").is_file() and (tmp_path / "n.eannot").is_file()
    # beside the recording they are, and stay, no expert's
    stage("--edf", tmp_path / "n.edf", "-o", tmp_path / "again.json")
    assert "kappa" not in json.loads((tmp_path / "again.json").read_text())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--export", "bid"],
            r"bid: no such format; did you mean bids\?; formats are csv, events",
        ),
        (["--export", "sleepware"], "--export sleepware: no such format; formats are csv, events"),
        (["--export", "nsrr", "-o", "a.csv"], "--export nsrr: goes into a folder; name one after"),
        (
            ["-o", "a.xml"],
            r"a.xml: its ending is of no format; formats are .csv, .tsv \(events\)",
        ),
    ],
)
def test_wrong_words_are_refused_with_a_list(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    write_psg(tmp_path / "n.edf", 3, {"EEG": 10})
    monkeypatch.setattr(sys, "argv", ["predict.py", "--edf", "n.edf", *words])
    assert run_script(predict.main) == 2
    error = capsys.readouterr().err
    assert re.search(said, error) and error.count("\n") == 1


def test_every_export_is_in_the_help_and_in_the_docs(capsys):
    with pytest.raises(SystemExit):
        predict.main(["--help"])
    printed = re.sub(r"\s+", " ", capsys.readouterr().out)
    table = DOCS.read_text().partition("| name | file |")[2].partition("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()[2:]]
    assert [row[0].strip("`") for row in rows] == [*EXPORTS]
    for (name, export), row in zip(EXPORTS.items(), rows, strict=True):
        assert re.search(rf"[ .]{name}\b", printed)
        assert row[1] == f"`{(export.file or 'bids/').replace('{}', 'NAME')}`"
        assert row[2] == export.programs
        assert export.usual or f"{name} ({export.programs})" in printed


def validator() -> str:
    """The program that tells whether a folder is BIDS."""
    beside = Path(sys.executable).with_name("bids-validator-deno")
    program = str(beside) if beside.exists() else shutil.which("bids-validator-deno")
    if not program:
        pytest.skip("bids-validator-deno is not installed: pip install -r requirements-dev.txt")
    return program


def errors_of(folder: Path) -> list[str]:
    done = subprocess.run(
        [validator(), str(folder), "--format", "json", "--max-rows", "-1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    issues = json.loads(done.stdout)["issues"]["issues"]
    return [f"{one['code']} {one['location']}" for one in issues if one["severity"] == "error"]


@pytest.mark.slow
def test_the_validator_of_bids_finds_no_error(tmp_path, stager):
    names = ("n", "sub-7_ses-1_task-Sleep_acq-psg_run-2_eeg", "睡眠", "sub-8_task-Sleep_eeg")
    (tmp_path / "raw").mkdir()
    for name in names:
        write_psg(tmp_path / "raw" / f"{name}.edf", 4.5, {"EEG": 100}, record_seconds=1)
    stage("--edf", tmp_path / "raw", "--export", "bids", "-o", tmp_path / "out")
    assert len([*(tmp_path / "out" / "bids").rglob("*_events.tsv")]) == len(names)
    assert errors_of(tmp_path / "out" / "bids") == []
    # it does find the names that were exported before
    write_events(tmp_path / "out" / "bids" / "n_events.tsv", night(), "a model")
    assert any("n_events.tsv" in error for error in errors_of(tmp_path / "out" / "bids"))


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Path:
    """The interpreter of an environment that has Luna and pyEDFlib; Luna needs an older pandas."""
    if named := os.environ.get("READERS_PYTHON"):
        return Path(named)
    folder = tmp_path_factory.mktemp("others")
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "install", "-q", "lunapi==1.7.0", "pyedflib==0.1.42"]
    for command in ([sys.executable, "-m", "venv", folder], pip):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no Luna: pip cannot install it ({done.stderr.strip()[-200:]})")
    return python


LUNA = """
import json, sys, lunapi
project = lunapi.proj()
project.silence(True)
recording, *annotations = sys.argv[1:]
one = project.inst("night")
one.attach_edf(recording)
for path in annotations:
    one.attach_annot(path)
intervals = one.fetch_annots(one.annots()["Annotations"].tolist(), -1).values.tolist()
table = one.proc("EPOCH & STAGE")
print(json.dumps([intervals, table["STAGE: E"].STAGE.tolist() if annotations else []]))
"""
PYEDFLIB = """
import json, sys, pyedflib
with pyedflib.EdfReader(sys.argv[1]) as file:
    columns = [list(column) for column in file.readAnnotations()]
    print(json.dumps([str(file.getStartdatetime()), columns]))
"""
WORDS = {-1: "?", **dict(enumerate(("W", "N1", "N2", "N3", "R")))}


def answer(python: Path, program: str, *files: Path) -> list:
    """What a program for another interpreter prints last."""
    command = [python, "-c", program, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["night.annot", "night.eannot", "night-nsrr.xml"])
def test_luna_reads_stages_as_its_own(recording, tmp_path, name, others):
    WRITERS[name](tmp_path / name, night())
    intervals, stages = answer(others, LUNA, recording.path, tmp_path / name)
    assert stages == [WORDS[code] for code in TRUTH]
    assert max(stop for _, _, stop in intervals) == 360


@pytest.mark.slow
def test_luna_and_pyedflib_read_the_hypnogram(tmp_path, others):
    path = write_edf(tmp_path / "h.edf", night())
    spread = {}
    for word, start, stop in answer(others, LUNA, path)[0]:
        spread |= dict.fromkeys(range(int(start) // 30, int(stop) // 30), word)
    assert [spread[k] for k in range(12)] == [WORDS[code] for code in TRUTH]
    start, (onsets, lengths, texts) = answer(others, PYEDFLIB, path)
    assert start == str(BEGAN)
    epochs = [
        text
        for text, seconds in zip(texts, lengths, strict=True)
        for _ in range(int(seconds // 30))
    ]
    assert epochs == [f"Sleep stage {WORDS[code]}" for code in TRUTH] and onsets[0] == 0
