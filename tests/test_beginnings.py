"""Weights that a training begins with: which ones, trained on whom, and the same after a pause."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import foundation_evaluate
from tests.test_foundation_scripts import TINY, run
from utils.checkpoint import (
    Training,
    checkpoint_from,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
)
from utils.checkpoint_fields import FILE, KEPT
from utils.errors import UserError

PRETRAINED, PROBE = "foundation_pretrain_both_fold4_seed0", "foundation_probe_linear_fold4_seed0"


def best(project: Path, name: str) -> Path:
    return project / name / "checkpoints" / "best.pt"


def changed(path: Path, to: Path, **facts) -> Path:
    """A copy of a checkpoint with other facts of its training."""
    raw = load_tensors(path)
    raw["trained"] |= facts
    save_checkpoint(to, raw, overwrite=True)
    return to


@pytest.fixture(scope="module")
def probed(role_store, tmp_path_factory) -> Path:
    """A project with a pretrained encoder and one pass of its probe."""
    project = tmp_path_factory.mktemp("probed")
    run("--n_epochs", "1", *TINY, store=role_store, project=project)
    run("--stage", "probe", "--n_epochs", "1", store=role_store, project=project)
    return project


@pytest.fixture
def facts(probed) -> dict:
    return dict(load_checkpoint(best(probed, PRETRAINED)).training.facts)


def test_a_probe_is_not_resumed_on_another_encoder(probed, role_store, tmp_path):
    """Was: a head half trained on one encoder continued on the tokens of another."""
    project = tmp_path / "project"
    shutil.copytree(probed, project)
    words = {"store": role_store, "project": project}
    run("--stage", "probe", "--n_epochs", "2", **words)  # the same encoder: resumed
    raw = load_tensors(best(project, PRETRAINED))
    raw["state"]["encoder.of_spectrum.weight"] += 1  # as by another --init
    save_checkpoint(best(project, PRETRAINED), raw)
    before = (project / PROBE / "checkpoints" / "last.pt").read_bytes()
    with pytest.raises(UserError, match="begun with other weights than those given now"):
        run("--stage", "probe", "--n_epochs", "3", **words)
    assert (project / PROBE / "checkpoints" / "last.pt").read_bytes() == before


def test_weights_that_are_given_bring_their_encoder_and_their_training(
    probed, role_store, tmp_path, facts
):
    """Was: the newest pretraining was taken for theirs, its encoder and its subjects."""
    run("--n_epochs", "0", *TINY, "--seed", "7", store=role_store, project=tmp_path)
    given = changed(best(probed, PROBE), tmp_path / "given.pt", command="the first")
    words = ["--stage", "finetune", "--n_epochs", "1", "--lr", "0", "--model_path", str(given)]
    run(*words, store=role_store, project=tmp_path)
    ours = load_checkpoint(best(tmp_path, "foundation_finetune_linear_fold4_seed0"))
    theirs = load_checkpoint(given)
    assert ours.training.pretraining.command == "the first"
    assert ours.training.pretraining.pretraining.facts == facts
    assert ours.training.facts["starting_weights"] == theirs.fingerprint() == ours.fingerprint()
    with pytest.raises(UserError, match="--pretrained has no effect on the encoder of --model"):
        run(*words, "--pretrained", "none", store=role_store, project=tmp_path)
    words[-1] = str(best(probed, PRETRAINED))
    with pytest.raises(UserError, match="foundation_pretraining, not of --stage probe or finetune"):
        run(*words, store=role_store, project=tmp_path)


def test_whom_given_weights_have_seen_cannot_be_held_out(probed, role_store, tmp_path, facts):
    """Was: of two earlier trainings one was forgotten, and its subjects held out."""
    held_out = facts["subjects"]["held_out"]
    seen = facts | {"subjects": {"train": held_out, "validation": []}}
    given = changed(best(probed, PROBE), tmp_path / "given.pt", pretraining=seen)
    with pytest.raises(UserError, match=f"pretraining has seen {held_out[0]}; hold out the folds"):
        run("--stage", "finetune", "--model_path", str(given), store=role_store, project=tmp_path)
    assert not list(tmp_path.glob("foundation_*"))


def test_an_encoder_is_not_probed_on_whom_its_first_weights_have_seen(
    probed, role_store, tmp_path, facts
):
    """Was: held-out subjects of a run were taken for unseen, whatever it began with."""
    held_out = facts["subjects"]["held_out"]
    seen = facts | {"subjects": {"train": held_out, "validation": []}}
    given = changed(best(probed, PRETRAINED), tmp_path / "given.pt", pretraining=seen)
    words = ["--data_path", str(role_store), "--model_path", str(given)]
    with pytest.raises(UserError, match=f"pretraining has seen {held_out[0]}; begin with weights"):
        foundation_evaluate.main(words)


def test_a_pretraining_selected_on_the_test_fold_is_not_forgotten(probed, facts):
    trained = load_checkpoint(best(probed, PROBE)).training
    assert not trained.selected_on_test
    earlier = Training(facts | {"select_on": "test"})
    assert Training(trained.facts, earlier).selected_on_test


def test_checkpoints_hold_what_their_signals_are_scaled_over(probed):
    raw = load_tensors(best(probed, PROBE))
    assert raw["scaled_over"] == checkpoint_from(raw, Path("a.pt")).scaled_over == KEPT
    del raw["scaled_over"]  # as before: stored moments were of that range, too
    assert checkpoint_from(raw, Path("a.pt")).scaled_over == KEPT
    del raw["trained"]
    assert checkpoint_from(raw, Path("a.pt")).scaled_over == FILE
    with pytest.raises(UserError, match="its scaled_over cannot be those of a checkpoint"):
        checkpoint_from(raw | {"scaled_over": "moon"}, Path("a.pt"))
