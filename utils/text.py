"""Text from files that anyone may have made, as terminals and spreadsheets can take it."""

from __future__ import annotations

import re
from typing import Any

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+|inf|nan)([eE][+-]?\d+)?")


def shown(text: object) -> str:
    """Text for a terminal or a table: control characters and undecodable bytes are escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text)
    )


def harmless(cell: Any) -> Any:
    """A cell of a table, so marked that no spreadsheet computes it: ``'=cmd()``."""
    return f"'{cell}" if isinstance(cell, str) and _is_marked(cell) else cell


def unmarked(cell: str) -> str:
    """The cell of which :func:`harmless` made this one."""
    return cell[1:] if cell.startswith("'") and _is_marked(cell[1:]) else cell


def _is_marked(cell: str) -> bool:
    """Whether a cell could be computed, or reads as one that was marked."""
    bare = cell.lstrip("'")
    is_formula = bare.startswith(("=", "+", "-", "@", "\t", "\r"))
    return is_formula and not _NUMBER.fullmatch(bare)
