"""Tables with a header, whatever its place, language and separator: RemLogic, Alice, Nox, BIDS …

Columns are recognised by name. Times may be seconds, clock times or, where nothing else fits,
samples; a table without times has a row per epoch.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from datasets.readers.scorings import own_exports, times, vocabulary
from datasets.readers.scorings.clocks import Timeline, clock_of
from datasets.readers.scorings.scoring import Recorded, Row, Scoring, Text
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS

_STAGES = (
    "stage", "stages", "sleepstage", "sleepstages", "stagehum", "hypnogram", "hypno", "scoring",
    "stade", "stadium", "schlafstadium", "etapa", "estagio", "stadio", "somnstadium", "sovnstadium",
    "slaapstadium",
)  # fmt: skip
_EVENTS = (
    "event", "trialtype", "description", "annotation", "annotations", "name", "label", "value",
    "evenement", "evenements", "ereignis", "evento", "handelse", "hendelse", "gebeurtenis",
)  # fmt: skip
# in the order in which one is preferred to others in the same table
_ONSETS = (
    "onset", "onsets", "recordingonset", "start", "starts", "startsec", "startseconds",
    "epochstart", "begin", "starttime", "time", "timestamp", "datetime", "clockstarttime",
    "clocktime", "debut", "heurededebut", "startuhrzeit",
    "heure", "heuredebut", "startzeit", "beginn", "zeit", "uhrzeit", "hora", "inicio", "inizio",
    "ora", "tid", "tijd",
)  # fmt: skip
_MAY_BE_ENDS = {
    "time", "timestamp", "datetime", "clocktime", "heure", "zeit", "uhrzeit", "hora", "ora", "tid",
    "tijd",
}  # fmt: skip
_ENDS = (
    "end", "ends", "endsec", "stop", "stopsec", "endtime", "epochend", "fin", "heuredefin", "ende",
    "endzeit", "fine",
)  # fmt: skip
_DURATIONS = (
    "duration", "durations", "durationsec", "durationseconds", "length", "lengthsec", "duree",
    "dauer", "duracion", "duracao", "durata", "varaktighet", "varighet", "duur",
)  # fmt: skip
_EPOCHS = ("epoch", "epochs", "epochnumber", "epochno", "epochnr", "epoche")
_NAMES = {*_STAGES, *_EVENTS, *_ONSETS, *_ENDS, *_DURATIONS, *_EPOCHS, "expert"}
_UNITS = {"ms": 1e-3, "msec": 1e-3, "min": 60.0, "minutes": 60.0, "h": 3600.0, "hours": 3600.0}
_UNIT = re.compile(rf"[\[(_]\s*({'|'.join(_UNITS)})\s*[\])]?$")
PREAMBLE = 200  # lines in which a header is looked for
SPACES = "  "  # two or more, between columns that are aligned
SEPARATORS = ("\t", ";", ",", SPACES)


@dataclass(frozen=True)
class Columns:
    """Where a table has what: column numbers from 0, or ``None``; and its separator.

    ``starts``: ``onset`` is said to be a start; ``time`` may be an end. ``units`` (s) are those of
    columns whose header names another one than seconds.
    """

    stage: int
    onset: int | None = None
    end: int | None = None
    duration: int | None = None
    epoch: int | None = None
    separator: str = ","
    only_stages: bool = True
    starts: bool = False
    units: Mapping[int, float] = field(default_factory=dict)


def name_of(cell: str) -> str:
    """A column's name for comparison: without case, accents, its unit, punctuation."""
    bare = re.sub(r"[\[(].*?[\])]", "", vocabulary.plain(cell))
    return re.sub(r"[^a-z0-9]", "", _UNIT.sub("", bare))


def units_of(header: Sequence[str]) -> dict[int, float]:
    """Units in s that a header names, by column: ``Time (min)``, ``onset_ms``."""
    named = {k: _UNIT.search(vocabulary.plain(cell)) for k, cell in enumerate(header)}
    return {k: _UNITS[match[1]] for k, match in named.items() if match}


def cells_of(line: str, separator: str) -> list[str]:
    """Cells of one line; a lone quotation mark is a character like any other."""
    if separator == SPACES:
        # a clock time's half of the day is no column of its own
        joined = re.sub(r"(?<=\d)\s+(?=[apAP]\.?[mM]\b)", "", line)
        return re.split(r"\s{2,}|\t", joined.strip())
    if separator == " ":
        return re.sub(r"(?<=\d)\s+(?=[apAP]\.?[mM]\b)", "", line).split()
    if line.count('"') % 2 == 0 and '"' in line:
        try:
            return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
        except (csv.Error, StopIteration):
            pass  # a cell longer than the module takes
    return [cell.strip() for cell in line.split(separator)]


def header_of(text: Text) -> tuple[int, str] | None:
    """Line of a table's header and its separator, if there is one."""
    for number, line in enumerate(text.lines[:PREAMBLE]):
        bare = line.lstrip("# ").strip()
        begins = not any(text.lines[:number])
        for separator in SEPARATORS:
            names = [name_of(cell) for cell in cells_of(bare, separator)]
            known = sum(name in _NAMES for name in names)
            labels = any(name in _STAGES or name in _EVENTS or name == "expert" for name in names)
            if labels and (known >= 2 or (begins and len(names) > 1)):
                return number, separator
        # one column alone is a header only where the file begins
        if bare and begins and name_of(bare) in (*_STAGES, "stagecode"):
            return number, "\x00"
    return None


def read(text: Text, recorded: Recorded) -> Scoring:
    """Read a table with a header.

    Raises:
        UserError: a program's stages, rows of several lengths, or times that cannot be read.
    """
    header, table, separator = _split(text)
    names = [name_of(cell) for cell in header]
    # Snooz: events of all kinds by group
    groups = names.index("group") if "group" in names else None
    of_stages = [
        row
        for row in table
        if groups is not None and "stage" in "".join(row[groups : groups + 1]).casefold()
    ]
    columns = _columns(text, header, of_stages or table, separator)
    vocabulary_of = {"stagehum": "yasa"}.get(names[columns.stage], "rk" if of_stages else None)
    scoring = rows_of(text, of_stages or table, columns, recorded)
    return replace(_moved(text, scoring, recorded), vocabulary=vocabulary_of)


def is_export(text: Text) -> bool:
    """Whether it is a table of stages that a program wrote, unchanged by anybody."""
    if header_of(text) is None:
        return False
    header, table, separator = _split(text)
    if not own_exports.program_columns(header):
        return False
    try:
        _columns(text, header, table, separator)
    except UserError:
        return True
    return False


def _split(text: Text) -> tuple[list[str], list[list[str]], str]:
    """Header and rows of a table, without blank lines at its end, and its separator."""
    number, separator = header_of(text) or (0, ",")
    header = cells_of(text.lines[number].lstrip("# "), separator)
    lines = [line for line in text.lines[number + 1 :] if not line.startswith("#")]
    while lines and not lines[-1].strip():
        lines.pop()
    return header, [cells_of(line, separator) for line in lines], separator


def _moved(text: Text, scoring: Scoring, recorded: Recorded) -> Scoring:
    """The rows counted from the recording's start, where the file counts from a time of its own."""
    # MNE: # orig_time : 2021-03-04 22:00:00+00:00
    line = next((line for line in text.lines[:10] if line.startswith("# orig_time")), "")
    clock = clock_of(line.partition(":")[2])
    if clock is None or recorded.start is None or not clock.dates:
        return scoring
    later = Timeline(recorded).seconds(clock)
    rows = [
        replace(row, onset=None if row.onset is None else row.onset + later) for row in scoring.rows
    ]
    return replace(scoring, rows=rows)


def _columns(
    text: Text, header: Sequence[str], table: Sequence[Sequence[str]], separator: str
) -> Columns:
    names = [name_of(cell) for cell in header]

    def first(wanted: Sequence[str]) -> int | None:
        return next((names.index(name) for name in wanted if name in names), None)

    stage, event, onset = first(_STAGES), first(_EVENTS), first(_ONSETS)
    # BIDS: trial_type is sleep_stage, and value which one
    events = [k for k, name in enumerate(names) if name in _EVENTS]
    event = next((k for k in [event, *events] if k is not None and _has_stages(table, k)), event)
    if event is not None and (stage is None or _names_stages(table, event)):
        stage, only_stages = event, False
    elif stage is None and "expert" not in names:
        raise text.wrong(f"no column of stages among {', '.join(header)}; name it: --expert_table")
    else:
        only_stages = True
    stage = _persons_column(text, header, names, table, stage)
    return Columns(
        stage, onset, first(_ENDS), first(_DURATIONS), first(_EPOCHS), separator,
        only_stages or onset is None, onset is not None and names[onset] not in _MAY_BE_ENDS,
        units_of(header),
    )  # fmt: skip


def _has_stages(table: Sequence[Sequence[str]], column: int) -> bool:
    """Whether any cell of a column is a stage that somebody scored."""
    words = map(vocabulary.word_of, {row[column] for row in table if len(row) > column})
    return any(word.number is not None or (word.code or 0) > 0 for word in words)


def _names_stages(table: Sequence[Sequence[str]], column: int) -> bool:
    """Whether a column of events has some that call themselves stages: SLEEP-S2."""
    words = {row[column] for row in table if len(row) > column}
    return any(word.prefixed and word.code is not None for word in map(vocabulary.word_of, words))


def _persons_column(
    text: Text,
    header: Sequence[str],
    names: Sequence[str],
    table: Sequence[Sequence[str]],
    stage: int | None,
) -> int:
    """The column that a person filled in: ``expert``, or stages that a program did not write.

    Raises:
        UserError: the stages are a program's, and nobody changed them.
    """

    ordered = own_exports.in_order(header, table)

    def codes(column: int | None) -> list[int]:
        if column is None:
            return []
        words = (row[column] if len(row) > column else "" for row in ordered)
        return [-1 if (code := vocabulary.stage_of(word)) is None else code for word in words]

    expert = names.index("expert") if "expert" in names else None
    filled = expert is not None and any(code >= 0 for code in codes(expert))
    written = own_exports.program_columns(header)
    if own_exports.HASH_COLUMN in header:
        place = header.index(own_exports.HASH_COLUMN)
        stated = next((row[place] for row in table if len(row) > place and row[place]), "-")
        was, _, expert_was = stated.partition("-")
        if filled and own_exports.stages_hash(codes(expert)) != expert_was:
            return expert
        is_changed = own_exports.stages_hash(codes(stage)) != was
        # of a part of it no hash is known
        if (
            stage is not None
            and is_changed
            and not own_exports.are_most_probable(header, ordered, codes(stage))
        ):
            return stage
        raise text.wrong(
            "stages that this program exported, unchanged: no expert's; correct them in it, fill "
            "in its column expert, or name an expert's file"
        )
    if filled or stage is None:
        return expert
    if written:
        raise text.wrong(
            f"stages that a program wrote (column {written[0]}): no expert's; name an expert's "
            "file, or remove that column if a person went over all stages"
        )
    return stage


def rows_of(
    text: Text, table: Sequence[Sequence[str]], columns: Columns, recorded: Recorded
) -> Scoring:
    """The scoring of a table's rows.

    Raises:
        UserError: rows without their columns, or times that cannot be read.
    """
    used = [columns.stage, columns.onset, columns.end, columns.duration, columns.epoch]
    width = max(column for column in used if column is not None) + 1
    timed = columns.onset is not None or columns.end is not None
    table, notes = _without_foot(table, width), []
    short = [row for row in table if len(row) < width and any(row)]
    if short and (columns.only_stages or not timed):
        raise text.wrong("its rows have different numbers of columns; correct the file")
    if any("stage" in " ".join(row).casefold() for row in short):
        notes.append(f"{len(short)} rows have too few columns, such as {short[0]}")
    is_list = not timed and columns.epoch is None
    # what neither times nor numbers place is placed by its line, blank ones too
    table = [row for row in table if is_list or (len(row) >= width and any(row))]
    if not table:
        raise text.wrong("holds no sleep stages")
    words = [row[columns.stage] if any(row) else "" for row in table]
    if is_list:
        return Scoring([Row(word) for word in words], blanks=True)
    if columns.epoch is not None and (not timed or _are_vague(table, columns, recorded)):
        return _numbered(text, [row[columns.epoch] for row in table], words, recorded)
    comma = columns.separator != ","
    timed_rows = times.of_columns(text, table, columns, recorded, comma=comma, notes=notes)
    rows = [Row(words[k], onset, seconds) for k, onset, seconds in timed_rows]
    return Scoring(rows, only_stages=columns.only_stages, notes=notes)


def _without_foot(table: Sequence[Sequence[str]], width: int) -> Sequence[Sequence[str]]:
    """A table without what is written below it, after a blank line and in fewer columns."""
    whole = [k for k, row in enumerate(table) if len(row) >= width and any(row)]
    end = whole[-1] + 1 if whole else 0
    return table[:end] if whole and len(table) > end and not any(table[end]) else table


def _are_vague(table: Sequence[Sequence[str]], columns: Columns, recorded: Recorded) -> bool:
    """Whether clock times place no rows: they lack seconds, or a start to count from."""
    if columns.onset is None:
        return False
    clocks = [clock_of(row[columns.onset]) for row in table]
    return None not in clocks and (recorded.start is None or len(set(clocks)) < len(clocks))


def _numbered(
    text: Text, epochs: Sequence[str], words: Sequence[str], recorded: Recorded
) -> Scoring:
    """The scoring of a table that numbers its epochs, from 0 or 1, all or only those scored.

    Raises:
        UserError: epochs are missing, and where numbers begin is unknown, or they are out of order.
    """
    plain = [re.sub(r"\.0*$", "", epoch) for epoch in epochs]
    if any(plain == [str(k) for k in range(s, s + len(plain))] for s in (0, 1)):
        return Scoring([Row(word) for word in words])
    numbers = [int(one) if re.fullmatch(r"\d{1,6}", one, re.ASCII) else -1 for one in plain]
    n_epochs = int(recorded.seconds / EPOCH_SECONDS + 1e-6)
    first = 0 if numbers[0] == 0 else 1
    # from 1 where the last number shows it, else the first epoch may be missing
    known = numbers[-1] == n_epochs if first else numbers[-1] < n_epochs
    if not known or any(b <= a for a, b in pairwise([-1, *numbers])):
        raise text.wrong(
            "its epochs are not 0, 1, 2 … or 1, 2, 3 … to the end, so none is placed; give it all "
            "epochs, or a column of onsets"
        )
    rows = [
        Row(word, EPOCH_SECONDS * (number - first), EPOCH_SECONDS)
        for word, number in zip(words, numbers, strict=True)
    ]
    return Scoring(rows, notes=[f"{n_epochs - len(rows)} epochs are not in it: unscored"])
