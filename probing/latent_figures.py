"""Pictures of latent spaces: maps by stage and subject, a night's path, similarity of encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from utils.stages import COLOURS, PLOT_ORDER, STAGES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# for subjects and runs, which have no colour of their own; repeated where there are more than eight
_CYCLE = ("#3f87c4", "#e8a33d", "#5b9e6f", "#7b5aa6", "#8c564b", "#17a2a2", "#b84a8b", "#909090")


def draw_maps(
    flat: Mapping[str, np.ndarray], y: np.ndarray, subject: np.ndarray, *, kind: str
) -> Figure:
    """Draw one column per space: its map (n, 2) by stage above, by subject below."""
    from matplotlib.figure import Figure

    columns = len(flat)
    figure = Figure(figsize=(3.4 * columns + 1.2, 7), layout="constrained")
    grid = figure.subplots(2, columns, squeeze=False)
    names = list(dict.fromkeys(subject.tolist()))
    for k, (name, points) in enumerate(flat.items()):
        for stage in PLOT_ORDER:
            rows = y == STAGES.index(stage)
            grid[0][k].scatter(*points[rows].T, s=4, color=COLOURS[stage], label=stage, alpha=0.7)
        for number, who in enumerate(names):
            rows = subject == who
            colour = _CYCLE[number % len(_CYCLE)]
            grid[1][k].scatter(*points[rows].T, s=4, color=colour, label=who, alpha=0.7)
        grid[0][k].set_title(name, fontsize=9)
        for axes in (grid[0][k], grid[1][k]):  # axes of such maps have no unit
            axes.set_xticks([])
            axes.set_yticks([])
    for row, title in enumerate(("stage", "subject")):
        handles, labels = grid[row][-1].get_legend_handles_labels()
        grid[row][-1].legend(
            handles[:12],  # of many subjects the first will do: colours repeat
            labels[:12],
            title=title,
            markerscale=4,
            frameon=False,
            loc="center left",
            bbox_to_anchor=(1, 0.5),
            fontsize=8,
        )
    figure.suptitle(f"{kind} of held-out epochs, the same ones everywhere", x=0.01, ha="left")
    return figure


def draw_night(points: np.ndarray, y: np.ndarray, *, title: str) -> Figure:
    """Draw the path of one night: two components (n, 2) over time, epochs coloured by stage."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    hours = np.arange(len(points)) / 120  # epochs of 30 s
    for k, axes in enumerate(panels):
        axes.plot(hours, points[:, k], color="#c0c0c0", linewidth=0.6)
        for stage in PLOT_ORDER:
            rows = y == STAGES.index(stage)
            axes.scatter(hours[rows], points[rows, k], s=5, color=COLOURS[stage], label=stage)
        axes.set_ylabel(f"component {k + 1}")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(ncols=5, frameon=False, markerscale=3, loc="lower right", fontsize=8)
    panels[0].set_title(title, loc="left", fontsize=10)
    panels[1].set_xlabel("hours")
    return figure


def draw_likeness(names: Sequence[str], values: np.ndarray, *, title: str) -> Figure:
    """Draw a similarity matrix (k, k) from 0 to 1, with its values."""
    from matplotlib.figure import Figure

    side = 2.5 + 0.62 * len(names)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(values, vmin=0, vmax=1, cmap="viridis")
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            # viridis is dark below, light above
            colour = "white" if value < 0.6 else "black"
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(shown, ax=axes, shrink=0.7)
    axes.set_title(title, loc="left", fontsize=10)
    return figure


def draw_against_probe(
    values: Mapping[str, Sequence[tuple[str, float, float]]],
) -> Figure:
    """Draw one panel per label-free metric: its value in each run against the probe's macro-F1."""
    from matplotlib.figure import Figure

    columns = min(4, max(1, len(values)))
    rows = -(-len(values) // columns)  # rounded up
    figure = Figure(figsize=(3.4 * columns, 3 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (metric, points) in zip(grid, values.items(), strict=False):
        for k, (_, value, probe) in enumerate(points):
            axes.scatter(value, probe, color=_CYCLE[k % len(_CYCLE)], s=22)
        axes.set_xlabel(metric)
        axes.set_ylabel("probe macro-F1")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(values) :]:
        axes.axis("off")
    return figure
