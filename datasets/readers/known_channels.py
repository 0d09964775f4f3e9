"""What the channels of known cohorts are called: labels and differences by role, best first.

They are declared in ``datasets/cohorts/``, in a cohort's profile or in a table of channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from datasets.readers.electrodes import normalised
from utils.errors import UserError
from utils.json_values import value_in

COHORTS = Path(__file__).parents[1] / "cohorts"
# of names that fit equally well, those of the earlier table are tried first
_TABLES = ("sleepedf", "dreem", "ucddb", "nsrr")

Alternatives = Mapping[str, Sequence[str]]


def alternatives(cohort: str, extra: Path | None = None) -> dict[str, tuple[str, ...]]:
    """Labels and differences for every role of a cohort, those of the file ``extra`` first.

    Raises:
        UserError: ``extra`` is not ``{"ROLE": ["label", "A - B", …], …}``.
    """
    own = _tables().get(cohort, {})
    if extra is None:
        return own
    try:
        given = value_in(extra)
    except (OSError, ValueError) as error:
        raise UserError(f"{extra}: not a channel map ({error})") from error
    if not _is_channel_map(given):
        raise UserError(f'{extra}: not a channel map such as {{"EEG": ["C4-M1", "C3-M2"]}}')
    # the cohort's own labels stay, behind those given
    return own | {role: (*labels, *own.get(role, ())) for role, labels in given.items()}


def known_names(present: Iterable[str]) -> dict[str, list[str]]:
    """Labels and differences of all cohorts in the tables, by role.

    The cohort whose names fit most of the labels ``present`` comes first: one name, such as EEG 2,
    is not the same electrode everywhere.
    """
    spelt = {normalised(label) for label in present}

    def fits(table: Alternatives) -> int:
        # a difference is in a file as its two channels, so both count
        parts = {
            normalised(part)
            for labels in table.values()
            for label in labels
            for part in (label, *label.split(" - "))
        }
        return len(parts & spelt)

    names: dict[str, list[str]] = {}
    for table in sorted(_tables().values(), key=fits, reverse=True):
        for role, labels in table.items():
            names.setdefault(role, []).extend(labels)
    return {role: list(dict.fromkeys(labels)) for role, labels in names.items()}


def _tables() -> dict[str, dict[str, tuple[str, ...]]]:
    """Labels and differences by cohort and role, from every file of them."""
    tables = {}
    for name in _TABLES:
        path = COHORTS / "profiles" / f"{name}.json"
        if path.is_file():
            cohorts = {name: value_in(path)["roles"]}
        else:  # of several cohorts, or of one that no profile declares
            cohorts = value_in(COHORTS / f"{name}_channels.json")
        for cohort, roles in cohorts.items():
            tables[cohort] = {role: tuple(labels) for role, labels in roles.items()}
    return tables


def _is_channel_map(given: object) -> bool:
    return isinstance(given, dict) and all(
        isinstance(labels, list) and all(isinstance(label, str) for label in labels)
        for labels in given.values()
    )
