"""Spaces of settings to search: read from a file, and drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.json_values import value_in

_KINDS = ({"low", "high"}, {"low", "high", "log"}, {"low", "high", "step"})


def read_space(path: Path) -> dict[str, Any]:
    """Read a space: ``{"lr": {"low": 1e-4, "high": 1e-2, "log": true}, "d_model": [64, 128], …}``.

    Raises:
        UserError: no JSON, or an entry that is neither a range nor a list of choices.
    """
    try:
        space = value_in(path)
        entries = dict(space).items()
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a search space ({error})") from error
    for name, entry in entries:
        is_range = isinstance(entry, dict) and set(entry) in _KINDS
        if not (_is_range(entry) if is_range else _are_choices(entry)):
            raise UserError(
                f'{path}: {name} is {str(entry)[:80]}; give {{"low": …, "high": …}}, which are '
                'numbers, with "log": true (above 0) or "step": … (above 0), or a list of choices'
            )
        if is_range and not entry["low"] < entry["high"]:
            raise UserError(f"{path}: {name}: low must be below high")
    if not space:
        raise UserError(f"{path}: an empty search space")
    return space


def _is_range(entry: Mapping[str, Any]) -> bool:
    """Whether the ends of a range, and its step, are numbers that can be drawn between."""
    ends = [entry["low"], entry["high"], entry.get("step", 1)]
    are_numbers = all(type(end) in (int, float) and math.isfinite(end) for end in ends)
    is_log = entry.get("log", False)
    # whole numbers are stepped through in whole ones
    is_whole = all(type(end) is int for end in ends[:2])
    step_fits = are_numbers and ends[2] > 0 and (not is_whole or type(ends[2]) is int)
    return step_fits and isinstance(is_log, bool) and not (is_log and entry["low"] <= 0)


def _are_choices(entry: Any) -> bool:
    kinds = (str, int, float, bool, type(None))
    return isinstance(entry, list) and bool(entry) and all(isinstance(one, kinds) for one in entry)


def suggest(trial: Any, space: Mapping[str, Any]) -> dict[str, Any]:
    """Draw one setting of the space."""
    setting = {}
    for name, entry in space.items():
        if isinstance(entry, list):
            setting[name] = trial.suggest_categorical(name, entry)
        # a range between whole numbers is one of whole numbers
        elif all(isinstance(entry[end], int) for end in ("low", "high")):
            setting[name] = trial.suggest_int(name, **entry)
        else:
            setting[name] = trial.suggest_float(name, **entry)
    return setting


def combinations(space: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every setting of a space of choices alone.

    Raises:
        UserError: a range, which has settings without end.
    """
    if ranges := [name for name, entry in space.items() if not isinstance(entry, list)]:
        raise UserError(f"--grid: {', '.join(ranges)} is a range; give a list of choices")
    return [dict(zip(space, some, strict=True)) for some in product(*space.values())]
