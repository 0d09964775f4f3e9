"""Curves of the pretraining study: a probe against steps, unlabelled nights and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from utils.figure_style import GREY, TWO_COLUMNS, entitle, in_style, lines_of, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {
    "steps": "optimiser steps of pretraining",
    "nights": "unlabelled nights of pretraining",
    "budget": "labelled subjects",
}


@in_style
def draw_curves(points: Sequence[Mapping[str, Any]], axis: str, *, title: str) -> Figure:
    """Macro-F1 against ``axis`` of :data:`LABELS`, a panel per number of labelled subjects.

    ``points`` have ``x`` and its ``tick``, ``y``, ``low``, ``high``, ``name``, ``panel``,
    ``is_control``, ``samples`` and ``minutes``. Controls without an ``x`` are bands, from low to
    high.
    """
    panels = list(dict.fromkeys(point["panel"] for point in points))
    figure = new_figure(TWO_COLUMNS, 3.4)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    styles = _styles(points)
    for axes, panel in zip(grid, panels, strict=True):
        for name, style in styles.items():
            some = [p for p in points if (p["panel"], p["name"]) == (panel, name)]
            _draw(axes, some, name, style)
        axes.set_title(panel)
        _axes_of_x(axes, [p for p in points if p["panel"] == panel], axis)
    grid[0].set_ylabel("macro-F1, validation subjects")
    drawn: dict[str, Any] = {}  # a panel may lack one: not every space has every number of labels
    for axes in grid:
        handles, labels = axes.get_legend_handles_labels()
        drawn |= dict(zip(labels, handles, strict=True))
    grid[len(grid) // 2].set_xlabel(LABELS[axis])  # one for all: of each they would overlap
    figure.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=3)
    entitle(figure, title)
    return figure


def _styles(points: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Colour and dashes of each name: curves have colours, controls are grey."""
    named = {point["name"]: point["is_control"] for point in points}
    curves = [name for name, is_control in named.items() if not is_control]
    controls = [name for name, is_control in named.items() if is_control]
    greys = {name: look | {"color": GREY} for name, look in lines_of(controls).items()}
    return lines_of(curves) | greys


def _draw(
    axes: Axes, points: Sequence[Mapping[str, Any]], name: str, style: Mapping[str, Any]
) -> None:
    known = [point for point in points if point["y"] is not None]
    bands = [point for point in known if point["x"] is None]
    for point in bands:
        axes.axhline(point["y"], label=name, **style)
        if point["low"] is not None:
            axes.axhspan(point["low"], point["high"], color=style["color"], alpha=0.15, lw=0)
    line = sorted((point for point in known if point["x"] is not None), key=lambda p: p["x"])
    if line:
        x = [point["x"] for point in line]
        axes.plot(x, [point["y"] for point in line], marker=".", label=name, **style)
        bars = [point for point in line if point["low"] is not None]
        x, low, high = ([point[key] for point in bars] for key in ("x", "low", "high"))
        if line[0]["is_control"]:
            axes.fill_between(x, low, high, color=style["color"], alpha=0.15, lw=0)
        else:
            axes.vlines(x, low, high, color=style["color"], lw=0.6)


def _axes_of_x(axes: Axes, points: Sequence[Mapping[str, Any]], axis: str) -> None:
    """Ticks at the points, on a logarithmic scale, and above them what they took."""
    places = sorted({point["x"] for point in points if point["x"] is not None})
    axes.set_xscale("log")
    names = {point["x"]: point["tick"] for point in points if point["x"] is not None}
    axes.set_xticks(places, [names[x] for x in places])
    axes.minorticks_off()
    if axis == "budget":
        return
    above = axes.secondary_xaxis("top")
    took = {}
    for point in points:
        if point["x"] is not None and not point["is_control"]:
            took.setdefault(point["x"], []).append(point)
    words = []
    for x in places:
        each = took[x]
        minutes = sum(point["minutes"] for point in each) / len(each)
        n = max(point["samples"] for point in each)
        words.append(f"{n / 1000:.3g}k\n{minutes:.1f}" if n >= 1000 else f"{n}\n{minutes:.1f}")
    above.set_xticks(places, words, color=GREY)
    above.minorticks_off()
    above.set_xlabel("epochs seen, minutes", color=GREY)
