"""Two views alike, without negatives: VICReg (Bardes et al., ICLR 2022)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from objectives.contrastive import TwoViews
from objectives.objective import in_full
from utils.collectives import gathered

WEIGHTS = {"invariance": 25.0, "variance": 25.0, "covariance": 1.0}  # as published
_EPS = 1e-4  # of a variance, as published


class VicReg(TwoViews):
    """Callable on a :class:`~models.pretraining.Pretraining` and a batch of single epochs."""

    def __call__(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted terms of two views of ``batch.signals`` (b, l, c, t), and each of them."""
        one, other = self.projected(model, batch)
        # of the batch of all processes: variances and covariances are no means over epochs
        one, other = (gathered(in_full(part))[0] for part in (one, other))
        parts = terms(one, other)
        loss = sum(weight * parts[name] for name, weight in WEIGHTS.items())
        return loss, {name: part.detach() for name, part in parts.items()}


def terms(one: Tensor, other: Tensor) -> dict[str, Tensor]:
    """Invariance, variance and covariance of projections (n, d) each.

    Mean squared difference; mean distance of deviations below 1 from 1, the mean of both views;
    squared covariances of different dimensions over d, the sum of both views.
    """
    variance = covariance = one.new_zeros(())
    for view in (one, other):
        deviation = (view.var(dim=0) + _EPS).sqrt()
        variance = variance + (1 - deviation).relu().mean() / 2
        centred = view - view.mean(dim=0)
        products = (centred.T @ centred / (len(view) - 1)).square()
        covariance = covariance + (products.sum() - products.diagonal().sum()) / view.shape[1]
    invariance = (one - other).square().mean()
    return {"invariance": invariance, "variance": variance, "covariance": covariance}
