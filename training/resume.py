"""Where a training stands, kept so that it goes on bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from training.loggers import Log
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.runs import Run


@dataclass
class Learner:
    """What changes while training; ``net`` is the bare module behind Fabric's ``model``."""

    net: nn.Module
    model: nn.Module
    optimizer: Any
    schedule: Any
    objective: Any  # of objectives.objective.Objective


@dataclass
class Position:
    """Where training stands: passes done, steps done in the next one and what they summed to.

    ``seconds`` are of that pass, ``total_seconds`` of those done.
    """

    passes: int = 0
    step: int = 0
    best: dict[str, float] = field(default_factory=dict)
    best_pass: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    total_seconds: float = 0.0


@dataclass
class Outputs:
    """Where results go: the run folder, a logger, and what checkpoints say about the model."""

    run: Run
    log: Log
    description: Mapping[str, Any]


def save_last(fabric: Fabric, learner: Learner, position: Position, outputs: Outputs) -> None:
    """Everything needed to go on: weights, optimiser, schedule, random states, position."""
    states = fabric.all_gather(torch.get_rng_state().to(fabric.device)).reshape(
        fabric.world_size, -1
    )
    rng = {"cpu": states.cpu()}
    if fabric.device.type == "cuda":
        own = torch.cuda.get_rng_state(fabric.device).to(fabric.device)
        rng["cuda"] = fabric.all_gather(own).reshape(fabric.world_size, -1).cpu()
    if fabric.is_global_zero:
        checkpoint = {
            **outputs.description,
            "state": learner.net.state_dict(),
            "optimizer": learner.optimizer.state_dict(),
            "schedule": learner.schedule.state_dict(),
            "rng": rng,
            "position": asdict(position),
        }
        if learned := learner.objective.state_dict():
            checkpoint["objective"] = learned
        save_checkpoint(outputs.run.checkpoint("last"), checkpoint)
    fabric.barrier()


def resume(fabric: Fabric, learner: Learner, run: Run) -> Position:
    """Go on from the run's ``last`` checkpoint; from nothing where there is none."""
    path = run.checkpoint("last")
    fabric.barrier()
    if not path.exists():
        return Position()
    checkpoint = load_checkpoint(path)
    progress, rng = checkpoint.progress, checkpoint.progress["rng"]
    learner.net.load_state_dict(checkpoint.state)
    learner.optimizer.load_state_dict(progress["optimizer"])
    learner.schedule.load_state_dict(progress["schedule"])
    learner.objective.load_state_dict(progress.get("objective", {}))
    torch.set_rng_state(rng["cpu"][fabric.global_rank])
    if "cuda" in rng and fabric.device.type == "cuda":
        torch.cuda.set_rng_state(rng["cuda"][fabric.global_rank], fabric.device)
    position = Position(**progress["position"])
    if fabric.is_global_zero:
        run.rewind(position.passes)
        print(f"going on after pass {position.passes}, step {position.step} of the next")
    fabric.barrier()
    return position
