"""Matching of channels: which signals of a file fulfil the wish of a user or a cohort.

A difference is the first minus the second, both of one rate and unit: eye movements, of opposite
sign on the two sides, add up. What known cohorts call theirs is in
:mod:`datasets.readers.known_channels`; every signal is assessed on its way
(:mod:`datasets.readers.incoming`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache

from datasets.readers.electrodes import normalised, site_rank
from datasets.readers.incoming import (
    believed_unit,
    denies,
    has_numbers,
    is_flat,
    is_other_unit,
    is_waveform,
    kind_of,
)
from datasets.readers.known_channels import Alternatives, known_names
from datasets.readers.recording import UNKNOWN_UNIT, FileSignals, Signal, SignalFile
from datasets.readers.wishes import MatchedChannel, cuts_of, first_of, named, parts_of
from utils.errors import UserError

ALL = "all"
# patterns of normalised labels of eyes and chin, best first
_LABEL_PATTERNS = {
    "EOG": (r"e[12]$", r"[lr]oc", r"left.?eye|right.?eye", r"e[12](?!\d)", r"[hvlr]eog|auge"),
    "EMG": (r"chin", r"submental", r"kinn|menton"),
}

_PLAIN = re.compile(r"eeg(\d{0,3}|[lr]|left|right|sec|ch\d+|kanal\d+)")


def choose(
    wanted: Iterable[str],
    signals: Mapping[str, Signal],
    roles: Alternatives,
    where: str,
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


def assessed(one: MatchedChannel, role: str, where: str) -> MatchedChannel:
    """A channel for a store, in the unit that it can have.

    Raises:
        UserError: it has no samples, or is an EEG in no unit.
    """
    if not has_numbers(one.signal):
        raise UserError(f"{where}: {one.label!r} has no sample that is a number; leave it out")
    is_voltage = kind_of(role) and is_waveform(one.signal, role) and not denies(one.label, role)
    return _with_unit(one, role, where, strict=True) if is_voltage else one


def role_of(label: str, roles: Alternatives) -> str:
    """The role of a label, or of the channel a difference begins with; else the label itself."""
    role_by_label = {name: role for role, names in roles.items() for name in names}
    candidates = (label, *(first for first, _ in cuts_of(label)))
    return next((role_by_label[name] for name in candidates if name in role_by_label), label)


def find_role(
    file: SignalFile, role: str, wanted: Sequence[str], *, blank: str = ""
) -> MatchedChannel | None:
    """The channel of a role: the first of ``wanted`` that the file has, ``None`` without one.

    ``blank``: what a blank unit is declared to be, as in ``FileSignals``.

    Raises:
        UserError: its values are no voltages in any unit, or its unit is none of voltages.
    """
    one = _first_fit(wanted, FileSignals(file, blank), role, file.notes, strict=True)
    return None if one is None else _with_unit(one, role, file.path, strict=True)


def match(
    file: SignalFile, channels: Sequence[tuple[str, str]], chosen: Mapping[str, str]
) -> dict[str, MatchedChannel]:
    """The channels that a checkpoint needs and a user's file has, by the checkpoint's label.

    A channel is looked for by the checkpoint's own label, then by the names that the known cohorts
    have for its role, then by labels that look like it. One signal stands for one channel: a second
    EEG is another one, or absent. ``channels`` are (label, role); ``chosen`` names the file's
    label, or a difference, for a label, or for the first channel of a role. Channels that were
    passed over are added to the file's notes.

    Raises:
        UserError: a chosen label that the file lacks, or that cannot be read.
    """
    signals = FileSignals(file)
    matched: dict[str, MatchedChannel] = {}
    wishes = _all_wishes(file, channels, chosen)
    # judging and staging both read the samples: in one pass of the file, if it is slow
    file.hold(_likely_parts(wishes, signals))
    for (label, role), (asked, some) in zip(channels, wishes, strict=True):
        if asked:
            one = _as_asked(some[0], role, signals, file)
        else:
            taken = {channel.parts for channel in matched.values()}
            free = (wish for wish in some if parts_of(wish, signals) not in taken)
            # an envelope was meant only where the label, and not the role alone, is the same
            is_role = normalised(label).rstrip("0123456789") == normalised(kind_of(role))
            one = _first_fit(free, signals, role, file.notes, own="" if is_role else label)
        if one is not None:
            # not strict: a user's file without units is staged all the same, with a note
            matched[label] = _with_unit(one, role, file.path, strict=False)
    return matched


def _all_wishes(
    file: SignalFile, channels: Sequence[tuple[str, str]], chosen: Mapping[str, str]
) -> list[tuple[bool, list[str]]]:
    """For each channel whether the user asked for it, and what is wished for, best first."""
    names, roles, wishes = known_names(c.label for c in file.channels), set(), []
    for label, role in channels:
        asked = chosen.get(label) or (chosen.get(role) if role not in roles else None)
        roles.add(role)
        some = [label, *names.get(role, ()), *_look_like(role, file)]
        wishes.append((bool(asked), [asked] if asked else some))
    return wishes


def _likely_parts(
    wishes: Sequence[tuple[bool, list[str]]], signals: Mapping[str, Signal]
) -> list[str]:
    """Labels that are likely to be matched, before any sample is read."""
    taken: set[tuple[str, ...]] = set()
    for _, some in wishes:
        likely = (parts_of(wish, signals) for wish in some)
        taken.add(next((parts for parts in likely if parts and parts not in taken), ()))
    return [part for parts in taken for part in parts]


def _as_asked(
    wish: str, role: str, signals: Mapping[str, Signal], file: SignalFile
) -> MatchedChannel:
    """The channel that a user names for a role."""
    one = named(wish, signals, file.path)
    if one is None:
        raise UserError(
            f"{file.path}: no channel {wish!r} for {role}; it has: {', '.join(signals)}"
        )
    if not has_numbers(one.signal):
        raise UserError(f"{file.path}: {one.derivation} has no sample that is a number")
    if is_waveform(one.signal, role):
        return one
    return replace(one, note=f"{role} ({one.derivation}) has {one.signal.fs:g} Hz, no waveform")


def _first_fit(
    wishes: Iterable[str],
    signals: Mapping[str, Signal],
    role: str,
    notes: list[str],
    own: str = "",
    *,
    strict: bool = False,
) -> MatchedChannel | None:
    """The first wish fulfilled by a channel that can be read, has a signal and is of the role.

    Those that are passed over are added to ``notes``. ``own`` may be an envelope. ``strict``: a
    unit of something else is not passed over here, but refused by the caller.
    """
    for wish in wishes:
        try:
            one = first_of([wish], signals)
        except UserError as error:
            why = str(error)
        else:
            if one is None:
                continue
            why = _unfit(one.signal, role, may_be_slow=wish == own)
            if not why and not strict and kind_of(role) and is_other_unit(one.signal.unit):
                why = f"is in {one.signal.unit}, no voltage"
            if not why:
                return one
            why = f"{role} ({one.derivation}) {why}"
        if (note := f"{why}: passed over") not in notes:
            notes.append(note)
    return None


def _unfit(signal: Signal, role: str, *, may_be_slow: bool = False) -> str:
    """Why a signal is none of its role's, "" if it is."""
    if not may_be_slow and not is_waveform(signal, role):
        return f"has {signal.fs:g} Hz, which is no waveform"
    if not has_numbers(signal):
        return "has no sample that is a number"
    # a belt that nobody wore is as flat as one without any breath
    return "is flat throughout" if kind_of(role) and is_flat(signal) else ""


def can_be_staged(labels: Sequence[str]) -> bool:
    """Whether any of a file's labels is that of an EEG or of eyes, as far as labels tell."""
    known = {normalised(name) for role in ("EEG", "EOG") for name in _known_labels(role)}
    return any(
        normalised(label) in known
        or site_rank(label) is not None
        or (kind_of(label.upper()) in ("EEG", "EOG") and not denies(label, label.upper()))
        for label in labels
    )


@cache
def _known_labels(role: str) -> tuple[str, ...]:
    names = known_names(())[role]
    return tuple(part for name in names for part in (name, *name.split(" - ")))


def _look_like(role: str, file: SignalFile) -> list[str]:
    """Labels such as ``EEG F4-A1`` for the role EEG, then electrodes, eyes and chin."""
    # EEG2 is a second EEG, while EEG_C3 is one electrode, which no other can stand for
    kind = role if "_" in role else role.rstrip("0123456789")
    labels = [channel.label for channel in file.channels if not denies(channel.label, role)]
    begin = [label for label in labels if normalised(label).startswith(normalised(kind))]
    # recorders that call all they record an EEG: EEG LOC-Ref
    bare = {label: normalised(label).removeprefix("eeg") for label in labels}
    sites = [[x for x in labels if re.match(p, bare[x])] for p in _LABEL_PATTERNS.get(kind, ())]
    if kind == "EEG":
        ranks = {label: rank for label in labels if (rank := site_rank(label)) is not None}
        sites.append(sorted(ranks, key=ranks.get))
        # what nobody knows here comes last: "EEG X7" behind "EEG C3"
        begin.sort(key=lambda x: x not in ranks and not _PLAIN.fullmatch(normalised(x)))
    return list(dict.fromkeys([*begin, *(label for some in sites for label in some)]))


def _with_unit(
    channel: MatchedChannel, role: str, where: object, *, strict: bool
) -> MatchedChannel:
    """Voltages have the unit in which they can be; belts have arbitrary ones.

    ``strict`` refuses an EEG that is none in any unit, and units that are no voltages, but for one
    that a profile declares to be unknown.
    """
    signal, kind = channel.signal, kind_of(role)
    if not kind:
        return replace(channel, signal=replace(signal, unit="%" if role == "SPO2" else "a.u."))
    if not is_waveform(signal, role) and signal.unit:
        return channel
    named, what = signal.unit, f"{role} ({channel.derivation})"
    if strict and named == UNKNOWN_UNIT:
        note = f"{what} has no unit that anybody knows, and is kept as it is"
        return replace(channel, note="; ".join(filter(None, [channel.note, note])), is_sized=False)
    unit, why = believed_unit(signal, kind)
    if not why:
        return replace(channel, signal=replace(signal, unit=unit))
    if strict and "no voltage" in why:
        raise UserError(f"{where}: {what} is in {named!r}; voltages are in nV, uV, mV, V")
    if strict and kind == "EEG" and (not unit or (not named and unit != "uV")):
        raise UserError(
            f"{where}: {what} {why}, which is no EEG in {'any unit' if named else 'uV'}; leave it "
            "out by --roles or --channels"
        )
    # a blank unit is what most recorders mean by it
    unit = (unit if named else "") or "uV"
    notes = [channel.note, f"{what} {why}, taken as {unit}"]
    return replace(
        channel,
        signal=replace(signal, unit=unit),
        note="; ".join(filter(None, notes)),
        is_sized=False,
    )
