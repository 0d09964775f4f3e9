"""Band importance: what a night's probabilities lose when frequency bands are taken out of it.

After the band subsets of PhysioEx (Gagliardi et al.), with the Shapley value added, which alone of
these figures sums to the change it explains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial
from typing import Any

import torch
from torch import Tensor

from utils.staged_night import stage_signals

# neither gaps nor overlaps, so that parts add up; gamma ends below the 50 Hz that recordings of
# 100 samples per second reach
BANDS = {
    "delta": (0.5, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 11.5),
    "sigma": (11.5, 15.5),
    "beta": (15.5, 30.0),
    "gamma": (30.0, 49.5),
}


_NEIGHBOURS = 20  # epochs on either side
_SLOPE_HZ = 1.0  # width of the step between two bands
_JOIN_SECONDS = 0.5  # in which a band goes over into that of another epoch


@dataclass(frozen=True)
class BandImportance:
    """Change of a class's probability at every epoch, (n, bands) each.

    ``single``: the band alone removed. ``mean``, ``weighted``: over all subsets with the band,
    plain and by one over the subset's size; they sum to nothing in particular. ``shapley`` sums to
    ``total`` (n,), the change when all bands are removed. ``exchanged``: the band alone replaced by
    that of another epoch, so that the signal stays one that the model has met; NaN without one.
    """

    bands: tuple[str, ...]
    single: Tensor
    mean: Tensor
    weighted: Tensor
    shapley: Tensor
    total: Tensor
    exchanged: Tensor

    def gap(self, name: str) -> Tensor:
        """Difference between the sum over bands of the figure ``name`` and ``total``, (n,)."""
        return vars(self)[name].sum(dim=1) - self.total


def components(night: Tensor, fs: float, bands: Sequence[tuple[float, float]]) -> Tensor:
    """The part of a continuous night in each band (low, high): (n, m, t) -> (bands, n, m, t).

    Taken from the spectrum of the whole night, so that no epoch border filters anything. Bands go
    over into each other within 1 Hz: cut off at once, every wave would ring on for seconds.
    Neighbouring bands and the rest add up to the night.
    """
    line = night.transpose(0, 1).flatten(1)  # (m, n * t): epochs joined as recorded
    spectrum = torch.fft.rfft(line)
    frequencies = torch.fft.rfftfreq(line.shape[1], 1 / fs, device=night.device)
    parts = []
    for low, high in bands:
        inside = _above(frequencies, low) - _above(frequencies, high)
        # n, because irfft would return one sample less than an odd number
        part = torch.fft.irfft(spectrum * inside, n=line.shape[1])
        parts.append(part.unflatten(1, (len(night), -1)).transpose(0, 1))
    return torch.stack(parts)


def _above(frequencies: Tensor, edge: float) -> Tensor:
    """Step from 0 to 1 around ``edge``, a raised cosine as wide as 1 Hz or, near 0 Hz, ``edge``."""
    width = min(_SLOPE_HZ, edge)
    if not width:
        return torch.ones_like(frequencies)
    rise = ((frequencies - edge) / width + 0.5).clamp(0, 1)
    return 0.5 - 0.5 * torch.cos(torch.pi * rise)


def exchanged_with(own: Tensor, others: Tensor, fs: float) -> Tensor:
    """``others`` (…, t) with the first and last half second going over into ``own`` (…, t)."""
    length = own.shape[-1]
    places = (torch.arange(length, device=own.device) + 0.5) / (_JOIN_SECONDS * fs)
    near = torch.minimum(places, places.flip(0)).clamp(max=1)
    return own + (0.5 - 0.5 * torch.cos(torch.pi * near)).to(own) * (others - own)


def components_of(
    night: Tensor, fs: float, bands: Sequence[tuple[float, float]], epochs: Tensor
) -> Tensor:
    """:func:`components` of ``epochs`` (b,) alone: (bands, b, m, t).

    From the ten minutes on either side, which are continuous and end far away; a whole night's
    spectrum of every band would be the largest thing in memory.
    """
    span = min(len(night), 2 * _NEIGHBOURS + 1)
    # shifted inwards at the ends of the night, so that every span has the same length
    starts = (epochs - _NEIGHBOURS).clamp(0, len(night) - span).tolist()
    parts = [
        components(night[start : start + span], fs, bands)[:, epoch - start]
        for epoch, start in zip(epochs.tolist(), starts, strict=True)
    ]
    return torch.stack(parts, dim=1)


def band_importance(
    model: Any,
    night: Tensor,
    fs: float,
    classes: Tensor,
    bands: Mapping[str, tuple[float, float]] = BANDS,
    others: Tensor | None = None,
) -> BandImportance:
    """Importance of bands to ``classes`` (n,): 2 ** bands stagings of the night (n, m, t).

    ``others`` (n,): for every epoch another one, whose bands it is given in exchange.
    """
    # subsets are sums of parts: filtering is linear, and once is enough
    parts = components(night, fs, list(bands.values()))
    rows, numbers = torch.arange(len(night)), range(len(bands))
    lost = {}  # subset of bands removed -> loss of probability, (n,)
    whole = stage_signals(model, night)[rows, classes]
    for size in range(len(bands) + 1):  # the empty subset too: Shapley values begin there
        for subset in combinations(numbers, size):
            without = night - parts[list(subset)].sum(dim=0)
            lost[subset] = whole - stage_signals(model, without)[rows, classes]
    return BandImportance(
        tuple(bands),
        torch.stack([lost[(b,)] for b in numbers], dim=1),
        torch.stack([_mean(lost, b, lambda size: 1.0) for b in numbers], dim=1),
        torch.stack([_mean(lost, b, lambda size: 1 / size) for b in numbers], dim=1),
        torch.stack([_shapley(lost, b, len(bands)) for b in numbers], dim=1),
        lost[tuple(numbers)],
        _lost_by_exchange(model, night, fs, classes, parts, others),
    )


def _lost_by_exchange(
    model: Any, night: Tensor, fs: float, classes: Tensor, parts: Tensor, others: Tensor | None
) -> Tensor:
    """Change of probability where each of ``parts`` (bands, n, m, t) is that of ``others`` (n,)."""
    if others is None:
        return torch.full((len(night), len(parts)), torch.nan)
    rows = torch.arange(len(night))
    whole = stage_signals(model, night)[rows, classes]
    columns = []
    for part in parts:
        changed = night - part + exchanged_with(part, part[others], fs)
        columns.append(whole - stage_signals(model, changed)[rows, classes])
    return torch.stack(columns, dim=1)


def _mean(lost: dict[tuple[int, ...], Tensor], band: int, weight: Any) -> Tensor:
    """Weighted mean over the subsets with ``band``; weights depend on the subset's size."""
    held = [(weight(len(subset)), change) for subset, change in lost.items() if band in subset]
    return sum(w * change for w, change in held) / sum(w for w, _ in held)


def _shapley(lost: dict[tuple[int, ...], Tensor], band: int, n: int) -> Tensor:
    """Mean change by adding ``band`` to the bands removed, over all orders of removing them."""
    total = torch.zeros_like(lost[()])
    for subset, change in lost.items():
        if band not in subset:
            size = len(subset)
            # share of all orders in which exactly this subset is removed before the band
            weight = factorial(size) * factorial(n - 1 - size) / factorial(n)
            total = total + weight * (lost[tuple(sorted((*subset, band)))] - change)
    return total
