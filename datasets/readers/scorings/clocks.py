"""Clock times in scorings, with and without dates, as seconds from the start of a recording."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from datasets.readers.scorings.scoring import Recorded
from utils.errors import UserError

DAY = 86_400
_TIME = r"(\d{1,2})([:.hH])(\d{2})(?:[:.mM](\d{2})(?:[.,](\d{1,9})|s)?)?"
_CLOCK = re.compile(
    rf"(?:(\d{{1,4}})[-/.](\d{{1,2}})[-/.](\d{{1,4}})[T ,-]+)?{_TIME}"
    r"(?:\s*([apAP])\.?\s?[mM]\.?)?(?:\s*(?:Z|[+-]\d{2}:?\d{2}))?",
    re.ASCII,
)
_EPOCH = date(1970, 1, 1)  # from which MNE counts where a recording has no date


@dataclass(frozen=True)
class Clock:
    """A time of day in s, and the dates that may be written beside it (day first, month first)."""

    seconds: float
    dates: tuple[date, ...] = ()


def clock_of(text: str) -> Clock | None:
    """The clock time that a text is: 23:57:00,500, 11.57.00 PM, 04/03/2021 23:57, ISO 8601."""
    match = _CLOCK.fullmatch(text.strip())
    if match is None or (match[5] == "." and match[7] is None):
        return None  # 23.57 is a number
    hour, minute, second = int(match[4]), int(match[6]), int(match[7] or 0)
    half = (match[9] or "").lower()
    if half:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half == "p" else 0)
    if hour > 23 or minute > 59 or second > 59:
        return None
    fraction = float(f"0.{match[8]}") if match[8] else 0.0
    dates = _dates(match[1], match[2], match[3]) if match[1] else ()
    if match[1] and not dates:
        return None
    return Clock(3600 * hour + 60 * minute + second + fraction, dates)


def _dates(first: str, second: str, third: str) -> tuple[date, ...]:
    a, b, c = int(first), int(second), int(third)
    if len(first) == 4:
        orders = [(a, b, c)]
    else:
        year = c if len(third) == 4 else c + (1900 if c >= 85 else 2000)
        orders = [(year, b, a), (year, a, b)]
    dates = []
    for order in orders:
        try:
            dates.append(date(*order))
        except ValueError:
            continue
    return tuple(dict.fromkeys(dates))


def is_real(day: date | None) -> bool:
    """Whether a date is likely that of the night: where it was removed 1 January is written."""
    return day is not None and (day.month, day.day) != (1, 1) and day.year > 1970


class Timeline:
    """Turns the clock times of one scoring, in their order, into seconds from the recording.

    Without dates the first one is taken on the day on which it lies in the recording, each of the
    others within 12 h of the one before it: midnight is crossed as often as the rows do.

    Raises:
        UserError: when asked, if the recording's start is unknown or its date another.
    """

    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded
        self.last: float | None = None

    def seconds(self, clock: Clock) -> float:
        """Seconds from the start of the recording."""
        start = self.recorded.start
        if _EPOCH in clock.dates:
            return clock.seconds
        if start is None:
            raise UserError(
                "has clock times, and the recording's start is unknown; one row per epoch is read "
                "without them: --expert_table stage=…, with the number of the column"
            )
        since = clock.seconds - (start - datetime.combine(start.date(), datetime.min.time())
                                 ).total_seconds()  # fmt: skip
        days = [(day - start.date()).days for day in clock.dates if is_real(day)]
        if days and is_real(start.date()):
            nearest = min(days, key=abs)
            if abs(nearest) > 2 + self.recorded.seconds / DAY:
                raise UserError(f"is dated {clock.dates[0]}, the recording {start.date()}")
            self.last = since + DAY * nearest
        elif self.last is None:
            self.last = since % DAY
            if self.last >= self.recorded.seconds:
                self.last -= DAY  # a row before the recording began
        else:
            self.last += (since - self.last + DAY / 2) % DAY - DAY / 2
        return self.last


def timeline_of(cells: Sequence[str], recorded: Recorded, notes: list[str]) -> Timeline:
    """The timeline of a column of times; a note where they count from the recording's start.

    Clock times that begin at 0:00:00 are taken for such if they fill the recording to its end, or
    would all lie outside it by its own clock.
    """
    clocks = [clock for cell in cells if (clock := clock_of(cell)) is not None]
    if not clocks or clocks[0].seconds or any(clock.dates for clock in clocks):
        return Timeline(recorded)
    since_midnight = replace(recorded, start=datetime(1970, 1, 1))
    first, last = _ends_of(clocks, Timeline(since_midnight))
    is_filled = first >= 0 and recorded.seconds - 90 < last < recorded.seconds
    if recorded.start is not None:
        begins, ends = _ends_of(clocks, Timeline(recorded))
        is_inside = begins >= 0 and ends < recorded.seconds
        is_apart = ends < 0 or begins >= recorded.seconds
        if is_inside or not (is_filled or (is_apart and last < recorded.seconds)):
            return Timeline(recorded)
    elif not is_filled:
        return Timeline(recorded)
    notes.append("its times count from the start of the recording")
    return Timeline(since_midnight)


def _ends_of(clocks: Sequence[Clock], line: Timeline) -> tuple[float, float]:
    seconds = [line.seconds(clock) for clock in clocks]
    return min(seconds), max(seconds)
