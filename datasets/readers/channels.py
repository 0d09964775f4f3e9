"""Channel choice: a label as the file spells it, or a role a cohort has names for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from datasets.readers.recording import Signal
from utils.errors import UserError

ALL = "all"


def choose(
    wanted: Iterable[str], present: Iterable[str], roles: Mapping[str, tuple[str, ...]], where: str
) -> dict[str, str]:
    """Map each wanted label or role to a label of ``present``; ``all`` takes every channel.

    Returns ``{label: role}`` in the order asked for; a label without a role is its own role.

    Raises:
        UserError: naming what is missing and what ``where`` has instead, or asked for twice.
    """
    present = list(present)
    wanted = list(wanted)
    if wanted == [ALL]:
        wanted = present
    role_of = {label: role for role, labels in roles.items() for label in labels}
    chosen: dict[str, str] = {}
    for name in wanted:
        label = _find(name, present, roles)
        if label is None:
            raise UserError(
                f"{where}: no channel {name!r}; it has: {', '.join(present)}. "
                f"Choose labels or roles ({', '.join(roles)}) with --channels"
            )
        if label in chosen:
            raise UserError(f"{where}: channel {label!r} is asked for twice in --channels")
        first = label.partition("-")[0]  # a difference has the role of what it begins with
        chosen[label] = role_of.get(label) or role_of.get(first, label)
    return chosen


def with_differences(wanted: Iterable[str], signals: Mapping[str, Signal]) -> dict[str, Signal]:
    """``signals`` and what of ``wanted`` is the difference of two of them, such as ``EOG1-EOG2``.

    The first is taken as it is, the second subtracted: eyes that move against each other add up.

    Raises:
        UserError: the two have other rates or units.
    """
    found = dict(signals)
    for name in wanted:
        first, _, second = name.partition("-")
        if name in found or first not in signals or second not in signals:
            continue
        one, other = signals[first], signals[second]
        if (one.fs, one.unit) != (other.fs, other.unit):
            raise UserError(
                f"--channels {name}: {first} has {one.fs:g} Hz in {one.unit}, {second} "
                f"{other.fs:g} Hz in {other.unit}"
            )

        def read(start: float, stop: float, one=one, other=other) -> np.ndarray:
            return one.read(start, stop) - other.read(start, stop)

        found[name] = Signal(one.fs, one.unit, min(one.seconds, other.seconds), read)
    return found


def _find(name: str, present: list[str], roles: Mapping[str, tuple[str, ...]]) -> str | None:
    candidates = (name, *roles.get(name.upper(), ()))
    by_spelling = {_normalise(label): label for label in reversed(present)}
    for candidate in candidates:
        if candidate in present:
            return candidate
        if (label := by_spelling.get(_normalise(candidate))) is not None:
            return label
    return None


def _normalise(label: str) -> str:
    return "".join(character for character in label.lower() if character.isalnum())
