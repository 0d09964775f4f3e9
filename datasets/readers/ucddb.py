"""Nights with one stage code per line beside the EDF, as the St. Vincent's / UCD database has them.

St. Vincent's University Hospital / University College Dublin Sleep Apnea Database (PhysioNet):
``ucddb002.rec`` (EDF under another suffix) and ``ucddb002_stage.txt``; R&K scoring.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.readers.channels import alternatives
from datasets.readers.discovery import EDF_SUFFIXES, files_below, recordings_among
from datasets.readers.edf import EdfFile
from datasets.readers.recording import (
    FileSignals,
    Recording,
    bouts_of,
    stages_from_bouts,
    whole_epochs,
)
from utils.errors import UserError
from utils.stages import UNSCORED

ROLES = alternatives("ucddb")
# wake, REM, stages 1 to 4; artefact and indeterminate
_STAGE_OF_CODE = {
    "0": 0, "1": 4, "2": 1, "3": 2, "4": 3, "5": 3, "6": UNSCORED, "7": UNSCORED, "8": UNSCORED,
}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """One night's signals and its list of stages."""

    psg: Path
    scoring: Path
    salvage: bool = False

    @property
    def id(self) -> str:
        """``ucddb018``; every subject has one night."""
        return self.psg.stem

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything the night was made from."""
        return (self.psg, self.scoring)


def find_pairs(raw_path: Path, *, salvage: bool = False) -> list[Pair]:
    """All recordings below ``raw_path`` with a ``_stage.txt`` beside them, by name.

    With ``salvage`` the whole records of cut files are read.

    Raises:
        UserError: there is none, or one has no stages beside it.
    """
    # the database calls its EDF files .rec, and puts a Holter beside each
    files = files_below(raw_path, EDF_SUFFIXES) if raw_path.exists() else []
    recordings, _ = recordings_among(files)
    if not recordings:
        raise UserError(f"{raw_path}: no *.edf or *.rec recordings there; name their --raw_path")
    pairs = [Pair(path, path.with_name(f"{path.stem}_stage.txt"), salvage) for path in recordings]
    for pair in pairs:
        if not pair.scoring.exists():
            raise UserError(f"{pair.psg}: no {pair.scoring.name} beside it; fetch it or move this")
    return pairs


def read(pair: Pair) -> Recording:
    """One night; stages beyond the signal's end are cut, missing ones at its end unscored.

    Raises:
        UserError: either file is broken, or a line is not a code from 0 to 8.
    """
    psg = EdfFile(pair.psg, salvage=pair.salvage)
    bouts = bouts_of(read_codes(pair.scoring))
    stages = stages_from_bouts(bouts, whole_epochs(psg.seconds))
    if (stages == UNSCORED).all():
        raise UserError(f"{pair.scoring}: scores no epoch of {pair.psg.name}")
    note = "; ".join(psg.notes) or None
    return Recording(pair.id, pair.id, 1, FileSignals(psg), bouts, stages, psg.start, note)


def read_codes(path: Path) -> np.ndarray:
    """Stages (n,) int8 of a ``_stage.txt``.

    Raises:
        UserError: the file cannot be read, or a line is not a known code.
    """
    try:
        lines = path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a list of stage codes ({error})") from error
    for number, line in enumerate(lines, 1):
        if line not in _STAGE_OF_CODE:
            raise UserError(f"{path}: line {number} is {line!r}, not a stage code from 0 to 8")
    return np.array([_STAGE_OF_CODE[line] for line in lines], np.int8)
