"""How far a training has come, saved so that it resumes bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from training.loggers import Log
from training.sharding import load_whole, optimiser_state_of, weights_of
from utils import devices
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import UserError
from utils.runs import Run


@dataclass
class Learner:
    """What a training changes; ``net`` is the bare module that Fabric's ``model`` wraps."""

    net: nn.Module
    model: nn.Module
    optimizer: Any
    schedule: Any
    objective: Any  # of objectives.objective.Objective


@dataclass
class Position:
    """How far training has come: passes done, steps of the unfinished pass and their sums.

    ``seconds`` were spent on the unfinished pass, ``total_seconds`` on those done; ``steps`` are
    those of the optimiser in all passes.
    """

    passes: int = 0
    step: int = 0
    steps: int = 0
    best: dict[str, float] = field(default_factory=dict)
    best_pass: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    total_seconds: float = 0.0


@dataclass
class Outputs:
    """Where results go: the run folder, a logger, and the description that checkpoints hold."""

    run: Run
    log: Log
    description: Mapping[str, Any]


def save_last(fabric: Fabric, learner: Learner, position: Position, outputs: Outputs) -> None:
    """Save all that resuming needs: weights, optimiser, schedule, random states, position."""
    # dropout and masks differ by process, so each has a random state of its own to keep;
    # NCCL gathers tensors on GPUs only
    states = fabric.all_gather(torch.get_rng_state().to(fabric.device)).reshape(
        fabric.world_size, -1
    )
    rng = {"cpu": states.cpu()}
    if (own := devices.random_state(fabric.device)) is not None:
        gathered = fabric.all_gather(own.to(fabric.device)).reshape(fabric.world_size, -1)
        rng[fabric.device.type] = gathered.cpu()
    # sums of an unfinished pass are each process's own, too
    names = sorted(position.sums)
    own = torch.tensor([position.sums[name] for name in names], dtype=torch.float64)
    if fabric.world_size > 1:  # an Apple GPU, which has no doubles, is never one of several
        own = own.to(fabric.device)
    sums = fabric.all_gather(own).reshape(fabric.world_size, len(names))
    # by all processes, which may hold parts of them
    weights = weights_of(learner.net)
    optimizer = optimiser_state_of(learner.net, learner.optimizer)
    if fabric.is_global_zero:
        checkpoint = {
            **outputs.description,
            # names as in the bare module: the same with and without DDP or torch.compile
            "state": weights,
            "optimizer": optimizer,
            "schedule": learner.schedule.state_dict(),
            "rng": rng,
            "position": asdict(position),
            "sums": [dict(zip(names, row, strict=True)) for row in sums.tolist()],
        }
        if learned := learner.objective.state_dict():
            checkpoint["objective"] = learned
        if scale := fabric.strategy.precision.state_dict():  # by which 16-mixed scales losses
            checkpoint["scaler"] = scale
        save_checkpoint(outputs.run.checkpoint("last"), checkpoint)
    fabric.barrier()


def resume(fabric: Fabric, learner: Learner, run: Run) -> Position:
    """Restore the run's ``last`` checkpoint and return its position; a new one without it."""
    path = run.checkpoint("last")
    fabric.barrier()
    if not path.exists():
        return Position()
    checkpoint = load_checkpoint(path)
    progress, rng = checkpoint.progress, checkpoint.progress["rng"]
    try:
        load_whole(learner.net, learner.optimizer, checkpoint.state, progress["optimizer"])
    except ValueError as error:
        raise UserError(
            f"{path}: an earlier version's optimiser, which cannot be resumed ({error}); "
            "--resume False starts again"
        ) from error
    learner.schedule.load_state_dict(progress["schedule"])
    learner.objective.load_state_dict(progress.get("objective", {}))
    # clones: torch crashes at a state that is a row of a larger tensor
    torch.set_rng_state(rng["cpu"][fabric.global_rank].clone())
    if "scaler" in progress:
        fabric.strategy.precision.load_state_dict(progress["scaler"])
    # a run that began on a GPU may be resumed without one
    if fabric.device.type != "cpu" and fabric.device.type in rng:
        state = rng[fabric.device.type][fabric.global_rank].clone()
        devices.set_random_state(fabric.device, state)
    position = Position(**progress["position"])
    if "sums" in progress:  # not in checkpoints of before
        position.sums = progress["sums"][fabric.global_rank]
    if fabric.is_global_zero:
        # a kill between the log and the checkpoint leaves a line of a pass that is done again
        run.rewind(position.passes)
        print(f"resuming after pass {position.passes}, step {position.step} of the next")
    fabric.barrier()
    return position
