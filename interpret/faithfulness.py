"""Faithfulness: deletion, insertion, change of maps under noise, likeness of maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from interpret.frozen_model import frozen, seeded
from interpret.infidelity import DRAWS, NOISE
from interpret.target import EpochTarget

UNIT_SECONDS = 0.5
_STEPS = 20  # points of a curve


@dataclass(frozen=True)
class Curves:
    """F while units are removed from the epoch or added to the baseline, (b, steps + 1).

    ``share`` (steps + 1,) is the share of units changed. F is not divided by F(x) - F(x'), which
    may be next to nothing; read it as a probability (``target.output``).
    """

    share: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray

    def areas(self) -> tuple[np.ndarray, np.ndarray]:
        """Areas under deletion (lower is better) and insertion (higher is better): (b,) each."""
        return (
            np.trapezoid(self.deletion, self.share, axis=1),
            np.trapezoid(self.insertion, self.share, axis=1),
        )


def unit_scores(maps: Tensor, units: int) -> Tensor:
    """Maps (b, m, t) summed over ``units`` stretches of each modality: (b, m * units)."""
    return maps.unflatten(2, (units, -1)).sum(dim=-1).flatten(1)


def curves(
    target: EpochTarget,
    epochs: Tensor,
    classes: Tensor,
    scores: Tensor,
    *,
    compared: Tensor,
    mirrored: bool = False,
) -> Curves:
    """Curves of F as units change in the order of ``scores`` (b, m * units), highest first.

    What is removed is replaced by ``compared`` (b, m, t). ``mirrored``: insertion is that in the
    reversed order, which is deletion read backwards: half the work, for orders that are as good as
    their reverse, such as random ones.
    """
    x = target.night[epochs]
    # stable: units of equal score, as where a map is 0, keep their order on every device
    order = scores.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    # (b, m * units): position of each unit in the order
    rank = torch.empty_like(order).scatter_(1, order, places.contiguous())
    units = order.shape[1] // x.shape[1]
    rank = rank.unflatten(1, (x.shape[1], units)).repeat_interleave(x.shape[2] // units, dim=2)
    # unique, because there may be fewer units than steps
    steps = np.unique(np.linspace(0, order.shape[1], _STEPS + 1).round().astype(int))
    removed, added = [], []
    with frozen(target), torch.no_grad():
        for step in steps:
            first = rank < step
            removed.append(target(torch.where(first, compared, x), epochs, classes))
            if not mirrored:
                added.append(target(torch.where(first, x, compared), epochs, classes))
    added = added or removed[::-1]
    values = [torch.stack(part, dim=1).cpu().numpy() for part in (removed, added)]
    return Curves(steps / order.shape[1], *values)


def sensitivity(explainer: Callable[[Tensor], Tensor], x: Tensor, *, seed: int = 0) -> np.ndarray:
    """Largest relative change of a map under noise of 3 %, (b,): Captum's sensitivity-max.

    ``explainer`` maps signals (b, m, t) to attributions (b, m, t).
    """
    # not Captum's function: it repeats x for its draws, and an explainer knows its epochs (b,)
    base = explainer(x)
    size = base.flatten(1).norm(dim=1).clamp_min(1e-12)  # a map may be 0 everywhere
    largest = torch.zeros(len(x), device=x.device)
    with seeded(seed):
        for _ in range(DRAWS):
            # uniform within 3 %, as Captum draws it
            noise = NOISE * (2 * torch.rand_like(x) - 1)
            change = (explainer(x + noise) - base).flatten(1).norm(dim=1) / size
            largest = torch.maximum(largest, change)
    return largest.cpu().numpy()


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman correlation of two sets of maps (b, …), row by row: (b,)."""
    ranks = [rankdata(part.reshape(len(part), -1), axis=1) for part in (a, b)]
    centred = [part - part.mean(axis=1, keepdims=True) for part in ranks]
    norms = [np.linalg.norm(part, axis=1) for part in centred]
    # NaN for a constant map, whose ranks do not vary
    with np.errstate(invalid="ignore", divide="ignore"):
        return (centred[0] * centred[1]).sum(axis=1) / np.where(
            norms[0] * norms[1] > 0, norms[0] * norms[1], np.nan
        )


def random_scores(scores: Tensor, seed: int) -> Tensor:
    """Random scores of units in the shape of ``scores`` (b, units), drawn anew for every epoch."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(scores.shape, generator=generator).to(scores.device)
