"""Which layout a scoring has, by its content, and its stages on the epochs of a recording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from datasets.readers.scorings import (
    declared_table,
    lab_texts,
    lab_xml,
    lists,
    own_exports,
    placement,
    stage_tables,
    vocabulary,
)
from datasets.readers.scorings.decoding import text_of, xml_of
from datasets.readers.scorings.scoring import Recorded, Row, Scoring, Text, Wishes
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS, LONGEST_SECONDS, UNSCORED

READ = (
    "lists of stages (YASA, Compumedics, Luna eannot, U-Sleep hyp, DREAMS, STA, Deltamed, Prana, "
    "Visbrain), tables (RemLogic, Alice, Nox, Sandman, BIDS, EDFbrowser, MNE, Snooz, NIDRA), "
    "DOMINO profiles, SAF, Luna annot, vmrk, XML (Profusion, NSRR, RML, Wonambi, EDFbrowser), EDF+"
)
_HEAD = 4096  # characters in which an export names its origin
# the first that fits; each knows what marks its own layout
LAYOUTS: Sequence[tuple[Callable[[Text], object], Callable[[Text, Recorded], Scoring]]] = (
    (lab_texts.is_markers, lab_texts.read_markers),
    (lab_texts.is_saf, lab_texts.read_saf),
    (lists.is_dreams, lists.read_dreams),
    (lists.is_visbrain, lists.read_visbrain),
    (lab_texts.is_annot, lab_texts.read_annot),
    (stage_tables.header_of, stage_tables.read),
    (lab_texts.is_domino, lab_texts.read_domino),
    (lists.is_numbered, lists.read_numbered),
    (lists.columns_of, lists.read_columns),
    (lists.is_prana, lists.read_prana),
    (lambda text: True, lists.read),
)


def read(path: Path, recorded: Recorded, wishes: Wishes) -> tuple[np.ndarray, list[str]]:
    """Stages of a scoring per 30 s epoch of a recording, int8, and what was assumed.

    Raises:
        UserError: it is no scoring that is read here, of another recording, or ambiguous.
    """
    text = text_of(path)
    if not text.whole.strip():
        raise text.wrong("holds no sleep stages: it is empty")
    if is_unchanged_export(text):
        raise text.wrong(own_exports.UNCHANGED)
    scoring = _scoring(text, recorded, wishes)
    return stages_of(scoring, recorded, path, wishes.vocabulary)


def is_unchanged_export(text: Text) -> bool:
    """Whether a scoring is marked as this program's, and no stage in it was changed."""
    stated = own_exports.stated_hash(text.whole[:_HEAD].encode(errors="replace"))
    if not stated:
        return False
    # how long stages last is of interest here, not when they begin
    anywhere = Recorded(text.path.name, datetime(1985, 1, 1), float(LONGEST_SECONDS), ())
    scoring = _scoring(text, anywhere, Wishes())
    words = [row.word for row in scoring.rows]
    codes, _ = vocabulary.codes_of(
        words, text.path, scoring.vocabulary, only_stages=scoring.only_stages
    )
    epochs = [
        code
        for row, code in zip(scoring.rows, codes, strict=True)
        if code is not None
        for _ in range(round((row.seconds or EPOCH_SECONDS) / EPOCH_SECONDS))
    ]
    return own_exports.stages_hash(epochs) == stated


def _scoring(text: Text, recorded: Recorded, wishes: Wishes) -> Scoring:
    try:
        if wishes.table is not None:
            return declared_table.read(text, wishes.table, recorded)
        if text.whole.lstrip("\ufeff \r\n\t").startswith("<"):
            root = xml_of(text)
            reader = lab_xml.READERS.get(lab_xml.tag_of(root))
            if reader is None:
                raise text.wrong(f"XML of {lab_xml.tag_of(root)[:40]!r}; read are {READ}")
            return reader(text, root, recorded)
        return next(read_text for fits, read_text in LAYOUTS if fits(text))(text, recorded)
    except UserError as error:
        message = str(error)
        # what only knows times does not know its file
        raise error if message.startswith(str(text.path)) else text.wrong(message) from error


def stages_of(
    scoring: Scoring, recorded: Recorded, path: Path, wish: str | None
) -> tuple[np.ndarray, list[str]]:
    """Stages of a scoring's rows, int8 per 30 s epoch, and what was assumed.

    Raises:
        UserError: words that are no stages, times that cannot be, or a list of another length.
    """
    timed = bool(scoring.rows) and scoring.rows[0].onset is not None
    rows = scoring.rows if timed else _without_space(scoring, recorded)
    try:
        codes, notes = vocabulary.codes_of(
            [row.word for row in rows],
            path,
            wish or scoring.vocabulary,
            only_stages=scoring.only_stages,
        )
    except UserError as error:
        if "no sleep stage" in str(error):
            raise UserError(f"{error}; read are {READ}; others with --expert_table") from error
        raise
    # what the format itself defines needs no note
    notes = [] if wish is None and scoring.vocabulary else notes
    if not timed:
        stages, placing = placement.of_order(codes, recorded, path, epoch=scoring.epoch)
        return stages, [*scoring.notes, *notes, *placing]
    placed = [
        placement.Placed(row.onset, row.seconds, code, row.word)
        for row, code in zip(rows, codes, strict=True)
        if code is not None
    ]
    stages, placing = placement.of_times(placed, recorded, path, until_next=scoring.until_next)
    unknown = _unknown(rows, codes, stages)
    return stages, [*scoring.notes, *notes, *placing, *unknown]


def _without_space(scoring: Scoring, recorded: Recorded) -> list[Row]:
    """The rows of a list, less blank lines that are no epochs: the first choice that fits."""
    rows = list(scoring.rows)
    if not scoring.blanks:
        return rows
    words = [row.word for row in rows]
    first = next((k for k, word in enumerate(words) if word), 0)
    last = len(words) - next((k for k, word in enumerate(reversed(words)) if word), 0)
    choices = [rows[first:last], rows[:last], rows[first:], rows]
    if not any(words[first + 1 : last : 2]):
        choices.append(rows[first:last:2])  # every second line is blank: double line ends
    length = scoring.epoch or placement.EPOCH_SECONDS
    fitting = (one for one in choices if placement.fits(len(one), length, recorded.seconds))
    return next(fitting, rows[first:last])


def _unknown(rows: Sequence[Row], codes: Sequence[int | None], stages: np.ndarray) -> list[str]:
    """Words of other languages that may be stages: they fill whole epochs that have none."""
    named: dict[str, int] = {}
    for row, code in zip(rows, codes, strict=True):
        length = row.seconds or 0
        if code is not None or length < 30 or length % 30 or row.onset < 0:
            continue
        first = int(row.onset // 30)
        part = stages[first : first + int(length // 30)]
        if len(part) and (part == UNSCORED).all():
            named[row.word] = named.get(row.word, 0) + len(part)
    if not named:
        return []
    words = ", ".join(f"{word[:30]!r} ({n})" for word, n in list(named.items())[:5])
    return [f"unscored, though they fill whole epochs: {words}"]
