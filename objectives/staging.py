"""Weighted cross-entropy over every window of a batch of runs.

Pradeepkumar et al. 2024, section IV: each position of the sequence has a weighted mean of its own,
and the positions are summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from objectives.objective import Objective, in_full
from utils.collectives import whole_mean
from utils.stages import STAGES

PUBLISHED_WEIGHTS = (1.0, 2.0, 1.0, 2.0, 2.0)  # W, N1, N2, N3, REM


class Staging(Objective):
    """Callable on a model and a batch of runs; unscored epochs count for nothing.

    Args:
        weights: one per stage.
        over_positions: "sum" as published, or "mean", whose size does not grow with the sequence.
        stride: epochs between the windows of a run.

    Raises:
        ValueError: not one weight per stage, or a negative one, or none above 0.
    """

    def __init__(
        self,
        weights: Sequence[float] = PUBLISHED_WEIGHTS,
        *,
        over_positions: str = "sum",
        stride: int = 1,
    ) -> None:
        if len(weights) != len(STAGES) or min(weights) < 0 or not max(weights) > 0:
            raise ValueError(f"weights {list(weights)}: one per stage {'/'.join(STAGES)}, >= 0")
        self.weights = torch.tensor(weights, dtype=torch.float32)
        self.over_positions = over_positions
        self.stride = stride

    def __call__(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and logs of ``batch.signals`` (b, n, c, t) with ``batch.stages`` (b, n).

        Logs are sums over the batch: ``right`` and ``scored`` epochs, once per window.
        """
        logits = self.logits(model, batch)
        stages = self.targets(model, batch.stages, logits)
        loss = self.loss(logits, stages)
        with torch.no_grad():
            right = (logits.argmax(dim=-1) == stages).sum()
        return loss, {"right": right, "scored": (stages >= 0).sum()}

    def logits(self, model: nn.Module, batch: Any) -> Tensor:
        """Logits of every window, (b * windows, l, 5); ``placed`` models get the runs' places."""
        if model.placed:
            first = torch.as_tensor(batch.first, device=batch.signals.device)
            return model(batch.signals, self.stride, first)
        return model(batch.signals, self.stride)

    def targets(self, model: nn.Module, stages: Tensor, logits: Tensor) -> Tensor:
        """Stages (b, n) of runs, as windows (b * windows, l).

        Models that stage only the epoch at ``middle`` of a window get that one, (b * windows, 1).
        """
        if model.middle is None:
            return stages.unfold(1, logits.shape[1], self.stride).flatten(0, 1)
        n_windows = len(logits) // len(stages)
        return stages[:, model.middle :: self.stride][:, :n_windows].reshape(-1, 1)

    def loss(self, logits: Tensor, stages: Tensor) -> Tensor:
        """Weighted cross-entropy of logits (b, l, 5) and stages (b, l), a scalar.

        Each position is normalised by its own sum of weights, over all processes.
        """
        logits = in_full(logits)
        weights = self.weights.to(logits)
        scored = stages >= 0
        # clamped: -1 is no index; unscored epochs have weight 0 instead
        weight = torch.where(scored, weights[stages.clamp_min(0)], 0.0)
        entropy = nn.functional.cross_entropy(
            logits.transpose(1, 2), stages.clamp_min(0), reduction="none"
        )
        # a position nobody scored has no divisor and adds nothing
        by_position = whole_mean((entropy * weight).sum(dim=0), self.divisor(weight, scored))
        return by_position.sum() if self.over_positions == "sum" else by_position.mean()

    def divisor(self, weight: Tensor, scored: Tensor) -> Tensor:
        """What each position's sum is divided by: its weights, (b, l) -> (l,)."""
        return weight.sum(dim=0)
