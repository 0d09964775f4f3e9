"""Spectral gradients: integrated gradients along the path on which a signal loses its bands.

After the spectral gradients of PhysioEx (Gagliardi et al.), with as many steps as completeness
asks for and filters without phase.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from interpret import spectrogram_figures
from interpret.bands import BANDS, components_of
from interpret.baselines import AUTO
from interpret.explanation import Explanation, completeness_error
from interpret.explanation_method import ExplanationMethod
from interpret.frozen_model import frozen
from interpret.integrated_gradients import TOLERANCE, integrated_gradients
from interpret.question import MOST_STEPS, SPECTROGRAM, Question
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
        target = question.alone
        if question.plan.space == SPECTROGRAM and target.model.reads_spectrograms:
            target = target.on_spectrogram
        # half of them on the path of every band, of which there are many
        most = question.plan.most_steps // 2
        about = {"edges": edges, "most": most}
        return spectral_gradients(target, question.epochs, question.classes, **about)

    def draw(self, shown: ShownEpoch) -> Figure:
        """Draw maps by band and time under each trace."""
        night, explanation = shown.night, shown.explanation
        return spectrogram_figures.draw_spectral(
            explanation.bands[shown.row].cpu().numpy(),
            night.physical(shown.epoch),
            explanation.edges,
            title=f"{shown.title(self.name)} by band{shown.comparison}",
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
    most: int = MOST_STEPS // 2,
    order: Order = "both",
) -> Explanation:
    """Explain F at ``epochs`` (b,) for ``classes`` (b,) band by band; neighbours keep their signal.

    Bands between ``edges`` (default: 1 Hz wide, 0.5 to 30 Hz) are removed one after the other from
    the continuous night, or from spectrograms, whose cells become those of the mean; each removal
    is a path that integrated gradients follow in at least ``steps`` steps, ``most`` at most. "both"
    is the mean of the two orders. The baseline is the epoch without bands, and the bands' maps sum
    to the change of F from that baseline to the epoch.
    """
    edges = edges or linear_edges()
    device = target.night.device
    epochs, classes = epochs.to(device), classes.to(device)
    parts, batches = _parts(target, edges, epochs), []
    with frozen(target):
        for rows in torch.arange(len(epochs)).split(target.at_once):
            extra = (epochs[rows], classes[rows])
            batches.append(_along_bands(target, parts[rows], extra, (steps, most), order))
        with torch.no_grad():
            value = target(target.given[epochs], epochs, classes)
            compared = target.given[epochs] - parts.sum(dim=1)
            logits = target.logits(compared, epochs)
            without = target.output_of(logits, classes)
            context = target.context(epochs, classes)
    maps = torch.cat(batches)
    bands = target.over_time(maps)
    return Explanation(
        NAME,
        bands.sum(dim=1),
        value,
        without,
        completeness_error(maps, value, without),
        context,
        {"baseline": "without bands", "output": target.output, "steps": steps, "order": order},
        bands=bands,
        edges=edges,
        baseline_probabilities=logits.softmax(dim=-1),
        baseline_distance=target.distance(compared, epochs),
        deviates_from=target.deviates_from,
    )


def _parts(target: EpochTarget, edges: Edges, epochs: Tensor) -> Tensor:
    """What each band adds to what F is a function of, at ``epochs`` (b,): (b, f, …)."""
    if target.grid is None:
        fs = target.night.shape[-1] / EPOCH_SECONDS
        return components_of(target.night, fs, edges, epochs).transpose(0, 1)
    hertz = torch.from_numpy(target.grid[1]).to(epochs.device)
    inside = torch.stack([(hertz >= low) & (hertz < high) for low, high in edges])
    about = target.given[epochs] - target.baseline(epochs, AUTO)
    return about[:, None] * inside[:, None, None]


def _along_bands(
    target: EpochTarget,
    parts: Tensor,
    extra: tuple[Tensor, Tensor],
    steps: tuple[int, int],
    order: Order,
) -> Tensor:
    """Maps (b, f, …) of bands ``parts`` (b, f, …)."""
    x, orders = target.given[extra[0]], _ORDERS.get(order, (order,))
    with torch.no_grad():
        change = target(x, *extra) - target(x - parts.sum(dim=1), *extra)
    # F is not linear, so a band's share depends on which bands are gone before it
    # errors of bands differ in sign
    allowed = TOLERANCE * change.abs() / parts.shape[1] ** 0.5
    maps = [_one_way(target, x, parts, extra, steps, way, allowed) for way in orders]
    return sum(maps) / len(orders)


def _one_way(
    target: EpochTarget,
    x: Tensor,
    parts: Tensor,
    extra: tuple[Tensor, Tensor],
    steps: tuple[int, int],
    way: Order,
    allowed: Tensor,
) -> Tensor:
    """Remove the bands one after the other; each path may miss ``allowed`` (b,) of the change."""
    attributions = torch.zeros_like(parts)
    for band in sorted(range(parts.shape[1]), reverse=way == "high_to_low"):
        without = x - parts[:, band]
        attributions[:, band] = integrated_gradients(
            target, x, without, extra, steps=steps[0], most=steps[1], allowed=allowed
        )
        x = without
    return attributions
