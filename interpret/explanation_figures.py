"""Figures of one epoch's explanation: its traces, or those of its window, in colours of a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.figure_style import GREY, SMALL, TWO_COLUMNS, entitle, in_style, new_figure
from utils.stages import COLOURS, EPOCH_SECONDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BARS = "#9db4c8"
_TRACE = {True: 0.75, False: 0.5}  # inches of a trace: of a single epoch, of one of many
_LOWEST = 0.75  # inches of a row: bars need some height
_ABOVE, _BELOW = 0.35, 0.4  # inches of the channels' names, and of the axis of time


@dataclass(frozen=True)
class SampleRow:
    """One row of a figure: the traces of one epoch and what colours them.

    ``signals`` (m, t) in physical units and ``colours`` (m, t) of their traces; ``epochs`` (l,)
    and ``modalities`` (m,) are shares that sum to 1, of the window's epochs and of the channels;
    ``own`` is the epoch's position in the window. The row of the epoch explained is ``marked``.
    """

    title: str
    signals: np.ndarray
    colours: np.ndarray
    epochs: np.ndarray | None
    modalities: np.ndarray
    own: int
    marked: bool = True


@in_style
def draw_sample(
    rows: Sequence[SampleRow],
    *,
    title: str,
    channels: Sequence[str],
    unit: str,
    colour: tuple[str, float, float, str],
) -> Figure:
    """Draw one row per epoch: shares of epochs, shares of modalities, and the coloured traces.

    ``colour`` is (map, lowest, highest, label); the limits hold for every trace of the figure, and
    a channel has one scale in all rows. After the summary figure of Pradeepkumar et al. 2024, with
    the layers' own weights.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    name, low, high, label = colour
    row_height = max(_LOWEST, len(channels) * _TRACE[len(rows) == 1]) + 0.25
    # placed by hand: finding a layout costs more than drawing it
    figure = new_figure(TWO_COLUMNS, 1, is_laid_out=False)
    above = _ABOVE + 0.13 * entitle(figure, title, y=0.995, va="top")
    height = above + row_height * len(rows) + _BELOW
    figure.set_figheight(height)
    inner = {"bottom": _BELOW / height, "top": 1 - above / height}
    outer = figure.add_gridspec(
        len(rows),
        3,
        width_ratios=(1, 1, 11),
        left=0.035,
        right=0.875,
        hspace=0.35,
        wspace=0.4,
        **inner,
    )
    scale, reach = ScalarMappable(Normalize(low, high), name), _reach_of(rows)
    for k, row in enumerate(rows):
        panels = [figure.add_subplot(outer[k, column]) for column in (0, 1)]
        traces = outer[k, 2].subgridspec(len(channels), 1, hspace=0.5).subplots(squeeze=False)
        _draw_row([*panels, *traces[:, 0]], row, reach, channels, scale=scale, unit=unit)
        if k == 0:
            panels[0].set_title("epochs", fontsize=SMALL)
            panels[1].set_title("modalities", fontsize=SMALL)
    traces[-1, 0].set_xlabel("time, s")
    traces[-1, 0].tick_params(labelbottom=True, bottom=True)
    traces[-1, 0].spines["bottom"].set_visible(True)
    beside = figure.add_axes((0.885, inner["bottom"], 0.012, inner["top"] - inner["bottom"]))
    figure.colorbar(scale, cax=beside, label=label)
    beside.yaxis.set_offset_position("left")  # or a power of ten would lie on the channel's name
    return figure


def _draw_row(
    panels: Sequence[Axes],
    row: SampleRow,
    reach: np.ndarray,
    channels: Sequence[str],
    *,
    scale: Any,
    unit: str,
) -> None:
    """Draw one epoch into panels of its shares of epochs and modalities, and of each trace."""
    _draw_epoch_bars(panels[0], row.epochs, row.own)
    _draw_modality_bars(panels[1], row.modalities, channels)
    traces = zip(panels[2:], row.signals, row.colours, reach, channels, strict=True)
    for panel, *drawn in traces:
        _draw_trace(panel, *drawn, scale=scale, unit=unit)
    weight = "bold" if row.marked else "normal"
    panels[2].set_title(row.title, fontsize=SMALL, fontweight=weight, parse_math=False)


def _reach_of(rows: Sequence[SampleRow]) -> np.ndarray:
    """Ends (m,) of the axes of the channels; one that records nothing still needs an axis."""
    return np.maximum(1e-6, 1.05 * np.max([np.abs(row.signals).max(axis=1) for row in rows], 0))


def _draw_epoch_bars(axes: Axes, shares: np.ndarray | None, own: int) -> None:
    """Draw shares of the window's epochs, its own in red, the uniform level as a line."""
    if shares is None:
        axes.axis("off")
        return
    colours = [_BARS] * len(shares)
    colours[own] = COLOURS["REM"]
    axes.bar(range(len(shares)), shares, color=colours)
    axes.axhline(1 / len(shares), color=GREY, linewidth=0.6, linestyle=":")
    axes.set_xticks([])
    axes.tick_params(labelsize=SMALL - 1)
    axes.set_ylim(0, max(0.3, float(np.max(shares))))


def _draw_modality_bars(axes: Axes, shares: np.ndarray, channels: Sequence[str]) -> None:
    """Draw shares of the channels from 0 to 1, with their values."""
    axes.bar(range(len(shares)), shares, color=_BARS)
    axes.axhline(1 / len(shares), color=GREY, linewidth=0.6, linestyle=":")
    axes.set_ylim(0, 1)
    axes.set_xticks(range(len(shares)), [name.split()[0] for name in channels])
    axes.tick_params(labelsize=SMALL - 1)
    for k, share in enumerate(shares):
        axes.text(k, min(share, 0.88), f"{share:.2f}", ha="center", va="bottom", fontsize=SMALL - 1)


def _draw_trace(
    axes: Axes,
    trace: np.ndarray,
    colours: np.ndarray,
    reach: float,
    channel: str,
    *,
    scale: Any,
    unit: str,
) -> None:
    """Draw a signal in pieces of 0.1 s, each in the mean colour of its samples."""
    from matplotlib.collections import LineCollection

    pieces = 10 * EPOCH_SECONDS if len(trace) % (10 * EPOCH_SECONDS) == 0 else EPOCH_SECONDS
    width = len(trace) // pieces
    time = np.arange(len(trace)) * EPOCH_SECONDS / len(trace)
    points = np.stack([time, trace], axis=1)
    # one sample more than a piece, so that pieces touch
    segments = [points[k * width : (k + 1) * width + 1] for k in range(pieces)]
    lines = LineCollection(segments, linewidths=0.8)
    lines.set_color(scale.to_rgba(colours[: pieces * width].reshape(pieces, width).mean(axis=1)))
    axes.add_collection(lines)
    axes.set(xlim=(0, EPOCH_SECONDS), ylim=(-reach, reach), ylabel=unit)
    axes.set_title(channel, loc="right", fontsize=SMALL, parse_math=False)
    axes.tick_params(labelbottom=False, bottom=False)
    axes.spines["bottom"].set_visible(False)
