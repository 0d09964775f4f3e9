"""WFDB records, as PhysioNet has them, with the interface of an EDF file: read by its library."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from datasets.readers.edf import Annotation, Channel
from utils.errors import UserError
from utils.stages import LONGEST_SECONDS

_NO_DATE = date(1985, 1, 1)  # as in EDF, for clocks whose date was removed
_SUFFIX = re.compile(r"[A-Za-z0-9_-]{1,32}")


class WfdbFile:
    """A record as :class:`datasets.readers.edf.EdfFile` is read; ``path`` is its ``.hea`` header.

    Channels of several rates (several samples per frame) have their own. Samples that the format
    calls invalid are NaN.

    Raises:
        UserError: the header cannot be read, or is of several segments or no samples.
    """

    stages = None
    is_plus = False  # annotations are files of their own: :func:`notes_of`

    def __init__(self, path: Path) -> None:
        self.path, self.notes = path, []
        self.gaps = np.zeros((0, 2))
        header = _of_library(path, lambda wfdb, stem: wfdb.rdheader(stem))
        # the library itself refuses samples in other folders
        if (
            not vars(header).get("file_name")
            or not header.sig_len
            or not header.fs
            or header.fs <= 0
        ):
            raise UserError(f"{path}: no WFDB record of one segment with samples; fetch it again")
        self.seconds = header.sig_len / header.fs
        if self.seconds > LONGEST_SECONDS:
            raise UserError(f"{path}: lasts {self.seconds:g} s, which no night does")
        day, time = header.base_date, header.base_time
        self.clock = None if time is None else datetime.combine(day or _NO_DATE, time)
        self.start = self.clock if day else None
        labels = [name or f"signal {k}" for k, name in enumerate(header.sig_name, 1)]
        per_frame = header.samps_per_frame
        self.channels = tuple(
            # ranges and columns belong to EDF's integers; the library returns physical values
            Channel(label, unit or "", header.fs * n, (0.0, 0.0), (0, 0), slice(k, k + 1))
            for k, (label, unit, n) in enumerate(zip(labels, header.units, per_frame, strict=True))
        )
        self._held: dict[str, np.ndarray] = {}

    def channel(self, label: str) -> Channel:
        """The channel called ``label``, the first of several."""
        match = next((channel for channel in self.channels if channel.label == label), None)
        if match is None:
            present = ", ".join(channel.label for channel in self.channels)
            raise UserError(f"{self.path}: no channel {label!r}; it has: {present}")
        return match

    def hold(self, labels: Iterable[str]) -> None:
        """Read these channels in one pass: the library reads all of them for any."""
        wanted = [label for label in dict.fromkeys(labels) if label not in self._held]
        numbers = [self.channel(label).columns.start for label in wanted]
        if not numbers:
            return
        record = _of_library(
            self.path,
            lambda wfdb, stem: wfdb.rdrecord(stem, channels=numbers, smooth_frames=False),
        )
        self._held |= dict(zip(wanted, record.e_p_signal, strict=True))

    def read(self, label: str, start: float, stop: float) -> np.ndarray:
        """Samples of one channel between two instants in seconds, float64, in its unit."""
        self.hold([label])
        fs = self.channel(label).fs
        return self._held[label][round(start * fs) : round(stop * fs)]

    def annotations(self, broken: list[str] | None = None) -> list[Annotation]:
        """None: they are files of their own."""
        return []


def notes_of(path: Path) -> list[tuple[float, str]]:
    """Onset in s and text of every note of an annotation file, in order.

    The file's record lies beside it: its rate is that of the onsets.

    Raises:
        UserError: the file cannot be read, or tells no rate.
    """
    suffix = path.suffix.removeprefix(".")
    if not _SUFFIX.fullmatch(suffix):
        raise UserError(f"{path}: not a WFDB annotation file by its name")
    notes = _of_library(path, lambda wfdb, stem: wfdb.rdann(stem, suffix))
    if not notes.fs:
        raise UserError(f"{path}: tells no sampling rate, and no header beside it does")
    texts = notes.aux_note or [""] * len(notes.sample)
    return [(n / notes.fs, text.strip(" \0")) for n, text in
            zip(notes.sample.tolist(), texts, strict=True)]  # fmt: skip


def _of_library(path: Path, read: Callable[[Any, str], Any]) -> Any:
    """What the library reads of a record, which it knows by its path without a suffix.

    Raises:
        UserError: whatever it finds wrong; it has no errors of its own.
    """
    import wfdb  # here, as it loads slowly

    try:
        return read(wfdb, str(path.with_suffix("")))
    except Exception as error:
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: no readable WFDB file ({what}); fetch it again") from error
