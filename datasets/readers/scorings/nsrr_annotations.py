"""Stages as the NSRR cohorts have them: two kinds of XML, WSC's text files, APPLES' annotations.

Every reader returns one code per 30 s epoch from the start of the EDF, -1 where nobody scored: no
header line, no forward-filled clock and no order of elements may shift it.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np

from datasets.readers.scorings.vocabulary import VOCABULARIES, stage_of, word_of
from datasets.readers.scorings.xml_file import root_of
from utils.errors import UserError, unreadable
from utils.stages import EPOCH_SECONDS, LONGEST_SECONDS, UNSCORED

# 3 and 4 are N3; movement, "no stage", unscored and artefact are nobody's stage
_OF_CODE = VOCABULARIES["rk"]
_WORDS = ("W", "N1", "N2", "N3", "N4", "R")  # as text files of the cohorts spell stages
_DAY = 24 * 3600
_CODE = re.compile(r"\d{1,3}", re.ASCII)  # str.isdigit() would take a superscript, too
_CLOCK = re.compile(r"(\d{1,2}):(\d{2}):(\d{2}(?:\.\d+)?)")
Run = tuple[float, float, int]  # start and end in s, code


def read_nsrr(path: Path, seconds: float | None = None) -> np.ndarray:
    """Stages of an NSRR XML (``PSGAnnotation``), placed by their starts, to the end of the last.

    Where durations disagree with the starts that follow, starts are believed if the last stage
    ends with the recording of ``seconds`` (default: the duration that the file gives).

    Raises:
        UserError: not that XML, no stages, or starts and durations that cannot both be right.
    """
    runs = nsrr_runs(_root(path, "PSGAnnotation"), path, seconds)
    return _epochs(runs, runs[-1][1])


def nsrr_runs(root: ElementTree.Element, path: Path, seconds: float | None) -> list[Run]:
    """Start and end in s and code of every stage of an NSRR XML, in order; see :func:`read_nsrr`.

    Raises:
        UserError: no stages, or starts and durations that cannot both be right.
    """
    runs, nameless, stated = [], [], None
    for event in root.iter("ScoredEvent"):
        concept, start, duration = (
            (event.findtext(tag) or "").strip() for tag in ("EventConcept", "Start", "Duration")
        )
        if concept.startswith("Recording Start Time"):
            stated = _number(duration, path, "duration of the recording")
        elif (code := _code_of(concept, event.findtext("EventType") or "")) is not None:
            begin = _number(start, path, f"start of {concept}")
            runs.append((begin, begin + _number(duration, path, f"duration of {concept}"), code))
        elif not concept and start and duration:
            begin = _number(start, path, "start of an event")
            nameless.append((begin, begin + _number(duration, path, "duration"), UNSCORED))
    if not runs:
        raise UserError(f"{path}: holds no sleep stages")
    # a code the translator did not know has no name: a stage, where it fills a gap between stages
    begins, ends = {start for start, _, _ in runs}, {end for _, end, _ in runs}
    runs += [run for run in nameless if run[0] in ends and run[1] in begins]
    return _contiguous(runs, path, stated if seconds is None else seconds)


def read_profusion(path: Path) -> np.ndarray:
    """Stages of a Profusion XML (``CMPStudyConfig``), one ``SleepStage`` per epoch.

    Raises:
        UserError: not that XML, epochs that are not of 30 s, or no stages.
    """
    codes, length = profusion_codes(_root(path, "CMPStudyConfig"), path)
    if length != EPOCH_SECONDS:
        raise UserError(f"{path}: epochs of {length:g} s; 30 s are read here")
    return np.array([_OF_CODE.get(int(code), UNSCORED) for code in codes], np.int8)


def profusion_codes(root: ElementTree.Element, path: Path) -> tuple[list[str], float]:
    """The numbers of a Profusion XML, one per epoch, and the length of an epoch in s.

    Raises:
        UserError: a length that is no number, stages that are none, or no stages.
    """
    length = _number((root.findtext("EpochLength") or "30").strip(), path, "EpochLength")
    codes = [(stage.text or "").strip() for stage in root.iterfind("SleepStages/SleepStage")]
    if not codes:
        raise UserError(f"{path}: holds no sleep stages")
    if strange := sorted({code for code in codes if not re.fullmatch(r"\d{1,3}", code, re.ASCII)}):
        raise UserError(f"{path}: stages {', '.join(strange)[:80]!r}; codes are numbers")
    return codes, length


def early_translation(profusion: np.ndarray) -> np.ndarray:
    """Stages as the first translator to NSRR XML made them of a Profusion scoring (n,).

    It began to count with the second epoch and never wrote the last bout, so that every stage lies
    30 s early and the end is missing: seen epoch by epoch in its own published example.
    """
    last = np.flatnonzero(np.diff(profusion))
    return profusion[1 : last[-1] + 1] if len(last) else profusion[:0]


def reconciled(nsrr: np.ndarray, profusion: np.ndarray, path: Path) -> tuple[np.ndarray, str]:
    """Stages of a night with both annotations, and what had to be decided ("": nothing).

    Raises:
        UserError: they differ otherwise than by the known fault of the first translator; it names
            the first epoch where they do.
    """
    n = min(len(nsrr), len(profusion))
    if abs(len(nsrr) - len(profusion)) <= 1 and (nsrr[:n] == profusion[:n]).all():
        return nsrr[:n], ""
    if np.array_equal(nsrr, early_translation(profusion)):
        return profusion, "NSRR XML of the first translator, 30 s early: stages from Profusion XML"
    differing = np.flatnonzero(nsrr[:n] != profusion[:n])
    first = int(differing[0]) if len(differing) else n
    raise UserError(
        f"{path}: the NSRR annotation ({len(nsrr)} epochs) and the Profusion one "
        f"({len(profusion)}) differ, first in epoch {first}; decide with --annotation"
    )


def read_wsc_gamma(path: Path, n_epochs: int) -> np.ndarray:
    """Stages of WSC's ``.stg.txt``: epoch and stage per line, header or none, padded with -1.

    Raises:
        UserError: a line that is neither, epochs out of order, or more of them than the signal has.
    """
    stages = np.full(n_epochs, UNSCORED, np.int8)
    count = 0
    for number, line in enumerate(_lines(path), 1):
        cells = line.split("\t")
        if cells[0].strip().lower() == "epoch":
            continue
        try:
            epoch, code = int(cells[0]), int(cells[1])
        except (ValueError, IndexError):
            raise UserError(f"{path}: line {number}: {line[:60]!r} is no epoch and stage") from None
        if epoch != count + 1:
            raise UserError(f"{path}: line {number}: epoch {epoch} follows {count}")
        if epoch > n_epochs:
            raise UserError(f"{path}: more stages than the {n_epochs} epochs of its signal")
        stages[count], count = _OF_CODE.get(code, UNSCORED), epoch
    if not count:
        raise UserError(f"{path}: holds no sleep stages")
    return stages


def read_wsc_twin(path: Path, n_epochs: int, start: datetime | None = None) -> np.ndarray:
    """Stages of WSC's ``.allscore.txt``: changes by clock time, counted from START RECORDING.

    Where the EDF's clock (``start``) is more than an epoch away, it is counted from there. An epoch
    takes the stage that covers most of it; after LIGHTS ON nobody scored.

    Raises:
        UserError: no START RECORDING, or no stages after it that lie inside the recording.
    """
    events = [
        (clock, text)
        for line in _lines(path)
        if (clock := _clock(line)) is not None
        for text in [line.partition("\t")[2].strip().upper()]
    ]
    starts = [k for k, (_, text) in enumerate(events) if text.startswith("START RECORDING")]
    if not starts:
        raise UserError(f"{path}: no START RECORDING")
    begin = events[starts[-1]][0]  # of the last start: the EDF holds nothing before it
    late = 0.0 if start is None else apart(begin, start)
    late = late if abs(late) > EPOCH_SECONDS else 0.0
    changes: list[tuple[float, int]] = []
    for clock, text in events[starts[-1] :]:
        at = (clock - begin) % _DAY + late  # the clock passes midnight
        if text.startswith("STAGE - "):
            changes.append((at, _code(text.removeprefix("STAGE - "))))
        elif text.startswith("LIGHTS ON"):
            changes.append((at, UNSCORED))
    if not any(code >= 0 for _, code in changes):
        raise UserError(f"{path}: holds no sleep stages after START RECORDING")
    ends = [at for at, _ in changes[1:]] + [n_epochs * float(EPOCH_SECONDS)]
    runs = [(at, end, code) for (at, code), end in zip(changes, ends, strict=True) if end > at]
    stages = _epochs(runs, n_epochs * EPOCH_SECONDS)
    if not (stages >= 0).any():
        raise UserError(
            f"{path}: none of its stages lie inside the recording, which begins {-late:+.0f} s "
            "from START RECORDING by the EDF's clock"
        )
    return stages


def read_wsc_log(path: Path) -> float | None:
    """Clock time in s of the last "Recording Started" in WSC's ``.log.txt``, if there is one."""
    clocks = [
        clock
        for line in _lines(path)
        if "recording started" in line.lower() and (clock := _clock(line)) is not None
    ]
    return clocks[-1] if clocks else None  # earlier ones may be tests


def apart(clock: float, start: datetime | None) -> float:
    """Seconds from the EDF's ``start`` to a clock time, the nearer way around midnight.

    Raises:
        UserError: the start is unknown.
    """
    if start is None:
        raise UserError("its stages have clock times, and the EDF's start is unknown; correct it")
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    difference = clock - (start - midnight) / timedelta(seconds=1)
    return (difference + _DAY / 2) % _DAY - _DAY / 2


def read_apples(path: Path, start: datetime | None, n_epochs: int) -> np.ndarray:
    """Stages of APPLES' ``.annot``: half-open intervals by clock time or seconds from ``start``.

    ``start`` is the EDF's.

    Raises:
        UserError: a stage without times, or none at all.
    """
    runs: list[Run] = []
    for number, line in enumerate(_lines(path), 1):
        cells = [cell.strip() for cell in line.split("\t")]
        # ? is unscored and L lights on; other classes are events
        if line.startswith("#") or cells[0] == "class" or cells[0] not in (*_WORDS, "?", "L"):
            continue
        try:
            begin = _elapsed(cells[3], start)
            # "...": until the next line, which is an epoch in a list of stages
            end = begin + EPOCH_SECONDS if cells[4] == "..." else _end(cells[4], begin, start)
        except (ValueError, IndexError):
            raise UserError(f"{path}: line {number}: {line[:60]!r} has no start and stop") from None
        runs.append((begin, end, _code(cells[0])))
    if not runs:
        raise UserError(f"{path}: holds no sleep stages")
    if runs[0][0] >= n_epochs * EPOCH_SECONDS:
        raise UserError(f"{path}: its first stage lies after the end of the recording")
    return _epochs(sorted(runs), n_epochs * EPOCH_SECONDS)


def _root(path: Path, name: str) -> ElementTree.Element:
    root = root_of(path)
    if root.tag != name:
        raise UserError(f"{path}: a {root.tag} file, not {name}")
    return root


def _code(word: str) -> int:
    code = stage_of(word)
    return UNSCORED if code is None else code


def _code_of(concept: str, kind: str) -> int | None:
    """Stage of an event; ``None`` for events that are not stages."""
    words, _, code = concept.partition("|")
    # newer files have types, and the code behind a bar: Stage 2 sleep|2
    if kind.startswith("Stages"):
        if _CODE.fullmatch(code.strip()):
            return _OF_CODE.get(int(code), UNSCORED)
        return _code(words)
    # older ones have neither, but the prefix of an ontology: SDO:WakeState
    word = word_of(words)
    return None if kind or word.vague else word.code


def _number(text: str, path: Path, what: str) -> float:
    try:
        return _instant(text)
    except ValueError:
        raise UserError(f"{path}: {what} is {text[:40]!r}, not a number of seconds") from None


def _instant(text: str) -> float:
    """Seconds within what a recording may last; ``ValueError`` for other numbers, such as nan."""
    seconds = float(text)
    if not abs(seconds) <= LONGEST_SECONDS:
        raise ValueError(text)
    return seconds


def _contiguous(runs: list[Run], path: Path, seconds: float | None) -> list[Run]:
    """Runs in order, each up to the next; refused if either starts or durations could be wrong."""
    runs = sorted(runs)
    wrong = [(a, b) for a, b in pairwise(runs) if abs(a[1] - b[0]) > 0.5]
    if not wrong:
        return runs
    (start, end, _), (following, _, _) = wrong[0]
    last = runs[-1][1]
    if following <= start or seconds is None or abs(last - seconds) > EPOCH_SECONDS:
        raise UserError(
            f"{path}: the stage that begins at {start:g} s lasts to {end:g} s, the next one begins "
            f"at {following:g} s; the last ends at {last:g} s, the recording at {seconds or 0:g} s"
        )
    return [(a[0], b[0], a[2]) for a, b in pairwise(runs)] + runs[-1:]


def _epochs(runs: Iterable[Run], seconds: float) -> np.ndarray:
    """Code of every whole epoch: what covers most of it, the later of two that cover as much."""
    n_epochs = int(seconds / EPOCH_SECONDS + 1e-9)  # forgiving float noise, as below
    stages, covered = np.full(n_epochs, UNSCORED, np.int8), np.zeros(n_epochs)
    for start, end, code in runs:
        first, last = int(start // EPOCH_SECONDS), int(np.ceil(end / EPOCH_SECONDS - 1e-9))
        for epoch in range(max(0, first), min(n_epochs, last)):
            inside = min(end, (epoch + 1) * EPOCH_SECONDS) - max(start, epoch * EPOCH_SECONDS)
            if inside >= covered[epoch] and inside > 0:
                stages[epoch], covered[epoch] = code, inside
    return stages


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("latin-1")  # takes any byte; what matters is ASCII
    except OSError as error:
        raise unreadable(path, error) from error
    # not splitlines, which in this encoding also cuts at bytes such as 0x85
    return [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]


def _clock(line: str) -> float | None:
    """Seconds after midnight at the beginning of a line."""
    match = _CLOCK.match(line)
    return None if match is None else _seconds(match)


def _seconds(match: re.Match) -> float:
    return 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3])


def _elapsed(text: str, start: datetime) -> float:
    """Seconds from the EDF's start: a clock time, ``0+hh:mm:ss``, or a number of seconds."""
    if text.startswith("0+") and (match := _CLOCK.fullmatch(text[2:])):
        return _seconds(match)
    if match := _CLOCK.fullmatch(text):
        midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
        return (_seconds(match) - (start - midnight) / timedelta(seconds=1)) % _DAY
    return _instant(text)


def _end(text: str, begin: float, start: datetime) -> float:
    if text.startswith("+"):
        return begin + _instant(text[1:])
    end = _elapsed(text, start)
    return end if end > begin else end + _DAY
