"""The training loop of every model, on Lightning Fabric.

``fit`` is given a learner (model, optimiser, schedule, objective), the batches of each pass and a
way to validate. What it saves lets it resume bit for bit, even from the middle of a pass.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor
from tqdm import tqdm

from training.interruption import Interruption
from training.precision import gradients_may_be_measured
from training.resume import Learner, Outputs, Position, resume, save_last
from training.sharding import clip_norm, weights_of
from utils.checkpoint import save_checkpoint
from utils.devices import widest
from utils.errors import UserError

SELECTIONS = {"best": "kappa", "best_accuracy": "accuracy"}  # checkpoint: figure it is best by
LOWEST_LOSS = {"best": "-loss"}  # the minus is for figures that are better when lower
LAST = {"best": "pass"}  # of trainings whose losses do not compare from pass to pass
_READ_EVERY = 20  # steps between reads of what lies on a GPU: each read waits for it


class Batches(Protocol):
    """The batches of one pass; the same pass number always gives the same ones."""

    def __len__(self) -> int: ...
    def __iter__(self): ...
    def after(self, step: int) -> Batches:
        """The batches that follow the first ``step`` ones."""
        ...


@dataclass(frozen=True)
class Plan:
    """How long to train and how to step; 0 turns ``patience``, ``grad_clip``, ``minutes`` off.

    ``per_step``: the schedule counts optimiser steps, not passes. Weights are kept after each of
    ``keep_steps``, ascending, and training ends with the last of them.
    """

    n_passes: int
    patience: int = 0
    save_every: int = 50
    accumulate: int = 1
    grad_clip: float = 0.0
    minutes: float = 0.0
    per_step: bool = False
    selections: Mapping[str, str] = field(default_factory=lambda: SELECTIONS)
    keep_steps: Sequence[int] = ()

    def out_of_steps(self, position: Position) -> bool:
        """Whether the last step that is to be kept is done."""
        return bool(self.keep_steps) and position.steps >= self.keep_steps[-1]

    def done(self, position: Position) -> bool:
        """Whether to stop: all passes done, none better for ``patience`` passes, or out of time."""
        waited = position.passes - position.best_pass
        late = self.minutes and position.total_seconds >= 60 * self.minutes
        patient = not (self.patience and waited >= self.patience)
        over = position.passes >= self.n_passes or self.out_of_steps(position)
        return over or not patient or bool(late)


def fit(
    fabric: Fabric,
    learner: Learner,
    batches: Callable[[int], Batches],
    validate: Callable[[], Mapping[str, float]],
    plan: Plan,
    outputs: Outputs,
) -> Position:
    """Train until the plan is done, resuming from the run's ``last`` checkpoint if it has one.

    Raises:
        UserError: the loss is not finite; the checkpoints of the passes before are kept.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, with ``last`` saved between two steps.
    """
    position = resume(fabric, learner, outputs.run)
    with Interruption() as interruption:
        while not plan.done(position):
            coming = batches(position.passes)
            keep = partial(keep_step, fabric, learner, position, outputs)
            if not train_pass(fabric, learner, coming, position, plan, interruption, keep):
                save_last(fabric, learner, position, outputs)
                raise KeyboardInterrupt
            figures = dict(validate())
            finish_pass(fabric, learner, position, figures, plan, outputs)
    return position


def seed_dropout(seed: int, rank: int) -> None:
    """Seed a process's dropout: equal draws would drop the same units in all parts of a batch.

    The first process continues with the state that the weights were drawn by.
    """
    if rank:
        torch.manual_seed(int(np.random.SeedSequence([seed, rank]).generate_state(1)[0]))


def train_pass(
    fabric: Fabric,
    learner: Learner,
    batches: Batches,
    position: Position,
    plan: Plan,
    interruption: Interruption,
    keep: Callable[[], None] = lambda: None,
) -> bool:
    """Train the rest of one pass; False if it was interrupted between two steps.

    ``keep`` is called after each step whose weights are to be kept; the last of these ends the
    pass.
    """
    learner.model.train()
    # a resumed pass counts the seconds it took before
    started, n_steps = time.monotonic() - position.seconds, len(batches)
    sums = {name: _scalar(fabric, value) for name, value in position.sums.items()}
    losses = _Losses(fabric)
    bar = _bar(fabric, batches, position, plan)
    for step, batch in enumerate(bar, start=position.step):
        # the last group of a pass may have fewer batches; its gradient is their mean all the same
        group = min(plan.accumulate, n_steps - step // plan.accumulate * plan.accumulate)
        last_of_group = step % plan.accumulate == plan.accumulate - 1 or step == n_steps - 1
        # processes exchange gradients per optimiser step, not per batch
        with fabric.no_backward_sync(learner.model, enabled=not last_of_group):
            with gradients_may_be_measured():
                loss, logs = learner.objective(learner.model, batch)
            fabric.backward(loss / group)
        # detached, or the losses that wait would keep their graphs in memory
        losses.add(loss.detach(), f"pass {position.passes + 1}, step {step + 1}")
        for name, value in {"loss": loss.detach(), "steps": 1, **logs}.items():
            sums[name] = sums.get(name, _scalar(fabric)) + value
        if not last_of_group:
            continue
        norm = step_optimiser(fabric, learner, plan)
        if norm is not None:
            # once for every batch of the group: the sum is divided by the number of batches
            sums["grad_norm"] = sums.get("grad_norm", _scalar(fabric)) + group * norm
        # only here can a pass resume: accumulated gradients are not saved
        position.step, position.steps = step + 1, position.steps + 1
        if position.steps in plan.keep_steps:
            keep()
        if plan.out_of_steps(position):
            break
        if position.step < n_steps and _agreed(
            fabric, interruption.wanted, step // plan.accumulate
        ):
            break
    losses.check()  # those not read yet
    bar.close()
    position.sums = {name: value.item() for name, value in sums.items()}
    position.seconds = time.monotonic() - started
    return position.step == n_steps or plan.out_of_steps(position)


def keep_step(fabric: Fabric, learner: Learner, position: Position, outputs: Outputs) -> None:
    """Keep the weights as they are after this optimiser step of the whole training."""
    state = weights_of(learner.net)  # by all processes, which may hold parts of it
    if fabric.is_global_zero:
        kept = {**outputs.description, "state": state, "pass": position.passes}
        save_checkpoint(outputs.run.checkpoint(f"step_{position.steps:06d}"), kept)


def _bar(fabric: Fabric, batches: Batches, position: Position, plan: Plan) -> tqdm:
    """The rest of a pass, with its progress."""
    return tqdm(
        batches.after(position.step),
        desc=f"pass {position.passes + 1}/{plan.n_passes}",
        total=len(batches),
        initial=position.step,
        leave=False,
        # one bar for all processes; None draws it in a terminal only
        disable=None if fabric.is_global_zero else True,
    )


def step_optimiser(fabric: Fabric, learner: Learner, plan: Plan) -> Tensor | None:
    """Change the weights by their gradients; the norm of these, where it is limited."""
    norm = clip(fabric, learner, plan.grad_clip) if plan.grad_clip else None
    learner.optimizer.step()
    if plan.per_step:
        advance(learner)
    learner.optimizer.zero_grad()
    return norm


def clip(fabric: Fabric, learner: Learner, largest: float) -> Tensor:
    """Limit the norm of the gradients; what it was, 0 of a step that 16-mixed leaves out."""
    precision, optimizer = fabric.strategy.precision, learner.optimizer.optimizer
    # not fabric.clip_gradients, which knows no fused optimiser and no gradient too large for fp16
    scaler = precision.scaler if isinstance(precision, MixedPrecision) else None
    if scaler is not None:
        scaler.unscale_(optimizer)
    norm = clip_norm(precision.main_params(optimizer), largest).detach()
    return norm if scaler is None else norm.nan_to_num(0.0, 0.0, 0.0)


def advance(learner: Learner) -> None:
    """Move a schedule of steps on."""
    with warnings.catch_warnings():
        # of a first step that 16-mixed left out, its gradients being too large for fp16
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        learner.schedule.step()


def _scalar(fabric: Fabric, value: float = 0.0) -> Tensor:
    # on the device, so that adding to it does not wait; doubles, as a pass has many steps
    return torch.tensor(value, dtype=widest(fabric.device), device=fabric.device)


def _every(fabric: Fabric) -> int:
    """Steps between reads of what lies on the device."""
    return 1 if fabric.device.type == "cpu" else _READ_EVERY


class _Losses:
    """Stops at a loss that is not finite: at once on a CPU, after a few steps on a GPU."""

    def __init__(self, fabric: Fabric) -> None:
        self._every = _every(fabric)
        self._waiting: list[tuple[Tensor, str]] = []

    def add(self, loss: Tensor, where: str) -> None:
        self._waiting.append((loss, where))
        if len(self._waiting) >= self._every:
            self.check()

    def check(self) -> None:
        for loss, where in self._waiting:
            if not torch.isfinite(loss):
                raise UserError(
                    f"{where}: the loss is {loss.item()}; training stopped and the checkpoints of "
                    "the passes before are kept; try a lower --lr, --grad_clip 1 or "
                    "--precision 32-true"
                )
        self._waiting.clear()


def _agreed(fabric: Fabric, wanted: bool, group: int) -> bool:
    """Whether any process was asked to stop; all must leave the loop at the same step."""
    if fabric.world_size == 1:
        return wanted
    if group % _every(fabric):
        return False  # asked in a later group of batches, as each answer waits for the GPU
    return bool(fabric.all_reduce(_scalar(fabric, wanted), reduce_op="sum") > 0)


def finish_pass(
    fabric: Fabric,
    learner: Learner,
    position: Position,
    figures: dict[str, float],
    plan: Plan,
    outputs: Outputs,
) -> None:
    """End a pass: move the schedule, save checkpoints, log one line of metrics."""
    # the rate this pass was trained with, so before the schedule moves it
    row = {"pass": position.passes + 1, "lr": learner.optimizer.param_groups[0]["lr"]}
    row |= training_figures(fabric, position.sums)
    row |= {f"val_{name}": value for name, value in figures.items()}
    if not plan.per_step:
        learner.schedule.step()
    row["steps"] = position.steps
    position.passes, position.step, position.sums = row["pass"], 0, {}
    scored = figures | {"pass": float(position.passes)}
    scores = {name: _score(scored, figure) for name, figure in plan.selections.items()}
    # even an undefined figure is better than none: every run leaves a best checkpoint
    better = [name for name in scores if scores[name] > position.best.get(name, -float("inf"))]
    position.best |= {name: scores[name] for name in better}
    if "best" in better:
        position.best_pass = position.passes
    row["best_pass"], row["seconds"] = position.best_pass, round(position.seconds, 3)
    # --max_minutes must stop all processes at the same pass, so they agree on the time
    spent = fabric.all_reduce(_scalar(fabric, position.seconds), reduce_op="mean")
    position.total_seconds, position.seconds = position.total_seconds + float(spent), 0.0
    state = weights_of(learner.net)  # by all processes, which may hold parts of it
    if fabric.is_global_zero:
        names = [*better, f"pass_{position.passes:03d}"]
        weights = {**outputs.description, "state": state, "figures": figures}
        for name in names if position.passes % plan.save_every == 0 else better:
            save_checkpoint(outputs.run.checkpoint(name), weights | {"pass": position.passes})
        # JSON has no NaN, the only value that differs from itself
        outputs.run.log({k: None if v != v else v for k, v in row.items()})
        outputs.log({k: v for k, v in row.items() if k != "pass"}, position.passes)
        print(_line(row, plan), flush=True)
    # after the log: a kill in between repeats the pass, and resuming drops its first line
    save_last(fabric, learner, position, outputs)


def training_figures(fabric: Fabric, sums: Mapping[str, float]) -> dict[str, float]:
    """Means over a pass and all processes: loss per step, share of scored epochs staged right.

    Objectives scale each process's part of a batch so that the mean over processes is the loss of
    the whole batch.
    """
    local = {name: _scalar(fabric, value) for name, value in sums.items()}
    total = {k: float(v) for k, v in fabric.all_reduce(local, reduce_op="sum").items()}
    figures = {"train_loss": total["loss"] / total["steps"]}
    if "scored" in total:
        figures["train_accuracy"] = total["right"] / max(total["scored"], 1)
    parts = set(total) - {"loss", "steps", "right", "scored"}
    return figures | {f"train_{name}": total[name] / total["steps"] for name in sorted(parts)}


def _score(figures: Mapping[str, float], name: str) -> float:
    """A score that is better when higher; an undefined figure (kappa of one stage) is the worst."""
    value = figures[name.removeprefix("-")]
    if value != value:
        # below every kappa, accuracy and F1 (from -1), and below every negated loss
        return -1e300 if name.startswith("-") else -2.0
    return -value if name.startswith("-") else value


def _line(row: Mapping[str, Any], plan: Plan) -> str:
    figures = "  ".join(
        f"{name.removeprefix('val_')} {row[name]:.3f}" for name in row if name.startswith("val_")
    )
    mark = "  *" if row["best_pass"] == row["pass"] else ""
    return (
        f"pass {row['pass']:>3}/{plan.n_passes}  loss {row['train_loss']:.4f}  "
        f"validation: {figures}  {row['seconds']:.1f} s{mark}"
    )
