"""JSON values as dataclasses, every wrong field named by its place: the schema is their fields."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

_Made = TypeVar("_Made")
_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
OPEN = "?"  # what a draft leaves to whoever knows the answer


class FieldError(ValueError):
    """A wrong field, in words that begin with its place: ``stages[0].format: …``."""

    def __init__(self, place: str, what: str) -> None:
        super().__init__(f"{place or 'the profile'}: {what}")
        self.place, self.what = place, what


def made_from(value: Any, kind: type[_Made], place: str = "") -> _Made:
    """A dataclass of JSON's objects, lists and values, by the kinds of its fields.

    Raises:
        FieldError: an unknown or missing field, or a value of another kind.
    """
    if not isinstance(value, dict):
        raise FieldError(place, f"is {_shown(value)}, not an object of fields")
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}
    for name in value:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
            raise FieldError(_inside(place, name), f"there is no such field{hint}")
    required = (n for n, f in known.items() if f.default is f.default_factory is MISSING)
    if missing := [name for name in required if name not in value]:
        raise FieldError(_inside(place, missing[0]), "is missing")
    made = {name: _as(one, hints[name], _inside(place, name)) for name, one in value.items()}
    try:
        return kind(**made)
    except FieldError as error:  # what a dataclass knows about its own fields together
        raise FieldError(_inside(place, error.place), error.what) from error


def check_pattern(name: str, pattern: str) -> None:
    """Refuse, as the field ``name``, what is no regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise FieldError(name, f"{pattern!r} is not a regular expression ({error})") from error


def check_positive(**numbers: float | None) -> None:
    """Refuse, by its field, a length or rate that is 0 or less."""
    for name, number in numbers.items():
        if number is not None and number <= 0:
            raise FieldError(name, f"is {number:g}, not above 0")


def open_fields(value: Any, place: str = "") -> list[str]:
    """Places of all values that are still ``?``."""
    if isinstance(value, dict):
        return [p for name, one in value.items() for p in open_fields(one, _inside(place, name))]
    if isinstance(value, list):
        return [p for k, one in enumerate(value) for p in open_fields(one, f"{place}[{k}]")]
    return [place] if value == OPEN else []


def _as(value: Any, kind: Any, place: str) -> Any:
    """A value as the kind that a field declares."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value not in inner:
            raise FieldError(place, f"is {_shown(value)}; choose from {', '.join(map(str, inner))}")
        return value
    if origin in (Union, types.UnionType):
        return _as_one_of(value, inner, place)
    if origin is tuple:
        if not isinstance(value, list):
            raise FieldError(place, f"is {_shown(value)}, not a list")
        return tuple(_as(one, inner[0], f"{place}[{k}]") for k, one in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, dict):
            raise FieldError(place, f"is {_shown(value)}, not an object of names and values")
        return {name: _as(one, inner[1], _inside(place, name)) for name, one in value.items()}
    return made_from(value, kind, place) if is_dataclass(kind) else _plain(value, kind, place)


def _plain(value: Any, kind: type, place: str) -> Any:
    """A text, a number or a truth; a whole number is a number, and truths are neither."""
    if kind is float and type(value) in (int, float):
        return float(value)
    if type(value) is not kind:
        raise FieldError(place, f"is {_shown(value)}, not {_NAMES[kind]}")
    return value


def _as_one_of(value: Any, kinds: Sequence[Any], place: str) -> Any:
    """A value of one of several kinds, as the first that takes it."""
    if value is None and type(None) in kinds:
        return None
    errors = []
    for kind in (one for one in kinds if one is not type(None)):
        try:
            return _as(value, kind, place)
        except FieldError as error:
            errors.append(error)
    raise errors[-1]


def _inside(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _shown(value: Any) -> str:
    return repr(value)[:60]
