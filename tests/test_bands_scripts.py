"""bands_training.py and bands_evaluate.py on made-up tables, and a checkpoint as a stager."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch

import bands_evaluate
import bands_training
from datasets.readers.any_file import opened
from evaluation.stagers.network_stager import Member, NetworkStager
from evaluation.stagers.stager import Asked
from tests.band_nights import made_up_table
from utils.checkpoint import load_checkpoint
from utils.errors import run_script
from utils.staged_night import stage_signals

SPLIT = ["--n_test", "2", "--n_val", "1"]
SMALL = [*SPLIT, "--hidden", "8", "--batch_size", "3", "--n_epochs", "2", "--logger", "csv"]


def train(folder, *words):
    bands_training.main([*SMALL, "--project_path", str(folder), *words])
    return load_checkpoint(folder / "night_bands_seed0" / "checkpoints" / "best.pt")


def error_of(main, words, capsys):
    assert run_script(partial(main, words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def last(folder):
    return load_checkpoint(folder / "night_bands_seed0" / "checkpoints" / "last.pt")


def rows(folder):
    text = (folder / "night_bands_seed0" / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in text]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bands")
    made_up_table(folder / "t.npz")
    train(folder / "run", "--table", str(folder / "t.npz"))
    return folder


def test_training_ends_with_a_checkpoint_of_whom_it_has_seen(trained):
    checkpoint = load_checkpoint(trained / "run/night_bands_seed0/checkpoints/best.pt")
    subjects = checkpoint.training.subjects
    assert [len(subjects[k]) for k in ("train", "validation", "held_out")] == [3, 1, 2]
    assert checkpoint.training.cohort == "synthetic-table"
    assert checkpoint.training.preparation["preset"] == "equalised"
    assert checkpoint.channels == (("EEG Fpz-Cz", "EEG"),) and checkpoint.standardise == "none"
    assert len(rows(trained / "run")) == 2


def test_the_same_command_makes_the_same_weights(trained, tmp_path):
    train(tmp_path, "--table", str(trained / "t.npz"))
    assert rows(tmp_path) == rows(trained / "run")
    first, second = (last(folder).fingerprint() for folder in (tmp_path, trained / "run"))
    assert first == second


def test_it_resumes_bit_for_bit(trained, tmp_path):
    # rates that do not depend on the number of passes
    words = ["--table", str(trained / "t.npz"), "--schedule", "constant", "--warmup", "0"]
    train(tmp_path / "a", *words)
    train(tmp_path / "b", *words, "--n_epochs", "1")
    train(tmp_path / "b", *words)
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    assert last(tmp_path / "a").fingerprint() == last(tmp_path / "b").fingerprint()


def test_the_held_out_are_evaluated_and_the_seen_refused(trained, capsys, monkeypatch):
    words = ["--project_path", str(trained / "run"), "--table", str(trained / "t.npz")]
    bands_evaluate.main([*words, *SPLIT, "--derivation", "Pz-Oz"])
    printed = capsys.readouterr().out
    assert "with seed 0" in printed and "kappa" in printed and "share of N3" in printed
    folder = trained / "run/night_bands_seed0/evaluation_t_EEG-Pz-Oz"
    result = json.loads((folder / "metrics.json").read_text())
    assert result["subjects"] == 2 and len(result["calibration"]["bins"]) == 15
    assert sum(result["about"]["shares"]["expert"].values()) == pytest.approx(1)
    line = error_of(bands_evaluate.main, [*words, *SPLIT, "--seed", "1"], capsys)
    assert "training has seen" in line and "'seed': 0" in line
    both = [*words, "--data_path", "nowhere"]
    assert "one of them, not both" in error_of(bands_evaluate.main, both, capsys)
    # without either it is the demo store, of which this folder has none
    monkeypatch.chdir(trained)
    assert "data/demo/store" in error_of(bands_evaluate.main, words[:2], capsys)


def test_stores_and_tables_train_together(trained, store, tmp_path, capsys):
    made_up_table(tmp_path / "real.npz", cohort="sleepedf-2018", shift=3.0)
    both = ["--table", str(tmp_path / "real.npz"), "--data_path", str(store.path)]
    words = [*both, "--stage_means", str(tmp_path / "real.npz"), "--n_test", "1"]
    checkpoint = train(tmp_path / "run", *words)
    (cached,) = (tmp_path / "run" / "band_tables").glob("*.npz")
    assert "measuring" in capsys.readouterr().out
    # each cohort has facts of its own: ids of simulated subjects are those of real ones
    real, simulated = checkpoint.training, checkpoint.training.pretraining
    assert real.cohort == "sleepedf-2018" and simulated.cohort == store.cohort
    assert simulated.pretraining.subjects["validation"] == []
    words = ["--data_path", str(store.path), "--project_path", str(tmp_path / "run")]
    bands_training.main([*SPLIT, "--n_test", "1", "--tables_only", *words])
    printed = capsys.readouterr().out
    assert "measuring" not in printed and f"{cached}: 5 nights" in printed


def test_a_checkpoint_stages_files_as_other_networks_do(trained, raw, store):
    checkpoint = load_checkpoint(trained / "run/night_bands_seed0/checkpoints/best.pt")
    stager = NetworkStager("bands", [Member("bands", checkpoint)], torch.device("cpu"))
    night = store.night(sorted(store.recordings)[0])
    (path,) = raw.glob(f"{night.id[:6]}*-PSG.edf")
    staged = stager.stage(opened(path), Asked())
    assert np.allclose(staged.probabilities.sum(axis=1), 1, atol=1e-5)
    # stored in microvolts, staged as equalised: neither leaves a trace to speak of
    x = torch.from_numpy(np.array(night.signals()[:, :1]))
    inside = slice(night.first_epoch, night.first_epoch + night.n_epochs)
    apart = np.abs(stage_signals(stager.net, x).numpy() - staged.probabilities[inside])
    assert apart.mean() < 0.01


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--table", "none.npz"], "no such table"),
        (["--augment", "gain"], "--augment: no gain"),
        (["--devices", "2"], "one device"),
        (["--compile"], "--compile"),
        (["--dropout", "1"], "--dropout takes a share below 1"),
        (["--n_test", "6"], "leave none to train on"),
    ],
)
def test_wrong_flags_are_one_line(trained, tmp_path, words, message, capsys):
    given = ["--table", str(trained / "t.npz"), *SMALL, "--project_path", str(tmp_path / "r")]
    assert message in error_of(bands_training.main, [*given, *words], capsys)
    assert not list(tmp_path.rglob("*.pt"))
