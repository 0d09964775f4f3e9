"""Figures of prototypes: beside an explained epoch, and those of every stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from interpret.prototypes import Prototypes
from utils.figure_style import INK, SMALL, TWO_COLUMNS, entitle, in_style, new_figure
from utils.stages import COLOURS, EPOCH_SECONDS, PLOT_ORDER, STAGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = tuple[str, str, np.ndarray]  # what a trace is, its colour, the trace (t,)


@in_style
def draw_beside(
    signals: np.ndarray,
    nearest: Sequence[Mapping[str, Any]],
    title: str,
    channels: Sequence[str],
    unit: str,
) -> Figure:
    """Draw an epoch (m, t) above its ``nearest`` prototypes, every channel on one scale."""
    height = 0.55 * (1 + len(nearest)) + 0.5
    figure = new_figure(TWO_COLUMNS, 0.3 + height * len(channels))
    grid = figure.subplots(len(channels), 1, squeeze=False)[:, 0]
    for k, (axes, channel) in enumerate(zip(grid, channels, strict=True)):
        rows = [("this epoch", INK, signals[k])]
        for one in nearest:
            about = f"{one['stage']}: {one['origin']}, distance {one['distance']:.2f}"
            rows.append((about, COLOURS[one["stage"]], one["traces"][k]))
        _draw_stacked(axes, rows, unit)
        axes.set_title(channel, parse_math=False)
    entitle(figure, title)
    return figure


@in_style
def draw_overview(prototypes: Prototypes) -> Figure:
    """Draw the first channel of prototypes, the stages one below the other."""
    codes = prototypes.stages
    by_stage = {name: np.flatnonzero(codes == STAGES.index(name)) for name in PLOT_ORDER}
    columns = max(len(rows) for rows in by_stage.values())
    figure = new_figure(TWO_COLUMNS, 4.2)
    for j, axes in enumerate(figure.subplots(1, columns, squeeze=False)[0]):
        rows = [
            (
                f"{name}: {prototypes.recordings[own[j]]}, epoch {prototypes.epochs[own[j]]}",
                COLOURS[name],
                prototypes.traces[own[j], 0],
            )
            for name, own in by_stage.items()
            if j < len(own)  # a stage may have fewer
        ]
        _draw_stacked(axes, rows, prototypes.unit)
    entitle(figure, f"n = {len(codes)} prototypes")
    return figure


def _draw_stacked(axes: Axes, rows: Sequence[Row], unit: str) -> None:
    """Draw traces below each other, as far apart as the largest of them is high."""
    apart = max(2.2 * max(float(np.abs(trace).max()) for _, _, trace in rows), 1e-6)
    for k, (about, colour, trace) in enumerate(rows):
        time = np.arange(len(trace)) * EPOCH_SECONDS / len(trace)
        axes.plot(time, trace - k * apart, color=colour, linewidth=0.5)
        axes.text(0, (0.4 - k) * apart, about, fontsize=SMALL, parse_math=False)
    axes.set(
        xlim=(0, EPOCH_SECONDS), ylim=((0.5 - len(rows)) * apart, 0.6 * apart), xlabel="time, s"
    )
    axes.set_yticks([-k * apart for k in range(len(rows))], ["0"] * len(rows))
    axes.set_ylabel(f"{unit}; traces are {apart:.0f} apart")
