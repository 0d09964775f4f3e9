"""Files of signals by their format, each with the interface of an EDF file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Protocol

from datasets.readers.any_file import AnyFile
from datasets.readers.array_file import ArrayFile
from datasets.readers.edf import EdfFile
from datasets.readers.raw_file import RawFile
from datasets.readers.wfdb_file import WfdbFile
from utils.errors import UserError

# what lies beside a file of a format and belongs to it, by suffix
_PARTS = {
    "wfdb": (".mat", ".dat"),
    "mne": (".fdt", ".eeg", ".vmrk"),
}


class SignalFiles(Protocol):
    """What is known of files: format, pauses, rate in Hz and unit where they name none."""

    format: str
    gaps: bool
    rate: float | None
    unit: str


def parts_beside(path: Path, kind: str) -> list[Path]:
    """Files that hold a part of a recording: the samples of a WFDB header, of a BrainVision one."""
    beside = (path.with_suffix(suffix) for suffix in _PARTS.get(kind, ()))
    return [part for part in beside if part != path and part.is_file()]


def opened(path: Path, kind: SignalFiles, *, salvage: bool = False) -> AnyFile:
    """Open a recording of a format that a profile names.

    Raises:
        UserError: it cannot be read.
    """
    if kind.format == "wfdb":
        return WfdbFile(path)
    if kind.format in ("h5", "mat"):
        return ArrayFile(path, rate=kind.rate, unit=kind.unit)
    if kind.format == "mne":
        return _of_mne(path)
    return EdfFile(path, gaps=kind.gaps, salvage=salvage)


def _of_mne(path: Path) -> RawFile:
    """A recording in a format that MNE reads: EEGLAB, BrainVision, FIF.

    Raises:
        UserError: whatever it finds wrong.
    """
    import mne

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of events at its borders, of units it assumes
            file = RawFile(mne.io.read_raw(path, preload=False, verbose="error"))
    except Exception as error:  # a dozen kinds
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: MNE cannot read it ({what}); fetch it again") from error
    file.path = path  # of EEGLAB's and BrainVision's, MNE names the samples
    return file
