"""Epochs that lie on a scorer's own onsets, not on multiples of 30 s from the signal's start.

A scorer's clock may begin at a fraction of a second, and run a little faster or slower than the
recorder's: an epoch counted from the start would then hold another one's signal by morning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from datasets.readers.profiles.profile import Epochs
from datasets.readers.scorings.placement import TOLERANCE
from datasets.readers.scorings.scoring import Row
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS, LONGEST_SECONDS, UNSCORED

_OVERLAP = 1.0  # s by which epochs may overlap where a clock drifts or onsets are rounded
_SLACK = 0.1  # of an epoch, by which a row may miss whole ones


@dataclass(frozen=True)
class OwnEpochs:
    """Onsets (n,) in s of windows of 30 s, and their stages (n,) int8."""

    onsets: np.ndarray
    stages: np.ndarray
    notes: tuple[str, ...] = ()


def placed(
    rows: Sequence[tuple[Row, int]], epochs: Epochs, seconds: float, path: Path
) -> OwnEpochs:
    """Epochs of rows on their own onsets, those that nobody scored between and around them.

    ``seconds`` is the signal's length: windows that do not lie in it are left out.

    Raises:
        UserError: rows overlap, do not last whole epochs, or go on after the signal.
    """
    length = epochs.seconds
    scored = sorted(_single(rows, length, path), key=lambda one: one[0])
    for (a, _), (b, _) in pairwise(scored):
        if b - a < length - _OVERLAP:
            raise UserError(f"{path}: two stages at {b:g} s; correct the file")
    every = np.array(_with_unscored(scored, length, seconds))
    onsets, stages = every[:, 0] - epochs.context, every[:, 1].astype(np.int8)
    inside = (onsets >= -TOLERANCE) & (onsets + EPOCH_SECONDS <= seconds + TOLERANCE)
    lost = ~inside & (stages != UNSCORED)
    late = int((lost & (onsets > 0)).sum())
    if epochs.extra is not None and late > epochs.extra:
        raise UserError(
            f"{path}: scores {late} epochs after the signal's end, which the profile allows "
            f"{epochs.extra} of (epochs.extra)"
        )
    notes = [f"{int(lost.sum())} scored epochs reach beyond the signal: left out"] * bool(
        lost.any()
    )
    return OwnEpochs(np.maximum(onsets[inside], 0.0), stages[inside], tuple(notes))


def _single(rows: Sequence[tuple[Row, int]], length: float, path: Path) -> list[tuple[float, int]]:
    """Onset and code of every epoch, rows of several cut into them."""
    single = []
    for row, code in rows:
        if max(abs(row.onset), row.seconds) > LONGEST_SECONDS:
            raise UserError(
                f"{path}: {row.word!r} at {row.onset:g} s lasts {row.seconds:g} s, which is no "
                "time of a night; correct the file"
            )
        n = round(row.seconds / length)
        if n < 1 or abs(row.seconds - n * length) > _SLACK * length:
            raise UserError(
                f"{path}: {row.word!r} at {row.onset:g} s lasts {row.seconds:g} s, no whole epochs "
                f"of {length:g} s; correct the file, or epochs.seconds in the profile"
            )
        single += [(row.onset + k * length, code) for k in range(n)]
    return single


def _with_unscored(
    scored: Sequence[tuple[float, int]], length: float, seconds: float
) -> list[tuple[float, int]]:
    """Epochs with those in between, before and after that are whole and that nobody scored."""
    first = scored[0][0]
    every = [(first - k * length, UNSCORED) for k in range(int(first // length), 0, -1)]
    ends = [onset for onset, _ in scored[1:]] + [seconds]
    for (onset, code), end in zip(scored, ends, strict=True):
        n = int((end - onset) / length + _SLACK)
        every.append((onset, code))
        every += [(onset + k * length, UNSCORED) for k in range(1, n)]
    return every


def are_counted(onsets: np.ndarray) -> bool:
    """Whether onsets (n,) are those of epochs counted from the signal's start."""
    return bool((np.abs(onsets - EPOCH_SECONDS * np.arange(len(onsets))) <= TOLERANCE).all())
