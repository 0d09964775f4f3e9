"""``staging_training.py`` and ``staging_evaluate.py``: recipes run, states are carried over."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import models
import staging_evaluate
import staging_training
from datasets.store.sampling import parallel_nights
from datasets.store.views import View
from evaluation import evaluate_run
from models.base import SleepModel
from objectives.staging import Staging
from objectives.stateful import StatefulStaging
from tests.index_schema import check_index
from tests.test_training import same_state, stopped_at
from training import staging_family
from training.recipes import RECIPES
from utils.arguments import by_flag
from utils.checkpoint import load_checkpoint, load_tensors, save_checkpoint
from utils.errors import UserError

QUICK = [
    "--n_epochs", "1", "--train_data_list", "0,1", "--logger", "csv", "--accelerator", "cpu",
    "--num_seq", "5", "--batch_size", "8",
]  # fmt: skip
FAST = ("chambon2018", "tinysleepnet", "seqsleepnet", "simplesleepnet")


def train(store, project: Path, name: str, *words: str) -> Path:
    paths = ["--data_path", str(store.path), "--project_path", str(project)]
    staging_training.main([*paths, "--experiment", name, *QUICK, *words])
    return next(project.glob(f"{name}_*"))


def parsed(words: list[str]) -> SimpleNamespace:
    """Values of all flags side by side."""
    return SimpleNamespace(**by_flag(staging_training.parse_args(words)))


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
    assert checkpoint.model == name
    assert checkpoint.standardise == RECIPES[name].standardise


@pytest.mark.parametrize(
    "name", [pytest.param("chambon2018", marks=pytest.mark.slow), "tinysleepnet", "seqsleepnet"]
)
def test_explained_by_the_same_interface(store, raw, project, name):
    words = [
        "--is_interpret",
        "--ig_most_steps",
        "100",
        "--interpret_select",
        "0,40",
        "--interpret_pictures",
        "1",
    ]
    cheap = ["--interpret_methods", "ig,occlusion", "--n_random", "2", "--n_untrained", "1"]
    truth = ["--truth_path", str(raw), "--interpret_bands", "False"]
    evaluate(store, project, "--experiment", name, *words, *cheap, *truth)
    folder = next(project.glob(f"{name}_*")) / "interpretations"
    assert [entry["epoch"] for entry in check_index(folder)] == [0, 40]
    assert len(list(folder.glob("*.html"))) == 1


def test_the_scaling_of_spectrograms_is_that_of_training_nights(store, project):
    run = next(project.glob("seqsleepnet_*"))
    checkpoint = load_checkpoint(run / "checkpoints" / "best.pt")
    subjects_of = checkpoint.training.subjects
    net = models.build("seqsleepnet", **checkpoint.settings)
    labels = [label for label, _ in checkpoint.channels]

    def fitted(subjects):
        view = View(store, store.of_subjects(subjects), channels=labels, standardise="none")
        staging_family.initialise_from_training_data(None, net, view)
        return net.spectrogram.mean.clone()

    assert torch.equal(checkpoint.state["spectrogram.mean"], fitted(subjects_of["train"]))
    other = fitted(subjects_of["train"] + subjects_of["held_out"])
    assert not torch.allclose(checkpoint.state["spectrogram.mean"], other)


@pytest.mark.parametrize("name", ["deepsleepnet", "sleeptransformer", "sequence_cmt", "epoch_cmt"])
def test_the_slow_ones_take_a_step(store, name):
    recipe = RECIPES[name]
    view = View(store, list(store.recordings)[:1], channels=["EEG"], standardise=recipe.standardise)
    args = staging_training.parse_args(
        ["--experiment", name, "--num_seq", "2", "--batch_size", "2"]
    )
    net = models.build(name, **staging_family.settings_of(args.model, view))
    staging_family.initialise_from_training_data(None, net, view)
    batch = next(iter(staging_family.batches_of(args, view, 1)(view, 0, 0, 1)))
    loss, logs = Staging(args.recipe.weights)(net, batch)
    loss.backward()
    assert torch.isfinite(loss) and logs["scored"] > 0


class Counting(SleepModel):
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


def test_states_are_carried_through_their_night_and_begin_anew(store):
    view = View(store, list(store.recordings), channels=["EEG"], standardise="none")
    listed = parallel_nights(view, 20, 3, seed=0)
    model, objective = Counting(), StatefulStaging([1.0] * 5, length=20)
    for batch in listed:
        objective(model, batch)
    begun = {}
    for (nights, first, _), seen in zip(listed.windows, model.seen, strict=True):
        for night, epoch, count in zip(nights.tolist(), first.tolist(), seen, strict=True):
            begun.setdefault(night, epoch)
            assert count == epoch - begun[night]
    assert set(begun) == set(range(len(view.recordings)))


def test_parallel_nights_are_covered_in_order(store):
    view = View(store, list(store.recordings), channels=["EEG"], standardise="none")
    for seed in range(4):
        of = {}
        for nights, first, _ in parallel_nights(view, 20, 2, seed=seed).windows:
            assert len(nights) <= 2
            for night, epoch in zip(nights.tolist(), first.tolist(), strict=True):
                of.setdefault(night, []).append(epoch)
        for night, firsts in of.items():
            assert (np.diff(firsts) == 20).all()
            assert firsts[0] >= 0 and firsts[-1] + 20 <= view.lengths[night]
            assert view.lengths[night] - (firsts[-1] + 20) + firsts[0] < 20
    assert (
        parallel_nights(view, 20, 2, seed=0).windows[0][1].tolist()
        != parallel_nights(view, 20, 2, seed=1).windows[0][1].tolist()
    )


def test_a_stateful_run_resumes_bit_for_bit(store, tmp_path):
    whole = train(store, tmp_path / "a", "tinysleepnet", "--n_epochs", "2")
    train(store, tmp_path / "b", "tinysleepnet", "--n_epochs", "1")
    again = train(store, tmp_path / "b", "tinysleepnet", "--n_epochs", "2")
    assert same_state(whole, again)


@pytest.mark.parametrize("call", [2, 5])
def test_a_stateful_pass_is_interrupted_and_resumed(store, tmp_path, monkeypatch, call):
    # one night at a time, so that the state matters at every step
    words = ["--batch_size", "1", "--n_epochs", "1"]
    whole = train(store, tmp_path / "a", "tinysleepnet", *words)
    with monkeypatch.context() as patch:
        stopped_at(patch, call)
        with pytest.raises(KeyboardInterrupt):
            train(store, tmp_path / "b", "tinysleepnet", *words)
    path = next((tmp_path / "b").glob("*")) / "checkpoints" / "last.pt"
    progress = load_checkpoint(path).progress
    assert progress["position"]["step"] > 0 and len(progress["objective"]["nights"]) == 1
    again = train(store, tmp_path / "b", "tinysleepnet", *words)
    assert same_state(whole, again)


def test_carried_states_survive_a_checkpoint():
    one, two = (StatefulStaging([1.0] * 5, length=20) for _ in range(2))
    batch = SimpleNamespace(
        signals=torch.zeros(2, 20, 1, 1),
        stages=torch.zeros(2, 20, dtype=torch.long),
        nights=np.array([4, 7]),
        first=np.array([0, 20]),
    )
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


def test_chambon_is_scored_by_the_middle_epoch():
    class Middle(SleepModel):
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
        optimizer, _ = staging_family.optimiser(
            None, torch.device("cpu"), None, args.recipe, args.optimiser, net
        )
        first, rest = optimizer.param_groups
        assert first["weight_decay"] == 1e-3 and len(first["params"]) == expected
        assert rest["weight_decay"] == 0.0
        total = len(first["params"]) + len(rest["params"])
        assert total == len(list(net.parameters()))


def test_recipes_are_defaults_that_flags_override():
    args = parsed(["-e", "tinysleepnet"])
    assert (args.lr, args.batch_size, args.grad_clip, args.num_seq) == (1e-4, 15, 5.0, 20)
    assert args.weights == [1.0, 1.5, 1.0, 1.0, 1.0]
    args = parsed(["-e", "tinysleepnet", "--lr", "0.01", "-sl", "9"])
    assert (args.lr, args.num_seq) == (0.01, 9)
    assert parsed(["--weights", "balanced"]).weights == "balanced"
    assert parsed(["-sl", "3", "-d", "sleepedf", "-v", "2013"]).data_path == (
        Path("data/sleepedf-2013")
    )


def test_balanced_weights(store):
    view = View(store, list(store.recordings), channels=["EEG"])
    weights = np.array(staging_family.balanced(view))
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
    checkpoint = load_tensors(path)
    del checkpoint["trained"]
    torch.save(checkpoint, tmp_path / "foreign.pt")
    with pytest.raises(UserError, match="nobody knows whom it has seen"):
        evaluate(store, project, "--model_path", str(tmp_path / "foreign.pt"))


def test_a_pretraining_is_not_taken_for_the_newest_staging_model(
    store, project, tmp_path, monkeypatch
):
    """Was: after ssl_training.py, its encoder was to stage nights, which ended in a traceback."""
    staging = next(project.glob("seqsleepnet_*"))
    shutil.copytree(staging, tmp_path / staging.name)
    pretrained = tmp_path / "ssl_masked_cnn_fold2_seed0" / "checkpoints" / "best.pt"
    settings = {"encoder": "cnn", "n_channels": 1, "fs": 100.0, "n_samples": 3000}
    net = models.build("pretraining", **settings)
    changed = {"model": "pretraining", "settings": settings, "state": net.state_dict()}
    save_checkpoint(pretrained, load_tensors(staging / "checkpoints" / "best.pt") | changed)
    evaluated = []
    monkeypatch.setattr(evaluate_run, "evaluate", lambda _, given: evaluated.append(given.run.name))
    evaluate(store, tmp_path)
    assert evaluated == [staging.name]
    monkeypatch.undo()
    with pytest.raises(UserError, match="a pretraining, which stages nothing; train a head first"):
        evaluate(store, tmp_path, "--model_path", str(pretrained))


def test_flags_of_the_early_library():
    words = [
        "-e",
        "chambon2018",
        "-d",
        "SleepPhysionet",
        "-v",
        "2013",
        "-s",
        "-sl",
        "5",
        "-me",
        "7",
        "-vci",
        "30",
        "-bs",
        "4",
        "-nj",
        "2",
    ]
    args = parsed([*words, "-ckpt", "a.pt"])
    assert (args.num_seq, args.n_epochs, args.val_check_interval) == (5, 7, 30)
    assert (args.batch_size, args.n_jobs, args.loss) == (4, 2, "scl")
    assert args.model_path == Path("a.pt") and args.data_path == Path("data/sleepedf-2013")
    assert parsed(["-s", "False"]).loss == "cel"
    assert parsed(["--loss", "scl"]).loss == "scl"
    assert parsed(["-e", "simplesleepnet"]).augment == ["channels"]
    assert parsed(["-e", "simplesleepnet", "--augment", "[]"]).augment == []


@pytest.mark.parametrize(
    "words",
    [
        ["chambon2018", "--first_epochs", "0"],
        ["seqsleepnet", "--loss", "scl"],
        ["simplesleepnet", "--augment", "amplitude,shift,bandstop,mask,noise,channels"],
        ["mobilenet_v3_small", "--sequence_encoder", "transformer", "--loss", "scl"],
        ["chambon2018", "--first_epochs", "0", "--loss", "scl", "--weights", "balanced"],
    ],
)
def test_every_choice_trains(store, tmp_path, words):
    run = train(store, tmp_path, *words)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 1 and np.isfinite(rows[0]["train_loss"])


def test_the_similarity_loss_resumes_bit_for_bit(store, tmp_path):
    words = ["seqsleepnet", "--loss", "scl", "-vci", "0"]
    whole = train(store, tmp_path / "a", *words, "--n_epochs", "2")
    train(store, tmp_path / "b", *words, "--n_epochs", "1")
    again = train(store, tmp_path / "b", *words, "--n_epochs", "2")
    assert same_state(whole, again)


def test_the_encoder_trained_first_is_carried_over(store, tmp_path):
    run = train(store, tmp_path, "chambon2018", "--first_epochs", "1")
    first = next(tmp_path.glob("chambon2018_epochs_fold*"))
    alone = load_checkpoint(first / "checkpoints" / "best.pt")
    whole = load_checkpoint(run / "checkpoints" / "best.pt")
    assert alone.settings["num_seq"] == 1 and whole.settings["num_seq"] == 5
    kept = [name for name in whole.state if name.startswith("layers.")]
    assert kept and all(torch.equal(alone.state[k], whole.state[k]) for k in kept)


def test_the_encoder_trained_first_has_a_rate_of_its_own(tmp_path):
    args = staging_training.parse_args(["-e", "deepsleepnet"])
    assert (args.recipe.first_epochs, args.recipe.encoder_lr) == (100, 1e-6)
    net = models.build("deepsleepnet")
    encoder = staging_family.Encoder(None, RECIPES["deepsleepnet"].first.parts)
    optimizer, _ = staging_family.optimiser(
        None, torch.device("cpu"), encoder, args.recipe, args.optimiser, net
    )
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in net.named_parameters():
        assert rates[id(parameter)] == (1e-6 if name.startswith(("small", "large")) else 1e-4)


def test_validations_within_a_pass(store, tmp_path):
    view = View(store, list(store.recordings), channels=["EEG"])
    args = staging_training.parse_args(["-e", "seqsleepnet", "-bs", "8", "-sl", "5"])
    whole = staging_family.batches_of(args, view, 1)
    checks, part = staging_family.checked_every(4, whole, view, 1)
    assert checks > 2
    for number in (0, 1):
        steps = [part(view, number * checks + k, 0, 1).windows for k in range(checks)]
        assert max(map(len, steps)) <= 6
        together = [window for step in steps for window in step]
        expected = whole(view, number, 0, 1).windows
        assert all(
            (a == b).all()
            for one, other in zip(together, expected, strict=True)
            for a, b in zip(one, other, strict=True)
        )
    run = train(store, tmp_path, "seqsleepnet", "-vci", "2", "--n_epochs", "1")
    assert len((run / "metrics.jsonl").read_text().splitlines()) > 1


def test_every_fold_in_turn(store, tmp_path):
    project = tmp_path / "all"
    train(store, project, "chambon2018", "--all_folds", "--first_epochs", "0", "-nj", "2")
    runs = sorted(project.glob("chambon2018_fold*"))
    seen = [load_checkpoint(r / "checkpoints" / "best.pt").training.subjects for r in runs]
    tested = [subject for split in seen for subject in split["held_out"]]
    assert sorted(tested) == sorted(store.subjects)
    for split in seen:
        assert not set(split["held_out"]) & {*split["train"], *split["validation"]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--augment", "flip"], "--augment: no flip; there are amplitude, shift"),
        (["--augment_p", "2"], "probability from 0 to 1"),
        (["-e", "tinysleepnet", "--loss", "scl"], "not for --experiment tinysleepnet"),
        (["-e", "tinysleepnet", "--sampling", "balanced"], "reads nights in order"),
        (["--night_shift", "0.1"], "carries no state; use --augment shift"),
        (["-e", "seqsleepnet", "--first_epochs", "3"], "trained in one stage"),
        (["--sequence_encoder", "transformer"], "is for image networks"),
        (["--devices", "2"], "take one device"),
        (["--loss", "scl", "--compile"], "which --compile hides"),
    ],
)
def test_what_does_not_go_together_is_one_line(words, message):
    with pytest.raises(UserError, match=message):
        staging_training.parse_args(words)


def test_the_settings_of_a_run_make_it_again(store, project, tmp_path):
    for name in FAST:
        run = next(project.glob(f"{name}_fold*"))
        settings = json.loads((run / "run.json").read_text())["settings"]
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(settings))
        args = vars(parsed(["--config", str(path), "-e", name]))
        # the store is known by its fold table once it is open
        for key, value in settings.items():
            assert args[key] == (Path(value) if key == "data_path" else value), (name, key)
