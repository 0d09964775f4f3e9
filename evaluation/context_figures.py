"""Figure of agreement by context: how much of the night around it an epoch is staged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.figure_style import TWO_COLUMNS, entitle, in_style, lines_of, new_figure
from utils.intervals import T, of_columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANELS = {"kappa": "kappa", "macro_f1": "macro-F1", "f1_N1": "F1 of N1", "f1_REM": "F1 of REM"}
_APART = 0.12  # of a context, so that intervals of two lines do not hide each other


@in_style
def draw_contexts(rows: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """Draw every figure by context, a line for what spectra are centred by, with its intervals."""
    figure = new_figure(TWO_COLUMNS, 2.4)
    contexts = list(dict.fromkeys(row["context"] for row in rows))
    kinds = list(dict.fromkeys(row["centred_by"] for row in rows))
    styles = lines_of(kinds)
    for axes, (name, label) in zip(figure.subplots(1, len(_PANELS)), _PANELS.items(), strict=True):
        for k, kind in enumerate(kinds):
            own = [of_columns(name, row) for row in rows if row["centred_by"] == kind]
            x = np.arange(len(own)) + _APART * (k - (len(kinds) - 1) / 2)
            value, low, high = (
                np.array([one[key] for one in own], float) for key in ("value", "low", "high")
            )
            axes.plot(x, value, marker="o", label=f"centred by {kind}", **styles[kind])
            axes.vlines(x, low, high, color=styles[kind]["color"], lw=1.0, alpha=0.6)
            # the middle of the interval is not the pooled figure there
            means = [one["mean_of_subjects"] if one["interval"] == T else np.nan for one in own]
            axes.plot(x, np.array(means, float), "_", color=styles[kind]["color"], ms=5)
        axes.set_xticks(range(len(contexts)), [f"±{c}" if c.isdecimal() else c for c in contexts])
        axes.tick_params(axis="x", rotation=90)
        axes.set_ylim(max(-0.1, axes.get_ylim()[0]), 1.02)
        axes.set_title(label)
    # at the left: the legend is at the right of it
    figure.supxlabel("epochs to either side that the model sees", x=0.01, ha="left")
    kappa = of_columns("kappa", rows[0])
    about = f"lines: 95 %, {kappa['interval']}, n = {kappa['subjects']} subjects"
    entitle(figure, f"{title}\n{about}")
    if len(kinds) > 1:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower right", ncols=len(kinds))
    return figure
