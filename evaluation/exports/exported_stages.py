"""What every format holds of a night: its stages in order, in bouts, and that a program wrote them.

Formats count epochs from the source recording's first second, so that what lies before the first
epoch staged here, and whole epochs after the last one, are unscored. A last epoch that is cut short
is in none of them. Epochs on onsets of their own keep these wherever a format has onsets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby

import numpy as np

from datasets.readers.scorings import own_exports
from utils.staged_night import StagedNight
from utils.stages import EPOCH_SECONDS, UNSCORED

# the first second of a recording whose start nobody knows, as EDF+ has it
UNKNOWN_START = datetime(1985, 1, 1)


def codes_of(night: StagedNight) -> list[int]:
    """Codes of all whole epochs of the source recording, -1 where nothing was staged.

    Of epochs on onsets of their own, which are no epochs of the recording, those alone.
    """
    return [code for _, code in epochs_of(night)]


def epochs_of(night: StagedNight) -> Iterator[tuple[float, int]]:
    """Onset in s and code of every epoch of :func:`codes_of`."""
    if len(night.own_onsets):
        yield from zip(night.begins.tolist(), night.scored.tolist(), strict=True)
        return
    codes = [UNSCORED] * night.first_epoch + night.scored.tolist()
    whole = int((night.seconds or 0) / EPOCH_SECONDS + 1e-9)
    for number, code in enumerate(codes + [UNSCORED] * (whole - len(codes))):
        yield EPOCH_SECONDS * number, code


def counted_codes_of(night: StagedNight) -> list[int]:
    """As :func:`codes_of`, for formats that count epochs from the start and know no onsets.

    A counted epoch has the stage of the nearest one staged, of which it holds more than half.
    """
    if not len(night.own_onsets):
        return codes_of(night)
    onsets, end = night.onsets, night.seconds or float(night.onsets[-1]) + EPOCH_SECONDS
    counted = EPOCH_SECONDS * np.arange(int(end / EPOCH_SECONDS + 1e-9))
    apart = np.abs(onsets - counted[:, None])
    stages = np.where(apart.min(axis=1) < EPOCH_SECONDS / 2, night.scored[apart.argmin(axis=1)], -1)
    return stages.tolist()


def bouts_of(night: StagedNight) -> Iterator[tuple[float, float, int]]:
    """Onset and length in s, and code, of every bout of the source recording.

    Epochs on onsets of their own do not add up to bouts.
    """
    if len(night.own_onsets):
        yield from ((onset, night.length, code) for onset, code in epochs_of(night))
        return
    epoch = 0
    for code, bout in groupby(codes_of(night)):
        length = len(list(bout))
        yield epoch * EPOCH_SECONDS, length * EPOCH_SECONDS, code
        epoch += length


def mark_of(codes: Sequence[int]) -> str:
    """Words that keep an export, until somebody edits it, from being taken for an expert's.

    ``codes`` are those in the file.
    """
    equipment, additional = own_exports.edf_fields(codes)
    return " ".join((equipment, *additional))


def seconds_of(night: StagedNight) -> float:
    """Length of the source recording in s; of its epochs, where that is unknown."""
    return night.seconds or float(len(codes_of(night)) * EPOCH_SECONDS)


def start_of(night: StagedNight) -> datetime | None:
    """The source's first second; on 1 January 1985 where its date is unknown, its clock is not."""
    known = night.start or night.clock
    return datetime.fromisoformat(known) if known else None
