"""Rows of a file of stages as a profile describes it: words, with onset and length in seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np

from datasets.readers import hdf5_file, wfdb_file
from datasets.readers.edf import EdfFile
from datasets.readers.profiles.profile import StageFiles
from datasets.readers.profiles.stage_words import Coded
from datasets.readers.scorings import lab_texts, nsrr_annotations
from datasets.readers.scorings.clocks import DAY, Timeline, clock_of, is_real
from datasets.readers.scorings.decoding import text_of, xml_of
from datasets.readers.scorings.scoring import Recorded, Row, Text
from datasets.readers.scorings.stage_tables import cells_of, name_of
from datasets.readers.scorings.times import number_of
from utils.errors import UserError
from utils.stages import UNSCORED

_MOST_PREAMBLE = 200  # lines before a table's header


@dataclass(frozen=True)
class Declared:
    """How a night's stages are declared: of which file, by what, in epochs of how many seconds.

    What is left out of the file is added to ``notes``.
    """

    path: Path
    stages: StageFiles
    epoch: float
    notes: list[str] = field(default_factory=list)


def rows_of(declared: Declared, recorded: Recorded) -> list[Row]:
    """Every row of the file, stages and events, onsets counted from the signal's start.

    ``seconds`` is ``None`` where a row has no length of its own.

    Raises:
        UserError: the file cannot be read, or is not as declared.
    """
    return READERS[declared.stages.format](declared, recorded)


def _of_edf(declared: Declared, recorded: Recorded) -> list[Row]:
    """Annotations; a hypnogram that starts at another time is only placed by its clock if asked."""
    file = EdfFile(declared.path)
    late = _late(file.clock, recorded.start)
    if late and declared.stages.times != "clock":
        raise UserError(
            f"{declared.path}: starts {file.clock}, {recorded.name} {recorded.start}; they are not "
            'one night, or the profile lacks "times": "clock"'
        )
    return [Row(a.text, a.onset + late, a.duration or None) for a in file.annotations()]


def _late(begins: datetime | None, began: datetime | None) -> float:
    """Seconds from a recording's start to that of its hypnogram, less than 12 h without dates."""
    if begins is None or began is None:
        return 0.0
    late = (begins - began) / timedelta(seconds=1)
    if not (is_real(begins.date()) and is_real(began.date())):
        late = (late + DAY / 2) % DAY - DAY / 2
    return late if abs(late) >= 1 else 0.0  # headers have whole seconds, first samples do not


def _of_wfdb(declared: Declared, recorded: Recorded) -> list[Row]:
    """Notes; the format has no lengths."""
    return [Row(text, onset) for onset, text in wfdb_file.notes_of(declared.path)]


def _of_list(declared: Declared, recorded: Recorded) -> list[Row]:
    """One row per epoch; blank lines at the end are none, others are words of no letters.

    Raises:
        UserError: lines of one epoch that are not the same.
    """
    lines = [line.strip() for line in text_of(declared.path).lines[declared.stages.skip :]]
    while lines and not lines[-1]:
        lines.pop()
    each = declared.stages.seconds or declared.epoch
    n = round(declared.epoch / each)
    n = n if n and math.isclose(n * each, declared.epoch) else 1  # else lines are placed by time
    rows = []
    for k in range(0, len(lines), n):
        several = set(lines[k : k + n])
        if len(several) > 1:
            raise UserError(
                f"{declared.path}: stages {', '.join(sorted(several))} in the {n * each:g} s from "
                f"{k * each:g} s, which are one epoch; its epochs are shorter, or start elsewhere"
            )
        rows.append(Row(lines[k], k * each, each * len(lines[k : k + n])))
    return rows


def _of_saf(declared: Declared, recorded: Recorded) -> list[Row]:
    """Annotations written as text."""
    rows = list(lab_texts.read_saf(text_of(declared.path), recorded).rows)
    if lone := [row for row in rows if row.onset is None]:
        raise UserError(f"{declared.path}: {lone[0].word[:60]!r} has no readable onset; correct it")
    return rows


def _of_profusion(declared: Declared, recorded: Recorded) -> list[Row]:
    """One row per epoch, of the length that the file states."""
    root = xml_of(text_of(declared.path))
    codes, length = nsrr_annotations.profusion_codes(root, declared.path)
    if length != declared.epoch:
        raise UserError(f"{declared.path}: epochs of {length:g} s, not of {declared.epoch:g} s")
    return [Row(code, k * length, length) for k, code in enumerate(codes)]


def _of_table(declared: Declared, recorded: Recorded) -> list[Row]:
    """Rows of a table with declared columns."""
    text, stages = text_of(declared.path), declared.stages
    lines = text.lines[stages.skip :]
    places, first = _places(text, lines, stages)
    width = max(places.values()) + 1
    seconds = _seconds_of(stages, recorded)
    rows: list[Row] = []
    broken: list[str] = []
    for number, line in enumerate(lines[first:], stages.skip + first + 1):
        if not line.strip():
            continue
        cells = _cells(line, stages)
        onset = seconds(cells[places["onset"]]) if len(cells) >= width else None
        if onset is not None:
            lasts = _length(cells, places, onset, seconds)
            rows.append(Row(cells[places["word"]], onset, lasts))
        elif len(cells) < width:
            broken.append(f"line {number} has {len(cells)} columns, not {width}")
        else:
            what = repr(cells[places["onset"]][:40])
            broken.append(f"line {number}: {what} is no onset in {stages.times}")
        if len(broken) > stages.broken:
            raise text.wrong(f"{broken[-1]}; correct it")
    declared.notes.extend(f"{what}: left out" for what in broken)
    return rows


def _cells(line: str, stages: StageFiles) -> list[str]:
    if stages.most_columns is None:
        return cells_of(line, stages.separator)
    cells = line.split(stages.separator, stages.most_columns - 1)
    return [cell.strip() for cell in cells]


def _places(text: Text, lines: Sequence[str], stages: StageFiles) -> tuple[dict[str, int], int]:
    """Column numbers from 0 by what they hold, and the line on which rows begin.

    Raises:
        UserError: no line has all the headers that are declared.
    """
    numbers = {k: v - 1 for k, v in stages.columns.items() if isinstance(v, int)}
    named = {
        k: [name_of(one) for one in v.split("|")]
        for k, v in stages.columns.items() if isinstance(v, str)
    }  # fmt: skip
    if not named:
        return numbers, 0
    for number, line in enumerate(lines[:_MOST_PREAMBLE]):
        names = [name_of(cell) for cell in _cells(line, stages)]
        # of several headers the first counts, which comes last here
        places = {
            k: names.index(one) for k, some in named.items() for one in some[::-1] if one in names
        }
        if len(places) == len(named):
            return numbers | places, number + 1
    wanted = ", ".join(repr(v) for v in stages.columns.values() if isinstance(v, str))
    raise text.wrong(f"no line with the columns {wanted}; correct the profile or fetch it again")


def _seconds_of(stages: StageFiles, recorded: Recorded) -> Callable[[str], float | None]:
    """A function that turns a cell with a time into seconds from the signal's start."""
    if stages.times == "clock":
        line = Timeline(recorded)
        return lambda cell: None if (clock := clock_of(cell)) is None else line.seconds(clock)
    unit = 1.0 if stages.times == "seconds" else 1 / (stages.rate or recorded.rates[0])
    comma = stages.separator != ","

    def seconds(cell: str) -> float | None:
        number = number_of(cell, comma=comma)
        return None if number is None else number * unit

    return seconds


def _length(
    cells: Sequence[str], places: dict[str, int], onset: float, seconds: Callable
) -> float | None:
    """Length of a row in s, by its duration or its end; ``None`` where it has neither."""
    if "end" in places:
        end = seconds(cells[places["end"]])
        return None if end is None else end - onset
    if "duration" not in places:
        return None
    return number_of(cells[places["duration"]], comma=True) or None


def _of_masks(declared: Declared, recorded: Recorded) -> list[Row]:
    """Runs of every mask of samples; the profile's words are the masks' names."""
    stages, rows = declared.stages, []
    with hdf5_file.opened(declared.path) as file:
        for word in stages.words.map:
            place = f"{stages.where}/{word}".strip("/")
            mask = hdf5_file.numbers_at(file, declared.path, place, single=True)[()].reshape(-1)
            edges = np.flatnonzero(np.diff(mask != 0, prepend=False, append=False)).reshape(-1, 2)
            rows += [Row(word, a, b - a) for a, b in (edges / stages.rate).tolist()]
    return rows


READERS = {
    "edf+": _of_edf,
    "wfdb": _of_wfdb,
    "list": _of_list,
    "saf": _of_saf,
    "profusion": _of_profusion,
    "table": _of_table,
    "masks": _of_masks,
}


def with_lengths(stages: Coded, declared: Declared, seconds: float) -> Coded:
    """Stages in order of time, each with a length, as ``lasts`` declares it.

    ``seconds`` is the signal's length, at which a last one ends that lasts until the next.

    Raises:
        UserError: a row has no length of its own, and the profile does not tell how long it lasts;
            a row ends before it begins; of those that last until the next, two stages begin at
            one instant, or none begins before the signal's end.
    """
    ordered = sorted(stages, key=lambda one: one[0].onset)
    lasts = declared.stages.lasts
    if lasts == "epoch":
        return [(replace(row, seconds=declared.epoch), code) for row, code in ordered]
    if lasts == "until_next":
        for (row, code), (other, its) in pairwise(ordered):
            if row.onset == other.onset and code != its and UNSCORED not in (code, its):
                raise UserError(f"{declared.path}: two stages at {row.onset:g} s; correct the file")
        ends = [row.onset for row, _ in ordered[1:]] + [max(seconds, ordered[-1][0].onset)]
        lasting = [
            (replace(row, seconds=end - row.onset), code)
            for (row, code), end in zip(ordered, ends, strict=True)
            if end > row.onset
        ]
        if all(code == UNSCORED for _, code in lasting):
            raise UserError(
                f"{declared.path}: no stage in it lasts until another one or the signal's end at "
                f"{seconds:g} s; it is of another recording, or was cut"
            )
        return lasting
    if lone := [row for row, _ in ordered if row.seconds is None]:
        raise UserError(
            f"{declared.path}: {lone[0].word!r} at {lone[0].onset:g} s has no length; declare "
            '"lasts": "epoch" or "until_next" in the profile'
        )
    if backwards := [row for row, _ in ordered if row.seconds <= 0]:
        raise UserError(
            f"{declared.path}: {backwards[0].word!r} at {backwards[0].onset:g} s lasts "
            f"{backwards[0].seconds:g} s; correct it, or the profile's columns"
        )
    return ordered
