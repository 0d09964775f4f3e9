"""``staging_training.py`` and ``staging_evaluate.py``: every recipe runs, states go on, one way."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import models
import staging_evaluate
import staging_training
from datasets.views import View
from objectives.staging import Staging
from objectives.stateful import StatefulStaging
from tests.test_training import same_state, stopped_at
from utils.errors import UserError
from utils.runs import load_checkpoint
from workflow.recipes import RECIPES

QUICK = [
    "--n_epochs", "1", "--train_data_list", "0,1", "--logger", "csv", "--accelerator", "cpu",
    "--num_seq", "5", "--batch_size", "8",
]  # fmt: skip
FAST = ("chambon2018", "tinysleepnet", "seqsleepnet", "simplesleepnet")


def train(store, project: Path, name: str, *words: str) -> Path:
    paths = ["--data_path", str(store.path), "--project_path", str(project)]
    staging_training.main([*paths, "--experiment", name, *QUICK, *words])
    return next(project.glob(f"{name}_*"))


def evaluate(store, project: Path, *words: str) -> None:
    paths = ["--data_path", str(store.path), "--project_path", str(project), "--device", "cpu"]
    staging_evaluate.main([*paths, "--pictures", "0", *words])


@pytest.fixture(scope="module")
def project(store, tmp_path_factory) -> Path:
    """One pass of the four quick ones."""
    folder = tmp_path_factory.mktemp("zoo")
    for name in FAST:
        train(store, folder, name)
    return folder


@pytest.mark.parametrize("name", FAST)
def test_trained_and_evaluated(store, project, name):
    evaluate(store, project, "--experiment", name)
    run = next(project.glob(f"{name}_*"))
    result = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert result["subjects"] == 1
    assert len(list((run / "evaluation" / "predictions").glob("*.csv"))) >= 1
    checkpoint = load_checkpoint(run / "checkpoints" / "best.pt")
    assert checkpoint["model"] == name
    assert checkpoint["standardise"] == RECIPES[name].standardise


@pytest.mark.parametrize("name", ["chambon2018", "tinysleepnet", "seqsleepnet"])
def test_explained_by_the_same_interface(store, raw, project, name):
    words = ["--is_interpret", "--interpret_select", "0,40", "--interpret_pictures", "1"]
    cheap = ["--interpret_methods", "ig,occlusion", "--n_random", "2", "--n_untrained", "1"]
    truth = ["--truth_path", str(raw), "--interpret_bands", "False"]
    evaluate(store, project, "--experiment", name, *words, *cheap, *truth)
    folder = next(project.glob(f"{name}_*")) / "interpretations"
    index = json.loads((folder / "index.json").read_text())
    assert [entry["epoch"] for entry in index["explanations"]] == [0, 40]
    assert len(list(folder.glob("*.html"))) == 1


def test_the_scaling_of_spectrograms_is_that_of_training_nights(store, project):
    run = next(project.glob("seqsleepnet_*"))
    checkpoint = load_checkpoint(run / "checkpoints" / "best.pt")
    people = checkpoint["trained"]["subjects"]
    net = models.build("seqsleepnet", **checkpoint["settings"])
    labels = [label for label, _ in checkpoint["channels"]]

    def fitted(subjects):
        view = View(store, store.of_subjects(subjects), channels=labels, standardise="none")
        staging_training.ready(net, view)
        return net.spectrogram.mean.clone()

    assert torch.equal(checkpoint["state"]["spectrogram.mean"], fitted(people["train"]))
    other = fitted(people["train"] + people["held_out"])
    assert not torch.allclose(checkpoint["state"]["spectrogram.mean"], other)


@pytest.mark.parametrize("name", ["deepsleepnet", "sleeptransformer", "sequence_cmt", "epoch_cmt"])
def test_the_slow_ones_take_a_step(store, name):
    recipe = RECIPES[name]
    view = View(store, list(store.recordings)[:1], channels=["EEG"], standardise=recipe.standardise)
    args = staging_training.parse_args(
        ["--experiment", name, "--num_seq", "2", "--batch_size", "2"]
    )
    net = models.build(name, **staging_training.settings_of(args, view))
    staging_training.ready(net, view)
    batch = next(iter(staging_training.windows_of(args, view, 1)(view, 0, 0, 1)))
    loss, logs = Staging(args.weights)(net, batch)
    loss.backward()
    assert torch.isfinite(loss) and logs["scored"] > 0


class Counting(torch.nn.Module):
    """Its state counts epochs; its logits say how many came before in the night."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x, stride=1, *, state=None, carry=False):
        assert carry
        before = torch.zeros(len(x), 1) if state is None else state[0]
        self.seen.append(before[:, 0].int().tolist())
        after = before + x.shape[1]
        return torch.zeros(len(x), x.shape[1], 5, requires_grad=True), (after, after)


def test_states_go_on_with_their_night_and_begin_anew(store):
    view = View(store, list(store.recordings), channels=["EEG"], standardise="none")
    lanes = view.lanes(20, 3, seed=0)
    model, objective = Counting(), StatefulStaging([1.0] * 5, length=20)
    for batch in lanes:
        objective(model, batch)
    begun = {}
    for (nights, first), seen in zip(lanes.windows, model.seen, strict=True):
        for night, epoch, count in zip(nights.tolist(), first.tolist(), seen, strict=True):
            begun.setdefault(night, epoch)
            assert count == epoch - begun[night]
    assert set(begun) == set(range(len(view.recordings)))


def test_lanes_cover_nights_in_order(store):
    view = View(store, list(store.recordings), channels=["EEG"], standardise="none")
    for seed in range(4):
        of = {}
        for nights, first in view.lanes(20, 2, seed=seed).windows:
            assert len(nights) <= 2
            for night, epoch in zip(nights.tolist(), first.tolist(), strict=True):
                of.setdefault(night, []).append(epoch)
        for night, firsts in of.items():
            assert (np.diff(firsts) == 20).all()
            assert firsts[0] >= 0 and firsts[-1] + 20 <= view.lengths[night]
            assert view.lengths[night] - (firsts[-1] + 20) + firsts[0] < 20
    assert (
        view.lanes(20, 2, seed=0).windows[0][1].tolist()
        != view.lanes(20, 2, seed=1).windows[0][1].tolist()
    )


def test_a_stateful_run_goes_on_bit_for_bit(store, tmp_path):
    whole = train(store, tmp_path / "a", "tinysleepnet", "--n_epochs", "2")
    train(store, tmp_path / "b", "tinysleepnet", "--n_epochs", "1")
    again = train(store, tmp_path / "b", "tinysleepnet", "--n_epochs", "2")
    assert same_state(whole, again)


@pytest.mark.parametrize("call", [2, 5])
def test_a_stateful_pass_is_interrupted_and_goes_on(store, tmp_path, monkeypatch, call):
    # one night at a time, so that the state matters at every step
    words = ["--batch_size", "1", "--n_epochs", "1"]
    whole = train(store, tmp_path / "a", "tinysleepnet", *words)
    with monkeypatch.context() as patch:
        stopped_at(patch, call)
        with pytest.raises(KeyboardInterrupt):
            train(store, tmp_path / "b", "tinysleepnet", *words)
    last = load_checkpoint(next((tmp_path / "b").glob("*")) / "checkpoints" / "last.pt")
    assert last["position"]["step"] > 0 and len(last["objective"]["nights"]) == 1
    again = train(store, tmp_path / "b", "tinysleepnet", *words)
    assert same_state(whole, again)


def test_carried_states_survive_a_checkpoint():
    one, two = (StatefulStaging([1.0] * 5, length=20) for _ in range(2))
    batch = SimpleNamespace(
        signals=torch.zeros(2, 20, 1, 1), stages=torch.zeros(2, 20, dtype=torch.long),
        nights=np.array([4, 7]), first=np.array([0, 20]),
    )  # fmt: skip
    one(Counting(), batch)
    two.load_state_dict(one.state_dict())
    after = SimpleNamespace(**{**vars(batch), "first": np.array([20, 40])})
    seen = []
    for objective in (one, two):
        model = Counting()
        objective(model, after)
        seen.append(model.seen)
    assert seen[0] == seen[1] == [[20, 20]]
    assert StatefulStaging([1.0] * 5, length=20).state_dict() == {}


def test_the_middle_epoch_is_what_chambon_is_judged_by():
    class Middle(torch.nn.Module):
        middle = 1

        def forward(self, x, stride=1):
            n = (x.shape[1] - 3) // stride + 1
            return x[:, 1::stride][:, :n].reshape(-1, 1, 5)

    stages = torch.tensor([[0, 1, 2, 3, 4, -1, 2]])
    logits = 9 * torch.nn.functional.one_hot(stages.clamp_min(0), 5).float()
    for stride, scored in ((1, 4), (2, 2)):
        batch = SimpleNamespace(signals=logits, stages=stages)
        _, logs = Staging([1.0] * 5, stride=stride)(Middle(), batch)
        assert logs["right"] == logs["scored"] == scored


def test_l2_is_for_the_weights_the_paper_names():
    for name, expected in (("tinysleepnet", 4), ("deepsleepnet", 1)):
        args = staging_training.parse_args(["-e", name])
        net = models.build(name)
        optimizer, _ = staging_training.optimiser(args, net)
        first, rest = optimizer.param_groups
        assert first["weight_decay"] == 1e-3 and len(first["params"]) == expected
        assert rest["weight_decay"] == 0.0
        total = len(first["params"]) + len(rest["params"])
        assert total == len(list(net.parameters()))


def test_recipes_are_defaults_that_flags_override():
    args = staging_training.parse_args(["-e", "tinysleepnet"])
    assert (args.lr, args.batch_size, args.grad_clip, args.num_seq) == (1e-4, 15, 5.0, 20)
    assert args.weights == [1.0, 1.5, 1.0, 1.0, 1.0]
    args = staging_training.parse_args(["-e", "tinysleepnet", "--lr", "0.01", "-sl", "9"])
    assert (args.lr, args.num_seq) == (0.01, 9)
    assert staging_training.parse_args(["-e", "chambon2018"]).weights == "balanced"
    assert staging_training.parse_args(["-sl", "3", "-d", "sleepedf", "-v", "2013"]).data_path == (
        Path("data/sleepedf-2013")
    )


def test_balanced_weights(store):
    view = View(store, list(store.recordings), channels=["EEG"])
    weights = np.array(staging_training.balanced(view))
    counts = view.class_counts()
    products = (weights * counts)[counts > 0]
    assert np.allclose(products, products[0])
    assert weights.mean() == pytest.approx(1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-e", "resnet"], "--experiment resnet: there are chambon2018"),
        (["-d", "dreem", "-v", "2018"], "--dataset dreem has the versions dodh, dodo"),
        (["-d", "shhs"], "--dataset shhs: there are sleepedf, dreem"),
        (["--weights", "1,2"], "--weights takes five numbers"),
        (["--weights", "a,b,c,d,e"], "--weights takes five numbers"),
    ],
)
def test_what_cannot_be_is_one_line(words, message):
    with pytest.raises(UserError, match=message):
        staging_training.parse_args(words)


def test_several_devices_and_short_nights_are_refused(store, tmp_path):
    with pytest.raises(UserError, match="takes one device"):
        train(store, tmp_path, "tinysleepnet", "--devices", "2")
    with pytest.raises(UserError, match="no recording has 5000 epochs"):
        train(store, tmp_path, "tinysleepnet", "-sl", "5000")
    with pytest.raises(UserError, match="no recording has 5000 epochs"):
        train(store, tmp_path, "seqsleepnet", "-sl", "5000")


def test_another_model_or_one_not_trained_here_is_refused(store, project, tmp_path):
    path = next(project.glob("seqsleepnet_*")) / "checkpoints" / "best.pt"
    with pytest.raises(UserError, match="holds a seqsleepnet, not a tinysleepnet"):
        evaluate(store, project, "--model_path", str(path), "-e", "tinysleepnet")
    checkpoint = load_checkpoint(path)
    del checkpoint["trained"]
    torch.save(checkpoint, tmp_path / "foreign.pt")
    with pytest.raises(UserError, match="nobody knows whom it has seen"):
        evaluate(store, project, "--model_path", str(tmp_path / "foreign.pt"))
