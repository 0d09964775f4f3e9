"""Lightning Fabric on the devices that a training asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from training.flags import SHARDED, RunFlags
from utils import devices
from utils.errors import UserError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def start_fabric(run: RunFlags) -> Fabric:
    """Start Lightning Fabric on the requested devices, all processes launched and seeded.

    Raises:
        UserError: devices or a strategy that this machine does not have.
    """
    from lightning_fabric import Fabric

    from training.precision import of_fabric

    kind = devices.kind_of(run.accelerator)
    precision = devices.precision_of(kind) if run.precision == "auto" else run.precision
    if precision == "16-mixed" and kind == "cpu":
        raise UserError("--precision 16-mixed: a CPU has no such numbers; leave the flag out")
    if precision == "16-mixed" and run.strategy == SHARDED:
        # Fabric scales no losses of divided weights
        raise UserError("--strategy fsdp: not in 16-mixed; choose --precision 32-true")
    try:
        fabric = Fabric(
            accelerator=run.accelerator,
            strategy=_strategy(run),
            devices=run.devices,
            num_nodes=run.num_nodes,
            **of_fabric(precision, kind),
        )
    # Fabric raises any of these for devices that are missing and for names it does not know
    except (ValueError, RuntimeError, TypeError) as error:
        raise UserError(
            f"--accelerator {run.accelerator} --devices {run.devices} --strategy "
            f"{run.strategy}: {error}"
        ) from error
    # matrix products in TF32 where a GPU has it: fewer digits than float32, but much faster
    torch.set_float32_matmul_precision("high")
    fabric.launch()
    torch.manual_seed(run.seed)
    return fabric


def _strategy(run: RunFlags) -> Any:
    """Fabric's name of a strategy, or the one that divides the weights."""
    if run.strategy != SHARDED:
        return run.strategy
    from training.sharding import Sharded

    return Sharded(run.devices * run.num_nodes)
