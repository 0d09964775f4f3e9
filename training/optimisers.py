"""Optimisers and schedules of the learning rate that several trainings share."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from training.flags import OptimiserFlags

_LOWEST_RATE = 0.01  # of the highest, where a cosine ends


def adam(optimiser: OptimiserFlags, net: nn.Module) -> tuple[Any, Any]:
    """Adam with L2 on every parameter, and a rate that falls every ``step_size`` passes."""
    optimizer = plain_adam(optimiser, net)
    steps = torch.optim.lr_scheduler.StepLR(optimizer, optimiser.step_size, optimiser.gamma)
    return optimizer, steps


def plain_adam(optimiser: OptimiserFlags, net: nn.Module) -> torch.optim.Adam:
    """Adam with L2 on every parameter."""
    # not AdamW: in the published recipes the decay is a part of the gradient
    return torch.optim.Adam(
        net.parameters(),
        lr=optimiser.lr,
        betas=(optimiser.beta_1, optimiser.beta_2),
        eps=optimiser.eps,
        weight_decay=optimiser.weight_decay,
        fused=True,
    )


def schedule(optimizer: Any, steps: int, warmup: float, kind: str) -> Any:
    """Learning rates of ``steps`` optimiser steps: a warm-up, then a cosine or a constant.

    The cosine ends at 1 % of the highest rate.
    """
    rising = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising  # never 0, which would waste the first step
        if kind == "constant":
            return 1.0
        # the last of steps 0 … steps - 1 has the lowest rate; the scheduler asks for one more
        done = min(1.0, (step - rising + 1) / max(1, steps - rising))
        return _LOWEST_RATE + (1 - _LOWEST_RATE) * 0.5 * (1 + math.cos(math.pi * done))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
