"""The training loop as a user meets it: reproducible, interruptible, honest about failures."""

from __future__ import annotations

import json
import os
import pickle
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

import cmt_training
import models
from datasets.store.store import Store
from datasets.store.views import View
from objectives.staging import Staging
from tests.conftest import prepare
from tests.listing import names
from training import loop
from training.interruption import Interruption
from training.loop import Plan, fit
from training.resume import Learner, Outputs
from utils.checkpoint import load_checkpoint, load_tensors, save_checkpoint
from utils.errors import UserError, run_script
from utils.files import write_json
from utils.runs import Run

TINY = [
    "--model_type", "Seq", "--num_seq", "5", "--d_model", "16", "--dim_feedforward", "16",
    "--window_size", "150", "--n_epochs", "2", "--train_data_list", "0,1", "--logger", "csv",
    "--accelerator", "cpu",
]  # fmt: skip


def train(store: Store, project: Path, *words: str) -> Path:
    """``cmt_training.py`` in this process, small; returns the run folder."""
    paths = ["--data_path", str(store.path), "--project_path", str(project)]
    cmt_training.main([*paths, *TINY, *words])
    return next(project.glob("cmt_*"))


def rows(run: Path) -> list[dict]:
    """Metrics without what a clock decides."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in Run(run).rows()]


def same_state(a: Path, b: Path) -> bool:
    """Weights, optimiser, schedule, random states and position, bit for bit."""
    one, two = (load_checkpoint(run / "checkpoints" / "last.pt") for run in (a, b))

    def equal(x, y) -> bool:
        if isinstance(x, torch.Tensor):
            return torch.equal(x, y)
        if isinstance(x, dict):
            return x.keys() == y.keys() and all(equal(x[k], y[k]) for k in x)
        if isinstance(x, list | tuple):
            return len(x) == len(y) and all(map(equal, x, y))
        return x == y

    for checkpoint in (one, two):
        del checkpoint.progress["position"]["total_seconds"]
    return equal(one.state, two.state) and equal(one.progress, two.progress)


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory) -> Path:
    """Two passes without interruption."""
    return train(store, tmp_path_factory.mktemp("whole"))


def test_same_seed_same_training(store, tmp_path, whole):
    again = train(store, tmp_path)
    assert rows(again) == rows(whole)
    assert same_state(again, whole)


def test_another_seed_another_training(store, tmp_path, whole):
    other = train(store, tmp_path, "--seed", "1")
    assert rows(other)[0]["train_loss"] != rows(whole)[0]["train_loss"]


def stopped_at(monkeypatch, call: int, number: int = signal.SIGINT) -> None:
    """Send this process a signal during the objective's nth call."""
    calls = iter(range(10_000))
    plain = Staging.__call__

    def counting(self, model, batch):
        if next(calls) == call:
            os.kill(os.getpid(), number)
        return plain(self, model, batch)

    monkeypatch.setattr(Staging, "__call__", counting)


@pytest.mark.parametrize("call", [0, 2, 7])
def test_interrupted_and_resumed_equals_uninterrupted(store, tmp_path, whole, monkeypatch, call):
    with monkeypatch.context() as patch:
        stopped_at(patch, call)
        with pytest.raises(KeyboardInterrupt):
            train(store, tmp_path)
    run = next(tmp_path.glob("cmt_*"))
    position = load_checkpoint(run / "checkpoints" / "last.pt").progress["position"]
    assert position["step"] > 0
    assert not (run / "curve.png").exists()
    train(store, tmp_path)
    assert rows(run) == rows(whole)
    assert same_state(run, whole)


def test_sigterm_is_heard_too_and_handlers_are_put_back(store, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    stopped_at(monkeypatch, 1, signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        train(store, tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before
    assert Run(next(tmp_path.glob("cmt_*"))).checkpoint("last").exists()


def test_a_second_ctrl_c_stops_at_once():
    with pytest.raises(KeyboardInterrupt), Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.wanted
        signal.raise_signal(signal.SIGINT)


def test_killed_between_log_and_checkpoint_logs_no_pass_twice(store, tmp_path, whole):
    run = train(store, tmp_path, "--n_epochs", "1")
    Run(run).log(rows(run)[0] | {"pass": 2})  # as if pass 2 was logged, then power failed
    train(store, tmp_path)
    assert rows(run) == rows(whole)
    assert same_state(run, whole)


def test_a_finished_run_is_left_alone_and_may_continue(store, tmp_path, capsys):
    run = train(store, tmp_path)
    before = (run / "checkpoints" / "last.pt").read_bytes()
    train(store, tmp_path)
    assert (run / "checkpoints" / "last.pt").read_bytes() == before
    train(store, tmp_path, "--n_epochs", "3")
    assert [row["pass"] for row in rows(run)] == [1, 2, 3]


def test_other_settings_are_refused_and_resume_false_starts_over(store, tmp_path):
    run = train(store, tmp_path)
    with pytest.raises(UserError, match=r"lr 0\.001 then, 0\.01 now.*--resume False"):
        train(store, tmp_path, "--lr", "0.01")
    assert len(rows(run)) == 2
    train(store, tmp_path, "--lr", "0.01", "--no-is_retrain", "--n_epochs", "1")
    assert [row["lr"] for row in rows(run)] == [0.01]


def test_the_rate_falls_by_the_pass_even_after_resuming(store, tmp_path):
    words = ["--step_size", "2", "--gamma", "0.1"]
    for n_passes in (1, 3, 5):
        run = train(store, tmp_path, *words, "--n_epochs", str(n_passes))
    rates = [row["lr"] for row in rows(run)]
    assert np.allclose(rates, [1e-3, 1e-3, 1e-4, 1e-4, 1e-5])


def test_what_a_run_leaves(store, whole):
    about = json.loads((whole / "run.json").read_text())
    assert about["settings"]["d_model"] == 16
    assert about["subjects"]["held_out"] == ["SC400"] or len(about["subjects"]["held_out"]) == 1
    parts = [set(part) for part in about["subjects"].values()]
    assert not parts[0] & parts[1] and not (parts[0] | parts[1]) & parts[2]
    assert set().union(*parts) == set(store.subjects)
    assert (whole / "curve.png").read_bytes()[:4] == b"\x89PNG"
    assert (whole / "metrics.csv").read_text().startswith("pass,lr,train_loss")
    assert names(whole / "checkpoints") == ["best.pt", "best_accuracy.pt", "last.pt"]
    path = whole / "checkpoints" / "best.pt"
    best, written = load_checkpoint(path), load_tensors(path)
    assert "optimizer" not in written and not best.progress
    view = View(store, store.of_subjects(about["subjects"]["validation"]))
    counts = training_agreement(models.build_from(best), view)
    assert np.trace(counts) / counts.sum() == pytest.approx(written["figures"]["accuracy"])


def training_agreement(model, view):
    from utils.staged_night import agreement

    return agreement(model, view.whole_nights())


def test_checkpoints_every_so_many_passes(store, tmp_path):
    run = train(store, tmp_path, "--save_model_freq", "2", "--n_epochs", "4")
    kept = sorted(path.stem for path in (run / "checkpoints").glob("pass_*"))
    assert kept == ["pass_002", "pass_004"]


def poisoned(monkeypatch, call: int) -> None:
    """The loss of the objective's nth call is not a number."""
    calls = iter(range(10_000))
    plain = Staging.loss

    def loss(self, logits, stages):
        value = plain(self, logits, stages)
        return value * float("nan") if next(calls) == call else value

    monkeypatch.setattr(Staging, "loss", loss)


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good(store, tmp_path, monkeypatch):
    run = train(store, tmp_path, "--n_epochs", "1")
    good = {path.name: path.read_bytes() for path in (run / "checkpoints").glob("*.pt")}
    poisoned(monkeypatch, 3)
    with pytest.raises(UserError, match="pass 2, step 4: the loss is nan"):
        train(store, tmp_path)
    kept = {path.name: path.read_bytes() for path in (run / "checkpoints").glob("*.pt")}
    assert kept == good
    state = load_checkpoint(run / "checkpoints/last.pt").state
    assert all(torch.isfinite(value).all() for value in state.values())


class Recorder:
    """An outputs folder and batches of random epochs, for ``fit`` without a store."""

    def __init__(self, path: Path, n_batches: int = 2, **settings) -> None:
        torch.manual_seed(0)
        small = {"n_samples": 300, "d_model": 16, "dim_feedforward": 16, "num_seq": 3}
        self.net = models.build("sequence_cmt", **small | settings)
        self.fabric = Fabric(accelerator="cpu", devices=1)
        optimizer = torch.optim.Adam(self.net.parameters())
        model, optimizer = self.fabric.setup(self.net, optimizer)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 30)
        self.learner = Learner(self.net, model, optimizer, schedule, Staging())
        description = {
            "model": "sequence_cmt",
            "settings": {},
            "channels": [["EEG Fpz-Cz", "EEG"]],
            "fs": 10.0,
            "standardise": "none",
        }
        self.logged: list[tuple[dict, int]] = []
        log = lambda figures, step: self.logged.append((figures, step))  # noqa: E731
        self.outputs = Outputs(Run(path), log, description)
        self.batches = Listed([random_batch() for _ in range(n_batches)])

    def fit(self, plan: Plan, figures) -> loop.Position:
        following = iter(figures)
        return fit(
            self.fabric,
            self.learner,
            lambda number: self.batches,
            lambda: next(following),
            plan,
            self.outputs,
        )


class Listed(list):
    def after(self, step):
        return Listed(self[step:])


class random_batch:
    def __init__(self):
        self.signals = torch.randn(2, 4, 2, 300)
        self.stages = torch.randint(0, 5, (2, 4))


def figures_of(*kappas):
    return [{"kappa": k, "accuracy": 0.5, "macro_f1": 0.5} for k in kappas]


def test_stops_early_when_kappa_no_longer_improves(tmp_path):
    recorder = Recorder(tmp_path)
    position = recorder.fit(Plan(50, patience=3), figures_of(0.1, 0.4, 0.3, 0.4, 0.2, 0.9))
    assert (position.passes, position.best_pass) == (5, 2)
    assert load_checkpoint(tmp_path / "checkpoints/best.pt").passes == 2
    assert load_checkpoint(tmp_path / "checkpoints/best_accuracy.pt").passes == 1
    assert [step for _, step in recorder.logged] == [1, 2, 3, 4, 5]


def test_an_undefined_kappa_still_leaves_a_best_checkpoint(tmp_path):
    # the published code writes none, and its evaluation then fails
    recorder = Recorder(tmp_path)
    nan = float("nan")
    assert recorder.fit(Plan(1), figures_of(nan)).best_pass == 1
    assert load_checkpoint(tmp_path / "checkpoints/best.pt").passes == 1
    assert recorder.fit(Plan(3), figures_of(-0.1, nan)).best_pass == 2
    assert load_checkpoint(tmp_path / "checkpoints/best.pt").passes == 2
    assert Run(tmp_path).rows()[0]["val_kappa"] is None


def test_gradients_are_clipped_and_accumulated(tmp_path, monkeypatch):
    recorder = Recorder(tmp_path, n_batches=5)
    norms, steps = [], []
    clip = loop.clip

    def clipped(fabric, learner, largest):
        before = clip(fabric, learner, largest)
        norms.append(torch.cat([p.grad.flatten() for p in recorder.net.parameters()]).norm())
        return before

    monkeypatch.setattr(loop, "clip", clipped)
    recorder.learner.optimizer.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    recorder.fit(Plan(1, accumulate=2, grad_clip=0.01), figures_of(0.1))
    assert len(steps) == len(norms) == 3  # two, two and the one left over
    assert all(norm <= 0.0101 for norm in norms)
    ((row, _),) = recorder.logged
    assert row["train_grad_norm"] > 0.0101  # as it was before clipping


def test_accumulated_gradients_are_the_mean_over_their_batches(tmp_path):
    recorder = Recorder(tmp_path, n_batches=2, dropout=0.0)
    net, parameter = recorder.net, recorder.net.heads[0].weight
    each = []
    for batch in recorder.batches:
        loss, _ = Staging()(net, batch)
        each.append(torch.autograd.grad(loss, parameter)[0])
    seen = []
    recorder.learner.optimizer.optimizer.register_step_pre_hook(
        lambda *_: seen.append(parameter.grad.clone())
    )
    recorder.fit(Plan(1, accumulate=2), figures_of(0.1))
    assert len(seen) == 1 and torch.allclose(seen[0], sum(each) / 2, atol=1e-6)


def test_on_a_gpu_losses_are_read_now_and_then_and_at_the_end():
    losses = loop._Losses(SimpleNamespace(device=torch.device("cuda")))
    losses.add(torch.tensor(float("inf")), "pass 1, step 1")
    for step in range(2, 20):
        losses.add(torch.tensor(1.0), f"pass 1, step {step}")
    with pytest.raises(UserError, match="pass 1, step 1: the loss is inf"):
        losses.add(torch.tensor(1.0), "pass 1, step 20")
    short = loop._Losses(SimpleNamespace(device=torch.device("cuda")))
    short.add(torch.tensor(float("nan")), "pass 1, step 1")
    with pytest.raises(UserError, match="nan"):
        short.check()


def test_a_tiny_model_overfits_32_windows(tmp_path):
    recorder = Recorder(tmp_path, n_batches=0, d_model=32, dim_feedforward=64, dropout=0.0)
    batch = random_batch()
    batch.signals, batch.stages = torch.randn(4, 10, 2, 300), torch.randint(0, 5, (4, 10))
    recorder.batches.append(batch)  # four runs of ten epochs: 32 windows of three
    recorder.learner.optimizer.param_groups[0]["lr"] = 3e-3
    recorder.fit(Plan(150), figures_of(*[0.1] * 150))
    assert Run(tmp_path).rows()[-1]["train_accuracy"] >= 0.99


def test_memory_does_not_keep_the_graphs_of_past_steps(tmp_path):
    # the published loop sums losses with their graphs attached
    recorder = Recorder(tmp_path, n_batches=3)
    kept = []

    class Watched(Staging):
        def __call__(self, model, batch):
            loss, logs = super().__call__(model, batch)
            kept.append(loss)
            return loss, logs

    recorder.learner.objective = Watched()
    recorder.fit(Plan(1), figures_of(0.1))
    import gc
    import weakref

    watch = [weakref.ref(loss) for loss in kept]
    kept.clear()
    gc.collect()
    assert all(reference() is None for reference in watch)


def test_checkpoints_never_run_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    for name, payload in (("pickled.pt", pickle.dumps(Trap())), ("saved.pt", None)):
        path = tmp_path / name
        if payload is None:
            torch.save({"state": Trap()}, path)
        else:
            path.write_bytes(payload)
        with pytest.raises(UserError, match="could run code" if payload is None else "damaged"):
            load_checkpoint(path)
    assert not (tmp_path / "executed").exists()


def test_what_is_no_checkpoint_is_one_line(tmp_path, whole):
    with pytest.raises(UserError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "absent.pt")
    damaged = tmp_path / "damaged.pt"
    content = (whole / "checkpoints/best.pt").read_bytes()
    for cut in (0, 10, len(content) // 2, len(content) - 10):
        damaged.write_bytes(content[:cut])
        with pytest.raises(UserError, match=r"damaged|refused"):
            load_checkpoint(damaged)
    torch.save({"weights": torch.ones(3)}, damaged)
    with pytest.raises(UserError, match="not a checkpoint of this project"):
        load_checkpoint(damaged)
    checkpoint = load_tensors(whole / "checkpoints/best.pt")
    save_checkpoint(damaged, checkpoint, overwrite=True)
    assert load_checkpoint(damaged).model == "sequence_cmt"
    torch.save(checkpoint | {"format": 99}, damaged)
    with pytest.raises(UserError, match="format 99"):
        load_checkpoint(damaged)


def test_a_run_without_its_settings_is_one_line(store, tmp_path):
    run = train(store, tmp_path, "--n_epochs", "1")
    (run / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"run\.json: is there already.*changed since"):
        train(store, tmp_path)
    write_json(run / "run.json", [], overwrite=True)
    with pytest.raises(UserError, match=r"run\.json: not a JSON object"):
        train(store, tmp_path)


def test_interrupted_scripts_leave_with_130(monkeypatch, store, tmp_path, capsys):
    stopped_at(monkeypatch, 1)
    assert run_script(lambda: train(store, tmp_path)) == 130
    assert "same command continues" in capsys.readouterr().err


def test_streamed_training_equals_resident_training(store, tmp_path, whole):
    streamed = train(store, tmp_path, "--budget_gb", "0")
    assert rows(streamed) == rows(whole)


def test_training_starts_from_the_weights_named(store, tmp_path, whole):
    best = str(whole / "checkpoints" / "best.pt")
    run = train(store, tmp_path, "--model_path", best, "--lr", "0", "--n_epochs", "1")
    theirs, ours = (load_checkpoint(p / "checkpoints/best.pt").state for p in (whole, run))
    moving = ("running_mean", "running_var", "num_batches_tracked")
    assert all(torch.equal(theirs[k], ours[k]) for k in theirs if not k.endswith(moving))
    with pytest.raises(UserError, match="these flags ask for"):
        train(store, tmp_path / "b", "--model_path", best, "--d_model", "24")


def test_a_night_shorter_than_a_window_is_left_out_of_training_only(tmp_path, capsys):
    from tests.edf_files import write_pair

    for subject, n in enumerate((60, 60, 3, 60)):
        name = f"SC4{subject:02d}1E0"
        write_pair(tmp_path / "raw", [("W", n // 2), ("2", n - n // 2)], n, name=name)
    prepare(tmp_path / "raw", tmp_path / "store", "--keep_all")
    small = Store(tmp_path / "store")
    words = ["--folds", "kfold:4:0", "--train_data_list", "0,1,2", "--n_epochs", "1"]
    train(small, tmp_path / "r", *words)
    about = json.loads(next((tmp_path / "r").glob("*/run.json")).read_text())
    said = "left out, shorter than 5 epochs: SC4021E0" in capsys.readouterr().out
    assert said == ("SC402" in about["subjects"]["train"])


def test_kept_steps_end_the_training_and_survive_an_interruption(tmp_path):
    """Weights after steps 2 and 5 of passes of four, the same where step 3 was interrupted."""
    plan, states = Plan(10, keep_steps=(2, 5)), {}
    for name, stop in (("whole", None), ("interrupted", 3)):
        recorder = Recorder(tmp_path / name, n_batches=4)
        calls = []

        def loss(model, batch, calls=calls, stop=stop):
            calls.append(len(calls) + 1)
            if calls[-1] == stop:
                signal.raise_signal(signal.SIGINT)
            return Staging()(model, batch)

        recorder.learner.objective = Called(loss)
        if stop:
            with pytest.raises(KeyboardInterrupt):
                recorder.fit(plan, figures_of(0.1))
            assert len(calls) == 3
        position = recorder.fit(plan, figures_of(0.1, 0.2))
        assert (position.steps, position.passes, len(calls)) == (5, 2, 5)
        assert recorder.fit(plan, []).steps == 5  # nothing is left to do
        kept = sorted((tmp_path / name / "checkpoints").glob("step_*.pt"))
        assert [path.stem for path in kept] == ["step_000002", "step_000005"]
        states[name] = [load_checkpoint(path).state for path in kept]
        assert [row["steps"] for row in Run(tmp_path / name).rows()] == [4, 5]
    for one, other in zip(states["whole"], states["interrupted"], strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
    early, late = states["whole"]
    assert not all(torch.equal(early[key], late[key]) for key in early)


class Called(Staging):
    """Staging by a function of model and batch."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def __call__(self, model, batch):
        return self.function(model, batch)
