"""The default: the mean of unlike parts, what each is declared as, who decided, with reasons."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import edfio
import numpy as np
import pytest
import torch

import generate_demo_data
import models
import predict
from datasets.readers.any_file import opened
from evaluation.stagers import bundled, catalogue, network_stager
from evaluation.stagers.stager import Asked
from evaluation.stagers.vote import stage_file
from tests import browser
from tests.index_schema import check_index
from utils.checkpoint import load_checkpoint, load_tensors
from utils.errors import UserError
from utils.metrics import confusion, kappa
from utils.stages import STAGES

CPU = torch.device("cpu")
PARTS = ("default-spectra", "default-bands", "default-yasa")


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Path:
    """A simulated night of an hour and a quarter."""
    folder = tmp_path_factory.mktemp("hour")
    words = ["--varied", "--subjects", "1", "--nights", "1", "--hours", "1.25", "--jobs", "1"]
    generate_demo_data.main([*words, "--output", str(folder)])
    return next(folder.glob("*PSG.edf"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A bundle of three parts whose networks of bands have random weights."""
    folder = tmp_path_factory.mktemp("bundle")
    declared = bundled.parts()
    spectra = bundled.weights_of(declared["default-spectra"])[0]
    content = load_tensors(spectra)
    torch.save(content, folder / "spectra_0.pt")
    for seed in (0, 1):
        torch.manual_seed(seed)
        state = models.build("night_bands").state_dict()
        # its answers have to differ between epochs
        state["head.weight"] *= 20
        changed = content | {"model": "night_bands", "settings": {}, "state": state}
        torch.save(changed, folder / f"bands_{seed}.pt")
    about = declared["default-spectra"]
    parts = [
        about | {"checkpoints": ["spectra_0.pt"]},
        about
        | {
            "name": "default-bands",
            "checkpoints": ["bands_0.pt", "bands_1.pt"],
            "night_relative": True,
        },
        declared["default-yasa"],
    ]
    parts = bundled.with_checksums(parts, folder)
    (folder / "default.json").write_text(json.dumps({"parts": parts}))
    return folder / "default.json"


@pytest.fixture
def stand_in(bundle, monkeypatch) -> Path:
    """The bundle in place of the project's own."""
    monkeypatch.setattr(bundled, "BUNDLE", bundle)
    return bundle


@pytest.fixture(scope="module")
def staged(night, bundle):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundled, "BUNDLE", bundle)
        return bundled.load("default", CPU).stage(opened(night), Asked())


def variant(night: Path, path: Path, *, unit: str = "uV", gain: float = 1.0) -> Path:
    """One EEG of a night with another unit and gain."""
    signal = edfio.read_edf(night).signals[0]
    top = float(np.abs(signal.data).max()) * gain * 1.001
    one = edfio.EdfSignal(
        signal.data * gain, signal.sampling_frequency, label="EEG", physical_dimension=unit,
        physical_range=(-top, top),
    )  # fmt: skip
    edfio.Edf([one]).write(path)
    return path


def cut(night: Path, path: Path, n_epochs: int) -> Path:
    """The first epochs of one EEG of a night."""
    signal = edfio.read_edf(night).signals[0]
    fs = signal.sampling_frequency
    data = signal.data[: round(n_epochs * 30 * fs)]
    limits = (float(signal.physical_range.min), float(signal.physical_range.max))
    one = edfio.EdfSignal(data, fs, label="EEG", physical_dimension="uV", physical_range=limits)
    edfio.Edf([one]).write(path)
    return path


# ---------------------------------------------------------------- what is bundled


def test_the_bundle_is_complete_small_and_declared_as_it_is():
    """Weights lie beside the declaration, which names what they were trained on."""
    for name, about in bundled.parts().items():
        assert name.startswith("default-") and isinstance(about["night_relative"], bool)
        assert about["trained_on"] and "\n" not in about["trained_on"] and about["licence"]
        assert bool(bundled.weights_of(about)) != ("package" in about)
        for path in bundled.weights_of(about):
            checkpoint = load_checkpoint(path)
            assert path.stat().st_size < 1_000_000
            is_synthetic = checkpoint.training.cohort.startswith("synthetic-")
            assert is_synthetic or about["trained_on"] != "simulated nights"
    for name in bundled.names():
        assert bundled.load(name, CPU).name == name


def test_a_broken_declaration_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "default.json").write_text('{"weights": 1}')
    monkeypatch.setattr(bundled, "BUNDLE", tmp_path / "default.json")
    with pytest.raises(UserError, match="lists no parts; restore it"):
        catalogue.load("default", CPU)


def test_what_made_it_and_what_each_was_trained_on_is_one_line(capsys, raw, tmp_path):
    file = sorted(raw.glob("*PSG.edf"))[0]
    predict.main(["--edf", str(file), "--is_interpret", "False", "-o", str(tmp_path / "a.csv")])
    line = capsys.readouterr().out.splitlines()[0]
    for about in bundled.parts().values():
        assert about["name"] in line and f"({about['trained_on']})" in line


# ---------------------------------------------------------------- the mean


def test_parts_share_equally_and_can_be_asked_for_by_name(night, staged, stand_in):
    file = opened(night)
    alone = [bundled.load(name, CPU).stage(file, Asked()) for name in PARTS]
    mean = np.mean([one.probabilities for one in alone], axis=0)
    np.testing.assert_allclose(staged.probabilities, mean, atol=1e-6)
    assert [vote.name for vote in staged.votes] == list(PARTS)
    assert [vote.weight for vote in staged.votes] == pytest.approx([1 / 3] * 3)
    assert staged.reads == {"EEG": "EEG Fpz-Cz"} or len(staged.reads) == 1
    assert len(alone[1].votes) == 2  # its seeds are votes of the part alone
    # traces and maps are of the same signals
    np.testing.assert_array_equal(staged.signals, alone[0].signals)


def test_it_is_one_vote_beside_others(night, stand_in):
    both = [catalogue.load(name, CPU) for name in ("default", "yasa")]
    two = stage_file(opened(night), both, Asked())
    names = [f"default {name}" for name in PARTS]
    assert [vote.name for vote in two.votes] == [*names, "yasa"]
    assert [vote.weight for vote in two.votes] == pytest.approx([1 / 6] * 3 + [1 / 2])


def test_age_and_sex_reach_the_part_that_uses_them(night, staged, stand_in):
    stager = bundled.load("default", CPU)
    older = stage_file(opened(night), [stager], Asked(age=70, sex="male"))
    changed = [
        not np.array_equal(one.probabilities, other.probabilities)
        for one, other in zip(staged.votes, older.votes, strict=True)
    ]
    assert changed == [False, False, True]


def test_parts_prepare_a_recording_once(night, stand_in, monkeypatch):
    made, original = [], network_stager.prepare
    monkeypatch.setattr(
        network_stager, "prepare", lambda *words: made.append(words) or original(*words)
    )
    stager = bundled.load("default", CPU)
    for _ in range(2):
        stager.stage(opened(night), Asked())
    assert len(made) == 2  # once for each file, by two parts


def test_short_recordings_are_staged_without_parts_that_need_a_night(night, tmp_path, stand_in):
    for n_epochs, n_parts in ((119, 2), (120, 3)):
        file = opened(cut(night, tmp_path / f"{n_epochs}.edf", n_epochs))
        short = bundled.load("default", CPU).stage(file, Asked())
        assert [vote.weight for vote in short.votes] == pytest.approx([1 / n_parts] * n_parts)
        notes = "; ".join(short.notes)
        assert ("default-bands has no night to compare with: left out" in notes) == (n_parts == 2)
        assert ("default-bands" in short.headline) == (n_parts == 3)
    # asked for by its name, it stages what it is given
    assert bundled.load("default-bands", CPU).stage(opened(tmp_path / "119.edf"), Asked()).votes


def test_parts_that_all_need_a_night_stage_short_ones_too(night, bundle, tmp_path, monkeypatch):
    parts = json.loads(bundle.read_text())["parts"][1:2]
    own = bundle.with_name("alone.json")
    own.write_text(json.dumps({"parts": parts}))
    monkeypatch.setattr(bundled, "BUNDLE", own)
    short = bundled.load("default", CPU).stage(opened(cut(night, tmp_path / "n.edf", 60)), Asked())
    assert len(short.votes) == 1 and len(short.stages) == 60


def test_a_part_that_cannot_is_left_out_unless_none_is_left(tmp_path, stand_in):
    samples = np.random.default_rng(0).normal(0, 20, 64 * 3600).clip(-180, 180)
    one = edfio.EdfSignal(
        samples, 64, label="EEG", physical_dimension="uV", physical_range=(-192, 192)
    )
    edfio.Edf([one]).write(tmp_path / "slow.edf")
    stager = bundled.load("default", CPU)
    slow = stager.stage(opened(tmp_path / "slow.edf"), Asked())
    assert [vote.name for vote in slow.votes] == list(PARTS[:2])
    assert any(
        note.startswith("default-yasa is left out: slow: EEG (EEG) has 64 Hz")
        for note in slow.notes
    )
    with pytest.raises(UserError, match="no channel 'C9'"):
        stager.stage(opened(tmp_path / "slow.edf"), Asked({"EEG": ("C9",)}))


def test_units_and_gains_hardly_matter(night, tmp_path):
    """The project's own weights: the EEG without a unit, at half and at twice its size."""
    stager, stages = bundled.load("default", CPU), []
    for number, (unit, gain) in enumerate((("uV", 1.0), ("", 1.0), ("uV", 0.5), ("", 2.0))):
        file = variant(night, tmp_path / f"{number}.edf", unit=unit, gain=gain)
        stages.append(stager.stage(opened(file), Asked()).stages)
    for other in stages[1:]:
        assert kappa(confusion(stages[0], other)) >= 0.97


# ---------------------------------------------------------------- reasons


@pytest.fixture(scope="module")
def explained(night, bundle, tmp_path_factory) -> Path:
    """The folder of a night of which two epochs are explained."""
    output = tmp_path_factory.mktemp("explained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundled, "BUNDLE", bundle)
        predict.main(["--edf", str(night), "-o", str(output), "--explain", "2"])
    return output / night.stem


def test_reasons_of_every_part_are_in_one_entry_and_on_the_page(night, explained):
    folder = explained
    entries = check_index(folder / "interpretations")
    assert 1 <= len(entries) <= 2
    with (folder / f"{night.stem}.csv").open() as file:
        rows = list(csv.DictReader(file))
    for entry in entries:
        assert {"ig", "bands", "treeshap"} <= set(entry["methods"])
        assert entry["decided_by"] == rows[entry["epoch"]]["decided_by"] in PARTS
        about = entry["methods"]["bands"]
        assert about["settings"]["against"] in set(STAGES) - {entry["explained"]}
        with np.load(folder / "interpretations" / about["file"]) as arrays:
            total = arrays["contributions"].sum()
            assert arrays["groups"].tolist()[-1] == "rest of the night"
        change = about["value"] - about["baseline_value"]
        missing = abs(change - total) / abs(change)
        assert about["completeness_error"] == pytest.approx(missing, abs=1e-4)
        assert about["incomplete"] == (missing > 0.05)
        for about in entry["methods"].values():
            if about["value"] is not None:
                assert sum(about["baseline_probabilities"]) == pytest.approx(1, abs=1e-4)
    page = (folder / f"{night.stem}.html").read_text()
    assert f"Explained: {', '.join(PARTS)}" in page
    for words in ("Features of YASA", "Power of this epoch in five bands", "rest of the night"):
        assert words in page
    values = json.loads((folder / f"{night.stem}.json").read_text())
    assert sum(values["decided_by"].values()) == values["epochs"] == len(rows)
    marked = [int(row["epoch"]) for row in rows if row["to_review"] == "1"]
    assert marked == values["to_review"] and len(marked) == np.ceil(len(rows) / 10)


def test_the_page_is_drawn(night, explained, staged, tmp_path):
    if not (browser.BINARY and browser.DRIVER):
        pytest.skip("no chromium and chromedriver")
    epoch = check_index(explained / "interpretations")[0]["epoch"]
    with browser.Browser(tmp_path / "profile") as window:
        window.open(explained / f"{night.stem}.html")
        window.run(f"show({epoch})")
        count = "return document.querySelectorAll('{}').length"
        assert window.run(count.format("#reasons table")) == 2
        # what was recorded, two kinds of events, seconds; the trace, its map by frequency, seconds
        assert window.run(count.format("#traces canvas")) == 4
        assert window.run(count.format("#maps canvas")) == 3
        assert window.run(count.format("#methods button")) >= 1
        text = window.run("return document.getElementById('votes').textContent")
        decided = staged.votes[staged.decided_by[epoch]].name
        assert text.endswith(f"Decided by {decided}.")
        window.run(f"show({int(np.flatnonzero(staged.to_review)[0])})")
        caption = window.run("return document.getElementById('caption').textContent")
        assert "to review" in caption
        assert [line for line in window.log("browser") if line["level"] == "SEVERE"] == []


def test_reasons_from_python(staged):
    reasons = staged.explain([50])[50]
    assert reasons["ig"]["signed"].shape == (1, 3000)
    assert reasons["bands"]["contributions"].shape == (6, 1)
    assert reasons["treeshap"]["contributions"].shape == (11, 3)
