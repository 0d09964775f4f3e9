"""Rows of numbers in a ``.npy``: written night by night, read when asked for, in flat memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.files import written_whole

_ROUNDING = 1e-6  # of float32: what varies by less of its mean does not vary
AT_ONCE = 8192  # rows in memory at a time: 4 MB of 128 numbers


@dataclass(frozen=True)
class Rows:
    """Rows (n, d) of a file, float32; a slice of them is an array, rows by number are rows again.

    ``numbers`` (n,) are theirs in the file of ``n_stored``; all of them if None.
    """

    path: Path
    n_stored: int
    width: int
    numbers: np.ndarray | None = None

    def __len__(self) -> int:
        return self.n_stored if self.numbers is None else len(self.numbers)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and numbers in each."""
        return len(self), self.width

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray | Rows:
        if not isinstance(rows, slice):
            return replace(self, numbers=rows if self.numbers is None else self.numbers[rows])
        if self.numbers is None:
            return self._read(np.arange(*rows.indices(self.n_stored)))
        return self._read(self.numbers[rows])

    def __array__(self, dtype: type | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def _read(self, numbers: np.ndarray) -> np.ndarray:
        out = np.empty((len(numbers), self.width), np.float32)
        stretches = numbers // AT_ONCE
        for stretch in np.unique(stretches):
            inside = stretches == stretch
            # mapped anew: the pages of a map count as this process's until it is closed
            out[inside] = _mapped(self.path, self.n_stored)[numbers[inside]]
        return out


@dataclass(frozen=True)
class ScaledRows:
    """Rows (n, d), in a file or in memory, less ``mean`` and over ``sd`` (k, d) of their group.

    ``group`` (n,) is the number of each row's. Read like :class:`Rows`.
    """

    rows: np.ndarray | Rows
    group: np.ndarray
    mean: np.ndarray
    sd: np.ndarray

    def __len__(self) -> int:
        return len(self.group)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and numbers in each."""
        return len(self), self.mean.shape[1]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray | ScaledRows:
        group = self.group[rows]
        if not isinstance(rows, slice):
            return replace(self, rows=self.rows[rows], group=group)
        return (self.rows[rows] - self.mean[group]) / self.sd[group]

    def __array__(self, dtype: type | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def scaled_by_night(z: np.ndarray | Rows, offsets: np.ndarray) -> ScaledRows:
    """Rows (n, d), those of every night centred and scaled by themselves.

    ``offsets`` (nights + 1,) are rows at which nights begin, and the last one ends.
    """
    each = [scale_of(z[first:end]) for first, end in pairwise(offsets)]
    mean, sd = (np.stack(part) for part in zip(*each, strict=True))
    group = np.repeat(np.arange(len(each)), np.diff(offsets))
    return ScaledRows(z, group, mean, sd)


def write_rows(path: Path, parts: Iterable[np.ndarray], n: int) -> Rows:
    """Write and open ``n`` rows that come in parts (k, d), of which one is in memory at a time."""
    header = {"descr": "<f4", "fortran_order": False}
    with written_whole(path) as temporary, temporary.open("wb") as file:
        for number, part in enumerate(parts):
            if number == 0:
                shape = {"shape": (n, part.shape[1])}
                np.lib.format.write_array_header_1_0(file, header | shape)
            file.write(np.ascontiguousarray(part, "<f4").tobytes())
    return open_rows(path, n)


def open_rows(path: Path, n: int) -> Rows:
    """Open the ``n`` rows of a file.

    Raises:
        UserError: it is missing, or holds anything else.
    """
    return Rows(path, n, _mapped(path, n).shape[1])


def _mapped(path: Path, n: int) -> np.ndarray:
    try:
        # without pickle: a file from elsewhere runs no code
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
        if (rows.ndim, len(rows), rows.dtype) != (2, n, np.float32):
            raise ValueError(f"{rows.dtype} {rows.shape}, not {n} rows of float32")
    except Exception as error:  # its header is parsed as Python, which has many ways to fail
        raise UserError(f"{path}: no embeddings ({error}); run ssl_evaluate.py") from error
    return rows


def parts_of(z: np.ndarray | Rows) -> Iterator[np.ndarray]:
    """Rows (n, d), in a file or in memory, a few thousand at a time."""
    return (z[start : start + AT_ONCE] for start in range(0, len(z), AT_ONCE))


def moments(z: np.ndarray | Rows) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (d,) of rows (n, d), float32."""
    mean = sum(part.sum(axis=0, dtype=float) for part in parts_of(z)) / len(z)
    # centred first: the mean of squares loses its digits to a large offset
    square = sum(np.square(part - mean).sum(axis=0) for part in parts_of(z)) / len(z)
    return mean.astype(np.float32), np.sqrt(square).astype(np.float32)


def scale_of(z: np.ndarray | Rows) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (d,) that standardise rows (n, d); what is constant becomes 0."""
    mean, sd = moments(z)
    sd[sd <= _ROUNDING * np.abs(mean)] = np.inf
    return mean, sd
