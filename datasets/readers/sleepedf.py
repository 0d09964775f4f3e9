"""Sleep-EDF Expanded: which files belong together, and how they are read.

Source: PhysioNet ``sleep-edfx`` 1.0.0 (Kemp et al. 2000), cassette (SC) and telemetry (ST) files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.readers.channels import alternatives
from datasets.readers.discovery import files_below
from datasets.readers.edf import EdfFile
from datasets.readers.recording import (
    Bout,
    FileSignals,
    Recording,
    stages_from_bouts,
    whole_epochs,
)
from datasets.readers.scorings import vocabulary
from datasets.readers.scorings.placement import TOLERANCE
from utils.errors import UserError, unreadable
from utils.stages import EPOCH_SECONDS, UNSCORED

ROLES = alternatives("sleepedf")
STUDIES = {"cassette": ("SC4",), "telemetry": ("ST7",), "both": ("SC4", "ST7")}
# study, subject, night, two letters of which the hypnogram's second is its scorer's, kind
_NAME = re.compile(r"(SC4|ST7)(\d\d)(\d)([A-Z])([0-9A-Z])-(PSG|Hypnogram)\.edf", re.IGNORECASE)
_LAST_SUBJECT_2013 = 19  # of the 2013 release, on which many papers report


@dataclass(frozen=True)
class Pair:
    """The two files of one night; pairs are made on the first seven characters alone."""

    psg: Path
    hypnogram: Path
    salvage: bool = False

    @property
    def id(self) -> str:
        """The name the field uses: ``SC4001E0``."""
        return self.psg.name[:8].upper()

    @property
    def subject(self) -> str:
        """First five characters: SC and ST give the same numbers to different subjects."""
        return self.id[:5]

    @property
    def night(self) -> int:
        """First or second night of the subject, 1 or 2."""
        return int(self.id[5])

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything the night was made from."""
        return (self.psg, self.hypnogram)


def is_synthetic(pair: Pair) -> bool:
    """Whether the header names a generator as the recording's equipment (EDF+).

    Raises:
        UserError: it cannot be read.
    """
    try:
        with pair.psg.open("rb") as file:
            recording = file.read(168)[88:].split()  # the header's field on the recording
    except OSError as error:
        raise unreadable(pair.psg, error) from error
    return b"synthetic" in recording


def find_pairs(
    raw_path: Path, *, version: str = "2018", study: str = "cassette", salvage: bool = False
) -> list[Pair]:
    """All nights below ``raw_path``, by name; ``version`` 2013 keeps cassette subjects 0-19.

    With ``salvage`` the whole records of cut files are read.

    Raises:
        UserError: no files, a PSG without hypnogram or the reverse, or two files for one night.
    """
    psgs: dict[str, Path] = {}
    hypnograms: dict[str, Path] = {}
    files = files_below(raw_path) if raw_path.exists() else []
    for path in files:
        match = _NAME.fullmatch(path.name)
        if match is None or not _is_wanted(match, version, study):
            continue
        kind = psgs if match[6].lower() == "psg" else hypnograms
        key = path.name[:7].upper()  # the eighth character differs between the two files
        if key in kind:
            raise UserError(f"{path}: a second {match[6]} for night {key}; remove one of the two")
        kind[key] = path
    # nights of which only one of the two files exists
    if lone := sorted(set(psgs) ^ set(hypnograms)):
        path = psgs.get(lone[0]) or hypnograms[lone[0]]
        partner = "hypnogram" if lone[0] in psgs else "PSG"
        others = f" ({len(lone)} nights are unpaired)" if len(lone) > 1 else ""
        raise UserError(f"{path}: no {partner} file beside it; fetch it or move this away{others}")
    if not psgs:
        raise UserError(_no_recordings(raw_path, files, study))
    return [Pair(psgs[key], hypnograms[key], salvage) for key in sorted(psgs)]


def _is_wanted(match: re.Match, version: str, study: str) -> bool:
    prefix, subject = match[1].upper(), int(match[2])
    if prefix not in STUDIES[study]:
        return False
    return version != "2013" or (prefix == "SC4" and subject <= _LAST_SUBJECT_2013)


def _no_recordings(raw_path: Path, files: Sequence[Path], study: str) -> str:
    kinds = Counter(m[1].upper() for p in files if (m := _NAME.fullmatch(p.name)))
    present = ", ".join(f"{count} {kind}* files" for kind, count in sorted(kinds.items()))
    return (
        f"{raw_path}: no Sleep-EDF {study} recordings (SC4ssNE0-PSG.edf) there"
        f"{'; it has ' + present + ' (see --study, --version)' if present else ''}. Make synthetic "
        "ones with generate_demo_data.py, fetch the real ones with --download, or name a folder "
        "with --raw_path"
    )


def read(pair: Pair) -> Recording:
    """One night: signals at their own rates and units, stages cut to the signal.

    Raises:
        UserError: either file is broken, the two start at different times, or nothing is scored.
    """
    psg = EdfFile(pair.psg, salvage=pair.salvage)
    scored = EdfFile(pair.hypnogram)
    if _starts_apart(psg, scored):
        raise UserError(
            f"{pair.hypnogram}: starts {scored.clock}, its PSG {psg.clock}; they are not one night"
        )
    bouts = read_bouts(scored)
    stages = stages_from_bouts(bouts, whole_epochs(psg.seconds))
    if (stages == UNSCORED).all():
        raise UserError(f"{pair.hypnogram}: scores no epoch of {pair.psg.name}; check the pair")
    return Recording(
        id=pair.id,
        subject=pair.subject,
        night=pair.night,
        signals=FileSignals(psg),
        bouts=bouts,
        stages=stages,
        start=psg.start,
        note="; ".join(psg.notes) or None,
    )


def _starts_apart(psg: EdfFile, scored: EdfFile) -> bool:
    """Whether both have other starts, or other times of day where a date cannot be read."""
    if psg.clock is None or scored.clock is None:
        return False
    began, begins = psg.clock.replace(microsecond=0), scored.clock
    if psg.start is None or scored.start is None:
        return began.time() != begins.time()
    return began != begins


def read_bouts(file: EdfFile) -> tuple[Bout, ...]:
    """The scorer's bouts in file order; onsets need not begin at 0 (telemetry starts late).

    Raises:
        UserError: an unknown stage, an onset or duration off the 30 s grid, or two annotations
            that score one epoch differently.
    """
    bouts = []
    scored_until = 0
    for annotation in file.annotations():
        stage = vocabulary.word_of(annotation.text)
        if stage.code is None or stage.vague:
            raise UserError(
                f"{file.path}: unknown stage {annotation.text!r} at {annotation.onset:g} s; known "
                "are Sleep stage W, 1 to 4, N1 to N3, R, ?, and Movement time; correct the file"
            )
        times = (annotation.onset, annotation.duration)
        first, length = (round(seconds / EPOCH_SECONDS) for seconds in times)
        on_grid = all(abs(t - round(t / EPOCH_SECONDS) * EPOCH_SECONDS) <= TOLERANCE for t in times)
        if not on_grid or first < 0 or length < 1:
            raise UserError(
                f"{file.path}: {annotation.text!r} at {annotation.onset:g} s for "
                f"{annotation.duration:g} s does not fill whole 30 s epochs; correct the file"
            )
        if first < scored_until:
            raise UserError(
                f"{file.path}: {annotation.text!r} at {annotation.onset:g} s begins before the "
                "annotation above it ends; correct the file"
            )
        scored_until = first + length
        bouts.append(Bout(first, length, stage.code))
    if not bouts:
        raise UserError(f"{file.path}: holds no sleep stages; is it a hypnogram?")
    return tuple(bouts)
