"""Figures of counterfactuals: an epoch as recorded, and as it would be in another stage."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from utils.stages import EPOCH_SECONDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH = 130  # characters of a line of the title


def draw_counterfactual(
    signals: np.ndarray,
    added: np.ndarray,
    *,
    title: str,
    note: str,
    channels: Sequence[str],
    unit: str,
) -> Figure:
    """Draw traces (c, t) in grey and with what is ``added`` (c, t) in red; sentences above."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 1.2 + 2.2 * len(channels)), layout="constrained")
    panels = figure.subplots(len(channels), 1, squeeze=False, sharex=True)[:, 0]
    time = np.arange(signals.shape[1]) * EPOCH_SECONDS / signals.shape[1]
    for axes, own, more, name in zip(panels, signals, added, channels, strict=True):
        axes.plot(time, own + more, color="#c8322e", linewidth=0.9, label="edited")
        axes.plot(time, own, color="#404040", linewidth=0.8, label="as recorded")
        axes.set(xlim=(0, EPOCH_SECONDS), ylabel=unit)
        axes.set_title(name, loc="right", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("s")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", frameon=False, ncols=2, fontsize=9)
    # a dollar would begin a formula
    lines = [*textwrap.wrap(title, _WIDTH), *textwrap.wrap(note, _WIDTH)]
    text = "\n".join(lines).replace("$", r"\$")
    figure.suptitle(text, x=0.01, ha="left", fontsize=10)
    return figure
