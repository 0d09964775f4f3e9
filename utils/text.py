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
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    return cell if _NUMBER.fullmatch(cell) else f"'{cell}"
