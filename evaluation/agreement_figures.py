"""Figures of agreement with the expert: sleep statistics, epochs, subjects, transitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.transitions import WHO, transition_shares
from utils.figure_style import (
    AGAINST,
    COUNTS,
    FOR,
    GREY,
    INK,
    SMALL,
    TWO_COLUMNS,
    entitle,
    in_style,
    new_figure,
)
from utils.intervals import BCA, with_interval
from utils.stages import COLOURS, PLOT_ORDER, STAGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HOW_TO_READ = (
    "sleep statistics, model − expert: a point per night, those of a subject joined; intervals end "
    "at the border where they are wider; * bias or spread changes with the expert's value"
)
_COLUMNS = 3
_BIAS, _LIMIT, _NIGHT = INK, FOR, AGAINST
_MOST_NAMES = 60  # more subjects are numbered
_DARK = 0.3  # shares whose colour asks for white letters
_LINES = {"bias": (_BIAS, "-"), "lower_limit": (_LIMIT, "--"), "upper_limit": (_LIMIT, "--")}
_POINTS_END, _BAND = 0.88, 0.04  # of a panel's width: right of the points are the intervals
_FEWEST_FOR_BOX = 5  # quartiles of fewer nights would be drawn from nothing


@in_style
def draw_bland_altman(
    rows: Sequence[Mapping[str, Any]],
    pairs: Mapping[str, np.ndarray],
    subjects: Sequence[str],
    *,
    title: str,
) -> Figure:
    """Draw model - expert against the expert, a panel per sleep statistic.

    ``rows`` as of :func:`~evaluation.agreement_report.limits_of_agreement` with ``statistic`` and
    ``unit``, ``pairs`` the expert's and the model's values (2, n) of each, ``subjects`` (n,).
    """
    n_rows = -(-len(rows) // _COLUMNS)
    figure = new_figure(TWO_COLUMNS, 1.8 * n_rows + 0.7)
    grid = figure.subplots(n_rows, _COLUMNS, squeeze=False)
    for axes, row in zip(grid.flat, rows, strict=False):
        expert, model = pairs[row["statistic"]]
        _draw_limits(axes, row, expert, model - expert)
        _join_nights(axes, expert, model - expert, subjects)
    for axes in grid.flat[len(rows) :]:
        axes.set_axis_off()
    entitle(figure, f"{title}\n{_HOW_TO_READ}")
    figure.legend(handles=_legend(), loc="outside lower center", ncols=4)
    return figure


def _draw_limits(
    axes: Axes, row: Mapping[str, Any], expert: np.ndarray, difference: np.ndarray
) -> None:
    unit, lines = row["unit"], [row[name]["value"] for name in _LINES]
    shown = np.array([*difference, 0.0, *(value for value in lines if value is not None)])
    low, high = np.nanmin(shown), np.nanmax(shown)
    margin = 0.35 * (high - low) or 1.0
    axes.set_ylim(low - margin, high + margin)
    axes.axhline(0, color=GREY, linewidth=0.6, linestyle=":")
    for place, (name, (colour, style)) in enumerate(_LINES.items()):
        value, *interval = row[name].values()
        if value is not None:
            axes.axhline(value, color=colour, linestyle=style, linewidth=0.9)
        if None not in interval:  # side by side: those of few nights overlap
            left = _POINTS_END + place * _BAND
            axes.axhspan(*interval, left, left + _BAND, color=colour, alpha=0.3, linewidth=0)
    axes.plot(expert, difference, "o", color=_NIGHT, alpha=0.75)
    left, right = axes.get_xlim()
    axes.set_xlim(left, left + (right - left) / _POINTS_END)
    axes.set(xlabel=f"expert, {unit}", ylabel=f"model − expert, {unit}")
    axes.set_title(f"{_heading(row)}\n{_in_words(row)}", fontsize=SMALL)
    axes.locator_params(nbins=5)


def _join_nights(
    axes: Axes, expert: np.ndarray, difference: np.ndarray, subjects: Sequence[str]
) -> None:
    """Draw a thin line through the nights of each subject, in their order."""
    for subject in dict.fromkeys(subjects):
        own = np.array([one == subject for one in subjects]) & ~np.isnan(difference)
        if own.sum() > 1:
            axes.plot(
                expert[own], difference[own], color=_NIGHT, linestyle="-", linewidth=0.5, zorder=1
            )


def _heading(row: Mapping[str, Any]) -> str:
    changes = "*" if False in (row["constant_bias"], row["constant_spread"]) else ""
    undefined = f", undefined in {row['undefined']}" if row["undefined"] else ""
    n = f"n = {row['nights']} nights of {row['subjects']} subjects{undefined}"
    return f"{row['statistic']}{changes}\n{n}"


def _in_words(row: Mapping[str, Any]) -> str:
    if row["note"]:
        return row["note"]
    numbers = (f"{row[name]['value']:+z.1f}" for name in _LINES)
    bias, lower, upper = (number.replace("-", "−") for number in numbers)
    return f"bias {bias}, limits {lower} to {upper} {row['unit']}"


def _legend() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Line2D([], [], color=_NIGHT, marker="o", linestyle="", label="night"),
        Line2D([], [], color=_BIAS, label="bias"),
        Line2D([], [], color=_LIMIT, linestyle="--", label="limits of agreement"),
        Patch(color=GREY, alpha=0.3, label="95 % interval"),
    ]


@in_style
def draw_epoch_agreement(
    nights: Sequence[Mapping[str, Any]], stages: Sequence[Mapping[str, Any]], *, title: str
) -> Figure:
    """Draw accuracy, kappa and F1 per stage of every night, with quartiles of five or more.

    Rows as of :func:`~evaluation.agreement_report.epoch_agreement`; undefined values are left out.
    """
    columns = {name: [row[name] for row in nights] for name in ("accuracy", "kappa")}
    for stage in STAGES:
        columns[f"F1 {stage}"] = [row["f1"] for row in stages if row["stage"] == stage]
    figure = new_figure(TWO_COLUMNS, 3.2)
    axes = figure.subplots()
    for place, (name, listed) in enumerate(columns.items()):
        values = np.array([value for value in listed if value is not None])
        _draw_spread(axes, place, values, COLOURS.get(name.removeprefix("F1 "), GREY))
        middle = f"median {np.median(values):.2f}" if len(values) else "undefined"
        columns[name] = f"{name}\n{middle}\nnights: {len(values)}"
    axes.set_xticks(range(len(columns)), columns.values())
    axes.set_xlim(-0.6, len(columns) - 0.4)
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.03)  # kappa may be below zero
    axes.set_ylabel("agreement with the expert")
    entitle(figure, f"{title}\nepoch by epoch, per night")
    axes.grid(axis="y")
    return figure


def _draw_spread(axes: Axes, place: int, values: np.ndarray, colour: str) -> None:
    """Draw the nights (n,) of one column side by side in their order, over quartiles."""
    if len(values) >= _FEWEST_FOR_BOX:
        axes.boxplot(
            values,
            positions=[place],
            widths=0.6,
            showfliers=False,
            medianprops={"color": INK},
        )
    aside = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(len(values))
    axes.plot(place + aside, values, "o", color=colour, alpha=0.75)


@in_style
def draw_subjects(
    rows: Sequence[Mapping[str, Any]], pooled: Mapping[str, Any], *, title: str
) -> Figure:
    """Draw kappa of every subject, in order, over the interval over subjects.

    ``rows`` with ``subject`` and ``kappa`` (``None``: undefined, left out), ``pooled`` a plain
    :class:`~utils.intervals.Interval`. The line is what the interval is of: the pooled kappa, or
    for few subjects the mean of theirs.
    """
    known = sorted((row["kappa"], row["subject"]) for row in rows if row["kappa"] is not None)
    figure = new_figure(TWO_COLUMNS, 2.8)
    axes = figure.subplots()
    name = "value" if pooled["interval"] == BCA else "mean_of_subjects"
    if pooled["low"] is not None:
        axes.axhspan(pooled["low"], pooled["high"], color=GREY, alpha=0.25, linewidth=0)
    if pooled[name] is not None:
        axes.axhline(pooled[name], color=INK, linewidth=0.8)
    axes.plot([value for value, _ in known], "o", color=AGAINST)
    if len(known) <= _MOST_NAMES:
        axes.set_xticks(range(len(known)), [who for _, who in known], rotation=90, parse_math=False)
    axes.set(xlabel="subjects, by kappa", ylabel="kappa with the expert")
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.02)  # kappa may be below zero
    undefined = f", undefined in {len(rows) - len(known)}" if len(known) < len(rows) else ""
    about = f"kappa {with_interval(pooled)}; n = {len(known)} subjects{undefined}"
    entitle(figure, f"{title}\n{about}; line and band: 95 % interval over subjects")
    return figure


@in_style
def draw_transitions(counts: np.ndarray, *, title: str) -> Figure:
    """Draw shares of transitions, expert beside model, of counts (2, 5, 5) in one scale."""
    from matplotlib.colors import PowerNorm

    order = [STAGES.index(name) for name in PLOT_ORDER]
    shares = transition_shares(counts)[:, order][:, :, order]
    figure = new_figure(TWO_COLUMNS, 3.4)
    panels = figure.subplots(1, len(WHO), sharey=True)
    for axes, who, own, n in zip(panels, WHO, shares, counts.sum(axis=(1, 2)), strict=True):
        image = axes.imshow(own, cmap=COUNTS, norm=PowerNorm(0.5, 0, 1))
        for row, column in np.ndindex(*own.shape):
            value = own[row, column]
            colour = "white" if value > _DARK else INK
            words = "–" if np.isnan(value) else f"{value:.3f}"
            axes.text(column, row, words, ha="center", va="center", color=colour, fontsize=SMALL)
        axes.set_xticks(range(len(order)), PLOT_ORDER)
        axes.set_yticks(range(len(order)), PLOT_ORDER)
        axes.set(xlabel="stage of the next epoch", title=f"{who}, n = {n:,} transitions")
        axes.spines[:].set_visible(True)
    panels[0].set_ylabel("stage of an epoch")
    label = "share of the stage's epochs (colours: square root)"
    figure.colorbar(image, ax=list(panels), label=label, shrink=0.85, pad=0.02)
    entitle(figure, f"{title}\nneighbouring epochs that the expert scored; rows sum to 1")
    return figure
