"""Figures over all explained epochs: metrics, bands, deletion and insertion, layers, stages."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.figure_style import (
    DASHES,
    GREY,
    INK,
    SMALL,
    TWO_COLUMNS,
    entitle,
    in_style,
    lines_of,
    new_figure,
)
from utils.stages import COLOURS, EPOCH_SECONDS, PLOT_ORDER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_METHOD_LETTERS = 24  # to a line beside the panels


@in_style
def draw_metrics(
    rows: Sequence[Mapping[str, Any]], readings: Mapping[str, str], *, title: str
) -> Figure:
    """Draw means and intervals of a few methods, a panel per measure of ``readings``.

    ``rows`` as of :func:`interpret.scoreboard.leading`: the best map that knows no model comes
    first in each, and is the line that the others have to lie beyond. ``readings`` tell how to read
    a measure.
    """
    ranks = {row["row"]: row["method"] for row in rows}
    figure = new_figure(TWO_COLUMNS, 1.25 + 0.28 * len(ranks))
    panels = figure.subplots(1, len(readings), sharey=True, squeeze=False)[0]
    for axes, (measure, reading) in zip(panels, readings.items(), strict=True):
        own = [row for row in rows if row["measure"] == measure]
        for row in own:
            _draw_metric(axes, row)
        axes.axvline(0, color=GREY, linewidth=0.6, linestyle=":")
        axes.set(xlabel=reading, title=measure.replace("_", " "))
        axes.margins(x=0.25)
        axes.locator_params(axis="x", nbins=5)
    about = dict.fromkeys(f"{row['interval']}, n = {row['subjects']}" for row in rows)
    labels = [
        "best of those that\nknow no model" if k == 1 else textwrap.fill(name, _METHOD_LETTERS)
        for k, name in sorted(ranks.items())
    ]
    panels[0].set_yticks([-k for k in sorted(ranks)], labels)
    panels[0].set_ylim(-max(ranks) - 0.6, -0.3)
    entitle(figure, f"{title}\nlines: 95 %, {'; '.join(about)} subjects")
    return figure


def _draw_metric(axes: Axes, row: Mapping[str, Any]) -> None:
    """One mean with its interval, in numbers too; that of the first row is drawn through all."""
    is_free, at = row["row"] == 1, -row["row"]
    colour = GREY if is_free else INK
    if row["low"] is not None:
        axes.hlines(at, row["low"], row["high"], color=colour)
    axes.plot(row["mean"], at, "s" if is_free else "o", color=colour)
    if is_free:
        axes.axvline(row["mean"], color=colour, linewidth=0.8, linestyle="--")
    mean = f"{row['mean']:z.3f}".replace("-", "−")
    words = f"{row['method']} {mean}" if is_free else mean
    axes.annotate(
        words, (row["mean"], at), (0, 4), textcoords="offset points", ha="center", fontsize=SMALL
    )


@in_style
def draw_bands(rows: Mapping[tuple[str, str], Mapping[str, Any]], bands: Sequence[str]) -> Figure:
    """Draw the Shapley value of every band by stage, with intervals; ``rows`` by (stage, band)."""
    stages = [stage for stage in PLOT_ORDER if (stage, bands[0]) in rows]
    figure = new_figure(TWO_COLUMNS, 2.8)
    axes = figure.subplots()
    width, kinds = 0.8 / len(stages), []
    for k, stage in enumerate(stages):
        at = np.arange(len(bands)) + (k - (len(stages) - 1) / 2) * width
        shown = [rows[stage, band] for band in bands]
        means = np.array([row["mean"] for row in shown])
        label = f"{stage}, {shown[0]['epochs']} epochs of {shown[0]['subjects']}"
        axes.bar(at, means, width, color=COLOURS[stage], label=label)
        if all(row["low"] is not None for row in shown):  # one subject has no interval
            low, high = ([row[end] for row in shown] for end in ("low", "high"))
            axes.vlines(at, low, high, color=INK, linewidth=0.6)
            kinds.append(shown[0]["interval"])
    # lines of two subjects reach far beyond the bars
    ends = np.array([0.0, *(rows[stage, band]["mean"] for stage in stages for band in bands)])
    axes.set_ylim(ends.min() - np.ptp(ends) - 0.01, ends.max() + np.ptp(ends) + 0.01)
    about = " or ".join(dict.fromkeys(kinds)) or "none of one subject"
    entitle(figure, f"epochs of n subjects; lines: 95 % intervals, {about}")
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.set_xticks(range(len(bands)), bands)
    axes.set_ylabel("probability lost without the band\n(Shapley value)")
    axes.legend(title="model's stage", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@in_style
def draw_curves(curves: Mapping[str, Any], *, title: str, control: str) -> Figure:
    """Draw mean probability while units are removed (left) and added (right), one line per method.

    ``curves`` hold ``share`` (k,), ``deletion`` and ``insertion`` (b, k); the ``control`` is the
    dotted line that a method has to beat.
    """
    figure = new_figure(TWO_COLUMNS, 2.9)
    left, right = figure.subplots(1, 2, sharey=True)
    for name, look in lines_of(list(curves), control).items():
        left.plot(curves[name].share, curves[name].deletion.mean(axis=0), label=name, **look)
        right.plot(curves[name].share, curves[name].insertion.mean(axis=0), **look)
    left.set(title="removed, most important first: lower is better", ylabel="mean probability")
    right.set(title="added, most important first: higher is better")
    for axes in (left, right):
        axes.set_xlabel("share of half seconds x modalities")
        axes.grid()
    figure.legend(loc="outside right center", handlelength=3)
    entitle(figure, title)
    return figure


@in_style
def draw_randomisation(
    likeness: Mapping[str, Sequence[float]], layers: Sequence[str], title: str
) -> Figure:
    """Draw rank correlation with the trained map while layers lose their weights, head first."""
    figure = new_figure(TWO_COLUMNS, 2.9)
    axes = figure.subplots()
    for name, look in lines_of(list(likeness)).items():
        axes.plot(range(len(layers)), likeness[name], marker="o", label=name, **look)
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.set_xticks(range(len(layers)), layers, rotation=20, ha="right")
    axes.set_ylabel("rank correlation of |A|\nwith the trained model's map")
    axes.set_xlabel("random weights from the head up to")
    axes.set_ylim(-0.2, 1.02)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), handlelength=3)
    entitle(figure, title)
    return figure


@in_style
def draw_stage_means(
    means: Mapping[tuple[str, str], Mapping[str, Any]], channels: Sequence[str]
) -> Figure:
    """Draw the mean explanation of each stage: context, modalities and course in the epoch.

    ``means`` by (method, stage) hold ``context`` (offsets, values) or ``None``, ``modalities``
    (m,) shares, ``course`` (m, pieces) of the mean size over the epoch's 30 s, and how many
    ``epochs`` they are means of.
    """
    methods = list(dict.fromkeys(method for method, _ in means))
    columns = 2 + len(channels)
    figure = new_figure(max(TWO_COLUMNS, 1.7 * columns), 1.7 * len(methods) + 0.3)
    grid = figure.subplots(len(methods), columns, squeeze=False)
    for row, method in zip(grid, methods, strict=True):
        own = {stage: means[method, stage] for stage in PLOT_ORDER if (method, stage) in means}
        _draw_means(row, own)
        row[0].set_ylabel(method, fontweight="bold")
        row[1].set_xticks(range(len(channels)), [name.split()[0] for name in channels])
        row[1].legend(ncols=2, fontsize=SMALL - 1, handlelength=0.8, columnspacing=0.8)
    titles = ("importance by epoch", "share of modalities", *channels)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title)
    grid[-1][0].set_xlabel("epochs before and after")
    for axes in grid[-1][2:]:
        axes.set_xlabel("time in the epoch, s")
    for row in grid:
        row[2].set_ylabel("mean |A|, times uniform")
    return figure


def _draw_means(row: Sequence[Axes], means: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw the means of the stages of one method."""
    for k, (stage, shown) in enumerate(means.items()):
        colour = COLOURS[stage]
        if shown["context"] is not None:
            row[0].plot(*shown["context"], marker=".", color=colour, linestyle=DASHES[stage])
        width = 0.8 / len(means)
        at = np.arange(len(shown["modalities"])) + (k - (len(means) - 1) / 2) * width
        label = f"{stage}, n = {shown['epochs']}"
        row[1].bar(at, shown["modalities"], width, color=colour, label=label)
        row[1].set_ylim(0, 1.5)  # room for the legend
        row[1].set_yticks([0, 0.5, 1])
        for axes, course in zip(row[2:], shown["course"], strict=True):
            time = np.linspace(0, EPOCH_SECONDS, len(course), endpoint=False)
            axes.plot(time, course, linewidth=0.7, color=colour, linestyle=DASHES[stage])
