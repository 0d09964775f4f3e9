"""The bundled model: what it is, what it stages, a card with every evaluation on real data."""

from __future__ import annotations

import csv
import json
import shutil

import edfio
import numpy as np
import pytest
import torch

import bundle_weights
import predict
from datasets.readers.edf import EdfFile
from evaluation.staged_file import StagedFile
from evaluation.stagers import bundled
from evaluation.stagers.network_stager import NetworkStager
from utils.checkpoint import load_checkpoint, load_tensors
from utils.errors import UserError

WEIGHTS = bundled.weights_of(bundled.parts()["default-spectra"])[0]


def test_the_bundle_is_synthetic_small_and_named_in_its_card():
    checkpoint = load_checkpoint(WEIGHTS)
    assert WEIGHTS.stat().st_size < 1_000_000
    assert checkpoint.training.cohort.startswith("synthetic-")
    card = WEIGHTS.with_suffix(".md").read_text()
    assert f"weights `{checkpoint.fingerprint()}`" in card
    assert checkpoint.training.command in card
    entries = bundle_weights.read_evaluation_log(WEIGHTS.with_name("evaluation_log.csv"))
    for entry in entries:
        assert f"| {entry['weights']} | {entry['night']} | {entry['epochs']} |" in card
        assert entry["what"] in card
    assert bundle_weights.evaluation_of(entries, checkpoint.fingerprint()) is not None


def test_it_stages_without_any_flags(raw, tmp_path, capsys):
    """Any file, no flags: agreement with the planted stages of ordinary synthetic nights."""
    predict.main(["--edf", str(raw), "-o", str(tmp_path)])
    with (tmp_path / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(not row["error"] for row in rows)
    assert np.mean([float(row["kappa"]) for row in rows]) > 0.5


def test_a_gain_that_nobody_knows_changes_nothing(raw, tmp_path):
    """The same EEG without a unit, a ten-thousandth of the size: the same stages."""
    file = EdfFile(sorted(raw.glob("*-PSG.edf"))[0])
    samples = file.read("EEG Fpz-Cz", 0, file.seconds)
    for name, unit, gain in (("known", "uV", 1.0), ("unknown", "", 1e-4)):
        signal = edfio.EdfSignal(
            samples * gain,
            100,
            label="EEG",
            physical_dimension=unit,
            physical_range=(-192 * gain, 192 * gain),
        )
        edfio.Edf([signal]).write(tmp_path / f"{name}.edf")
    predict.main(["--edf", str(tmp_path / "*.edf"), "-o", str(tmp_path / "{}.csv")])
    staged = []
    for name in ("known", "unknown"):
        with (tmp_path / f"{name}.csv").open() as table:
            staged.append([row["stage"] for row in csv.DictReader(table)])
    assert len(set(staged[0])) > 2
    assert np.mean(np.array(staged[0]) == np.array(staged[1])) > 0.9


def test_the_real_five_minutes_are_wake(real_data, tmp_path):
    night = real_data / "sleep_edf" / "SC4001E0-PSG.edf"
    predict.main(["--edf", str(night), "-o", str(tmp_path / "a.json"), "--is_interpret", "False"])
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["scored"] == 10 and report["accuracy"] == 1.0
    assert any("less reliable" in note for note in report["notes"])


def test_the_real_night_is_staged_without_an_evaluation(real_data, tmp_path):
    """Agreement with its expert is for releases; that it is staged at all is for every day."""
    night = real_data / "ucddb" / "ucddb018.edf"
    words = ["--edf", str(night), "--expert", "none", "--is_interpret", "False"]
    predict.main([*words, "-o", str(tmp_path / "a.json")])
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["epochs"] == 822 and "kappa" not in report
    assert report["flagged_epochs"] < 20 and 60 < report["TST"] < 411


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("edfPlusD-discontinuous.edf", "no channel for EEG"),
        ("invalid-date.edf", "holds no data"),
        ("zero-data-records.edf", "holds no data"),
        ("subsecond_starttime.edf", "lasts 5 s; staging needs 30 s at least"),
        ("test_utf8_annotations.edf", "no channel for EEG"),
    ],
)
def test_real_edge_cases_are_one_line(real_data, tmp_path, name, message):
    with pytest.raises(UserError, match=message) as error:
        predict.main(["--edf", str(real_data / "edf_edge_cases" / name), "-o", str(tmp_path)])
    assert name in str(error.value) and "\n" not in str(error.value)


@pytest.fixture
def run(tmp_path):
    """A run with the bundled checkpoint and figures of one evaluation."""
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "evaluation").mkdir()
    shutil.copy(WEIGHTS, folder / "checkpoints" / "best.pt")
    figure = {"value": 0.5, "low": 0.4, "high": 0.6}
    stages = ("W", "N1", "N2", "N3", "REM")
    measured = {
        "epochs": 10,
        "subjects": 2,
        "pooled": dict.fromkeys(bundle_weights.FIGURES, figure),
        "per_stage": {stage: {"f1": figure} for stage in stages},
    }
    (folder / "evaluation" / "metrics.json").write_text(json.dumps(measured))
    return folder


def test_every_evaluation_is_logged_once(run, tmp_path, monkeypatch):
    expert = np.array([0, 1, 2, 3, 3], np.int8)
    staged = StagedFile(
        recording="n",
        subject="n",
        probabilities=np.eye(5)[[0, 1, 2, 2, 3]],
        expert=expert,
        quality_flags=[""] * 5,
        signals=torch.zeros(5, 1, 3000),
        mean=np.zeros(1),
        sd=np.zeros(1),
        unit="µV",
        channels={},
        reads={},
        headline="",
        explainer=None,
        expert_path=tmp_path,
    )
    monkeypatch.setattr(bundle_weights, "opened", lambda path: path)
    monkeypatch.setattr(NetworkStager, "stage", lambda *arguments: staged)
    for recording in bundle_weights.REAL:
        (tmp_path / recording).parent.mkdir()
        (tmp_path / recording).touch()
    words = ["--run", str(run), "--output", str(tmp_path / "out")]
    bundle_weights.main(words)
    assert "Not measured" in (tmp_path / "out" / "one_eeg.md").read_text()
    assert (tmp_path / "out" / "one_eeg.pt").read_bytes() == WEIGHTS.read_bytes()
    for _ in range(2):
        bundle_weights.main([*words, "--real", str(tmp_path)])
    entries = bundle_weights.read_evaluation_log(tmp_path / "out" / "evaluation_log.csv")
    assert [entry["night"] for entry in entries] == [path.stem for path in bundle_weights.REAL]
    assert float(entries[0]["accuracy"]) == 0.8
    card = (tmp_path / "out" / "one_eeg.md").read_text()
    assert "| **N3** | 0 | 0 | 1 | 1 | 0 |" in card and "kappa **0.737**" in card


def test_weights_of_real_subjects_are_not_bundled(run):
    path = run / "checkpoints" / "best.pt"
    checkpoint = load_tensors(path)
    checkpoint["trained"]["cohort"] = "sleepedf-2018"
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match="trained on real subjects"):
        bundle_weights.main(["--run", str(run)])
    with pytest.raises(UserError, match="--run names the folder"):
        bundle_weights.main([])
