"""Anybody's file as a recording without stages, of the channels that were matched in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from datasets.readers.channels import Found
from datasets.readers.dreem_file import DreemFile
from datasets.readers.edf import EdfFile
from datasets.readers.recording import Recording, whole_epochs
from utils.errors import UserError
from utils.stages import UNSCORED

SUFFIXES = (".edf", ".bdf", ".rec", ".h5")


def opened(path: Path) -> EdfFile | DreemFile:
    """EDF or BDF, undated or with gaps too, or a Dreem record.

    Raises:
        UserError: it cannot be read.
    """
    if path.suffix.lower() == ".h5":
        return DreemFile(path)
    return EdfFile(path, undated=True, gaps=True)


def recording_of(file: EdfFile | DreemFile, found: Mapping[str, Found]) -> Recording:
    """The night with the signals found and no stages.

    Raises:
        UserError: the file is shorter than an epoch.
    """
    n_epochs = whole_epochs(file.seconds)
    if not n_epochs:
        raise UserError(f"{file.path}: lasts {file.seconds:g} s; staging needs 30 s at least")
    notes = [one.note for one in found.values() if one.note]
    return Recording(
        id=Path(file.path).stem,
        subject=Path(file.path).stem,
        night=1,
        signals={label: one.signal for label, one in found.items()},
        bouts=(),
        stages=np.full(n_epochs, UNSCORED, np.int8),
        start=file.start,
        note="; ".join(notes) or None,
        derivations={label: one.derivation for label, one in found.items()},
    )
