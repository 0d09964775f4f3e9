"""Lists with a stage per line, with or without lines before it, and rows of two or three columns.

YASA, Compumedics, Luna eannot, U-Sleep hyp, DREAMS, Visbrain, Deltamed, Stanford STA, Prana, and
tables without a header, whose columns are recognised by what they hold.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from datasets.readers.scorings import vocabulary
from datasets.readers.scorings.clocks import Timeline, clock_of
from datasets.readers.scorings.scoring import Recorded, Row, Scoring, Text
from datasets.readers.scorings.stage_tables import SPACES, Columns, cells_of, rows_of
from datasets.readers.scorings.times import number_of

_DREAMS_SECONDS = 5
_TWO_NUMBERS = re.compile(r"\s*(\d{1,6})(?:\s*[,;]\s*|\s+)([+-]?\d{1,3}|\?)\s*", re.ASCII)
_STA = re.compile(_TWO_NUMBERS.pattern + r"(?:\s[\s\d.-]*)?", re.ASCII)
_PRANA = re.compile(r"\s*\d{1,2}\s+(\d{1,2}:\d{2}:\d{2})\b(.*)", re.ASCII)
_LONGEST_PREAMBLE = 40
_AROUND = " \t,;\"'"  # what spreadsheets write around the only cell of a line


def is_stage(cell: str) -> bool:
    """Whether a cell could be a stage, or an epoch that nobody scored."""
    word = vocabulary.word_of(cell)
    return word.code is not None or word.number is not None or word.prefixed


def read(text: Text, recorded: Recorded) -> Scoring:
    """Read a list with a stage per line; lines before it, and those that begin with #, are skipped.

    U-Sleep's ``EPOCH=`` and ``START=`` before the list are its length of an epoch and its start.
    """
    lines = [line.strip(_AROUND) for line in text.lines if not line.startswith("#")]
    # what follows the last line end is no line
    lines = lines[:-1] if lines and not lines[-1] else lines
    lines = _one_by_one(lines)
    first = _first(lines)
    stated = dict(re.findall(r"(?m)^\s*([A-Za-z]+)\s*=\s*(.+?)\s*$", "\n".join(lines[:first])))
    stated = {key.upper(): value for key, value in stated.items()}
    epoch = number_of(stated.get("EPOCH", ""))
    # one object per word: a list may have a value per sample
    known = {word: Row(word) for word in set(lines[first:])}
    rows = [known[line] for line in lines[first:]]
    # Luna skips blank lines
    if text.path.suffix.lower() == ".eannot":
        rows = [row for row in rows if row.word]
    scoring = Scoring(rows, epoch=epoch, blanks=True)
    start = _start(stated.get("START", ""), recorded)
    if not start:
        return scoring
    while rows and not rows[-1].word:
        rows.pop()
    length = epoch or 30.0
    rows = [Row(row.word, start + k * length, length) for k, row in enumerate(rows)]
    return replace(scoring, rows=rows, blanks=False)


def _one_by_one(lines: Sequence[str]) -> Sequence[str]:
    """The stages of a list that is written in one line, also as JSON; other lines as they are."""
    filled = [line for line in lines if line]
    if len(filled) != 1 or is_stage(filled[0]):
        return lines
    inside = filled[0].strip("[]")
    words = inside.split("," if "," in inside else ";" if ";" in inside else None)
    words = [word.strip(_AROUND) for word in words]
    return words if len(words) > 1 and all(map(is_stage, words)) else lines


def _start(stated: str, recorded: Recorded) -> float:
    clock = clock_of(stated)
    if clock is not None and recorded.start is not None:
        return Timeline(recorded).seconds(clock)
    return number_of(stated) or 0.0


def _first(lines: Sequence[str]) -> int:
    """Number of the first line of the list itself: those before it are no stages, none of them."""
    for number, line in enumerate(lines[:_LONGEST_PREAMBLE]):
        word = vocabulary.word_of(line)
        if line.strip() and (word.code is not None or word.number is not None):
            return number if number and any(one.strip() for one in lines[:number]) else 0
    return 0


def is_dreams(text: Text) -> bool:
    """Whether it is a list of the DREAMS databases: ``[HypnogramAASM]``."""
    return re.match(r"\s*\[hypnogram", text.whole, re.IGNORECASE) is not None


def read_dreams(text: Text, recorded: Recorded) -> Scoring:
    """Read a DREAMS list: a number per 5 s, 5 is Wake, 0 is S4."""
    rows = [Row(line.strip()) for line in text.lines if line.strip()][1:]
    return Scoring(rows, epoch=_DREAMS_SECONDS, vocabulary="dreams")


def is_visbrain(text: Text) -> bool:
    """Whether lines that begin with * or the header of an Elan file come first."""
    first = next((line for line in text.lines if line.strip()), "")
    return first.startswith("*") or first.lower().startswith("time_base")


def read_visbrain(text: Text, recorded: Recorded) -> Scoring:
    """Read Visbrain's stages with the second at which each ends, or its values per second.

    Lines such as ``*N1 1`` give the numbers' meaning; without them 4 is REM, in Elan files 5.
    """
    elan = not text.lines[0].lstrip().startswith("*")
    body = [line for line in text.lines if line.strip() and not line.startswith("*")]
    meant: dict[str, str] = {}
    for line in text.lines:
        pair = re.fullmatch(r"\*\s*(\S+)[\s:=]+(-?\d{1,2})\s*", line)
        if pair and vocabulary.stage_of(pair[1]) is not None:
            meant[pair[2]] = pair[1]
    if elan:
        body = [line for line in body if is_stage(line)]
        return Scoring([Row(line.strip()) for line in body], vocabulary="rk")
    table = [line.split() for line in body]
    if all(len(row) == 1 for row in table):
        rows = [Row(meant.get(row[0], row[0])) for row in table]
        return Scoring(rows, vocabulary="yasa")
    table = [[meant.get(row[0], row[0]), *row[1:]] for row in table]
    scoring = rows_of(text, table, Columns(0, end=1, separator="\t"), recorded)
    return replace(scoring, vocabulary="yasa")


def is_numbered(text: Text) -> bool:
    """Whether lines have two numbers: epoch and code (STA), or length and code (Deltamed)."""
    pairs = [_pair_of(text).fullmatch(line) for line in text.first]
    begin = next((k for k, pair in enumerate(pairs[:_LONGEST_PREAMBLE]) if pair), 0)
    pairs = pairs[begin:]
    if len(pairs) < 2 or None in pairs:
        return False
    numbers = [int(pair[1]) for pair in pairs]
    return len(set(numbers)) == 1 or _is_counted(numbers)


def _pair_of(text: Text) -> re.Pattern[str]:
    """Lines of two numbers; STA may have more behind them."""
    return _STA if text.path.suffix.lower() == ".sta" else _TWO_NUMBERS


def _is_counted(numbers: Sequence[int]) -> bool:
    return numbers[0] in (0, 1) and all(b == a + 1 for a, b in pairwise(numbers))


def read_numbered(text: Text, recorded: Recorded) -> Scoring:
    """Read lines of two numbers; Deltamed has 1 W and 2 REM, STA and Prana R&K's numbers."""
    lines = [line for line in text.lines if line.strip()]
    two = _pair_of(text)
    begin = next(k for k, line in enumerate(lines) if two.fullmatch(line))
    pairs = [two.fullmatch(line) for line in lines[begin:]]
    if None in pairs:
        line = lines[begin + pairs.index(None)]
        raise text.wrong(f"{line[:60]!r} is no epoch and code; correct the line")
    rows, first = [Row(pair[2]) for pair in pairs], {int(pair[1]) for pair in pairs}
    if len(first) == 1:
        return Scoring(rows, epoch=float(first.pop()), vocabulary="deltamed")
    is_rk = text.path.suffix.lower() == ".sta" or "prana" in " ".join(lines[:begin]).lower()
    return Scoring(rows, vocabulary="rk" if is_rk else None)


def is_prana(text: Text) -> bool:
    """Whether lines begin with the day and a clock time: ``18 22:31:00``."""
    rows = sum(_PRANA.fullmatch(line) is not None for line in text.first)
    return rows > 1 and rows > len(text.first) / 2


def read_prana(text: Text, recorded: Recorded) -> Scoring:
    """Read Prana's rows: day, clock time, and the code among what follows."""
    line_of, rows = Timeline(recorded), []
    for match in (m for line in text.lines if (m := _PRANA.fullmatch(line))):
        code = next((w for w in match[2].split() if re.fullmatch(r"\d|\?", w, re.ASCII)), "?")
        rows.append(Row(code, line_of.seconds(clock_of(match[1]))))
    return Scoring(rows, vocabulary="rk")


def columns_of(text: Text) -> tuple[list[list[str]], Columns] | None:
    """Columns of a table without a header, by what they hold: stages, times, lengths."""
    if all(not re.search(r"[\t;, ]", line.strip()) for line in text.first):
        return None
    lines = [line for line in text.lines if line.strip() and not line.startswith("#")]
    for separator in ("\t", ";", ",", SPACES, " "):
        table = [cells_of(line, separator) for line in lines]
        width = max(map(len, table), default=0)
        table = [row for row in table if len(row) == width]
        if not 2 <= width <= 12 or len(table) < 0.8 * len(lines):
            continue
        columns = [[row[k] for row in table] for k in range(width)]
        times = [k for k in range(width) if _mostly(columns[k], _is_time)]
        stages = [k for k in range(width) if k not in times and _mostly(columns[k], _is_word)]
        if len(stages) == 1 and times:
            if not any(_is_time(table[0][k]) for k in times):  # a header of names unknown here
                table, columns = table[1:], [cells[1:] for cells in columns]
            return table, _with_times(columns, times, stages[0], separator)
    return None


def _is_time(cell: str) -> bool:
    return number_of(cell) is not None or clock_of(cell) is not None


def _is_word(cell: str) -> bool:
    word = vocabulary.word_of(cell)
    return word.code is not None and bool(cell)


def _mostly(cells: Sequence[str], test: object) -> bool:
    return sum(map(test, cells)) >= 0.8 * len(cells)


def _with_times(
    columns: Sequence[Sequence[str]], times: Sequence[int], stage: int, separator: str
) -> Columns:
    """Which of the columns of times are onsets, ends, lengths and numbers of epochs."""
    numbers = {k: [number_of(cell) for cell in columns[k]] for k in times}
    clocks = [k for k in times if not _mostly(columns[k], lambda c: number_of(c) is not None)]
    if len(clocks) >= 2:
        return Columns(stage, onset=clocks[0], end=clocks[1], separator=separator)
    if clocks:
        lengths = [k for k in times if k not in clocks and len(set(columns[k])) == 1]
        return Columns(stage, clocks[0], duration=next(iter(lengths), None), separator=separator)
    for a in times:
        for b in times:
            pairs = [p for p in zip(numbers[a], numbers[b], strict=True) if None not in p]
            if a != b and all(abs(x[0] + x[1] - y[0]) < 1e-2 for x, y in pairwise(pairs)):
                return Columns(stage, onset=a, duration=b, separator=separator)
            if a != b and all(abs(x[1] - y[0]) < 1e-2 for x, y in pairwise(pairs)):
                return Columns(stage, onset=a, end=b, separator=separator)
    epochs = [k for k in times if _is_counted_by(columns[k])]
    onsets = [k for k in times if k not in epochs and len(set(columns[k])) > 1]
    if epochs and not onsets:
        return Columns(stage, epoch=epochs[0], separator=separator)
    return Columns(stage, onset=(onsets or times)[0], separator=separator)


def _is_counted_by(cells: Sequence[str]) -> bool:
    """Whether cells number epochs: 1, 2, 3 …, of which a few may be missing."""
    plain = [cell.rstrip(".:") for cell in cells]
    if not all(re.fullmatch(r"\d{1,5}", one, re.ASCII) for one in plain):
        return False
    steps = [int(b) - int(a) for a, b in pairwise(plain)]
    return min(steps, default=0) > 0 and 2 * steps.count(1) > len(steps)


def read_columns(text: Text, recorded: Recorded) -> Scoring:
    """Read a table without a header."""
    table, columns = columns_of(text)
    scoring = rows_of(text, table, columns, recorded)
    open_ended = columns.onset is not None and columns.end is None and columns.duration is None
    if open_ended and scoring.rows[0].onset > 1e-3 and _mostly_numbers(table, columns.onset):
        stage, time = columns.stage + 1, columns.onset + 1
        raise text.wrong(
            f"its times may be starts or ends of stages; say which: --expert_table "
            f"'stage={stage},time={time}' or 'stage={stage},end={time}'"
        )
    return scoring


def _mostly_numbers(table: Sequence[Sequence[str]], column: int) -> bool:
    return _mostly([row[column] for row in table], lambda cell: number_of(cell) is not None)
