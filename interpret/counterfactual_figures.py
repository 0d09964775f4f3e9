"""Figures of counterfactuals: an epoch as recorded, and as it would be in another stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from utils.figure_style import FOR, INK, TWO_COLUMNS, entitle, in_style, new_figure
from utils.stages import EPOCH_SECONDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@in_style
def draw_counterfactual(
    signals: np.ndarray,
    added: np.ndarray,
    *,
    title: str,
    note: str,
    channels: Sequence[str],
    unit: str,
) -> Figure:
    """Draw traces (c, t), dark, and with what is ``added`` (c, t), red; sentences above."""
    figure = new_figure(TWO_COLUMNS, 0.8 + 1.2 * len(channels))
    panels = figure.subplots(len(channels), 1, squeeze=False, sharex=True)[:, 0]
    time = np.arange(signals.shape[1]) * EPOCH_SECONDS / signals.shape[1]
    for axes, own, more, name in zip(panels, signals, added, channels, strict=True):
        axes.plot(time, own + more, color=FOR, linewidth=1.2, label="edited")
        axes.plot(time, own, color=INK, linewidth=0.4, label="as recorded")
        axes.set(xlim=(0, EPOCH_SECONDS), ylabel=unit)
        axes.set_title(name, parse_math=False)
    panels[-1].set_xlabel("time, s")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=2)
    entitle(figure, f"{title}\n{note}")
    return figure
