"""Figure of concepts: in which stages a model's output rises along their directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from interpret.concepts import PAIRS
from utils.figure_style import DIVERGING, INK, SMALL, TWO_COLUMNS, entitle, in_style, new_figure
from utils.stages import PLOT_ORDER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SURE = 0.05
_DARK = 0.7  # alignments whose colour asks for white letters


@in_style
def draw_concepts(rows: Sequence[Mapping[str, Any]], trained: str, *, title: str) -> Figure:
    """Draw alignment, and TCAV in numbers, by concept and stage: a row of tables per layer.

    The ``trained`` model at left, at right the mean over copies with random weights. Stars mark
    q < 0.05, frames the stage of the rule (dotted: evidence against it); numbers beside a concept
    are its probe's accuracy on other subjects.
    """
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    concepts = list(dict.fromkeys(row["concept"] for row in rows))
    height = 0.7 + len(layers) * (0.5 + 0.26 * len(concepts))
    figure = new_figure(TWO_COLUMNS, height)
    grid = figure.subplots(len(layers), 2, squeeze=False)
    image = None
    for line, layer in zip(grid, layers, strict=True):
        own = [row for row in rows if row["layer"] == layer]
        sides = {
            "trained": [row for row in own if row["model"] == trained],
            "random weights (mean)": [row for row in own if row["model"] != trained],
        }
        for axes, (name, part) in zip(line, sides.items(), strict=True):
            image = _draw_table(axes, part, concepts)
            axes.set_title(f"{layer}: {name}")
    figure.colorbar(image, ax=grid, label="alignment of the stage's output with the concept")
    entitle(
        figure,
        f"{title}\nin cells: TCAV, * false discovery rate < 5 %; frame: the stage of the rule "
        "(dotted: against it); in brackets: accuracy on other subjects; ≈ learned from pairs of "
        "two epochs, the others from one with and without its events",
    )
    return figure


def _draw_table(axes: Axes, rows: Sequence[Mapping[str, Any]], concepts: Sequence[str]) -> Any:
    from matplotlib.patches import Rectangle

    cells: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["concept"], row["stage"]), []).append(row)
    values = np.full((len(concepts), len(PLOT_ORDER)), np.nan)
    labels = list(concepts)
    for (concept, stage), cell in cells.items():
        y, x = concepts.index(concept), PLOT_ORDER.index(stage)
        values[y, x] = np.mean([row["alignment"] for row in cell])
        share = np.mean([row["tcav"] for row in cell])
        sure = sum(row["q"] < _SURE for row in cell)
        # of several copies, how many are significant
        mark = "*" if sure and len(cell) == 1 else f"\n({sure} of {len(cell)}*)" if sure else ""
        dark = abs(values[y, x]) > _DARK
        axes.text(
            x, y, f"{share:.2f}{mark}", ha="center", va="center", fontsize=SMALL - 0.5,
            color="white" if dark else INK, linespacing=0.9,
        )  # fmt: skip
        if cell[0]["rule"]:
            style = "-" if cell[0]["rule"] == "for" else ":"
            box = Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, lw=1, ls=style, zorder=3)
            axes.add_patch(box)
        accuracy = np.mean([row["probe_accuracy"] for row in cell])
        alike = "" if cell[0]["pairs"] == PAIRS[-1] else "≈ "
        labels[y] = f"{alike}{concept.replace('_', ' ')} ({accuracy:.2f})"
    image = axes.imshow(values, cmap=DIVERGING, vmin=-1, vmax=1, aspect="auto")
    axes.set_xticks(range(len(PLOT_ORDER)), PLOT_ORDER)
    axes.set_yticks(range(len(concepts)), labels)
    return image
