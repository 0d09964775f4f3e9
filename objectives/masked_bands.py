"""Masked prediction along nights of band powers: hide stretches of epochs, predict what they had.

What lies minutes away has to tell of the hidden epochs, so a network learns how nights go.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from objectives.band_augmentation import Draws, one_derivation
from objectives.objective import Objective
from utils.collectives import whole_mean

STRETCHES = (4, 20)  # epochs: two to ten minutes


class MaskedBands(Objective):
    """Loss of a model with ``relative`` that predicts features on batches of nights.

    Args:
        share: of the epochs to hide, about.

    Raises:
        ValueError: a share that is not between 0 and 1.
    """

    def __init__(self, share: float = 0.5) -> None:
        if not 0 < share < 1:
            raise ValueError(
                f"share {share:g}: a part of the epochs is hidden, neither none nor all"
            )
        self.share = share

    def __call__(self, model: Any, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error over hidden epochs that have a signal."""
        draws = Draws(batch.seed, batch.decibels.device)
        nights = one_derivation(batch, draws)
        features = model.relative(nights.decibels)  # (b, n, 11), the last one marks gaps
        hidden = self.hidden(*features.shape[:2], draws) & (features[..., -1] == 0)
        predicted = model(without(features, hidden), nights.lengths)
        each = F.mse_loss(predicted, features[..., :-1], reduction="none").mean(dim=-1)
        return whole_mean((each * hidden).sum(), hidden.sum()), {}

    def hidden(self, b: int, n: int, draws: Draws) -> Tensor:
        """Which epochs (b, n) are hidden: stretches of one length in a batch, begun by chance."""
        length = round(draws.number(*STRETCHES))
        begins = 1 - (1 - self.share) ** (1 / length)  # so many are covered by a stretch or more
        begun = (draws.uniform(b, n + length - 1) < begins).float()
        return F.max_pool1d(begun[:, None], length, stride=1)[:, 0] > 0


def without(features: Tensor, hidden: Tensor) -> Tensor:
    """Features (b, n, 11) whose ``hidden`` (b, n) epochs read as gaps do."""
    shown = features.masked_fill(hidden[..., None], 0.0)
    return torch.cat([shown[..., :-1], shown[..., -1:] + hidden[..., None]], dim=-1)
