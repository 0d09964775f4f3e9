"""An expert's stages beside a recording: Sleep-EDF hypnograms, NSRR XML, BIDS events, lists.

A list has one stage per epoch, as YASA and many labs write it; a table has a column of stages and,
if it has one of onsets, rows anywhere on the 30 s grid. Stages that a model wrote are refused.
"""

from __future__ import annotations

import csv
import glob
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from datasets.readers import nsrr_annotations, ucddb
from datasets.readers.dreem_file import DreemFile
from datasets.readers.edf import EdfFile
from datasets.readers.recording import Bout, stages_from_bouts
from datasets.readers.sleepedf import STAGE_OF_TEXT
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS, MADE_BY_A_MODEL, STAGES, UNSCORED

_MODEL_COLUMNS = {"p_W", "probability"}  # of exports as csv and events
_WORDS = {
    **{name.lower(): code for code, name in enumerate(STAGES)},
    "wake": 0, "s1": 1, "s2": 2, "s3": 3, "s4": 3, "n4": 3, "r": 4, "art": UNSCORED,
    "uns": UNSCORED, "?": UNSCORED, "n/a": UNSCORED, "mt": UNSCORED, "movement": UNSCORED,
    "unscored": UNSCORED, "unknown": UNSCORED, "": UNSCORED,
}  # fmt: skip
# R&K names as in Sleep-EDF, and those of the AASM
_EDF_TEXTS = {text.casefold(): code for text, code in STAGE_OF_TEXT.items()} | {
    f"sleep stage {name}".casefold(): code for code, name in enumerate(STAGES)
}
# numbers are YASA's, 4 is REM, unless there is a 5: then they are R&K's, 4 is deep sleep;
# below 0 YASA has artefacts and unscored epochs, from 6 on R&K lists have movement and unscored
_YASA = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, -1: UNSCORED, -2: UNSCORED}
_RK = {0: 0, 1: 1, 2: 2, 3: 3, 4: 3, 5: 4, 6: UNSCORED, 7: UNSCORED, 9: UNSCORED, -1: UNSCORED}
_STAGE_COLUMNS = ("stage", "sleep_stage", "trial_type", "hypnogram", "hypno", "expert", "value")
_ONSET_COLUMNS = ("onset", "onset_s", "start", "time")
_DURATION_COLUMNS = ("duration", "duration_s")


def find(edf: Path) -> Path | None:
    """The expert's file beside a recording, by the names that data sets give it."""
    # file names may hold brackets, which are patterns to glob
    stem = glob.escape(edf.stem)
    if re.fullmatch(r"(SC4|ST7)\d{3}[A-Z]0-PSG", stem, re.IGNORECASE):
        # Sleep-EDF: the eighth character of a hypnogram's name is its scorer's, not the PSG's
        stem = f"{stem[:7]}?"
    bare = stem.removesuffix("_eeg")  # BIDS: x_eeg.edf goes with x_events.tsv
    # NSRR: annotations lie in a tree of their own, beside that of the EDFs
    tree = [
        Path(str(edf.parent).replace("edfs", f"annotations-events-{kind}", 1))
        / f"{edf.stem}-{kind}.xml"
        for kind in ("profusion", "nsrr")
        if "edfs" in edf.parts
    ]
    names = (
        f"{stem}-Hypnogram.edf",
        f"{stem}_hypnogram.edf",
        f"{stem}_sleepscoring.edf",
        f"{stem}-profusion.xml",
        f"{stem}-nsrr.xml",
        f"{stem}.xml",
        f"{stem}.edf.XML",
        f"{stem}_stage.txt",
        f"{bare}_events.tsv",
        f"{stem}_hypno.txt",
        f"{stem}_hypno.csv",
        f"{stem}_hypnogram.txt",
        f"{stem}_hypnogram.csv",
        f"{stem}.txt",
        f"{stem}.csv",
    )
    beside = [path for name in names for path in sorted(edf.parent.glob(name))]
    for path in (*beside, *tree):
        if path.exists() and path != edf and not _is_export(path):
            return path
    return None


def _is_export(path: Path) -> bool:
    """Whether a file holds stages that this program exported from a model."""
    # enough for the fixed header of an EDF and for the column names of a table
    with path.open("rb") as file:
        head = file.read(256)
    if path.suffix.lower() in (".edf", ".bdf"):
        return MADE_BY_A_MODEL.encode() in head
    return bool(_MODEL_COLUMNS & set(re.split(r"[,\t\r\n]", head.decode("utf-8", "replace"))))


def read(path: Path, recording: EdfFile | DreemFile, n_epochs: int) -> tuple[np.ndarray, str]:
    """Stages of a recording, (``n_epochs``,) int8, -1 where nobody scored, and what was assumed.

    Raises:
        UserError: the file is broken, of another recording, or scores no epoch of this one.
    """
    note, suffix = "", path.suffix.lower()
    if suffix in (".edf", ".bdf"):
        scored = EdfFile(path)
        if _start_apart(recording.start, scored.start):
            raise UserError(f"{path}: starts {scored.start}, the recording {recording.start}")
        stages = of_annotations(scored, n_epochs)
        if stages is None:
            raise UserError(f"{path}: holds no sleep stages; is it a hypnogram?")
    elif suffix == ".xml":
        stages = _of_xml(path, recording.seconds)
    elif path.name.endswith("_stage.txt"):
        stages = ucddb.read_codes(path)
    else:
        stages, note = _of_text(path, n_epochs)
    stages = stages_from_bouts((), n_epochs) if not len(stages) else _fitted(stages, n_epochs)
    if (stages == UNSCORED).all():
        raise UserError(f"{path}: scores no epoch of {recording.path.name}")
    return stages, note


def _start_apart(one: datetime | None, other: datetime | None) -> bool:
    """Whether two starts are known and differ, by a second or more of the time of day.

    De-identified files have other dates, or none, and headers have whole seconds.
    """
    if one is None or other is None:
        return False
    return one.time().replace(microsecond=0) != other.time().replace(microsecond=0)


def of_annotations(file: EdfFile, n_epochs: int) -> np.ndarray | None:
    """Stages (``n_epochs``,) among a file's EDF+ annotations, ``None`` if it has events alone.

    One without a duration lasts until the next stage, the last such one epoch.

    Raises:
        UserError: stages off the 30 s grid, or two for one epoch.
    """
    scored = sorted(
        (a.onset, a.duration, _EDF_TEXTS[a.text.casefold()])
        for a in file.annotations()
        if a.text.casefold() in _EDF_TEXTS
    )
    if not scored:
        return None
    ends = [onset for onset, _, _ in scored[1:]] + [scored[-1][0] + EPOCH_SECONDS]
    timed = [(t, length or end - t, c) for (t, length, c), end in zip(scored, ends, strict=True)]
    return _placed(file.path, timed, n_epochs)


def _placed(path: Path, timed: Sequence[tuple[float, float, int]], n_epochs: int) -> np.ndarray:
    """Stages (``n_epochs``,) of (onset, duration in s, code) in any order, which do not overlap."""
    bouts, scored_until = [], 0
    for onset, seconds, code in sorted(timed):
        first, epochs = onset / EPOCH_SECONDS, seconds / EPOCH_SECONDS
        if first < 0 or epochs < 1 or first % 1 or epochs % 1:
            raise UserError(
                f"{path}: {onset:g} s for {seconds:g} s does not fill whole 30 s epochs"
            )
        if first < scored_until:
            raise UserError(f"{path}: two stages at {onset:g} s; correct the file")
        scored_until = int(first + epochs)
        bouts.append(Bout(int(first), int(epochs), code))
    return stages_from_bouts(tuple(bouts), n_epochs)


def _fitted(stages: np.ndarray, n_epochs: int) -> np.ndarray:
    """Stages cut to the recording, unscored where they end before it."""
    missing = max(0, n_epochs - len(stages))
    return np.pad(stages[:n_epochs], (0, missing), constant_values=UNSCORED).astype(np.int8)


def _of_xml(path: Path, seconds: float) -> np.ndarray:
    with path.open("rb") as file:
        is_profusion = b"CMPStudyConfig" in file.read(2048)
    if is_profusion:
        return nsrr_annotations.read_profusion(path)
    return nsrr_annotations.read_nsrr(path, seconds)


def _of_text(path: Path, n_epochs: int) -> tuple[np.ndarray, str]:
    """Stages of a list or a table, and what was assumed."""
    try:
        # utf-8-sig: spreadsheets begin their exports with a byte order mark
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a list of stages ({error})") from error
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    kept = [line for line in lines if line.strip() and not line.startswith("#")]
    table = list(csv.reader(kept, delimiter=delimiter))
    if not table:
        raise UserError(f"{path}: holds no sleep stages")
    header = [name.strip().lower() for name in table[0]]
    column = next((header.index(name) for name in _STAGE_COLUMNS if name in header), None)
    if column is None and len(header) > 1:
        wanted = ", ".join(_STAGE_COLUMNS)
        raise UserError(f"{path}: none of its columns is called {wanted}: {', '.join(header)}")
    rows = table if column is None else table[1:]
    if any(len(row) < len(header) for row in rows):
        raise UserError(f"{path}: its rows have different numbers of columns")
    words = [row[column or 0].strip() for row in rows]
    placed = next((header.index(name) for name in _ONSET_COLUMNS if name in header), None)
    codes, note = _codes(words, path, others_allowed=placed is not None)
    if placed is None:
        if column is not None and "epoch" in header:
            _check_numbers(path, [row[header.index("epoch")].strip() for row in rows])
        return np.array(codes, np.int8), note
    length = next((header.index(name) for name in _DURATION_COLUMNS if name in header), None)
    return _placed(path, list(_timed(path, rows, codes, placed, length)), n_epochs), note


def _check_numbers(path: Path, epochs: Sequence[str]) -> None:
    """Refuse a table that numbers its epochs but lacks some, or has them out of order."""
    if not any(epochs == [str(k) for k in range(s, s + len(epochs))] for s in (0, 1)):
        raise UserError(f"{path}: its epochs are not 0, 1, 2 … or 1, 2, 3 …, so none is placed")


def _codes(words: Sequence[str], path: Path, *, others_allowed: bool) -> tuple[list, str]:
    """Stage codes; ``None`` for what is no stage, where other events may be listed."""
    # 2.0 is how pandas writes a 2 if the column has missing values
    numbers = {int(float(word)) for word in words if re.fullmatch(r"[+-]?\d+(\.0*)?", word)}
    known = _RK if 5 in numbers else _YASA
    codes: list[int | None] = []
    for number, word in enumerate(words, 1):
        name = word.lower().removeprefix("sleep stage ").removeprefix("stage ").strip()
        code = _WORDS.get(name)
        if code is None and re.fullmatch(r"[+-]?\d+(\.0*)?", name):
            code = known.get(int(float(name)))
        if code is None and not others_allowed:
            raise UserError(f"{path}: stage {number} is {word!r}, which is no sleep stage")
        codes.append(code)
    if all(code is None for code in codes):
        raise UserError(f"{path}: holds no sleep stages")
    note = "" if not numbers else f"stages as numbers, 4 is {'N3' if known is _RK else 'REM'}"
    return codes, note


def _timed(
    path: Path,
    rows: Sequence[Sequence[str]],
    codes: Sequence[int | None],
    placed: int,
    length: int | None,
) -> Iterator[tuple[float, float, int]]:
    """Onset and duration in s and code of every row that is a stage."""
    for row, code in zip(rows, codes, strict=True):
        if code is None:
            continue
        try:
            onset = float(row[placed])
            seconds = float(row[length]) if length is not None else float(EPOCH_SECONDS)
        except ValueError as error:
            raise UserError(f"{path}: {error} in the row {', '.join(row)}") from error
        yield onset, seconds, code
