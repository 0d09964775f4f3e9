"""What the fields of a checkpoint may be: anybody may have made the file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

_SCALINGS = ("recording", "present", "train", "none")
FILE, KEPT = "file", "kept"  # what signals are scaled over: all there is, or what training kept
_RATES = (1.0, 2000.0)  # Hz; beyond any recording, a night would fill the memory
_LARGEST_SETTING = 1e5  # sizes of layers and windows are far smaller
_DEEPEST = 20  # pretrainings within pretrainings
# what is read of each training, and what it is
_FACTS = {
    "command": str, "cohort": str, "subjects": dict, "select_on": str, "train_folds": list,
    "held_out_folds": list, "preparation": (dict, type(None)), "folds": (str, type(None)),
    "store": (list, type(None)), "pretraining": (dict, type(None)),
}  # fmt: skip
_MAY_LACK = {"preparation", "pretraining"}


def fields(content: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Every field by name, and whether it is what it should be."""
    channels, state, passes = content["channels"], content["state"], content.get("pass")
    yield "model", isinstance(content["model"], str)
    yield (
        "settings",
        isinstance(content["settings"], dict)
        and all(
            isinstance(name, str) and _is_setting(value)
            for name, value in content["settings"].items()
        ),
    )
    yield (
        "channels",
        isinstance(channels, (list, tuple))
        and len(channels) > 0
        and all(
            isinstance(one, (list, tuple))
            and len(one) == 2
            and all(isinstance(s, str) for s in one)
            for one in channels
        ),
    )
    yield "fs", _is_number(content["fs"]) and _RATES[0] <= content["fs"] <= _RATES[1]
    yield "standardise", content["standardise"] in _SCALINGS
    yield "scaled_over", scaled_over(content) in (FILE, KEPT)
    yield (
        "state",
        isinstance(state, dict)
        and all(
            isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
        ),
    )
    yield "pass", passes is None or type(passes) is int
    yield "trained", _are_facts(content.get("trained"))
    yield "source", _is_source(content.get("source"))


def scaled_over(content: Mapping[str, Any]) -> Any:
    """What signals are scaled over, :data:`FILE` or :data:`KEPT`, if the field is sound."""
    # checkpoints from before it was stored: those trained here were always scaled as now
    return content.get("scaled_over", KEPT if content.get("trained") else FILE)


def _is_list_of(kind: type, values: Any) -> bool:
    return isinstance(values, (list, tuple)) and all(isinstance(value, kind) for value in values)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_setting(value: Any) -> bool:
    """Whether a model may have such a setting; a number without measure would fill the memory."""
    if isinstance(value, (list, tuple)):  # of no lists: few bytes may hold a list a million times
        return not any(isinstance(one, (list, tuple)) or not _is_setting(one) for one in value)
    if type(value) in (int, float):
        return math.isfinite(value) and abs(value) <= _LARGEST_SETTING
    return value is None or isinstance(value, (str, bool))


def _are_facts(facts: Any, depth: int = 0) -> bool:
    """Whether a training is described as it should be, and those before it."""
    if facts is None:
        return True
    if not isinstance(facts, dict) or depth > _DEEPEST:
        return False
    if not all(
        isinstance(facts[name], kind) if name in facts else name in _MAY_LACK
        for name, kind in _FACTS.items()
    ):
        return False
    subjects = [facts["subjects"].get(part) for part in ("train", "validation")]
    are_ids = all(_is_list_of(str, ids) for ids in subjects)
    band = (facts.get("preparation") or {}).get("bandpass")
    is_pair = isinstance(band, (list, tuple)) and len(band) == 2
    is_band = band is None or (is_pair and all(map(_is_number, band)))
    return are_ids and is_band and _are_facts(facts.get("pretraining"), depth + 1)


def _is_source(source: Any) -> bool:
    if not isinstance(source, dict):
        return source is None
    return all(isinstance(source.get(name), str) for name in ("command", "origin", "file"))
