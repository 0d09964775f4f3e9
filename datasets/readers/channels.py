"""Matching of channels: which labels of a file are meant by the wish of a user or a cohort.

A wish is a label or a difference, ``A-B`` or ``A - B``, which is the first minus the second: eye
movements, of opposite sign on the two sides, add up. A label spelt so comes first, then one that
differs in case, spaces and punctuation alone, then a difference of two labels that the file has,
of one rate and unit.
``datasets/cohorts/*_channels.json`` list by cohort and role what to take, best first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from datasets.readers.recording import FileSignals, Signal, SignalFile
from utils.errors import UserError
from utils.json_values import value_in

ALL = "all"
COHORTS = Path(__file__).parents[1] / "cohorts"
# of names that fit equally well, those of the earlier table are tried first
_TABLES = ("sleepedf", "dreem", "ucddb", "nsrr")
VOLTAGES = ("EEG", "EOG", "EMG", "ECG")
PLAUSIBLE_UV = (1.0, 500.0)  # standard deviation of an EEG whose file names no unit
_SCALE_SECONDS = 1800.0  # of the middle of the night
_UNITS = {"uv": "uV", "µv": "uV", "mv": "mV", "v": "V", "": ""}
# patterns of normalised labels, best first; references: ears, mastoids (a1, m1), linked ears (le)
_LABEL_PATTERNS = {
    # O2 alone is oxygen as often as an electrode
    "EEG": tuple(
        f"{site}({'' if site[0] == 'o' else '$|'}[am][12]|ref|avg|le)"
        for site in ("c[34z]", "f[34z]", "fp[12z]", "p[34z]", "o[12z]")
    ),
    "EOG": (r"e[12]$", r"[lr]oc", r"left.?eye|right.?eye", r"e[12]m[12]|e[12]a[12]"),
    "EMG": (r"chin", r"submental"),
}

Alternatives = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class MatchedChannel:
    """A signal, the labels it is made of (one, or two of a difference), and what was assumed."""

    signal: Signal
    parts: tuple[str, ...]
    note: str | None = None

    @property
    def derivation(self) -> str:
        """What the signal is made of, as it is displayed: ``E1 - E2``."""
        return " - ".join(self.parts)

    @property
    def label(self) -> str:
        """What stores call it, however the wish was spelt: ``E1-E2``."""
        return "-".join(self.parts)


def normalised(label: str) -> str:
    """A label without case, spaces and punctuation."""
    return "".join(character for character in label.lower() if character.isalnum())


def parts_of(wish: str, labels: Iterable[str]) -> tuple[str, ...]:
    """The label that a wish means among ``labels``, or the two of a difference; () for neither.

    A difference is cut at `` - `` if it can be, else at the first hyphen that leaves two labels.
    """
    labels = list(labels)
    if (label := _spelt(wish, labels)) is not None:
        return (label,)
    for pair in _cuts(wish):
        first, second = (_spelt(part, labels) for part in pair)
        if first is not None and second is not None:
            return (first, second)
    return ()


def first_of(wishes: Iterable[str], signals: Mapping[str, Signal]) -> MatchedChannel | None:
    """The channel of the first wish that ``signals`` fulfil, passing over unlike differences."""
    for wish in wishes:
        parts = parts_of(wish, signals)
        if parts and _are_alike(parts, signals):
            return _made_of(parts, signals)
    return None


def named(wish: str, signals: Mapping[str, Signal], where: object) -> MatchedChannel | None:
    """The channel that a user asks for by name; ``None`` if no label or difference fits.

    Raises:
        UserError: the two channels of a difference have other rates or units.
    """
    parts = parts_of(wish, signals)
    if not parts:
        return None
    if not _are_alike(parts, signals):
        one, other = (signals[part] for part in parts)
        raise UserError(
            f"{where}: --channels {wish}: {parts[0]} has {one.fs:g} Hz in {one.unit}, {parts[1]} "
            f"{other.fs:g} Hz in {other.unit}; a difference needs one rate and one unit"
        )
    return _made_of(parts, signals)


def choose(
    wanted: Iterable[str], signals: Mapping[str, Signal], roles: Alternatives, where: str
) -> dict[str, MatchedChannel]:
    """The channels of all wanted labels, differences or roles, by label, in the order asked for.

    ``all`` takes every channel.

    Raises:
        UserError: naming what is missing and what ``where`` has instead, or asked for twice.
    """
    wanted = list(wanted)
    chosen: dict[str, MatchedChannel] = {}
    for name in list(signals) if wanted == [ALL] else wanted:
        # a label comes before a role of the same name
        one = named(name, signals, where) or first_of(roles.get(name.upper(), ()), signals)
        if one is None:
            raise UserError(
                f"{where}: no channel {name!r}; it has: {', '.join(signals)}. "
                f"Choose labels or roles ({', '.join(roles)}) with --channels"
            )
        if one.label in chosen:
            raise UserError(f"{where}: channel {one.label!r} is asked for twice in --channels")
        chosen[one.label] = one
    return chosen


def role_of(label: str, roles: Alternatives) -> str:
    """The role of a label, or of the channel a difference begins with; else the label itself."""
    role_by_label = {name: role for role, names in roles.items() for name in names}
    candidates = (label, *(first for first, _ in _cuts(label)))
    return next((role_by_label[name] for name in candidates if name in role_by_label), label)


def find_role(
    file: SignalFile, role: str, wanted: Sequence[str], *, strict: bool = True
) -> MatchedChannel | None:
    """The channel of a role: the first of ``wanted`` that the file has, ``None`` without one.

    Where nothing depends on the scale, not ``strict`` takes an EEG without a unit as it is.

    Raises:
        UserError: the label occurs twice, its ranges make no sense, or, if ``strict``, its values
            are no voltages though it names no unit.
    """
    one = first_of(wanted, FileSignals(file))
    return None if one is None else _with_unit(one, role, file, strict)


def match(
    file: SignalFile, channels: Sequence[tuple[str, str]], chosen: Mapping[str, str]
) -> dict[str, MatchedChannel]:
    """The channels that a checkpoint needs and a user's file has, by the checkpoint's label.

    A channel is looked for by the checkpoint's own label, then by the names that the known cohorts
    have for its role, then by labels that begin with the role. One signal stands for one channel:
    a second EEG is another one, or absent. ``channels`` are (label, role); ``chosen`` names the
    file's label, or a difference, for a label, or for the first channel of a role.

    Raises:
        UserError: a chosen label that the file lacks, or a channel that cannot be read.
    """
    signals = FileSignals(file)
    names, matched, roles = known_names(signals), {}, set()
    for label, role in channels:
        asked = chosen.get(label) or (chosen.get(role) if role not in roles else None)
        roles.add(role)
        if asked:
            one = named(asked, signals, file.path)
        else:
            taken = {channel.parts for channel in matched.values()}
            wishes = [label, *names.get(role, ()), *_look_like(role, signals)]
            free = (wish for wish in wishes if parts_of(wish, signals) not in taken)
            one = first_of(free, signals)
        if asked and one is None:
            present = ", ".join(channel.label for channel in file.channels)
            raise UserError(f"{file.path}: no channel {asked!r} for {role}; it has: {present}")
        if one is not None:
            # not strict: a user's file without units is staged all the same, with a note
            matched[label] = _with_unit(one, role, file, strict=False)
    return matched


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
    """Labels and differences of every cohort read here, by role.

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
        for cohort, roles in value_in(COHORTS / f"{name}_channels.json").items():
            tables[cohort] = {role: tuple(labels) for role, labels in roles.items()}
    return tables


def _is_channel_map(given: object) -> bool:
    return isinstance(given, dict) and all(
        isinstance(labels, list) and all(isinstance(label, str) for label in labels)
        for labels in given.values()
    )


def _spelt(wish: str, labels: Sequence[str]) -> str | None:
    if wish in labels:
        return wish
    key = normalised(wish)
    # without a key, labels of punctuation alone would all be the same
    return next((label for label in labels if key and normalised(label) == key), None)


def _cuts(wish: str) -> list[tuple[str, str]]:
    """Ways to read a wish as a difference, at spaced hyphens first."""
    # labels may hold hyphens themselves (EOG-L), so every place to cut is offered
    hyphens = [place for hyphen in (r"\s-\s", "-") for place in re.finditer(hyphen, wish)]
    pairs = ((wish[: cut.start()].strip(), wish[cut.end() :].strip()) for cut in hyphens)
    return [pair for pair in dict.fromkeys(pairs) if all(pair)]


def _are_alike(parts: tuple[str, ...], signals: Mapping[str, Signal]) -> bool:
    return len({(signals[part].fs, _unit(signals[part].unit)) for part in parts}) == 1


def _unit(written: str) -> str:
    return _UNITS.get(written.strip().lower(), written.strip())


def _made_of(parts: tuple[str, ...], signals: Mapping[str, Signal]) -> MatchedChannel:
    if len(parts) == 1:
        return MatchedChannel(signals[parts[0]], parts)
    one, other = (signals[part] for part in parts)

    def read(start: float, stop: float) -> np.ndarray:
        return one.read(start, stop) - other.read(start, stop)

    return MatchedChannel(Signal(one.fs, one.unit, min(one.seconds, other.seconds), read), parts)


def _look_like(role: str, labels: Iterable[str]) -> list[str]:
    """Labels such as ``EEG F4-A1`` for the role EEG, then electrodes of the 10-20 system."""
    # EEG2 is a second EEG, while EEG_C3 is one electrode, which no other can stand for
    kind = role if "_" in role else role.rstrip("0123456789")
    labels = list(labels)
    begin = [label for label in labels if normalised(label).startswith(normalised(kind))]
    sites = [
        [x for x in labels if re.match(p, normalised(x))] for p in _LABEL_PATTERNS.get(kind, ())
    ]
    return list(dict.fromkeys([*begin, *(label for some in sites for label in some)]))


def _with_unit(
    channel: MatchedChannel, role: str, file: SignalFile, strict: bool
) -> MatchedChannel:
    """Voltages keep their unit, uV where none is named; belts have arbitrary ones."""
    signal = replace(channel.signal, unit=_unit(channel.signal.unit))
    if not role.startswith(VOLTAGES):
        return replace(channel, signal=replace(signal, unit="%" if role == "SPO2" else "a.u."))
    if signal.unit in ("uV", "mV", "V"):
        return replace(channel, signal=signal)
    if signal.unit:
        raise UserError(
            f"{file.path}: {role} ({channel.derivation}) is in {signal.unit!r}; voltages are in "
            "uV, mV, V"
        )
    # values without a unit are taken as uV; their deviation shows whether they can be
    middle = max(0.0, (signal.seconds - _SCALE_SECONDS) / 2)
    sd = float(signal.read(middle, min(signal.seconds, middle + _SCALE_SECONDS)).std())
    if strict and role.startswith("EEG") and not PLAUSIBLE_UV[0] <= sd <= PLAUSIBLE_UV[1]:
        raise UserError(
            f"{file.path}: {role} ({channel.derivation}) names no unit and varies by {sd:.3g}, "
            f"which is no EEG in uV ({PLAUSIBLE_UV[0]:g} to {PLAUSIBLE_UV[1]:g}); leave it out by "
            "--roles"
        )
    note = f"{role} ({channel.derivation}) names no unit, taken as uV"
    return replace(channel, signal=replace(signal, unit="uV"), note=note)
