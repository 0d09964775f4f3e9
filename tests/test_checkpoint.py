"""utils/checkpoint.py: a frozen record, and the one comparison of subjects."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from utils.checkpoint import (
    Training,
    load_checkpoint,
    refuse_seen,
    save_checkpoint,
    save_tensors,
)
from utils.errors import UserError, run_script

FACTS = {
    "command": "x_training.py", "cohort": "sleepedf-2018",
    "subjects": {"train": ["SC400", "SC401"], "validation": ["SC402"], "held_out": ["SC403"]},
    "store": ["a", "b"], "folds": "kfold:3:0", "train_folds": [0], "held_out_folds": [1],
    "select_on": "validation",
}  # fmt: skip


@pytest.fixture
def path(tmp_path):
    """A checkpoint as a training writes it."""
    path = tmp_path / "run" / "checkpoints" / "best.pt"
    save_checkpoint(
        path,
        {
            "model": "chambon2018",
            "settings": {"num_seq": 3},
            "channels": [["EEG Fpz-Cz", "EEG"]],
            "fs": 100.0,
            "standardise": "recording",
            "state": {"weight": torch.ones(2)},
            "pass": 4,
            "trained": FACTS,
        },
    )
    return path


def test_a_checkpoint_is_a_frozen_record(path):
    checkpoint = load_checkpoint(path)
    assert (checkpoint.model, checkpoint.passes, checkpoint.labels) == (
        "chambon2018",
        4,
        ["EEG Fpz-Cz"],
    )
    assert checkpoint.run == path.parents[1] and checkpoint.is_in_run
    assert checkpoint.training.cohort == "sleepedf-2018" and not checkpoint.progress
    with pytest.raises(TypeError):
        checkpoint["model"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        checkpoint.model = "other"
    other = dataclasses.replace(checkpoint, path=path.parents[2] / "loose.pt")
    assert other.run == path.parents[2] and other.fingerprint() == checkpoint.fingerprint()


def refused(training: Training, cohort: str, *subjects: str) -> str:
    """What is said of these subjects, nothing if they may be measured on."""
    try:
        refuse_seen(training, cohort, subjects, where="store", remedy="take others")
    except UserError as error:
        return str(error)
    return ""


def test_who_trained_or_chose_is_seen_and_who_was_held_out_is_not():
    training = Training(FACTS)
    assert refused(training, "sleepedf-2013", "SC402", "SC499") == (
        "store: training has seen SC402; take others"
    )
    assert refused(training, "sleepedf-2018", "SC401").startswith("store: training has seen SC401")
    assert not refused(training, "sleepedf-2018", "SC403")


def test_synthetic_and_real_subjects_share_ids_without_being_the_same():
    assert not refused(Training(FACTS), "synthetic-sleepedf-2018", "SC400")
    synthetic = Training(FACTS | {"cohort": "synthetic-sleepedf-2018"})
    assert not refused(synthetic, "sleepedf-2018", "SC400")
    assert refused(synthetic, "synthetic-sleepedf-2013", "SC400")


def test_pretraining_counts_as_training():
    encoder = Training(FACTS | {"subjects": {"train": ["SC450"], "validation": []}})
    training = Training(FACTS, pretraining=encoder)
    assert refused(training, "sleepedf-2018", "SC450") == (
        "store: pretraining has seen SC450; take others"
    )
    # a synthetic pretraining has seen nobody real
    synthetic = Training(encoder.facts | {"cohort": "synthetic-x"})
    assert not refused(Training(FACTS, pretraining=synthetic), "sleepedf-2018", "SC450")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("n_values", [1, 10, 10_000, 1_000_000])
def test_a_full_disk_is_said_as_such(n_values, capsys):
    """Was: a traceback of torch, ``basic_ios::clear: iostream error``."""
    content = {"state": {"w": torch.zeros(n_values)}}

    def save() -> None:
        with Path("/dev/full").open("wb") as file:
            save_tensors(content, file)

    assert run_script(save) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "no space left on the disk" in line


def test_the_bytes_of_weights_do_not_depend_on_the_files_name(tmp_path):
    for name in ("a.pt", "another.pt"):
        save_checkpoint(tmp_path / name, {"state": {"w": torch.arange(5)}})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "another.pt").read_bytes()
