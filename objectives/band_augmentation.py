"""Random changes of nights of band powers, in decibels, before a night's medians are taken.

What a network reads is relative to the whole night, so a change of part of a night moves the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from utils.stages import UNSCORED

_LEAST_EPOCHS = 120  # an hour: less of a night is never kept
_WAKE = 0


@dataclass(frozen=True)
class Nights:
    """Nights of one derivation each: ``decibels`` (b, n, 5), ``stages`` (b, n), ``lengths`` (b,).

    Epochs from a night's length on are padding: NaN and unscored.
    """

    decibels: Tensor
    stages: Tensor
    lengths: Tensor


class Draws:
    """Random numbers by one seed, drawn on the CPU so that every device has the same ones."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.device = device

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Numbers between ``low`` and ``high``."""
        drawn = torch.rand(shape, generator=self.generator).to(self.device)
        return low + (high - low) * drawn

    def normal(self, *shape: int) -> Tensor:
        """Numbers of mean 0 and deviation 1."""
        return torch.randn(shape, generator=self.generator).to(self.device)

    def number(self, low: float = 0.0, high: float = 1.0) -> float:
        """One number between ``low`` and ``high``."""
        return float(torch.rand((), generator=self.generator)) * (high - low) + low


def one_derivation(batch: Any, draws: Draws | None) -> Nights:
    """Nights of a batch of several derivations in one of them: the first, or by chance.

    By chance it is one of the EEG, or a mixture of them with a little of the EOG.
    """
    if draws is None:
        return Nights(batch.decibels[:, :, 0], batch.stages, batch.lengths)
    recorded = ~batch.decibels.isnan().all(dim=-1)  # b, n, d
    weights = mixture(recorded.any(dim=1), batch.is_eog, draws)
    used = (weights > 0)[:, None]
    power = 10 ** (batch.decibels / 10)
    total = (power.nan_to_num(0.0) * weights[:, None, :, None]).sum(dim=2)
    # an epoch that one of the mixed derivations lacks is a gap
    lost = (used & ~recorded).any(dim=-1) | ~used.any(dim=-1)
    db = 10 * total.clamp_min(1e-30).log10()
    return Nights(db.masked_fill(lost[..., None], float("nan")), batch.stages, batch.lengths)


def mixture(present: Tensor, is_eog: Tensor, draws: Draws) -> Tensor:
    """Weights of the derivations of each night (b, d), for their powers; absent ones have 0.

    One EEG in half of the nights, else all of them by chance; EOG in a third, by up to a tenth.
    """
    b, d = present.shape
    is_eeg = present & ~is_eog
    drawn = draws.uniform(b, d, low=1e-3)
    chosen = is_eeg & (drawn == drawn.masked_fill(~is_eeg, 0.0).amax(dim=1, keepdim=True))
    weights = torch.where(draws.uniform(b, 1) < 0.5, chosen.float(), is_eeg * drawn)
    eyes = (present & is_eog) * draws.uniform(b, d, high=0.1)
    return weights + eyes * (draws.uniform(b, 1) < 1 / 3)


def composition(nights: Nights, draws: Draws) -> Nights:
    """Parts of nights, ends cut, and blocks of wake or of sleep left out.

    Two nights in three change. At least an hour is kept, or all of a night that is shorter.
    """
    keep = torch.zeros_like(nights.stages, dtype=torch.bool)
    for k, length in enumerate(nights.lengths.tolist()):
        kept = torch.ones(length, dtype=torch.bool, device=keep.device)
        if draws.number() < 1 / 3:
            kept &= part_of(length, draws).to(keep.device)
        if draws.number() < 1 / 3:
            kept &= ~block_of(nights.stages[k, :length] == _WAKE, draws.number(0.1, 1.0), draws)
        if draws.number() < 1 / 3:
            kept &= ~block_of(nights.stages[k, :length] > _WAKE, draws.number(0.1, 0.8), draws)
        # a part of a part can be too short: then the night stays as it is
        keep[k, :length] = kept if kept.sum() >= min(length, _LEAST_EPOCHS) else True
    return kept_epochs(nights, keep)


def part_of(length: int, draws: Draws) -> Tensor:
    """One part of a night, from an hour to all of it, anywhere: (n,) whether it is kept."""
    least = min(length, _LEAST_EPOCHS)
    # as many parts between one and two hours as between four and eight
    size = round(math.exp(draws.number(math.log(least), math.log(length))))
    first = round(draws.number(0, length - size))
    place = torch.arange(length)
    return (place >= first) & (place < first + size)


def block_of(of_kind: Tensor, share: float, draws: Draws) -> Tensor:
    """A ``share`` of the epochs of one kind (n,), in one block: (n,) whether it is in it."""
    number = of_kind.cumsum(dim=0) - 1  # of each epoch among its kind
    total = int(of_kind.sum())
    first = round(draws.number(0, total - share * total))
    return of_kind & (number >= first) & (number < first + round(share * total))


def kept_epochs(nights: Nights, keep: Tensor) -> Nights:
    """Nights of the epochs that are kept (b, n), close together, padded to the longest."""
    lengths = keep.sum(dim=1)
    # stable: kept epochs first, in their order
    order = (~keep).to(torch.int8).argsort(dim=1, stable=True)[:, : int(lengths.max())]
    padding = torch.arange(order.shape[1], device=keep.device) >= lengths[:, None]
    stages = nights.stages.gather(1, order).masked_fill(padding, UNSCORED)
    decibels = nights.decibels.gather(1, order[..., None].expand(*order.shape, 5))
    return Nights(decibels.masked_fill(padding[..., None], float("nan")), stages, lengths)


def contrast(nights: Nights, draws: Draws) -> Nights:
    """Differences from the night's median of each band, all times a factor from 0.5 to 1.15."""
    middle = nights.decibels.nanmedian(dim=1, keepdim=True).values
    factor = draws.uniform(len(middle), 1, 1, low=0.5, high=1.15)
    return replace(nights, decibels=middle + factor * (nights.decibels - middle))


def noise(nights: Nights, draws: Draws) -> Nights:
    """Slow drifts and noise per epoch and band, and gaps of some epochs in half of the nights."""
    b, n, bands = nights.decibels.shape
    hours = torch.linspace(0, 1, n, device=nights.decibels.device)[None, :, None]  # of the night
    slope, size = draws.normal(b, 1, bands), draws.normal(b, 1, bands)
    phase, waves = draws.uniform(b, 1, bands), draws.uniform(b, 1, bands, low=0.5, high=3)
    drift = 1.5 * slope * hours + 0.7 * size * torch.sin(2 * math.pi * (waves * hours + phase))
    spread = draws.uniform(b, 1, 1, low=0.3, high=1.0)
    changed = nights.decibels + drift + spread * draws.normal(b, n, bands)
    place = torch.arange(n, device=changed.device)
    lost = torch.zeros(b, n, dtype=torch.bool, device=changed.device)
    for _ in range(2):
        first = draws.uniform(b, 1) * nights.lengths[:, None]
        width = draws.uniform(b, 1, high=10) * (draws.uniform(b, 1) < 0.5)
        lost |= (place >= first) & (place < first + width)
    return replace(nights, decibels=changed.masked_fill(lost[..., None], float("nan")))


def stages(nights: Nights, draws: Draws) -> Nights:
    """One to three of the stages left out of a third of the nights: nights of odd composition."""
    keep = nights.stages != UNSCORED
    for k, length in enumerate(nights.lengths.tolist()):
        kept = torch.ones(length, dtype=torch.bool, device=keep.device)
        if draws.number() < 1 / 3:
            drawn = draws.uniform(5).argsort()[: 1 + int(draws.number(0, 3))]
            kept &= ~torch.isin(nights.stages[k, :length], drawn)
        keep[k, :length] = kept if kept.sum() >= min(length, _LEAST_EPOCHS) else True
    return kept_epochs(nights, keep)


# in the order in which they are applied, after the derivation
_CHANGES: dict[str, Callable[[Nights, Draws], Nights]] = {
    "stages": stages,
    "composition": composition,
    "contrast": contrast,
    "noise": noise,
}
BAND_AUGMENTATIONS = ("derivation", *_CHANGES)


def changed_nights(batch: Any, names: Sequence[str]) -> Nights:
    """Nights of a batch in one derivation, with the named changes, all drawn from its seed."""
    draws = Draws(batch.seed, batch.decibels.device)
    nights = one_derivation(batch, draws if "derivation" in names else None)
    for name, change in _CHANGES.items():
        if name in names:
            nights = change(nights, draws)
    return nights
