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
from datasets.readers.scorings import decoding
from datasets.readers.scorings.vocabulary import VOCABULARIES
from utils.errors import UserError
from utils.stages import UNSCORED

ROLES = alternatives("ucddb")
_LARGEST_DIFFERENCE = 10  # epochs, between a list and its signal


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
    pairs = [Pair(path, _scoring_of(path), salvage) for path in recordings]
    for pair in pairs:
        if not pair.scoring.exists():
            raise UserError(f"{pair.psg}: no {pair.scoring.name} beside it; fetch it or move this")
    return pairs


def _scoring_of(psg: Path) -> Path:
    """The list of stages beside a recording, also in capitals."""
    endings = ("_stage.txt", "_stage.TXT", "_STAGE.TXT")
    paths = [psg.with_name(f"{psg.stem}{ending}") for ending in endings]
    return next((path for path in paths if path.exists()), paths[0])


def read(pair: Pair) -> Recording:
    """One night; a few stages beyond the signal's end are cut, missing ones unscored, with a note.

    Raises:
        UserError: either file is broken, a line is not a code from 0 to 8, or the list is of
            another length than the signal.
    """
    psg = EdfFile(pair.psg, salvage=pair.salvage)
    codes, n = read_codes(pair.scoring), whole_epochs(psg.seconds)
    # a recording that was cut has fewer epochs than its list
    many = len(codes) - n > _LARGEST_DIFFERENCE and not pair.salvage
    if many or n - len(codes) > _LARGEST_DIFFERENCE:
        raise UserError(
            f"{pair.scoring}: {len(codes)} stages for the {n} epochs of {pair.psg.name}; they are "
            "not one night, or of other epochs than 30 s"
        )
    bouts = bouts_of(codes)
    stages = stages_from_bouts(bouts, n)
    if (stages == UNSCORED).all():
        raise UserError(f"{pair.scoring}: scores no epoch of {pair.psg.name}")
    differs = [] if len(codes) == n else [f"{len(codes)} stages for {n} epochs"]
    note = "; ".join([*psg.notes, *differs]) or None
    return Recording(pair.id, pair.id, 1, FileSignals(psg), bouts, stages, psg.start, note)


def read_codes(path: Path) -> np.ndarray:
    """Stages (n,) int8 of a ``_stage.txt``.

    Raises:
        UserError: the file cannot be read, or a line is not a known code.
    """
    # UTF-16 and byte order marks, too
    text = decoding.text_of(path)
    lines = [line.strip() for line in text.lines]
    while lines and not lines[-1]:
        lines.pop()  # a blank line before others is an epoch that nobody scored
    known = {str(number): code for number, code in VOCABULARIES["ucddb"].items()} | {"": UNSCORED}
    for number, line in enumerate(lines, 1):
        if line not in known:
            raise UserError(f"{path}: line {number} is {line[:40]!r}, not a stage code from 0 to 8")
    return np.array([known[line] for line in lines], np.int8)
