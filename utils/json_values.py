"""JSON that anyone may have written: whatever is wrong with it is a ``ValueError``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_DEEPEST = 100  # lists within lists; what this program writes has a dozen


def value_in(path: Path) -> Any:
    """The value of a JSON file, in UTF-8 or UTF-16, with a byte order mark or without.

    Raises:
        ValueError: no JSON, or nested without end.
        OSError: it cannot be read.
    """
    return parsed(path.read_bytes())


def parsed(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: no JSON, or nested without end.
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text))
    try:
        value = json.loads(text.removeprefix("\ufeff"))
    except RecursionError:
        raise ValueError("nested without end") from None
    if text.count("[") + text.count("{") > _DEEPEST and _is_deep(value):
        raise ValueError("nested without end")
    return value


def _is_deep(value: Any) -> bool:
    """Whether lists and objects lie within each other deeper than any program of ours follows."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
