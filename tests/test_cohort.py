"""Slow: a synthetic cohort from files to held-out agreement, by the commands of the README."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

import cmt_evaluate
import cmt_training
import generate_demo_data
import models
from datasets.store.store import Store
from datasets.store.views import View
from tests.conftest import prepare
from utils.checkpoint import load_checkpoint
from utils.metrics import kappa
from utils.staged_night import agreement

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def all_cores():
    """Real sizes again: undo what ``conftest.py`` sets for tiny models."""
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count())
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """Twelve subjects, one night of 8 h each."""
    folder = tmp_path_factory.mktemp("cohort")
    generate_demo_data.main(["--output", str(folder / "raw"), "--subjects", "12", "--nights", "1"])
    prepare(folder / "raw", folder / "store")
    return folder


def test_subjects_never_seen_are_staged_well(cohort):
    paths = ["--data_path", str(cohort / "store"), "--project_path", str(cohort / "results")]
    words = ["--model_type", "Seq", "--n_epochs", "6", "--logger", "csv", "--accelerator", "cpu"]
    cmt_training.main([*paths, *words])
    cmt_evaluate.main([*paths, "--device", "cpu"])
    run = cohort / "results" / "cmt_seq_fold4"
    result = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert result["subjects"] == 2
    assert result["pooled"]["kappa"]["value"] >= 0.75
    for name in ("curve.png", "evaluation/confusion_matrix.png"):
        assert (run / name).stat().st_size > 10_000


def test_four_nights_are_learned_by_heart(cohort):
    # without dropout, on the training nights themselves
    paths = ["--data_path", str(cohort / "store"), "--project_path", str(cohort / "heart")]
    words = ["--model_type", "Seq", "--n_epochs", "12", "--dropout", "0", "--logger", "csv"]
    folds = ["--train_data_list", "0,4", "--val_share", "0.01", "--accelerator", "cpu"]
    cmt_training.main([*paths, *words, *folds])
    last = load_checkpoint(next((cohort / "heart").glob("*/checkpoints/last.pt")))
    store = Store(cohort / "store")
    view = View(store, store.of_subjects(last.training.subjects["train"]))
    assert kappa(agreement(models.build_from(last), view.whole_nights())) > 0.9
