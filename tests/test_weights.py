"""The bundled default: what it is, what it stages, a card with every evaluation on real data."""

from __future__ import annotations

import csv
import json

import edfio
import numpy as np
import pytest
import torch

import bundle_weights
import predict
from datasets.readers.edf import EdfFile
from datasets.synthetic.law import law
from evaluation.staged_file import StagedFile
from evaluation.stagers import bundled
from evaluation.stagers.mean_stager import MeanStager
from experiments.bundle_card import declaration_of, read_log
from utils.checkpoint import load_checkpoint, load_tensors
from utils.errors import UserError
from utils.files import read_json

FOLDER = bundled.BUNDLE.parent
WEIGHTS = bundled.weights_of(bundled.parts()["default-spectra"])[0]


def test_the_bundle_is_small_and_its_card_lists_everything():
    card = (FOLDER / "default.md").read_text()
    measured = read_json(FOLDER / "figures.json")
    assert measured["weights"] in card
    for about in bundled.parts().values():
        assert f"| `{about['name']}` |" in card and about["trained_on"] in card
        for path in bundled.weights_of(about):
            checkpoint = load_checkpoint(path)
            assert path.stat().st_size < 1_000_000
            assert f"{path.name} {checkpoint.fingerprint()}: {checkpoint.training.command}" in card
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 6_000_000
    entries = read_log(FOLDER / "evaluation_log.csv")
    for entry in entries:
        assert f"| {entry['weights']} | {entry['night']} | {entry['epochs']} |" in card
        assert entry["what"] in card
    # never more than one evaluation on the whole real night for the same weights
    nights = [(e["weights"], e["night"]) for e in entries if e["weights"] != "(not bundled)"]
    assert len(nights) == len(set(nights))
    with (FOLDER / "candidates.csv").open() as file:
        for row in csv.DictReader(file):
            assert "| " + " | ".join(row.values()) + " |" in card


def test_networks_of_the_bundle_have_not_seen_the_held_out_subjects():
    """Neither as training, nor by the law of the simulator, whose list is written beside it."""
    held_out = set(law().held_out_subjects.tolist())
    assert len(held_out) == 16
    for path in bundled.weights_of(bundled.parts()["default-bands"]):
        facts = load_checkpoint(path).training.facts
        while facts:
            seen = {*facts["subjects"]["train"], *facts["subjects"]["validation"]}
            assert facts["cohort"].startswith("synthetic-") or not seen & held_out
            facts = facts.get("pretraining")


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
def trained(tmp_path):
    """A folder of ``make weights`` with one seed of the network of spectra."""
    path = tmp_path / "weights" / "parts" / "spectra" / "seed3" / "run" / "checkpoints"
    path.mkdir(parents=True)
    (path / "best.pt").write_bytes(WEIGHTS.read_bytes())
    return tmp_path / "weights"


def staged(expert_path):
    return StagedFile(
        recording="n",
        subject="n",
        probabilities=np.eye(5)[[0, 1, 2, 2, 3]],
        expert=np.array([0, 1, 2, 3, 3], np.int8),
        quality_flags=[""] * 5,
        signals=torch.zeros(5, 1, 3000),
        mean=np.zeros(1),
        sd=np.zeros(1),
        unit="µV",
        channels={},
        reads={},
        headline="",
        explainer=None,
        expert_path=expert_path,
    )


def test_the_real_night_is_evaluated_once_for_the_same_weights(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_weights, "opened", lambda path: path)
    monkeypatch.setattr(MeanStager, "stage", lambda *arguments: staged(tmp_path))
    (tmp_path / "ucddb").mkdir()
    (tmp_path / bundle_weights.NIGHT).touch()
    out = tmp_path / "out"
    words = ["--parts", "spectra,yasa", "--weights", str(trained), "--output", str(out)]
    words += ["--simulated", str(tmp_path / "none")]
    bundle_weights.main(words)
    assert "Not measured" in (out / "default.md").read_text()
    assert (out / "spectra_3.pt").read_bytes() == WEIGHTS.read_bytes()
    assert list(bundled.parts(out / "default.json")) == ["default-spectra", "default-yasa"]
    for _ in range(2):
        bundle_weights.main([*words, "--real", str(tmp_path)])
    (entry,) = read_log(out / "evaluation_log.csv")
    assert entry["night"] == "ucddb018" and float(entry["accuracy"]) == 0.8
    card = (out / "default.md").read_text()
    assert "| **N3** | 0 | 0 | 1 | 1 | 0 |" in card and "kappa **0.737**" in card


def test_a_bundle_declares_what_its_weights_were_trained_on(trained, tmp_path):
    path = next(trained.rglob("best.pt"))
    checkpoint = load_tensors(path)
    checkpoint["trained"]["cohort"] = "sleepedf-2018"
    torch.save(checkpoint, path)
    (part,) = declaration_of({"spectra": {3: path}}).parts
    assert part["trained_on"] == "Sleep-EDF nights" and "ODC-By" in part["licence"]


def test_a_bundle_holds_no_path_of_this_machine():
    given = {"trained": {"command": "x.py --table /a/b/c.npz --out=/d/e f/g", "within": {"n": 1}}}
    assert bundle_weights.without_paths(given) == {
        "trained": {"command": "x.py --table c.npz --out=e f/g", "within": {"n": 1}}
    }
    for path in FOLDER.glob("*.pt"):
        assert b"/work/" not in path.read_bytes() and b"/home/" not in path.read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--parts names the kinds"),
        (["--parts", "spectra,magic"], "no such kind"),
        (["--parts", "robust"], "nothing is trained"),
    ],
)
def test_what_cannot_be_bundled_is_one_line(trained, tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        bundle_weights.main([*words, "--weights", str(trained), "--output", str(tmp_path / "o")])
    assert not (tmp_path / "o").exists()
