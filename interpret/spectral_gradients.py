"""Spectral gradients: integrated gradients along the path on which a signal loses its bands.

After the spectral gradients of PhysioEx (Gagliardi et al.), with as many steps as completeness
asks for and filters without phase.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from interpret import explanation_figures
from interpret.bands import BANDS, components_of
from interpret.explanation import Explanation, completeness_error
from interpret.explanation_method import ExplanationMethod
from interpret.frozen_model import frozen
from interpret.integrated_gradients import MOST_STEPS, TOLERANCE, integrated_gradients
from interpret.question import Question
from interpret.sample import ShownEpoch
from interpret.target import EpochTarget
from utils.stages import EPOCH_SECONDS

if TYPE_CHECKING:
    from interpret.explanation_figures import Figure

Order = Literal["high_to_low", "low_to_high", "both"]
Edges = tuple[tuple[float, float], ...]
_ORDERS = {"both": ("high_to_low", "low_to_high")}
NAME = "specgrad"


class SpectralGradients(ExplanationMethod):
    """Maps by frequency band, for ten times the work of integrated gradients."""

    name = NAME
    by_layer = False  # too slow to repeat for every layer

    def compute(self, question: Question) -> Explanation:
        """Explain in bands of the plan's width, or in the named ones if it is 0 or to save work."""
        fs, width = question.target.night.shape[-1] / EPOCH_SECONDS, question.plan.band_hz
        named = question.quick or not width
        edges = named_edges(fs) if named else linear_edges(width=width)
        return spectral_gradients(question.alone, question.epochs, question.classes, edges=edges)

    def draw(self, shown: ShownEpoch) -> Figure:
        """Draw maps by band and time under each trace."""
        night, explanation = shown.night, shown.explanation
        return explanation_figures.draw_spectral(
            explanation.bands[shown.row].cpu().numpy(),
            night.physical(shown.epoch),
            explanation.edges,
            title=f"{shown.title(self.name)} by band",
            channels=night.channels,
            unit=night.unit,
        )


def linear_edges(low: float = 0.5, high: float = 30.0, width: float = 1.0) -> Edges:
    """Bands of one width from ``low`` to ``high`` Hz; the last one may be narrower."""
    edges, start = [], low
    while start < high - 1e-9:  # sums of a width such as 0.1 may end just below high
        edges.append((start, min(start + width, high)))
        start += width
    return tuple(edges)


def named_edges(fs: float) -> Edges:
    """Edges of delta, theta, alpha, sigma, beta and gamma, those that half of ``fs`` covers."""
    return tuple(band for band in BANDS.values() if band[1] <= fs / 2)


def spectral_gradients(
    target: EpochTarget,
    epochs: Tensor,
    classes: Tensor,
    *,
    edges: Edges | None = None,
    steps: int = 10,
    order: Order = "both",
) -> Explanation:
    """Explain F at ``epochs`` (b,) for ``classes`` (b,) band by band; neighbours keep their signal.

    Bands between ``edges`` (default: 1 Hz wide, 0.5 to 30 Hz) are removed one after the other from
    the continuous night; each removal is a path that integrated gradients follow in at least
    ``steps`` steps. "both" is the mean of the two orders. The baseline is the epoch without bands,
    and the bands' maps sum to the change of F from that baseline to the epoch.
    """
    edges = edges or linear_edges()
    device = target.night.device
    epochs, classes = epochs.to(device), classes.to(device)
    fs = target.night.shape[-1] / EPOCH_SECONDS
    parts = components_of(target.night, fs, edges, epochs).transpose(0, 1)  # (b, f, m, t)
    batches = []
    with frozen(target):
        for rows in torch.arange(len(epochs)).split(target.at_once):
            extra = (epochs[rows], classes[rows])
            batches.append(_along_bands(target, parts[rows], extra, steps, order))
        with torch.no_grad():
            value = target(target.night[epochs], epochs, classes)
            without = target(target.night[epochs] - parts.sum(dim=1), epochs, classes)
            context = target.context(epochs, classes)
    bands = torch.cat(batches)
    return Explanation(
        NAME,
        bands.sum(dim=1),
        value,
        without,
        completeness_error(bands, value, without),
        context,
        {"baseline": "without bands", "output": target.output, "steps": steps, "order": order},
        bands=bands,
        edges=edges,
    )


def _along_bands(
    target: EpochTarget, parts: Tensor, extra: tuple[Tensor, Tensor], steps: int, order: Order
) -> Tensor:
    """Maps (b, f, m, t) of bands ``parts`` (b, f, m, t); steps double where the sum misses 1 %."""
    x, orders = target.night[extra[0]], _ORDERS.get(order, (order,))
    with torch.no_grad():
        change = target(x, *extra) - target(x - parts.sum(dim=1), *extra)
    attributions, left = torch.zeros_like(parts), torch.arange(len(x), device=x.device)
    while len(left):
        some = tuple(argument[left] for argument in extra)
        maps = [_one_way(target, x[left], parts[left], some, steps, way) for way in orders]
        # F is not linear, so a band's share depends on which bands are gone before it
        attributions[left] = sum(maps) / len(orders)
        error = completeness_error(attributions[left], change[left], torch.zeros_like(change[left]))
        steps *= 2
        if steps > MOST_STEPS:
            break
        left = left[error > TOLERANCE]
    return attributions


def _one_way(
    target: EpochTarget,
    x: Tensor,
    parts: Tensor,
    extra: tuple[Tensor, Tensor],
    steps: int,
    way: Order,
) -> Tensor:
    """Remove the bands one after the other; each removal is a path of ``steps`` steps."""
    attributions = torch.zeros_like(parts)
    for band in sorted(range(parts.shape[1]), reverse=way == "high_to_low"):
        without = x - parts[:, band]
        # no doubling: the caller measures completeness of all bands together
        attributions[:, band] = integrated_gradients(
            target, x, without, extra, steps=steps, doubling=False
        )
        x = without
    return attributions
