"""Times in a table of stages as seconds: clock times, seconds, samples, ends of epochs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from datasets.readers.scorings.clocks import Timeline, clock_of, timeline_of
from datasets.readers.scorings.scoring import Recorded, Text
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS

_NUMBER = re.compile(r"[+-]?(\d{1,15}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,2})?", re.ASCII)
_MISSING = ("", "n/a", "na", "nan", "none", "-", ".")  # as tables spell it
_SHORTEST, _LONGEST = 5.0, 120.0  # s, of steps between epochs
_LARGEST = 1e12  # samples or seconds; no recording is longer
Timed = list[tuple[int, float, float | None]]  # row, onset and length in s


class TimeColumns(Protocol):
    """Which columns of a table have times, by number, or ``None``, and in which units.

    ``starts``: the onset is one by its name; ``units`` are in s, of columns in other ones.
    """

    onset: int | None
    end: int | None
    duration: int | None
    starts: bool
    units: Mapping[int, float]


def number_of(cell: str, *, comma: bool = False) -> float | None:
    """The number in a cell, with a decimal comma if ``comma``; ``None`` if it is none."""
    cell = cell.strip().replace(",", ".") if comma else cell.strip()
    number = float(cell) if _NUMBER.fullmatch(cell) else _LARGEST
    return number if abs(number) < _LARGEST else None


def of_columns(
    text: Text,
    table: Sequence[Sequence[str]],
    columns: TimeColumns,
    recorded: Recorded,
    *,
    comma: bool,
    notes: list[str],
) -> Timed:
    """Row, onset and length in s of every row with a readable time; what was assumed in ``notes``.

    Raises:
        UserError: no row has a readable time.
    """
    first = columns.end if columns.onset is None else columns.onset
    line_of = timeline_of([row[first] for row in table], recorded, notes)
    read = _Cells(line_of, comma, columns.units)
    timed: Timed = []
    unreadable: list[Sequence[str]] = []
    previous_end = 0.0
    for k, row in enumerate(table):
        if columns.onset is not None:
            onset = read.seconds(row, columns.onset)
            lasts = None if onset is None else read.length(row, columns, onset)
        else:  # ends alone: each stage begins where the one before it ended
            end = read.seconds(row, columns.end)
            onset, lasts = (None, None) if end is None else (previous_end, end - previous_end)
            previous_end = previous_end if end is None else end
        # a length that is written and no number may hide a stage's end
        written = "" if columns.duration is None else row[columns.duration].strip().lower()
        if onset is None or (lasts is None and written not in _MISSING):
            unreadable.append(row)
        else:
            timed.append((k, onset, lasts if lasts and lasts > 0 else None))
    if unreadable:
        what = f"no time in the row {', '.join(unreadable[0])[:80]}"
        if not timed:
            raise text.wrong(f"{what}; correct the file, or name the columns: --expert_table")
        notes.append(f"{len(unreadable)} rows are left out: {what}")
    timed = _from_ends(timed, columns, recorded, notes)
    # a clock has no other units
    is_clock = number_of(table[timed[0][0]][first], comma=comma) is None
    return timed if is_clock else _in_seconds(timed, recorded, notes)


@dataclass(frozen=True)
class _Cells:
    """Reads cells with times, in the order of their rows."""

    timeline: Timeline
    comma: bool
    units: Mapping[int, float]

    def seconds(self, row: Sequence[str], column: int) -> float | None:
        """Seconds from the recording's start, of a number or a clock time."""
        value, clock = self._number(row, column), clock_of(row[column])
        return self.timeline.seconds(clock) if value is None and clock is not None else value

    def length(self, row: Sequence[str], columns: TimeColumns, onset: float) -> float | None:
        """Length of a row in s, from its length or its end, where it has one."""
        if columns.duration is not None:
            value, clock = self._number(row, columns.duration), clock_of(row[columns.duration])
            return clock.seconds if value is None and clock is not None else value  # 00:00:30
        end = None if columns.end is None else self.seconds(row, columns.end)
        return None if end is None else end - onset

    def _number(self, row: Sequence[str], column: int) -> float | None:
        value = number_of(row[column], comma=self.comma)
        return None if value is None else value * self.units.get(column, 1.0)


def _from_ends(timed: Timed, columns: TimeColumns, recorded: Recorded, notes: list[str]) -> Timed:
    """Onsets of a table whose only time is the end of an epoch or stage, as its rows show.

    The last row then has the recording's end, and nothing begins at its start.
    """
    onsets = [onset for _, onset, _ in timed]
    lengths_known = columns.end is not None or any(length for _, _, length in timed)
    steps = Counter(round(b - a, 3) for a, b in pairwise(onsets))
    if columns.starts or lengths_known or not steps or min(steps) <= 0 or onsets[0] < 1:
        return timed
    step, times = steps.most_common(1)[0]
    last_epoch = recorded.seconds - recorded.seconds % EPOCH_SECONDS
    if not last_epoch - 1e-3 <= onsets[-1] < recorded.seconds + EPOCH_SECONDS:
        return timed
    per_epoch = 2 * times > len(onsets) - 1
    if per_epoch and abs(onsets[0] - step) > 1e-3:
        return timed
    notes.append("its times are ends: the last one is that of the recording")
    if per_epoch:
        return [(k, onset - step, step) for k, onset, _ in timed]
    starts = [0.0, *onsets[:-1]]
    return [(k, a, b - a) for (k, b, _), a in zip(timed, starts, strict=True)]


def _in_seconds(timed: Timed, recorded: Recorded, notes: list[str]) -> Timed:
    """Times in seconds, where they were in a unit in which alone they fit the recording.

    Raises:
        UserError: they are no seconds, and in no other unit.
    """
    onsets = sorted(onset for _, onset, _ in timed)
    step = _step(onsets)
    units = {f"samples at {rate:g} Hz": 1 / rate for rate in dict.fromkeys(recorded.rates)}
    units["milliseconds"] = 1e-3
    is_long = onsets[-1] > 2 * recorded.seconds
    if not is_long:
        # rows closer than any epoch, which would end far before the recording does
        is_dense = 0 < step < _SHORTEST and 10 * onsets[-1] < recorded.seconds
        units = {"epochs": 30.0, "minutes": 60.0, "hours": 3600.0} if is_dense else {}
    fitting = {name: unit for name, unit in units.items() if fits_unit(timed, unit, recorded)}
    if is_long and not fitting and step > _LONGEST:
        raise UserError(
            f"its times go to {onsets[-1]:g}, the recording lasts {recorded.seconds:g} s: they are "
            "no seconds, nor samples at its rates; give them in seconds"
        )
    if len(set(fitting.values())) != 1:
        return timed
    name, unit = next(iter(fitting.items()))
    notes.append(f"its times are {name}")
    # lengths may be in seconds all the same
    raw = {round(a + (length or 0), 3) for _, a, length in timed} & {round(a, 3) for a in onsets}
    factor = unit if 2 * len(raw) > len(timed) else 1.0
    return [(k, onset * unit, length and length * factor) for k, onset, length in timed]


def _step(onsets: Sequence[float]) -> float:
    """The smallest step between onsets in order, 0 if there is none."""
    return min((b - a for a, b in pairwise(onsets)), default=0.0)


def fits_unit(timed: Timed, unit: float, recorded: Recorded) -> bool:
    """Whether onsets in that unit (s) are of whole epochs, of a part at least of the recording."""
    seconds = sorted(onset * unit for _, onset, _ in timed)
    epochs = [(one - seconds[0]) / EPOCH_SECONDS for one in seconds]
    whole = all(abs(one - round(one)) < 1e-3 for one in epochs)
    is_half = max(seconds) > recorded.seconds / 2 or abs(_step(epochs) - 1) < 1e-3
    return whole and is_half and max(seconds) < recorded.seconds
