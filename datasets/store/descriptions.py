"""Descriptions of a store and its nights, checked field by field: they may come from anywhere."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from utils.files import safe_name
from utils.json_values import value_in
from utils.stages import EPOCH_SECONDS, LONGEST_SECONDS
from utils.text import shown, unmarked

_FASTEST_HZ = 1e5
_MOST_EPOCHS = 2 * LONGEST_SECONDS // EPOCH_SECONDS  # with those that a preset pads


def store_facts(path: Path, version: int) -> dict[str, Any]:
    """Contents of a ``dataset.json``, checked where its format is that of ``version``.

    Raises:
        ValueError: no JSON, or a field that cannot be, by name.
        OSError: it cannot be read.
    """
    facts = value_in(path)
    _check(facts, {"format": _is_count})
    if facts["format"] == version:
        _check(facts, {"cohort": _is_text, "settings": _is_mapping})
        _check(facts["settings"], {"protocol": _is_text})
        _check_channels(facts, {}, {})
    return facts


def night_facts(path: Path) -> dict[str, Any]:
    """Contents of a ``night.json``.

    Raises:
        ValueError: no JSON, or a field that cannot be, by name.
        OSError: it cannot be read.
    """
    facts = value_in(path)
    fields = {
        "subject": _is_text, "night": _is_count, "n_epochs": _is_length, "first_epoch": _is_whole,
        "start": _is_start, "onsets": _are_onsets, "settings": _is_mapping, "sources": _is_mapping,
    }  # fmt: skip
    # nights made by hand in memory have no settings, and those on a grid no onsets
    _check(
        {"settings": {}, "sources": {}, "onsets": []} | facts if isinstance(facts, dict) else facts,
        fields,
    )
    _check_channels(
        facts, {"mean": _is_moment, "sd": _is_moment}, {"derivation": _is_name, "scale": _is_scale}
    )
    return facts


def note_lines(nights: Path, most: int = 10) -> list[str]:
    """What was odd about recordings below ``nights`` and what was done, in a line each."""
    lines = [
        shown(f"  note: {path.parent.name}: {note}")
        for path in sorted(nights.glob("*/night.json"))
        if (note := value_in(path).get("note"))
    ]
    if len(lines) <= most:
        return lines
    return [*lines[:most], f"  note: {len(lines) - most} more, in night.json of {nights}"]


def table_rows(path: Path) -> dict[str, dict[str, str]]:
    """Rows of a ``recordings.csv`` by recording.

    Raises:
        ValueError: no such table, or a row that cannot be.
        OSError: it cannot be read.
    """
    rows: dict[str, dict[str, str]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, strict=True):
                recording, n_epochs = row.get("recording"), row.get("n_epochs") or ""
                if not recording or not row.get("subject") or None in row or None in row.values():
                    raise ValueError(f"row {len(rows) + 1} is incomplete")
                row = {name: unmarked(value) for name, value in row.items()}
                recording = row["recording"]
                if not (n_epochs.isascii() and n_epochs.isdecimal() and len(n_epochs) < 9):
                    raise ValueError(f"{recording!r} has {n_epochs[:20]!r} epochs")
                if recording in rows:
                    raise ValueError(f"{recording!r} is listed twice")
                # ids become paths, so a table from elsewhere must not lead out of the store
                rows[safe_name(recording, path)] = row
    except csv.Error as error:
        raise ValueError(str(error)) from error
    return rows


def _check(facts: Any, fields: Mapping[str, Callable[[Any], bool]]) -> None:
    if not isinstance(facts, dict):
        raise ValueError("no object of fields")
    for name, is_right in fields.items():
        if name not in facts:
            raise ValueError(f"it lacks {name!r}")
        if not is_right(facts[name]):
            raise ValueError(f"its {name!r} is {str(facts[name])[:40]!r}")


def _check_channels(
    facts: Mapping[str, Any],
    more: Mapping[str, Callable[[Any], bool]],
    optional: Mapping[str, Callable[[Any], bool]],
) -> None:
    channels = facts.get("channels")
    if not isinstance(channels, list) or not channels:
        raise ValueError("it lists no channels")
    fields = {
        "label": _is_text, "role": _is_text, "unit": _is_text, "fs": _is_rate, "bandpass": _is_band,
    }  # fmt: skip
    for channel in channels:
        _check(channel, fields | more)
        if strange := sorted(channel.keys() - (fields | more | optional).keys()):
            raise ValueError(f"a channel has {strange[0][:40]!r}")
        _check(channel, {name: of for name, of in optional.items() if name in channel})


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) <= _MOST_EPOCHS  # below 0 where a preset pads


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _are_onsets(value: Any) -> bool:
    return isinstance(value, list) and all(
        type(one) in (int, float) and 0 <= one < float("inf") for one in value
    )


def _is_length(value: Any) -> bool:
    return _is_count(value) and 0 < value <= _MOST_EPOCHS


def _is_rate(value: Any) -> bool:
    return _is_number(value) and 0 < value <= _FASTEST_HZ


def _is_moment(value: Any) -> bool:
    return value is None or _is_number(value)  # absent channels have none


def _is_name(value: Any) -> bool:
    return value is None or _is_text(value)


def _is_scale(value: Any) -> bool:
    is_pair = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
    return value is None or is_pair  # absent channels have none


def _is_band(value: Any) -> bool:
    is_pair = isinstance(value, list) and len(value) == 2
    return value is None or (is_pair and all(one is None or _is_number(one) for one in value))


def _is_start(value: Any) -> bool:
    try:
        return value is None or bool(datetime.fromisoformat(value))
    except (ValueError, TypeError):
        return False
