"""Text files of one layout each: DOMINO's profile, SAF, Luna's annot, BrainVision's markers."""

from __future__ import annotations

import re

from datasets.readers.scorings import times
from datasets.readers.scorings.clocks import DAY, Timeline, clock_of
from datasets.readers.scorings.scoring import Recorded, Row, Scoring, Text

_DOMINO = re.compile(r"\s*([\d.:/\- ]*\d{1,2}:\d{2}:\d{2}[^;]{0,20});\s*([^;]*?)\s*")
_RATE = re.compile(r"(?im)^\s*rate\s*:\s*(\d{1,4})\s*s")
_SAF = re.compile(r"([+-]?\d{1,9}(?:[.,]\d*)?)(?:\x15(\d*(?:[.,]\d*)?))?\x14([^\x14\x00]*)\x14")
_MARKER = re.compile(r"Mk\d+=([^,]*),([^,]*),(\d{1,12}),(\d{0,9})", re.ASCII)


def is_domino(text: Text) -> bool:
    """Whether rows are a clock time and a word: ``23:57:00,000; Wake``."""
    rows = sum(_DOMINO.fullmatch(line) is not None for line in text.first)
    return rows > 1 and rows >= len(text.first) - 40


def read_domino(text: Text, recorded: Recorded) -> Scoring:
    """Read Somnomedics DOMINO's sleep profile; rows without a date cross midnight."""
    rate = _RATE.search(text.whole)
    seconds = float(rate[1]) if rate else None
    line_of, rows, notes = Timeline(recorded), [], []
    for line in text.lines:
        if not (match := _DOMINO.fullmatch(line)):
            continue
        if (clock := clock_of(match[1])) is None:
            notes.append(f"a row is left out: no time in {line[:60]!r}")
        else:
            rows.append(Row(match[2], line_of.seconds(clock), seconds))
    return Scoring(rows, notes=notes[:3])


def is_saf(text: Text) -> bool:
    """Whether annotations lie between the bytes 0x15 and 0x14, as in EDF+ and MASS's SAF."""
    return "\x14" in text.whole


def read_saf(text: Text, recorded: Recorded) -> Scoring:
    """Read SAF: onset 0x15 length 0x14 label 0x14."""
    rows = []
    for onset, seconds, word in _SAF.findall(text.whole):
        begin = times.number_of(onset, comma=True)
        rows.append(Row(word, begin, times.number_of(seconds, comma=True)))
    return Scoring(rows, only_stages=False)


def is_annot(text: Text) -> bool:
    """Whether it has Luna's columns: class, instance, channel, start, stop."""
    rows = [line.lower().split("\t") for line in text.first if not line.startswith("#")]
    if any(row[:2] == ["class", "instance"] for row in rows):
        return True
    return bool(rows) and all(len(row) >= 5 and _seconds(row[3], None) is not None for row in rows)


def read_annot(text: Text, recorded: Recorded) -> Scoring:
    """Read Luna's annot; ``+30`` as stop is a length, ``...`` the start of the next line."""
    line_of, rows, notes = Timeline(recorded), [], []
    for line in text.lines:
        cells = [cell.strip() for cell in line.split("\t")]
        if not line.strip() or line.startswith("#") or cells[0].lower() == "class":
            continue
        begin = _seconds(cells[3], line_of) if len(cells) > 4 else None
        if begin is None:
            notes.append(f"a row is left out: no start in {line[:60]!r}")
            continue
        if cells[4].startswith("+"):
            seconds = times.number_of(cells[4][1:])
        else:
            end = _seconds(cells[4], line_of)
            seconds = None if end is None or end <= begin else end - begin
        rows.append(Row(cells[0], begin, seconds))
    return Scoring(rows, only_stages=False, notes=notes[:3])


def _seconds(cell: str, line_of: Timeline | None) -> float | None:
    """Seconds from the recording's start: a number, ``0+hh:mm:ss`` or a clock time."""
    cell = cell.strip()
    if (number := times.number_of(cell)) is not None:
        return number
    days, plus, since = cell.partition("+")
    if plus and days.isascii() and days.isdigit() and len(days) < 3:
        clock = clock_of(since)
        return None if clock is None else DAY * int(days) + clock.seconds
    clock = clock_of(cell)
    if clock is None:
        return None
    return 0.0 if line_of is None else line_of.seconds(clock)


def is_markers(text: Text) -> bool:
    """Whether it is a BrainVision file of markers."""
    return text.whole.lstrip().startswith(("Brain Vision", "BrainVision"))


def read_markers(text: Text, recorded: Recorded) -> Scoring:
    """Read BrainVision markers by their samples, or in order where no rate of the recording fits.

    A marker is a stage by its description, or by its type where that is the stage.
    """
    marks = [m for line in text.lines if (m := _MARKER.match(line.strip()))]
    # S  1 and R  1 of a stimulus are triggers, no stages
    marks = [
        m
        for m in marks
        if m[1].strip().lower() not in ("new segment", "stimulus", "response")
        or not re.fullmatch(r"[SR ]?\s*\d*", m[2])
    ]
    rows = [Row(m[2] or m[1]) for m in marks]
    samples = [int(m[3]) - 1 for m in marks]
    if not rows:
        raise text.wrong("holds no sleep stages")
    timed = [(k, float(sample), None) for k, sample in enumerate(samples)]
    rates = [r for r in dict.fromkeys(recorded.rates) if times.fits_unit(timed, 1 / r, recorded)]
    if len(rates) == 1:
        rows = [
            Row(row.word, sample / rates[0]) for row, sample in zip(rows, samples, strict=True)
        ]  # fmt: skip
        return Scoring(rows, only_stages=False, vocabulary="rk")
    return Scoring(rows, vocabulary="rk")
