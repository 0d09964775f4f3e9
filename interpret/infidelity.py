"""Infidelity: how badly a map foretells what the changes do that its own method is defined by.

After Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019. A gradient
foretells small changes, a map that sums to F(x) - F(x') what it means to replace samples by those
of x', occlusion and ablation what their own windows and groups do. The error is divided by that of
a map of zeros, so 0 is perfect and 1 is as good as no map.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from interpret.frozen_model import frozen, seeded
from interpret.target import EpochTarget

NOISE = 0.03  # share of the deviation of a standardised channel
DRAWS = 5
_PIECES = 60  # stretches of an epoch that are replaced or kept


class Move(NamedTuple):
    """A changed input (b, …) and the weights (b, …) of a map's parts in what it foretells.

    There may be several changed ones, (k, b, …): foretold is the mean of F over them.
    """

    changed: Tensor
    weights: Tensor


def infidelity(
    target: EpochTarget,
    x: Tensor,
    extra: tuple[Tensor, Tensor],
    attributions: Tensor,
    moves: Iterable[Move],
) -> np.ndarray:
    """Mean squared error of F(x) - F(changed), beside that of a map of zeros: (b,).

    NaN where no move changes F.
    """
    missed, all_of_it = torch.zeros(len(x)), torch.zeros(len(x))
    with frozen(target), torch.no_grad():
        value = target(x, *extra)
        for changed, weights in moves:
            ways = changed.reshape(-1, *x.shape)
            lost = value - sum(target(way, *extra) for way in ways) / len(ways)
            foretold = (attributions * weights).flatten(1).sum(dim=1)
            missed += (foretold - lost).square().cpu()
            all_of_it += lost.square().cpu()
    return torch.where(all_of_it > 1e-20, missed / all_of_it, torch.nan).numpy()


def small_noise(x: Tensor, factor: Tensor | None, seed: int) -> Iterator[Move]:
    """Normal noise of 3 %; ``factor``: what maps hold as a factor beside the gradient."""
    with seeded(seed):
        drawn = [NOISE * torch.randn_like(x) for _ in range(DRAWS)]
    for noise in drawn:
        weights = noise
        if factor is not None:  # where the factor is 0, so is the map
            weights = torch.where(factor == 0, 0, noise / torch.where(factor == 0, 1, factor))
        yield Move(x - noise, weights)


def replaced_pieces(x: Tensor, compared: Tensor, seed: int) -> Iterator[Move]:
    """A random half of the half seconds of every channel, replaced by those of ``compared``.

    Of spectrograms, a random half of the cells.
    """
    pieces = _PIECES if x.shape[-1] % _PIECES == 0 else x.shape[-1]
    with seeded(seed):
        drawn = [torch.rand(*x.shape[:-1], pieces, device=x.device) < 0.5 for _ in range(DRAWS)]
    for taken in drawn:
        gone = taken.repeat_interleave(x.shape[-1] // pieces, dim=-1)
        yield Move(torch.where(gone, compared, x), gone.to(x))


def replaced_windows(x: Tensor, compared: Tensor, width: int, seed: int) -> Iterator[Move]:
    """One window of ``width`` samples of one channel; a map gives its effect to each sample."""
    with seeded(seed):
        starts = torch.randint(x.shape[-1] - width + 1, (DRAWS,)).tolist()
        channels = torch.randint(x.shape[-2], (DRAWS,)).tolist()
    for start, channel in zip(starts, channels, strict=True):
        gone = torch.zeros_like(x, dtype=torch.bool)
        gone[..., channel, start : start + width] = True
        yield Move(torch.where(gone, compared, x), gone.to(x) / width)


def replaced_channels(x: Tensor, compared: Tensor) -> Iterator[Move]:
    """Every channel as a whole; a map gives its effect to each sample."""
    for channel in range(x.shape[-2]):
        gone = torch.zeros_like(x, dtype=torch.bool)
        gone[..., channel, :] = True
        yield Move(torch.where(gone, compared, x), gone.to(x) / x.shape[-1])
