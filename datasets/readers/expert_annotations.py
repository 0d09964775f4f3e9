"""An expert's stages of a recording: a file beside it, one that is named, or its own annotations.

What a file is, its content decides (``datasets/readers/scorings``). Stages that a program wrote are
no expert's, unless a person changed them.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np

from datasets.readers.dreem_file import DreemFile
from datasets.readers.edf import Annotation, EdfFile
from datasets.readers.scorings import layouts, own_exports, stage_tables, vocabulary
from datasets.readers.scorings.clocks import DAY, is_real
from datasets.readers.scorings.decoding import text_of
from datasets.readers.scorings.scoring import Recorded, Row, Scoring, Wishes
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS, UNSCORED

# of scorings beside a recording with its name, in the order in which one is preferred
SUFFIXES = (".txt", ".csv", ".rml", ".eannot", ".annot", ".hyp", ".sta", ".vmrk", ".tsv")
_OF_UCDDB = re.compile(r"ucddb\d{3}_stage\.txt", re.IGNORECASE)


def find(edf: Path) -> Path | None:
    """The expert's file beside a recording, by the names that data sets give it.

    What a program exported is passed over, unless somebody changed it: see :func:`exports_beside`.
    """
    return next((path for path in _beside(edf) if not is_export(path)), None)


def exports_beside(edf: Path) -> list[Path]:
    """Files beside a recording whose stages a program wrote, and which are no expert's."""
    return [path for path in _beside(edf) if is_export(path)]


def _beside(edf: Path) -> Iterator[Path]:
    """Files of stages that may belong to a recording."""
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
        f"{stem}.XML",
        f"{stem}.edf.XML",
        f"{stem}_stage.txt",
        f"{bare}_events.tsv",
        f"{stem}_hypno.txt",
        f"{stem}_hypno.csv",
        f"{stem}_hypnogram.txt",
        f"{stem}_hypnogram.csv",
        f"{stem}_sleepscoring.txt",
        *(f"{stem}{suffix}" for suffix in SUFFIXES),
        *(f"{stem}{suffix.upper()}" for suffix in SUFFIXES),
    )
    beside = [path for name in names for path in sorted(edf.parent.glob(name))]
    for path in dict.fromkeys((*beside, *tree)):
        if path.is_file() and path != edf:
            yield path


def is_export(path: Path) -> bool:
    """Whether a file holds stages that a program wrote, unchanged by anybody."""
    if path.suffix.lower() in (".edf", ".bdf"):
        try:
            return _is_unchanged_edf(path)
        except UserError:
            return False  # broken: said when it is read
    with path.open("rb") as file:
        head = file.read(4096)
    # a table whose columns only programs write, whatever its encoding
    names = head.replace(b"\x00", b"").decode("latin-1").casefold()
    if not re.search(r"prob|conf|certainty|\bp[_ .-]|stages_hash", names):
        return False
    try:
        return stage_tables.is_export(text_of(path))
    except UserError:
        return False


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
    if path.suffix.lower() in (".edf", ".bdf") or path.read_bytes()[:8] == b"0       ":
        stages = _of_edf(path, recorded, notes)
    else:
        if wishes.vocabulary is None and _OF_UCDDB.fullmatch(path.name):
            wishes = Wishes("ucddb", wishes.table)
        stages, notes = layouts.read(path, recorded, wishes)
    stages = _fitted(stages, n_epochs)
    if (stages == UNSCORED).all():
        raise UserError(f"{path}: scores no epoch of {recorded.name}; is it of another recording?")
    return stages, "; ".join(dict.fromkeys(notes))


def recorded_of(recording: EdfFile | DreemFile) -> Recorded:
    """What a scoring is placed against: the recording's name, start, length and rates."""
    rates = tuple(dict.fromkeys(channel.fs for channel in recording.channels))
    return Recorded(Path(recording.path).name, recording.start, recording.seconds, rates)


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
    file: EdfFile, recorded: Recorded, late: float, notes: list[str]
) -> np.ndarray | None:
    """Stages of a file's annotations on the epochs of a recording that began ``late`` s earlier."""
    broken: list[str] = []
    rows = _stage_rows(file.annotations(broken))
    notes += [f"{broken[0]} ({len(broken)} in all)"] if broken else []
    if not rows:
        return None
    rows = [Row(a.text, a.onset + late, a.duration) for a in rows]
    stages, assumed = layouts.stages_of(Scoring(rows, only_stages=False), recorded, file.path, None)
    notes += assumed
    return stages


def _stage_rows(annotations: Sequence[Annotation]) -> list[Annotation]:
    """The annotations that are stages: those called so, or else words that can be nothing else."""
    words = {text: vocabulary.word_of(text) for text in {a.text for a in annotations}}
    if any(word.prefixed and word.code is not None for word in words.values()):
        kept = {
            text for text, word in words.items()
            if word.prefixed or (word.code == UNSCORED and not word.vague)
        }  # fmt: skip
    else:
        # "Awake" alone may be a technician's note; a letter, or a number, a trigger
        kept = {
            text for text, word in words.items()
            if word.code is not None and not word.vague and len(text.strip()) > 1
        } - {"Awake", "awake"}  # fmt: skip
        if len({words[text].code for text in kept}) < 2:
            return []
    return [a for a in annotations if a.text in kept]


def _of_edf(path: Path, recorded: Recorded, notes: list[str]) -> np.ndarray:
    """Stages of an EDF+ hypnogram, placed by its start where that differs from the recording's."""
    if _is_unchanged_edf(path):
        raise UserError(
            f"{path}: stages that this program exported, unchanged: no expert's; correct them in "
            "it, or name an expert's file"
        )
    scored = EdfFile(path)
    late = _late(scored, recorded)
    if late:
        notes.append(f"starts {late:+g} s from the recording, and is placed there")
    stages = _of_annotations(scored, recorded, late, notes)
    if stages is None:
        raise UserError(f"{path}: holds no sleep stages; is it a hypnogram?")
    return stages


def _late(scored: EdfFile, recorded: Recorded) -> float:
    """Seconds from the recording's start to that of its hypnogram.

    Raises:
        UserError: they share no time.
    """
    if recorded.start is None or scored.start is None:
        return 0.0
    late = (scored.start - recorded.start) / timedelta(seconds=1)
    if abs(late) < 1:
        return 0.0  # headers have whole seconds, first samples do not
    if not (is_real(scored.start.date()) and is_real(recorded.start.date())):
        if any(not is_real(s.date()) and s.hour == s.minute == 0
               for s in (scored.start, recorded.start)):  # fmt: skip
            return 0.0  # date and clock were both removed
        late %= DAY
        late -= DAY if late >= recorded.seconds else 0
    if not -DAY < late < recorded.seconds:
        raise UserError(
            f"{scored.path}: starts {scored.start}, the recording {recorded.start}: they share no "
            "time; if a date was changed to hide the person, change the other as well"
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
