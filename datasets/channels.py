"""Channel choice: a label as the file spells it, or a role a cohort has names for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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
        chosen[label] = role_of.get(label, label)
    return chosen


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
