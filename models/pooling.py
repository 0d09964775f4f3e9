"""Attention pooling over time or channels: one softmax weight per step."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AttentionPool(nn.Module):
    """(…, steps, d) -> weighted mean (…, d) and weights (…, steps) that sum to 1."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, hidden)
        # a bias would add the same to all scores, which the softmax ignores
        self.query = nn.Linear(hidden, 1, bias=False)

    def forward(self, x: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Score every step by a small network, then average.

        Steps that are not ``present`` (…, steps) have weight 0; without any, so has the mean.
        """
        scores = self.query(torch.tanh(self.score(x)))[..., 0]
        if present is None:
            weights = scores.softmax(dim=-1)
        else:
            # not -inf: the softmax of nothing else would be NaN
            lowest = torch.finfo(scores.dtype).min
            weights = scores.masked_fill(~present, lowest).softmax(dim=-1) * present
        return (weights[..., None] * x).sum(dim=-2), weights
