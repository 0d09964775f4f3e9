"""Figures of maps over time and frequency, each under the traces it was computed from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from utils.figure_style import (
    AGAINST,
    DIVERGING,
    FOR,
    INK,
    TWO_COLUMNS,
    entitle,
    in_style,
    new_figure,
)
from utils.stages import EPOCH_SECONDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LIMIT = 99  # percentile of |map| at the ends of the colours
_DECIBELS = (2, 99.5)  # percentiles at the ends of the greys
_MOST_NAMES = 10  # more bands are named by their Hz alone
# shares of the largest |map|; none at 0, where a contour would follow noise
_LEVELS = np.array([-0.75, -0.5, -0.25, 0.25, 0.5, 0.75])
_SIGNED = "against | for the stage"


@in_style
def draw_spectral(
    maps: np.ndarray,
    signals: np.ndarray,
    edges: Sequence[tuple[float, float]],
    *,
    title: str,
    channels: Sequence[str],
    unit: str,
) -> Figure:
    """Draw attributions by band and time (f, m, t), Hz x s, under each trace (m, t).

    ``edges`` of the bands in Hz; beside the maps are their sums by band.
    """
    pieces = 2 * EPOCH_SECONDS if maps.shape[2] % (2 * EPOCH_SECONDS) == 0 else EPOCH_SECONDS
    image = maps.reshape(*maps.shape[:2], pieces, -1).sum(axis=3)
    limit = _limit_of(image)
    figure, panels = _under_traces(signals, channels, unit)
    seconds, hertz, shown = np.linspace(0, EPOCH_SECONDS, pieces + 1), *_rows_of(edges)
    for k, (axes, beside) in enumerate(panels):
        # between bands there is nothing
        rows = np.where(shown[:, None] < 0, np.nan, image[shown, k])
        drawn = _draw_map(axes, (seconds, hertz), rows, limit)
        middles, widths = np.mean(edges, axis=1), np.ptp(edges, axis=1)
        _draw_sums(beside, middles, widths, maps[:, k].sum(axis=1), (hertz[0], hertz[-1]))
        if len(edges) < _MOST_NAMES:
            beside.set_yticks(middles, [f"{low:g}–{high:g} Hz" for low, high in edges])
    _scale_alike([beside for _, beside in panels])
    size = EPOCH_SECONDS / pieces
    label = f"sum per band and {size:g} s, {_SIGNED}\nclipped at percentile {_LIMIT}"
    figure.colorbar(drawn, ax=np.array(panels)[:, -1].tolist(), label=label, pad=0.1)
    entitle(figure, title)
    return figure


@in_style
def draw_cells(
    maps: np.ndarray,
    signals: np.ndarray,
    grid: tuple[np.ndarray, np.ndarray],
    *,
    title: str,
    channels: Sequence[str],
    unit: str,
) -> Figure:
    """Draw maps (m, frames, bins) under each trace (m, t), with their sums by bin beside them.

    ``grid`` holds the middles of frames in s and of bins in Hz.
    """
    seconds, hertz = grid
    limit = _limit_of(maps)
    figure, panels = _under_traces(signals, channels, unit)
    for own, (axes, beside) in zip(maps, panels, strict=True):
        drawn = _draw_map(axes, (seconds, hertz), own.T, limit)
        _draw_sums(beside, hertz, hertz[1] - hertz[0], own.sum(axis=0), (0, hertz[-1]))
    _scale_alike([beside for _, beside in panels])
    label = f"sum per cell, {_SIGNED}\nclipped at percentile {_LIMIT}"
    figure.colorbar(drawn, ax=np.array(panels)[:, -1].tolist(), label=label, pad=0.1)
    entitle(figure, title)
    return figure


@in_style
def draw_image(
    image: np.ndarray,
    decibels: np.ndarray,
    signals: np.ndarray,
    grid: tuple[np.ndarray, np.ndarray],
    *,
    title: str,
    channels: Sequence[str],
    unit: str,
) -> Figure:
    """Draw a map (frames, bins) as contours on each channel's spectrogram (m, frames, bins).

    ``grid`` holds the middles of frames in s and of bins in Hz; the traces (m, t) stand above. Red
    contours are for the stage, blue ones against it, all spectrograms in the same greys.
    """
    limit = max(1e-12, float(np.abs(image).max()))
    greys = np.percentile(decibels, _DECIBELS)
    figure, panels = _under_traces(signals, channels, unit, has_sums=False)
    for own, (axes,) in zip(decibels, panels, strict=True):
        shown = _draw_power(axes, grid, own, greys)
        drawn = _draw_contours(axes, grid, image, limit)
    below = [axes for (axes,) in panels]
    label = "power, dB\nclipped at percentiles {:g} and {:g}".format(*_DECIBELS)
    figure.colorbar(shown, ax=below, label=label, pad=0.01)
    figure.colorbar(drawn, ax=below, label=_SIGNED, pad=0.01)
    entitle(figure, title)
    return figure


def _under_traces(
    signals: np.ndarray, channels: Sequence[str], unit: str, *, has_sums: bool = True
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with the traces (m, t) one below the other, and the empty axes under each."""
    figure = new_figure(TWO_COLUMNS, 0.6 + 2.4 * len(channels))
    widths = [5, 1] if has_sums else [1]
    grid = figure.subplots(
        2 * len(channels),
        len(widths),
        width_ratios=widths,
        height_ratios=[1, 2.4] * len(channels),
        squeeze=False,
    )
    time = np.arange(signals.shape[1]) * EPOCH_SECONDS / signals.shape[1]
    for above, trace, channel in zip(grid[::2], signals, channels, strict=True):
        above[0].plot(time, trace, color=INK, linewidth=0.5)
        above[0].set(xlim=(0, EPOCH_SECONDS), ylabel=unit, xticklabels=[])
        above[0].set_title(channel, parse_math=False)
        for empty in above[1:]:
            empty.axis("off")
    for axes, *_ in grid[1::2]:
        axes.set(xlim=(0, EPOCH_SECONDS), ylabel="frequency, Hz")
    grid[-1][0].set_xlabel("time, s")
    return figure, [list(row) for row in grid[1::2]]


def _limit_of(maps: np.ndarray) -> float:
    """The end of the colours: a single extreme cell would leave all others pale."""
    return max(1e-12, float(np.percentile(np.abs(maps), _LIMIT)))


def _rows_of(edges: Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Borders (r + 1,) in Hz of the rows of a map, and the band of each (r,), -1 between bands."""
    borders = np.unique(edges)
    middles = (borders[:-1] + borders[1:]) / 2
    inside = [[low < middle < high for low, high in edges] for middle in middles]
    return borders, np.array([row.index(True) if any(row) else -1 for row in inside])


def _draw_map(
    axes: Axes, grid: tuple[np.ndarray, np.ndarray], image: np.ndarray, limit: float
) -> object:
    """Draw a signed map (hertz, seconds); ``grid`` holds middles, or borders, one more of each."""
    drawn = axes.pcolormesh(
        *grid,
        image,
        cmap=DIVERGING,
        vmin=-limit,
        vmax=limit,
        rasterized=True,  # or a PDF would hold every cell as a path
    )
    axes.set_ylim(min(0, grid[1][0]), grid[1][-1])
    return drawn


def _draw_sums(
    axes: Axes,
    middles: np.ndarray,
    widths: np.ndarray | float,
    sums: np.ndarray,
    span: tuple[float, float],
) -> None:
    colours = [FOR if value > 0 else AGAINST for value in sums]
    axes.barh(middles, sums, height=widths, color=colours, linewidth=0)
    axes.axvline(0, color=INK, linewidth=0.6)
    axes.set(ylim=(min(0, span[0]), span[1]), yticks=[])
    axes.locator_params(axis="x", nbins=3)


def _scale_alike(panels: Sequence[Axes]) -> None:
    """Give the sums of all channels one axis, so that bars compare."""
    ends = [axes.get_xlim() for axes in panels]
    for axes in panels:
        axes.set_xlim(min(low for low, _ in ends), max(high for _, high in ends))
    panels[-1].set_xlabel("adds to the stage")


def _draw_power(
    axes: Axes,
    grid: tuple[np.ndarray, np.ndarray],
    decibels: np.ndarray,
    ends: np.ndarray,
) -> object:
    return axes.pcolormesh(
        *grid, decibels.T, cmap="gray_r", vmin=ends[0], vmax=ends[1], rasterized=True
    )


def _draw_contours(
    axes: Axes, grid: tuple[np.ndarray, np.ndarray], image: np.ndarray, limit: float
) -> object:
    """Draw the map (frames, bins) as surfaces that the spectrogram shines through, and as lines."""
    levels = limit * _LEVELS
    drawn = axes.contourf(
        *grid,
        image.T,
        levels=[-limit, *levels, limit],
        cmap=DIVERGING,
        vmin=-limit,
        vmax=limit,
        alpha=0.35,
    )
    axes.contour(*grid, image.T, levels=levels, cmap=DIVERGING, linewidths=0.8)
    axes.set_ylim(0, grid[1][-1])
    return drawn
