"""Channels of the NSRR cohorts by role: ordered alternatives, differences, units.

``nsrr_channels.json`` lists for every cohort and role what to take, best first. ``A - B`` (with
spaces) is the difference of two channels, taken where both have one rate and one unit; everything
else is a label. Labels are compared without case, spaces and punctuation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from datasets.readers.edf import Channel, EdfFile
from datasets.readers.recording import Signal
from utils.errors import UserError

TABLE = Path(__file__).parents[1] / "cohorts" / "nsrr_channels.json"
VOLTAGES = ("EEG", "EOG", "EMG", "ECG")
PLAUSIBLE_UV = (1.0, 500.0)  # standard deviation of an EEG whose file names no unit
_LOOK_SECONDS = 1800.0
_UNITS = {"uv": "uV", "µv": "uV", "mv": "mV", "v": "V", "": ""}

Alternatives = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Found:
    """A role's signal, what it was made of, and what had to be assumed."""

    signal: Signal
    derivation: str
    note: str | None = None


def alternatives(cohort: str, extra: Path | None = None) -> dict[str, list[str]]:
    """What to take for every role of a cohort; a file of the same shape comes first.

    Raises:
        UserError: that file is not ``{"ROLE": ["label", "A - B", …], …}``.
    """
    own = json.loads(TABLE.read_text(encoding="utf-8")).get(cohort, {})
    if extra is None:
        return own
    try:
        given = json.loads(extra.read_text(encoding="utf-8"))
        sound = all(isinstance(w, str) for labels in given.values() for w in labels)
        sound = sound and all(isinstance(labels, list) for labels in given.values())
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{extra}: not a channel map ({error})") from error
    if not sound:
        raise UserError(f'{extra}: not a channel map such as {{"EEG": ["C4-M1", "C4 - M1"]}}')
    return own | {role: [*labels, *own.get(role, [])] for role, labels in given.items()}


def find_role(
    file: EdfFile, role: str, wanted: Sequence[str], *, strict: bool = True
) -> Found | None:
    """The first of ``wanted`` that the file has, as a signal; ``None`` where it has none.

    Where nothing depends on the scale, not ``strict`` takes an EEG without a unit as it is.

    Raises:
        UserError: the label found is there twice, its ranges make no sense, or, if ``strict``, its
            values are no voltages though it names no unit.
    """
    for choice in wanted:
        first, _, second = choice.partition(" - ")
        one, other = (_channel(file, label) if label else None for label in (first, second))
        if second and (one is None or other is None or not _alike(one, other)):
            continue
        if one is not None:
            return _with_unit(_found(file, one, other), role, file.path, strict)
    return None


def normalised(label: str) -> str:
    """A label without case, spaces and punctuation."""
    return "".join(character for character in label.lower() if character.isalnum())


def _channel(file: EdfFile, wanted: str) -> Channel | None:
    found = [c for c in file.channels if normalised(c.label) == normalised(wanted)]
    exact = [c for c in found if c.label == wanted]
    found = exact or found
    return file.channel(found[0].label) if found else None  # which refuses doubled labels


def _alike(one: Channel, other: Channel) -> bool:
    return (one.fs, _unit(one.unit)) == (other.fs, _unit(other.unit))


def _unit(written: str) -> str:
    return _UNITS.get(written.strip().lower(), written.strip())


def _found(file: EdfFile, one: Channel, other: Channel | None) -> Found:
    def read(start: float, stop: float) -> np.ndarray:
        samples = file.read(one.label, start, stop)
        return samples if other is None else samples - file.read(other.label, start, stop)

    derivation = one.label if other is None else f"{one.label} - {other.label}"
    return Found(Signal(one.fs, _unit(one.unit), file.seconds, read), derivation)


def _with_unit(found: Found, role: str, path: Path, strict: bool) -> Found:
    """Voltages keep their unit, uV where none is named; belts have arbitrary ones."""
    signal = found.signal
    if not role.startswith(VOLTAGES):
        return replace(found, signal=replace(signal, unit="%" if role == "SPO2" else "a.u."))
    if signal.unit in ("uV", "mV", "V"):
        return found
    if signal.unit:
        raise UserError(
            f"{path}: {role} ({found.derivation}) is in {signal.unit!r}; voltages are in uV, mV, V"
        )
    middle = max(0.0, (signal.seconds - _LOOK_SECONDS) / 2)
    sd = float(signal.read(middle, min(signal.seconds, middle + _LOOK_SECONDS)).std())
    if strict and role.startswith("EEG") and not PLAUSIBLE_UV[0] <= sd <= PLAUSIBLE_UV[1]:
        raise UserError(
            f"{path}: {role} ({found.derivation}) names no unit and varies by {sd:.3g}, which is "
            f"no EEG in uV ({PLAUSIBLE_UV[0]:g} to {PLAUSIBLE_UV[1]:g}); leave it out by --roles"
        )
    note = f"{role} ({found.derivation}) names no unit, taken as uV"
    return replace(found, signal=replace(signal, unit="uV"), note=note)
