"""An expert's stages of a recording: a file beside it, one that is named, or its own annotations.

What a file is, its content decides (``datasets/readers/scorings``). Stages that a program wrote are
no expert's, unless a person changed them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import time, timedelta
from itertools import pairwise
from pathlib import Path
from string import ascii_uppercase, digits

import numpy as np

from datasets.readers.dreem_file import DreemFile
from datasets.readers.edf import Annotation, EdfFile
from datasets.readers.scorings import layouts, own_exports, stage_tables, vocabulary
from datasets.readers.scorings.clocks import DAY, is_real
from datasets.readers.scorings.decoding import text_of
from datasets.readers.scorings.scoring import Recorded, Row, Scoring, Wishes
from utils.errors import UserError, unreadable
from utils.stages import EPOCH_SECONDS, UNSCORED

# of scorings beside a recording with its name, in the order in which one is preferred
_ENDINGS = (
    "-Hypnogram.edf", "_hypnogram.edf", "_sleepscoring.edf", "-profusion.xml", "-nsrr.xml", ".xml",
    ".edf.XML", "_stage.txt", "_hypno.txt", "_hypno.csv", "_hypnogram.txt", "_hypnogram.csv",
    "_sleepscoring.txt", "_sleepscoring.csv",
)  # fmt: skip
_OF_SLEEP_EDF = re.compile(r"(SC4|ST7)\d{3}[A-Z]0-PSG", re.IGNORECASE)
SUFFIXES = (".txt", ".csv", ".rml", ".eannot", ".annot", ".hyp", ".sta", ".vmrk", ".tsv")
_SHORTEST_STAGE = 5.0  # s
_OF_UCDDB = re.compile(r"ucddb\d{3}_stage\.txt", re.IGNORECASE)


def find(edf: Path) -> Path | None:
    """The expert's file beside a recording, by the names that data sets give it.

    What a program exported is passed over, unless somebody changed it: see :func:`exports_beside`.
    """
    return next((path for path in _beside(edf) if not is_export(path)), None)


def others_beside(edf: Path, read: Path) -> list[Path]:
    """Further files that could be the expert's, beside a recording of which ``read`` was taken.

    A scoring often lies there in several formats, each called one; but ``n.txt`` and ``n.csv`` have
    nothing but the recording's name, and one of them may be a technician's notes.
    """
    several = [path for path in _beside(edf) if path != read and not is_export(path)]
    return [path for path in several if path.stem == read.stem == edf.stem]


def exports_beside(edf: Path) -> list[Path]:
    """Files beside a recording whose stages a program wrote, and which are no expert's."""
    return [path for path in _beside(edf) if is_export(path)]


def _beside(edf: Path) -> Iterator[Path]:
    """Files of stages that may belong to a recording, each looked up by its name."""
    stem = edf.stem
    bare = stem.removesuffix("_eeg")  # BIDS: x_eeg.edf goes with x_events.tsv
    # Sleep-EDF: the eighth character of a hypnogram's name is its scorer's, not the PSG's
    scorers = ascii_uppercase + digits if _OF_SLEEP_EDF.fullmatch(stem) else ""
    names = [
        *((stem[:7], f"{scorer}-Hypnogram.edf") for scorer in scorers),
        *((stem, ending) for ending in _ENDINGS),
        (bare, "_events.tsv"),
        *((stem, suffix) for suffix in SUFFIXES),
    ]
    # NSRR: annotations lie in a tree of their own, beside that of the EDFs
    tree = [
        Path(str(edf.parent).replace("edfs", f"annotations-events-{kind}", 1))
        / f"{stem}-{kind}.xml"
        for kind in ("profusion", "nsrr")
        if "edfs" in edf.parts
    ]
    spelt = [
        edf.with_name(name + one) for name, ending in names
        for end in dict.fromkeys((ending, ending.lower()))
        for one in (end, f"{end[: end.rindex('.')]}{end[end.rindex('.') :].swapcase()}")
    ]  # fmt: skip
    seen = set[Path]()
    for path in dict.fromkeys((*spelt, *tree)):
        # where case is ignored, one file has several spellings
        if path.is_file() and path != edf and path.resolve() not in seen:
            seen.add(path.resolve())
            yield path


def is_export(path: Path) -> bool:
    """Whether a file holds stages that a program wrote, unchanged by anybody."""
    if path.suffix.lower() in (".edf", ".bdf"):
        try:
            return _is_unchanged_edf(path)
        except UserError:
            return False  # broken: said when it is read
    head = _head(path, 4096)
    try:
        if own_exports.stated_hash(head) and layouts.is_unchanged_export(text_of(path)):
            return True
    except UserError:
        return False
    if path.suffix.lower() == ".eannot":  # which has no room for a mark
        return own_exports.is_listed(path)
    # a table whose columns only programs write, whatever its encoding
    names = head.replace(b"\x00", b"").decode("latin-1").casefold()
    if not re.search(r"prob|conf|certainty|\bp[_ .-]|stages_hash", names):
        return False
    try:
        return stage_tables.is_export(text_of(path))
    except UserError:
        return False


def _head(path: Path, n_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(n_bytes)
    except OSError as error:
        raise unreadable(path, error) from error


def read(
    path: Path, recording: EdfFile | DreemFile, n_epochs: int, wishes: Wishes | None = None
) -> tuple[np.ndarray, str]:
    """Stages of a recording, (``n_epochs``,) int8, -1 where nobody scored, and what was assumed.

    Raises:
        UserError: the file is broken, ambiguous, of another recording or length, a program's, or
            scores no epoch of this one.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; name one with --expert, or none")
    wishes, notes = wishes or Wishes(), []
    recorded = recorded_of(recording)
    if path.suffix.lower() in (".edf", ".bdf") or _head(path, 8) == b"0       ":
        stages = _of_edf(path, recorded, wishes, notes)
    else:
        if wishes.vocabulary is None and _OF_UCDDB.fullmatch(path.name):
            wishes = Wishes("ucddb", wishes.table)
        if path.suffix.lower() == ".eannot" and own_exports.is_listed(path):
            raise UserError(f"{path}: {own_exports.UNCHANGED}")
        stages, notes = layouts.read(path, recorded, wishes)
    stages = _fitted(stages, n_epochs)
    if (stages == UNSCORED).all():
        raise UserError(f"{path}: scores no epoch of {recorded.name}; is it of another recording?")
    return stages, "; ".join(dict.fromkeys(notes))


def recorded_of(recording: EdfFile | DreemFile) -> Recorded:
    """What a scoring is placed against: the recording's name, start, length and rates."""
    rates = tuple(dict.fromkeys(channel.fs for channel in recording.channels))
    return Recorded(Path(recording.path).name, recording.clock, recording.seconds, rates)


def of_annotations(
    file: EdfFile, n_epochs: int, notes: list[str] | None = None
) -> np.ndarray | None:
    """Stages (``n_epochs``,) among a file's EDF+ annotations, ``None`` if it has events alone.

    One without a duration lasts until the next stage, or an epoch where each has its own. What was
    assumed, and broken annotations, which are left out, are added to ``notes``.

    Raises:
        UserError: two stages for one epoch.
    """
    notes = [] if notes is None else notes
    stages = _of_annotations(file, recorded_of(file), 0.0, notes)
    return None if stages is None else _fitted(stages, n_epochs)


def _of_annotations(
    file: EdfFile,
    recorded: Recorded,
    late: float,
    notes: list[str],
    wishes: Wishes | None = None,
) -> np.ndarray | None:
    """Stages of a file's annotations on the epochs of a recording that began ``late`` s earlier.

    With ``wishes`` it is a hypnogram, all of whose annotations may be stages.
    """
    broken: list[str] = []
    rows = _stage_rows(file.annotations(broken), is_hypnogram=wishes is not None)
    notes += [f"{broken[0]} ({len(broken)} in all)"] if broken else []
    if not rows:
        return None
    rows = [Row(a.text, a.onset + late, a.duration) for a in rows]
    scoring = Scoring(rows, only_stages=False)
    stages, assumed = layouts.stages_of(scoring, recorded, file.path, wishes and wishes.vocabulary)
    notes += assumed
    return stages


def _stage_rows(annotations: Sequence[Annotation], *, is_hypnogram: bool) -> list[Annotation]:
    """The annotations that are stages: those called so, or else words that lie like epochs.

    ``is_hypnogram``: numbers may be stages, too, and letters alone.
    """
    words = {text: vocabulary.word_of(text) for text in {a.text for a in annotations}}
    if any(word.prefixed and word.code not in (None, UNSCORED) for word in words.values()):
        kept = {
            text for text, word in words.items()
            if word.prefixed or (word.code == UNSCORED and not word.vague)
        }  # fmt: skip
        return [a for a in annotations if a.text in kept]
    rows = [
        a for a in annotations
        if (words[a.text].code is not None and not words[a.text].vague)
        or (is_hypnogram and words[a.text].number is not None)
    ]  # fmt: skip
    rows = _like_epochs(rows)
    kinds = {words[a.text].code for a in rows}
    spelt = any(len(a.text.strip()) > 1 for a in rows)  # W and R alone are triggers
    return rows if is_hypnogram or (spelt and len(kinds) > 1) else []


def _like_epochs(rows: list[Annotation]) -> list[Annotation]:
    """Rows that last like epochs, or lie in steps of them; a trigger ``S 1`` or a note does not."""
    long = [a for a in rows if a.duration >= _SHORTEST_STAGE]
    if 2 * len(long) > len(rows):
        return long  # an "Awake" without a length among them is a technician's
    steps = [abs(b.onset - a.onset) for a, b in pairwise(rows)]
    regular = sum(min(step % 10, 10 - step % 10) < 0.1 <= step for step in steps)
    return rows if len(rows) > 1 and 10 * regular >= 9 * len(steps) else []


def _of_edf(path: Path, recorded: Recorded, wishes: Wishes, notes: list[str]) -> np.ndarray:
    """Stages of an EDF+ hypnogram, placed by its start where that differs from the recording's."""
    if _is_unchanged_edf(path):
        raise UserError(f"{path}: {own_exports.UNCHANGED}")
    if wishes.table is not None:
        raise UserError(f"{path}: an EDF has no columns; leave out --expert_table")
    scored = EdfFile(path)
    late = _late(scored, recorded, notes)
    if late:
        notes.append(f"starts {late:+g} s from the recording, and is placed there")
    stages = _of_annotations(scored, recorded, late, notes, wishes)
    if stages is None:
        raise UserError(f"{path}: holds no sleep stages; is it a hypnogram?")
    return stages


def _late(scored: EdfFile, recorded: Recorded, notes: list[str]) -> float:
    """Seconds from the recording's start to that of its hypnogram.

    Raises:
        UserError: they share no time.
    """
    begins, began = scored.clock, recorded.start
    if began is None or begins is None:
        notes.append("one start is unknown: taken to begin with the recording")
        return 0.0
    late = (begins - began) / timedelta(seconds=1)
    if abs(late) < 1:
        return 0.0  # headers have whole seconds, first samples do not
    if not (is_real(begins.date()) and is_real(began.date())):
        if any(not is_real(s.date()) and s.time() == time() for s in (begins, began)):
            notes.append("date and clock were removed: taken to begin with the recording")
            return 0.0
        late %= DAY
        late -= DAY if late >= recorded.seconds else 0
    elif begins.date() == began.date() and late + DAY < recorded.seconds:
        # lights off after midnight, under the evening's date
        ends = max((a.onset + a.duration for a in scored.annotations([])), default=0.0)
        late += DAY if late + ends <= 0 else 0
    if not -DAY < late < recorded.seconds:
        raise UserError(
            f"{scored.path}: starts {begins}, the recording {began}: they share no time; if a "
            "date was changed to hide the person, change the other as well"
        )
    return late


def _is_unchanged_edf(path: Path) -> bool:
    """Whether EDF+ annotations are this program's, and no stage was changed."""
    stated = own_exports.edf_hash(path)
    if not stated:
        return stated is not None
    codes: list[int] = []
    for a in sorted(EdfFile(path).annotations([]), key=lambda a: a.onset):
        code = vocabulary.stage_of(a.text)
        if code is not None:
            codes += [code] * round(a.duration / EPOCH_SECONDS)
    return own_exports.stages_hash(codes) == stated


def _fitted(stages: np.ndarray, n_epochs: int) -> np.ndarray:
    """Stages cut to the epochs that were staged, unscored where they end before them."""
    missing = max(0, n_epochs - len(stages))
    return np.pad(stages[:n_epochs], (0, missing), constant_values=UNSCORED).astype(np.int8)
