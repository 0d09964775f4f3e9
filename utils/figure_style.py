"""How figures look: the one style sheet, the widths of a journal's columns, colours with a meaning.

Whatever draws a figure is ``@in_style`` and begins with :func:`new_figure`; stages have the colours
of :data:`utils.stages.COLOURS`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from utils.stages import PLOT_ORDER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P, R = ParamSpec("P"), TypeVar("R")
_SHEET = Path(__file__).with_name("publication.mplstyle")
ONE_COLUMN, TWO_COLUMNS = 3.35, 7.1  # inches: 85 and 180 mm
INK, GREY = "#303030", "#808080"
FOR, AGAINST = "#c8322e", "#3f87c4"  # evidence, the ends of the colours of DIVERGING
DIVERGING, SEQUENTIAL, COUNTS = "coolwarm", "viridis", "Blues"
SMALL = 6  # points: what stands in cells and over panels
# where lines cross, so that they are distinct in grey as well
_DASHES = (
    "-", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (8, 2)), (0, (2, 1)),
    (0, (6, 1, 1, 1, 1, 1)),
)  # fmt: skip
DASHES = dict(zip(PLOT_ORDER, _DASHES, strict=False))  # of stages
_LETTERS = 18  # to an inch of a title


def style() -> AbstractContextManager[None]:
    """The style sheet, for as long as the context lasts; what was set before comes back."""
    import matplotlib

    return matplotlib.rc_context(_settings())


@cache
def _settings() -> dict[str, Any]:
    import matplotlib

    return matplotlib.rc_params_from_file(_SHEET, use_default_template=False)


def in_style(draw: Callable[P, R]) -> Callable[P, R]:
    """Let a function draw in the style sheet: letters and lines take their sizes when made."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        with style():
            return draw(*args, **kwargs)

    return drawn


def new_figure(width: float, height: float, *, is_laid_out: bool = True) -> Figure:
    """An empty figure in inches, as wide as one column or two; no library keeps it alive."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained" if is_laid_out else None)


def entitle(figure: Figure, text: str, **place: Any) -> int:
    """Write the title at the top left, in lines as wide as the figure; returns their number.

    Names of recordings may hold dollars, which begin no formula here.
    """
    width = round(_LETTERS * figure.get_figwidth())
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, width) or [""]]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", parse_math=False, **place)
    return len(lines)


def line_styles(n: int) -> list[dict[str, Any]]:
    """Colour and dashes of ``n`` lines: after seven the colours repeat, with other dashes."""
    colours = _settings()["axes.prop_cycle"].by_key()["color"]
    places = [divmod(k, len(colours)) for k in range(n)]
    return [
        {"color": colours[place], "linestyle": _DASHES[(place + turn) % len(_DASHES)]}
        for turn, place in places
    ]


def lines_of(names: Sequence[str], control: str | None = None) -> dict[str, dict[str, Any]]:
    """Colour and dashes of each name; the ``control`` is grey, dotted and last."""
    plain = [name for name in names if name != control]
    styles = dict(zip(plain, line_styles(len(plain)), strict=True))
    return styles | {name: {"color": GREY, "linestyle": ":"} for name in names if name == control}
