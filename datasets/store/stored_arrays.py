"""Arrays of a store on disk: one kind of ``.npy``, which is read in pieces too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

SIGNALS, STAGES = ("float32", "float16", "int16"), ("int8",)


def mapped(path: Path, shape: tuple[int, ...], types: tuple[str, ...]) -> np.ndarray:
    """Memory map of an array of this shape and one of these types.

    Raises:
        ValueError: as :func:`start_of`.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        dtype, start = start_of(file, shape, types)
    return np.memmap(path, dtype, "r", start, shape).view(np.ndarray)


def whole(path: Path, shape: tuple[int, ...], types: tuple[str, ...]) -> np.ndarray:
    """A small array in memory, read-only: a map per night would exhaust the maps of a process.

    Raises:
        ValueError: as :func:`start_of`.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        dtype, _ = start_of(file, shape, types)
        return np.frombuffer(file.read(), dtype).reshape(shape)


def start_of(
    file: BinaryIO, shape: tuple[int, ...], types: tuple[str, ...]
) -> tuple[np.dtype, int]:
    """Type of an array and where its numbers begin, checked to be what a store holds.

    Raises:
        ValueError: another version of the format, another order, shape or type, or a file that is
            longer or shorter than its array.
    """
    try:
        version = np.lib.format.read_magic(file)
    except ValueError as error:
        raise ValueError("cannot be read: no .npy file, or an empty one") from error
    if version != (1, 0):
        raise ValueError(f"cannot be read: version {version[0]} of the format, not 1")
    try:
        actual, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception as error:  # it is parsed as Python, which has many ways to fail
        raise ValueError(f"cannot be read ({type(error).__name__} in its header)") from error
    # by their text: types of several fields may share a name with others
    if is_fortran or dtype.str not in {np.dtype(name).str for name in types} or actual != shape:
        order = " in Fortran order" * is_fortran
        raise ValueError(f"holds {dtype} {actual}{order}, not {' or '.join(types)} {shape}")
    start = file.tell()
    expected = start + dtype.itemsize * int(np.prod(shape))
    if (n_bytes := os.fstat(file.fileno()).st_size) != expected:
        raise ValueError(f"cannot be read: {n_bytes:,} bytes, its header promises {expected:,}")
    return dtype, start
