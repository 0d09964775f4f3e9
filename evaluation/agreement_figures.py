"""Figures of agreement with the expert: limits per sleep statistic, and epochs per night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.stages import COLOURS, STAGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HOW_TO_READ = (
    "sleep statistics per night, model − expert; intervals end at the border where they are wider; "
    "* bias or spread changes with the expert's value"
)
_COLUMNS = 4
_BIAS, _LIMIT, _NIGHT = "#202020", "#c8322e", "#3f87c4"
_LINES = {"bias": (_BIAS, "-"), "lower_limit": (_LIMIT, "--"), "upper_limit": (_LIMIT, "--")}
_POINTS_END, _BAND = 0.88, 0.04  # of a panel's width: right of the points are the intervals
_FEWEST_FOR_BOX = 5  # quartiles of fewer nights would be drawn from nothing


def draw_bland_altman(
    rows: Sequence[Mapping[str, Any]], pairs: Mapping[str, np.ndarray], *, title: str
) -> Figure:
    """Draw model - expert against the expert, a panel per sleep statistic.

    ``rows`` as of :func:`~evaluation.agreement_report.limits_of_agreement` with ``statistic`` and
    ``unit``, ``pairs`` the expert's and the model's values (2, n) of each.
    """
    from matplotlib.figure import Figure

    n_rows = -(-len(rows) // _COLUMNS)
    figure = Figure(figsize=(15, 3.4 * n_rows + 0.8), layout="constrained")
    grid = figure.subplots(n_rows, _COLUMNS, squeeze=False)
    for axes, row in zip(grid.flat, rows, strict=False):
        expert, model = pairs[row["statistic"]]
        _draw_limits(axes, row, expert, model - expert)
    for axes in grid.flat[len(rows) :]:
        axes.set_axis_off()
    figure.suptitle(f"{title}\n{_HOW_TO_READ}", x=0.01, ha="left", fontsize=11)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _draw_limits(
    axes: Axes, row: Mapping[str, Any], expert: np.ndarray, difference: np.ndarray
) -> None:
    unit, lines = row["unit"], [row[name]["value"] for name in _LINES]
    shown = np.array([*difference, 0.0, *(value for value in lines if value is not None)])
    low, high = np.nanmin(shown), np.nanmax(shown)
    margin = 0.35 * (high - low) or 1.0
    axes.set_ylim(low - margin, high + margin)
    axes.axhline(0, color="#999999", linewidth=0.8, linestyle=":")
    for place, (name, (colour, style)) in enumerate(_LINES.items()):
        value, *interval = row[name].values()
        if value is not None:
            axes.axhline(value, color=colour, linestyle=style, linewidth=1.2)
        if None not in interval:  # side by side: those of few nights overlap
            left = _POINTS_END + place * _BAND
            axes.axhspan(*interval, left, left + _BAND, color=colour, alpha=0.3, linewidth=0)
    axes.plot(expert, difference, "o", color=_NIGHT, alpha=0.75, markersize=5)
    left, right = axes.get_xlim()
    axes.set_xlim(left, left + (right - left) / _POINTS_END)
    axes.set(xlabel=f"expert, {unit}", ylabel=f"model − expert, {unit}")
    axes.set_title(f"{_heading(row)}\n{_in_words(row)}", loc="left", fontsize=9)
    axes.locator_params(nbins=5)
    axes.spines[["top", "right"]].set_visible(False)


def _heading(row: Mapping[str, Any]) -> str:
    changes = "*" if False in (row["constant_bias"], row["constant_spread"]) else ""
    undefined = f", undefined in {row['undefined']}" if row["undefined"] else ""
    return f"{row['statistic']}{changes}   nights: {row['nights']}{undefined}"


def _in_words(row: Mapping[str, Any]) -> str:
    if row["note"]:
        return row["note"]
    bias, lower, upper = (f"{row[name]['value']:+z.1f}" for name in _LINES)
    return f"bias {bias}, limits {lower} to {upper} {row['unit']}"


def _legend() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Line2D([], [], color=_NIGHT, marker="o", linestyle="", label="night"),
        Line2D([], [], color=_BIAS, label="bias"),
        Line2D([], [], color=_LIMIT, linestyle="--", label="limits of agreement"),
        Patch(color="#888888", alpha=0.3, label="95 % interval"),
    ]


def draw_epoch_agreement(
    nights: Sequence[Mapping[str, Any]], stages: Sequence[Mapping[str, Any]], *, title: str
) -> Figure:
    """Draw accuracy, kappa and F1 per stage of every night, with quartiles of five or more.

    Rows as of :func:`~evaluation.agreement_report.epoch_agreement`; undefined values are left out.
    """
    from matplotlib.figure import Figure

    columns = {name: [row[name] for row in nights] for name in ("accuracy", "kappa")}
    for stage in STAGES:
        columns[f"F1 {stage}"] = [row["f1"] for row in stages if row["stage"] == stage]
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for place, (name, listed) in enumerate(columns.items()):
        values = np.array([value for value in listed if value is not None])
        _draw_spread(axes, place, values, COLOURS.get(name.removeprefix("F1 "), "#606060"))
        middle = f"median {np.median(values):.2f}" if len(values) else "undefined"
        columns[name] = f"{name}\n{middle}\nnights: {len(values)}"
    axes.set_xticks(range(len(columns)), columns.values())
    axes.set_xlim(-0.6, len(columns) - 0.4)
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.03)  # kappa may be below zero
    axes.set_ylabel("agreement with the expert")
    axes.set_title(f"{title}\nepoch by epoch, per night", loc="left", fontsize=10)
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_spread(axes: Axes, place: int, values: np.ndarray, colour: str) -> None:
    """Draw the nights (n,) of one column side by side in their order, over quartiles."""
    if len(values) >= _FEWEST_FOR_BOX:
        axes.boxplot(
            values,
            positions=[place],
            widths=0.6,
            showfliers=False,
            medianprops={"color": "#202020"},
        )
    aside = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(len(values))
    axes.plot(place + aside, values, "o", color=colour, alpha=0.75, markersize=5)
