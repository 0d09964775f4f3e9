"""Attention pooling over time: one softmax weight per step."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AttentionPool(nn.Module):
    """(n, steps, d) -> weighted mean (n, d) and weights (n, steps) that sum to 1."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, hidden)
        # a bias would add the same to all scores, which the softmax ignores
        self.query = nn.Linear(hidden, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Score every step by a small network, then average."""
        weights = self.query(torch.tanh(self.score(x)))[..., 0].softmax(dim=-1)
        return (weights[..., None] * x).sum(dim=-2), weights
