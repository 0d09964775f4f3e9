"""Figures of a model of many channels: which roles it needs, what it attends to in a night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.figure_style import (
    AGAINST,
    DIVERGING,
    GREY,
    INK,
    SEQUENTIAL,
    SMALL,
    TWO_COLUMNS,
    entitle,
    in_style,
    new_figure,
)
from utils.figures import draw_hypnogram
from utils.intervals import T, of_columns
from utils.staged_night import StagedNight
from utils.stages import STAGES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TIMES_UNIFORM = 4  # top of the colours of attention


@in_style
def draw_missing(rows: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """Draw kappa under every pattern of present roles, with its interval."""
    figure = new_figure(TWO_COLUMNS, 0.9 + 0.17 * len(rows))
    axes = figure.subplots()
    about, values = "no interval: fewer than two subjects", [0.0]
    for k, row in enumerate(rows):
        kappa = of_columns("kappa", row)
        value = np.nan if kappa["value"] is None else kappa["value"]
        values.append(value)
        # the first pattern, with all roles, is the reference
        axes.plot(value, -k, "o", color=AGAINST if k else INK)
        if kappa["low"] is not None:
            about = f"line: 95 %, {kappa['interval']}, n = {kappa['subjects']}"
            axes.plot([kappa["low"], kappa["high"]], [-k, -k], color=AGAINST, lw=1.2, alpha=0.6)
        if kappa["interval"] == T:  # its middle is not the pooled figure
            axes.plot(kappa["mean_of_subjects"], -k, "|", color=AGAINST, ms=5)
        axes.annotate(f"{value:.3f}", (1.01, -k), xycoords=("axes fraction", "data"), va="center")
    if rows and rows[0]["kappa"] is not None:
        axes.axvline(rows[0]["kappa"], color=GREY, lw=0.6, ls=":")
    axes.set_yticks([-k for k in range(len(rows))], [row["pattern"] for row in rows])
    axes.set_xlim(np.nanmin(values) - 0.05, 1.02)  # lines of two subjects reach far beyond
    axes.set_xlabel(f"kappa with the expert, pooled; {about}")
    entitle(figure, title)
    return figure


@in_style
def draw_importance(
    added: np.ndarray, roles: Sequence[str], night: StagedNight, *, title: str
) -> Figure:
    """Draw both hypnograms above what each role adds (n, roles) to the stage the model gives."""
    figure = new_figure(TWO_COLUMNS, 2 + 0.2 * len(roles))
    top, middle, below = figure.subplots(
        3, 1, sharex=True, height_ratios=[1, 1, 0.3 * len(roles) + 0.5]
    )
    for axes, stages, name in ((top, night.expert, "expert"), (middle, night.stages, "model")):
        draw_hypnogram(axes, stages)
        axes.set_ylabel(name)
    # no finer than 5 % of probability, or a night without importance would show noise
    limit = max(0.05, float(np.percentile(np.abs(added), 99)))
    hours = len(added) / 120  # epochs of 30 s
    image = below.imshow(
        added.T,
        aspect="auto",
        cmap=DIVERGING,
        vmin=-limit,
        vmax=limit,
        extent=(0, _extent(top, len(added)), len(roles) - 0.5, -0.5),
    )
    below.set_yticks(range(len(roles)), roles)
    entitle(
        figure,
        f"{title}: what each role adds to the probability of the stage given; "
        f"n = {len(added)} epochs",
    )
    below.set_xlabel(f"{'hours' if hours >= 1 else 'minutes'} since the first epoch")
    figure.colorbar(image, ax=below, label="against | for\nclipped at percentile 99")
    return figure


@in_style
def draw_attention(
    time: np.ndarray,
    across: np.ndarray,
    epochs: np.ndarray,
    roles: Sequence[str],
    night: StagedNight,
    *,
    title: str,
) -> Figure:
    """Draw what chosen epochs attend to in the night, and among roles.

    ``time`` (k, roles, n) is shown relative to uniform attention, with the epoch itself marked;
    ``across`` is (k, roles, roles).
    """
    figure = new_figure(TWO_COLUMNS, 1.2 + 1.1 * len(epochs))
    grid = figure.subplots(
        len(epochs) + 1,
        2,
        width_ratios=[5, 1.2],
        squeeze=False,
        height_ratios=[0.8, *[1.2] * len(epochs)],
    )
    draw_hypnogram(grid[0, 0], night.stages)
    end = _extent(grid[0, 0], len(night.stages))
    entitle(figure, f"{title}: attention of the last layer; n = {len(epochs)} epochs")
    grid[0, 1].axis("off")
    for row, (epoch, weights, between) in enumerate(zip(epochs, time, across, strict=True), 1):
        left, right = grid[row]
        shown = left.imshow(
            weights * weights.shape[1],  # times uniform: nights of any length compare
            aspect="auto",
            cmap=SEQUENTIAL,
            vmin=0,
            vmax=_TIMES_UNIFORM,
            extent=(0, end, len(roles) - 0.5, -0.5),
        )
        stage = int(night.stages[epoch])
        left.axvline(end * (epoch + 0.5) / weights.shape[1], color="white", lw=1)
        left.set_yticks(range(len(roles)), roles, fontsize=SMALL - 1)
        left.set_ylabel(f"{STAGES[stage]}\nepoch {epoch}", fontsize=SMALL)
        among = right.imshow(between, cmap=SEQUENTIAL, vmin=0, vmax=1)
        right.set_xticks(range(len(roles)), roles, fontsize=SMALL - 1, rotation=90)
        right.set_yticks(range(len(roles)), roles, fontsize=SMALL - 1)
    grid[-1, 0].set_xlabel(f"{'hours' if len(night.stages) >= 120 else 'minutes'}")
    label = f"times uniform, clipped at {_TIMES_UNIFORM}"
    figure.colorbar(shown, ax=list(grid[1:, 0]), label=label, pad=0.01)
    figure.colorbar(among, ax=list(grid[1:, 1]), label="share among roles", pad=0.02)
    return figure


def _extent(axes: Any, n_epochs: int) -> float:
    """End of the night on an axis that a hypnogram was drawn on."""
    # hours or minutes: the hypnogram has chosen the unit of the axis
    return max(float(axes.get_xlim()[1]), 1e-9) if n_epochs else 1.0
