"""Controls of the foundation model: labels, other cohorts, a linear autoencoder."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import models
from datasets.store.store import Store
from datasets.store.views import View
from evaluation import cleaning, transfer_probes
from evaluation.embed import split_views
from models.foundation_pretraining import FoundationPretraining
from tests.test_foundation_scripts import TINY, run
from training import supervised_nights
from training.flags import ScheduleFlags
from training.pretraining_probe import validate_and_probe
from training.supervised_nights import NightBudget, budget_of
from training.validation import BestWeights
from utils.checkpoint import load_checkpoint
from utils.errors import UserError

SCHEDULE = ScheduleFlags(3, 2, 1e-3, 0.01, 1.0, 1, 0.0, 0, "cosine", 0.1)


@pytest.fixture(scope="module")
def pretrained(role_store, tmp_path_factory):
    project = tmp_path_factory.mktemp("controls")
    words = ["--n_epochs", "2", "--batch_size", "2", "--probe", "--crop_hours", "0.05,0.2"]
    run(*words, *TINY, store=role_store, project=project)
    return project / "foundation_pretrain_both_fold4_seed0"


def test_the_budget_is_that_of_the_best_pass(pretrained, tmp_path):
    checkpoint = load_checkpoint(pretrained / "checkpoints" / "best.pt")
    budget = budget_of(checkpoint, 6)
    assert budget.steps == 3 * checkpoint.passes and checkpoint.passes in (1, 2)
    assert budget.crop_hours == [0.05, 0.2] and budget.role_dropout == 0.2
    assert (budget.optimiser.batch_size, budget.optimiser.lr) == (2, 1e-3)
    (tmp_path / "checkpoints").mkdir()
    moved = tmp_path / "checkpoints" / "best.pt"
    moved.write_bytes(checkpoint.path.read_bytes())
    flags = json.loads((pretrained / "run.json").read_text())["settings"]
    for few in ({"n_nights": 2}, {"keep_steps": [1]}):  # not all the nights, not a whole pass
        (tmp_path / "run.json").write_text(json.dumps({"settings": flags | few}))
        one = budget_of(load_checkpoint(moved), 6)
        assert one.steps == (checkpoint.passes if "n_nights" in few else 1)
    (tmp_path / "run.json").write_text(json.dumps({"settings": {"lr": 1}}))
    with pytest.raises(UserError, match="add --supervised False"):
        budget_of(load_checkpoint(moved), 6)


def test_the_supervised_encoder_takes_as_many_steps_and_shares_spectra(
    pretrained, role_store, monkeypatch
):
    checkpoint = load_checkpoint(pretrained / "checkpoints" / "best.pt")
    views = split_views(checkpoint, Store(role_store), torch.device("cpu"))
    like = models.build_from(checkpoint).encoder
    before = {name: value.clone() for name, value in like.state_dict().items()}
    steps, original = [], torch.optim.AdamW.step

    def step(self, *args, **words):
        steps.append(self.param_groups[0]["lr"])
        return original(self, *args, **words)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    state = torch.get_rng_state()
    trained = supervised_nights.supervised_encoder(
        checkpoint, like, views, NightBudget([0.1], 0.2, 9, SCHEDULE), seed=0
    )
    assert len(views["train"].nights) == 6 and len(steps) == 9
    assert steps[-1] == pytest.approx(1e-5)  # the schedule ends with them
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(trained.spectrum.sd, like.spectrum.sd)
    assert all(torch.equal(value, like.state_dict()[name]) for name, value in before.items())
    assert not torch.equal(trained.layers[0].time.out.weight, like.layers[0].time.out.weight)
    assert not trained.training


def test_a_probe_after_every_pass_is_of_the_validation_nights(pretrained, role_store):
    rows = [json.loads(x) for x in (pretrained / "metrics.jsonl").read_text().splitlines()]
    assert all(-1 <= row["val_probe_kappa"] <= 1 for row in rows)
    checkpoint = load_checkpoint(pretrained / "checkpoints" / "last.pt")
    views = split_views(checkpoint, Store(role_store), torch.device("cpu"))

    def knowing(at):
        """Embeds every epoch as its stage, or, without them, as nothing."""

        def embed(x):
            return torch.eye(5)[next(at).clamp_min(0)] if at else torch.zeros(len(x), 5)

        return SimpleNamespace(eval=lambda: None, encoder=SimpleNamespace(embed=embed))

    for knows in (True, False):
        nights = [s for v in ("train", "validation") for _, _, s in views[v].whole_nights()]
        net = knowing(iter(nights) if knows else None)
        figures = validate_and_probe(
            lambda *some: {"loss": 1.0}, views["train"], net, None, views["validation"], None
        )
        assert figures["loss"] == 1.0
        assert (figures["probe_kappa"] == 1) == knows


def sums(model: list[float], linear: list[float], n: int = 100) -> np.ndarray:
    return np.array([[n * m, n * li, 2.0 * n, n] for m, li in zip(model, linear, strict=True)])


def test_the_linear_autoencoder_is_beaten_by_more_than_the_interval_or_it_is_not():
    names = [f"s{k}" for k in range(9)]
    base = np.linspace(0.1, 0.9, 9)
    ahead = cleaning.row_of("all", sums(base - 0.01, base), names)
    assert ahead["model_less_linear"] == pytest.approx(-0.01)
    assert ahead["model_less_linear_high"] == pytest.approx(-0.01)
    assert "is beaten by more than the interval" in cleaning.verdict(ahead)
    behind = cleaning.row_of("all", sums(base + 0.01, base), names)
    assert "is ahead by more than the interval" in cleaning.verdict(behind)
    noise = 0.05 * np.where(np.arange(9) % 2, 1, -1)
    neither = cleaning.row_of("all", sums(base + noise - 0.004, base), names)
    assert "is not beaten, the interval includes 0" in cleaning.verdict(neither)
    alone = cleaning.row_of("all", sums([0.1], [0.2]), ["s"])
    assert "nothing is established by fewer than two subjects" in cleaning.verdict(alone)


def test_roles_nobody_recorded_have_no_error():
    some = sums([0.1, 0.2], [0.2, 0.4])
    assert cleaning.row_of("EEG", some * 0, ["a", "b"])["model"] is None
    some[1] = 0  # of one night alone
    row = cleaning.row_of("EEG", some, ["a", "b"])
    assert row["model"] == pytest.approx(0.1) and row["model_less_linear_subjects"] == 1


def probed(space: str, right: list[int], *, seeds: int = 1, cohort: str = "a") -> dict:
    counts = {
        f"s{k}": (seeds * (n * np.eye(5) + np.ones((5, 5)))).tolist() for k, n in enumerate(right)
    }
    about = {"probe": "linear", "labels": "all", "share": 1.0, "cohort": cohort}
    return {"space": space, "per_subject": counts, "seeds": seeds, **about}


def test_differences_from_controls_are_paired_by_subject():
    right = list(range(10, 100, 10))
    rows = [
        probed("band powers", right),
        probed("random encoder", [n - 5 for n in right], seeds=5),
        probed("pretrained", right),
        probed("random encoder", right, cohort="b"),
    ]
    powers, random = transfer_probes.differences(rows)
    assert powers["control"] == "band powers" and powers["kappa_more"] == 0
    assert random["control"] == "random encoder"
    # five seeds count as one: else the smaller counts would weigh more
    assert 0 < random["macro_f1_more_low"] <= random["macro_f1_more"] < 0.1


def test_a_space_that_is_moved_is_probed_on_the_other_cohort(role_store, tmp_path):
    views = {
        name: View(Store(role_store), Store(role_store).of_subjects([who]), channels=["EEG"])
        for name, who in zip(
            ("train", "validation", "held_out"), sorted(Store(role_store).subjects), strict=False
        )
    }
    other_store = Store(role_store.with_name("mesa"))
    other = View(other_store, sorted(other_store.recordings), channels=["EEG"])

    def embed(view, path):
        stages = view.stages.astype(int).clip(0)
        path.write_bytes(b"")  # where it may write
        return (np.eye(5)[stages] if view is other else np.zeros((view.n_epochs, 5))).astype("f4")

    def labelled(view):
        z = np.eye(5)[view.stages.astype(int).clip(0)].astype("f4")
        subjects = np.repeat([night.subject for night in view.nights], view.lengths)
        return transfer_probes.probe_pretrained.Labelled(z, view.stages, subjects)

    spaces = {"pretrained": [{name: labelled(view) for name, view in views.items()}]}
    flags = transfer_probes.LabelFlags([1.0], [0])
    folder = Path(tmp_path) / "embeddings"
    rows = list(
        transfer_probes.transferred(spaces, {"pretrained": [embed]}, views, other, flags, folder)
    )
    (linear,) = (row for row in rows if row["probe"] == "linear")
    assert set(linear["per_subject"]) == set(other_store.subjects)
    # every epoch whose stage the training subject has is right, as embeddings are their stages
    counts = np.sum(list(linear["per_subject"].values()), axis=0)
    learned = [stage for stage in np.unique(views["train"].stages) if stage >= 0]
    assert len(learned) > 2 and counts.sum() == (other.stages >= 0).sum()
    assert (np.diag(counts)[learned] == counts.sum(axis=1)[learned]).all()
    assert not folder.exists() and not list(tmp_path.iterdir())


def test_the_best_weights_are_the_first_of_the_highest_macro_f1():
    net = torch.nn.Linear(1, 1)
    best = BestWeights(net)
    nothing, half = np.zeros((5, 5), int), np.eye(5, dtype=int) + 1
    for at, counts in enumerate((nothing, half, half, nothing), start=1):
        torch.nn.init.constant_(net.weight, at)
        best.validated(counts, at)
    best.restore()
    assert best.at == 2 and net.weight.item() == 2
    only = BestWeights(net)
    only.validated(nothing, 7)  # an undefined figure is better than none
    only.restore()
    assert only.at == 7


def test_what_predicts_no_samples_cleans_none(capsys):
    net = FoundationPretraining(d_model=8, n_heads=2, target="spectrum")
    assert cleaning.cleaning(net, {}) == []
    cleaning.report([])
    assert "predicted no samples" in capsys.readouterr().out
