"""Figure of a map on a standardised spectrogram, under the traces it was computed from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from utils.stages import EPOCH_SECONDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LIMIT = 99  # percentile of |map| at the ends of the colours


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
    from matplotlib.figure import Figure

    seconds, hertz = grid
    # a single extreme cell would leave all others pale
    limit = max(1e-12, float(np.percentile(np.abs(maps), _LIMIT)))
    figure = Figure(figsize=(9 * len(channels) + 1, 6.4), layout="constrained")
    widths, heights = [5, 1] * len(channels), (1, 2.2)
    panels = figure.subplots(2, len(widths), width_ratios=widths, height_ratios=heights)
    for k, channel in enumerate(channels):
        (top, empty), (bottom, beside) = (row[2 * k : 2 * k + 2] for row in panels)
        empty.axis("off")
        time = np.arange(signals.shape[1]) * EPOCH_SECONDS / signals.shape[1]
        top.plot(time, signals[k], color="#303030", linewidth=0.7)
        top.set(xlim=(0, EPOCH_SECONDS), ylabel=unit)
        top.set_title(channel, loc="left", fontsize=10)
        drawn = bottom.pcolormesh(
            seconds,
            hertz,
            maps[k].T,
            cmap="coolwarm",
            vmin=-limit,
            vmax=limit,
            shading="nearest",
            rasterized=True,  # or the SVG would hold every cell as a path
        )
        bottom.set(xlim=(0, EPOCH_SECONDS), ylim=(0, hertz[-1]), xlabel="s", ylabel="Hz")
        sums = maps[k].sum(axis=0)
        colours = ["#c8322e" if value > 0 else "#3f87c4" for value in sums]
        beside.barh(hertz, sums, height=hertz[1] - hertz[0], color=colours)
        beside.axvline(0, color="#404040", linewidth=0.8)
        beside.set(ylim=(0, hertz[-1]), xlabel="adds to the stage", yticks=[])
    figure.colorbar(drawn, ax=list(panels[1]), label="against | for the stage", pad=0.01)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure
