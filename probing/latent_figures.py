"""Pictures of latent spaces: maps by stage and subject, a night's path, similarity of encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from utils.figure_style import (
    GREY,
    ONE_COLUMN,
    SEQUENTIAL,
    SMALL,
    TWO_COLUMNS,
    entitle,
    in_style,
    line_styles,
    new_figure,
)
from utils.stages import COLOURS, PLOT_ORDER, STAGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 4  # panels side by side
_FEW = 5  # names that fit into one column
_LISTED = 12  # of a legend: of many subjects or runs the first will do, colours repeat


@in_style
def draw_maps(
    flat: Mapping[str, np.ndarray], y: np.ndarray, subject: np.ndarray, *, kind: str
) -> Figure:
    """Draw the map (n, 2) of every space by stage, and by subject in the row below."""
    spaces = list(flat.items())
    rows = -(-len(spaces) // _COLUMNS)  # rounded up
    columns = min(_COLUMNS, len(spaces))
    figure = new_figure(TWO_COLUMNS, 0.4 + 3.2 * rows)
    grid = figure.subplots(2 * rows, columns, squeeze=False)
    for axes in grid.flat:  # axes of such maps have no unit
        axes.set(xticks=[], yticks=[])
    names = list(dict.fromkeys(subject.tolist()))
    by_stage = {name: (y == STAGES.index(name), COLOURS[name]) for name in PLOT_ORDER}
    styles = zip(names, line_styles(len(names)), strict=True)
    by_subject = {name: (subject == name, style["color"]) for name, style in styles}
    for k, (name, points) in enumerate(spaces):
        above = grid[2 * (k // _COLUMNS)][k % _COLUMNS]
        above.set_title(name)
        _draw_points(above, points, by_stage)
        _draw_points(grid[2 * (k // _COLUMNS) + 1][k % _COLUMNS], points, by_subject)
    for axes in grid[-2:, len(spaces) - (rows - 1) * _COLUMNS :].flat:
        axes.axis("off")
    for row, title in enumerate(("stage", "subject")):
        handles, labels = grid[row][0].get_legend_handles_labels()
        about = {"title": title, "markerscale": 3, "loc": "center left", "bbox_to_anchor": (1, 0.5)}
        grid[row][columns - 1].legend(handles[:_LISTED], labels[:_LISTED], **about)
    entitle(figure, f"{kind} of n = {len(y):,} held-out epochs, the same ones everywhere")
    return figure


def _draw_points(
    axes: Axes, points: np.ndarray, groups: Mapping[str, tuple[np.ndarray, str]]
) -> None:
    """Draw a map (n, 2) by groups of its rows, each in its colour."""
    axes.set_rasterization_zorder(0)
    for name, (rows, colour) in groups.items():
        # thousands of points would make a PDF slow to open
        axes.scatter(*points[rows].T, s=1.5, color=colour, label=name, alpha=0.7, zorder=-1)


@in_style
def draw_night(points: np.ndarray, y: np.ndarray, *, title: str) -> Figure:
    """Draw the path of one night: two components (n, 2) over time, epochs coloured by stage."""
    figure = new_figure(TWO_COLUMNS, 3)
    panels = figure.subplots(2, 1, sharex=True)
    hours = np.arange(len(points)) / 120  # epochs of 30 s
    for k, axes in enumerate(panels):
        axes.plot(hours, points[:, k], color=GREY, linewidth=0.3)
        for stage in PLOT_ORDER:
            rows = y == STAGES.index(stage)
            axes.scatter(hours[rows], points[rows, k], s=2, color=COLOURS[stage], label=stage)
        axes.set_ylabel(f"component {k + 1}")
    panels[0].legend(markerscale=3, loc="center left", bbox_to_anchor=(1, 0.5))
    entitle(figure, f"{title}   n = {len(y):,} epochs")
    panels[1].set_xlabel("hours of kept epochs")
    return figure


@in_style
def draw_likeness(names: Sequence[str], values: np.ndarray, *, title: str) -> Figure:
    """Draw a similarity matrix (k, k) from 0 to 1, with its values."""
    width = ONE_COLUMN if len(names) <= _FEW else TWO_COLUMNS
    figure = new_figure(width, 0.9 * width)
    axes = figure.subplots()
    shown = axes.imshow(values, vmin=0, vmax=1, cmap=SEQUENTIAL)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
    axes.set_yticks(range(len(names)), names)
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            # viridis is dark below, light above
            colour = "white" if value < 0.6 else "black"
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=SMALL, color=colour)
    figure.colorbar(shown, ax=axes, shrink=0.7, label=title)
    entitle(figure, title)
    return figure


@in_style
def draw_against_probe(
    values: Mapping[str, Sequence[tuple[str, float, float]]],
) -> Figure:
    """Draw one panel per label-free metric: its value in each run against the probe's macro-F1."""
    columns = min(_COLUMNS, max(1, len(values)))
    rows = -(-len(values) // columns)  # rounded up
    figure = new_figure(TWO_COLUMNS, 0.4 + 1.7 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (metric, points) in zip(grid, values.items(), strict=False):
        styles = line_styles(len(points))
        for (run, value, probe), style in zip(points, styles, strict=True):
            axes.scatter(value, probe, color=style["color"], s=10, label=run)
        axes.set_xlabel(metric)
        axes.set_ylabel("probe macro-F1")
    for axes in grid[len(values) :]:
        axes.axis("off")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles[:_LISTED], labels[:_LISTED], loc="outside right upper")
    entitle(figure, f"n = {max(map(len, values.values()), default=0)} runs")
    return figure
