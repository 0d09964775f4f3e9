"""Signals that lie in a file as one array per channel: U-Time's HDF5, MATLAB's matrices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from datasets.readers import hdf5_file
from datasets.readers.edf import Annotation, Channel
from utils.errors import UserError
from utils.stages import LONGEST_SECONDS

_CHANNELS = "channels"  # U-Time's group; its attribute sample_rate is that of every channel
_MOST_CHANNELS = 512
_HDF5 = b"\x89HDF"
_MATLAB = b"MATLAB 7.3"


@dataclass(frozen=True)
class _Array:
    """One channel: where it lies in the file, its rate in Hz and its number of samples."""

    where: str
    fs: float
    n_samples: int


class ArrayFile:
    """A file of arrays as :class:`datasets.readers.edf.EdfFile` is read.

    ``rate`` (Hz) and ``unit`` are of arrays whose file does not name them; epochs in rows (n, t)
    are put one after the other. Of channels of several lengths ``seconds`` is the shortest.

    Raises:
        UserError: it cannot be read, has no such arrays, or no rate is known.
    """

    stages = None
    is_plus = False  # no annotations
    start: datetime | None = None
    clock: datetime | None = None

    def __init__(self, path: Path, *, rate: float | None = None, unit: str = "") -> None:
        self.path, self.notes = path, []
        self.gaps = np.zeros((0, 2))
        # matrices are read as a whole, channels of HDF5 when asked for
        self._held = {} if _is_hdf5(path) else _matrices(path)
        self._arrays = {
            label: _Array(label, rate or 0.0, one.size) for label, one in self._held.items()
        } or _of_hdf5(path, rate)
        if not self._arrays:
            raise UserError(f"{path}: holds no array of samples per channel")
        if lacking := [label for label, one in self._arrays.items() if one.fs <= 0]:
            raise UserError(f"{path}: tells no rate of {lacking[0]}; declare it: signals.rate")
        self.seconds = min(one.n_samples / one.fs for one in self._arrays.values())
        if not 0 < self.seconds <= LONGEST_SECONDS:
            raise UserError(f"{path}: lasts {self.seconds:g} s, which no night does")
        self.channels = tuple(
            # ranges and columns belong to EDF's integers; these are physical values
            Channel(label, unit, one.fs, (0.0, 0.0), (0, 0), slice(0))
            for label, one in self._arrays.items()
        )

    def channel(self, label: str) -> Channel:
        """The channel called ``label``."""
        match = next((channel for channel in self.channels if channel.label == label), None)
        if match is None:
            raise UserError(f"{self.path}: no channel {label!r}; it has: {', '.join(self._arrays)}")
        return match

    def hold(self, labels: Iterable[str]) -> None:
        """Do nothing: whatever is read is kept."""

    def read(self, label: str, start: float, stop: float) -> np.ndarray:
        """Samples of one channel between two instants in seconds, float64, in its unit."""
        fs = self.channel(label).fs
        if label not in self._held:
            with hdf5_file.opened(self.path) as file:
                numbers = hdf5_file.numbers_at(
                    file, self.path, self._arrays[label].where, single=True
                )
                self._held[label] = numbers[()].reshape(-1)
        return self._held[label][round(start * fs) : round(stop * fs)].astype(float)

    def annotations(self, broken: list[str] | None = None) -> list[Annotation]:
        """None."""
        return []


def _is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5: MATLAB's of version 7.3 are, behind 512 bytes of their own."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_MATLAB))
    except OSError:
        return True  # whose reader reports it
    return head.startswith(_HDF5) or head == _MATLAB


def _of_hdf5(path: Path, rate: float | None) -> dict[str, _Array]:
    """Arrays of the group ``channels`` with its rate, or of the file itself at a declared one."""
    with hdf5_file.opened(path) as file:
        inside = _CHANNELS if _CHANNELS in file else ""
        labels = list(file[inside] if inside else file)[:_MOST_CHANNELS]
        arrays = {}
        for label in labels:
            where = f"{inside}/{label}".strip("/")
            numbers = hdf5_file.numbers_at(file, path, where, single=True)
            fs = rate or _rate_of(numbers, file)
            arrays[label] = _Array(where, fs, int(numbers.size))
    return arrays


def _rate_of(*places: Any) -> float:
    """The first rate among the attributes of an array and of its file; 0 where there is none."""
    for place in places:
        if (value := hdf5_file.attribute(place, "sample_rate")) is not None:
            return float(value)
    return 0.0


def _matrices(path: Path) -> dict[str, np.ndarray]:
    """Matrices of numbers in a MATLAB file of version 4 to 7, row by row.

    Raises:
        UserError: whatever the library finds wrong.
    """
    from scipy.io import loadmat

    try:
        with path.open("rb") as file:
            values = loadmat(file)
    except Exception as error:  # a dozen kinds
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: no readable MATLAB file ({what}); fetch it again") from error
    arrays = {
        label: one.reshape(-1) for label, one in values.items()
        if isinstance(one, np.ndarray) and one.dtype.kind in "iuf" and one.size > 1
    }  # fmt: skip
    if not arrays:
        raise UserError(f"{path}: holds no matrix of numbers")
    return arrays
