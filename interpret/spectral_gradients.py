"""Spectral gradients: integrated gradients along the way on which a signal loses its bands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from interpret.attribution import frozen, integrated_gradients
from interpret.bands import components
from interpret.target import EpochTarget

Order = Literal["high_to_low", "low_to_high", "both"]
_CHUNK = 64


@dataclass(frozen=True)
class SpectralGradients:
    """Attributions (b, bands, m, t) that sum to F at the epoch minus F without all bands.

    ``edges`` are (low, high) in Hz; ``value`` and ``without`` (b,) are the two ends, ``error`` (b,)
    the completeness error.
    """

    edges: tuple[tuple[float, float], ...]
    attributions: Tensor
    value: Tensor
    without: Tensor

    @property
    def error(self) -> Tensor:
        """|sum A - (F(x) - F without the bands)| / |F(x) - F without the bands|, (b,)."""
        change = self.value - self.without
        missing = self.attributions.flatten(1).sum(dim=1) - change
        return missing.abs() / change.abs().clamp_min(1e-6)


def linear_edges(low: float = 0.5, high: float = 30.0, width: float = 1.0):
    """Bands of one width from ``low`` to ``high`` Hz; the last one may be narrower."""
    edges, start = [], low
    while start < high - 1e-9:
        edges.append((start, min(start + width, high)))
        start += width
    return tuple(edges)


def spectral_gradients(
    target: EpochTarget,
    fs: float,
    epochs: Tensor,
    classes: Tensor,
    *,
    edges: tuple[tuple[float, float], ...] | None = None,
    steps: int = 10,
    order: Order = "both",
) -> SpectralGradients:
    """Explain F at ``epochs`` (b,) for ``classes`` (b,) band by band; neighbours keep their signal.

    Bands are removed one after the other from the continuous night; each removal is a path that
    integrated gradients follow in at least ``steps`` steps. "both" is the mean of the two orders.
    """
    edges = edges or linear_edges()
    orders = ("high_to_low", "low_to_high") if order == "both" else (order,)
    device = target.night.device
    epochs, classes = epochs.to(device), classes.to(device)
    found = torch.zeros(len(epochs), len(edges), *target.night.shape[1:], device=device)
    parts = components(target.night, fs, edges)[:, epochs]
    with frozen(target):
        for rows in torch.arange(len(epochs)).split(_CHUNK):
            extra = (epochs[rows], classes[rows])
            for direction in orders:
                numbers = range(len(edges))
                x = target.night[epochs[rows]]
                for band in reversed(numbers) if direction == "high_to_low" else numbers:
                    without = x - parts[band, rows]
                    path = integrated_gradients(target, x, without, extra, steps=steps)
                    found[rows, band] += path / len(orders)
                    x = without
        with torch.no_grad():
            value = target(target.night[epochs], epochs, classes)
            without = target(target.night[epochs] - parts.sum(dim=0), epochs, classes)
    return SpectralGradients(edges, found, value, without)
