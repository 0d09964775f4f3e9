"""HDF5 files that anyone may have made: only what lies in the file itself is read, and bounded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils.errors import UserError

_LONGEST_TEXT = 1 << 20  # bytes of an attribute
# a packed channel is smaller than its samples, but not than an eighth of the whole file, unless it
# is short or claims what is not there
_MOST_UNFOLDED, _ALWAYS_FINE = 8, 20_000_000
_MOST_LINKS = 16  # as in HDF5
_SHOWN = 20  # names in a message
# what the library raises for damaged files, by the part that is damaged
_OF_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The open ``h5py.File``; whatever HDF5 finds broken in it meanwhile is one line.

    Raises:
        UserError: it is no HDF5 file, or damaged.
    """
    import h5py  # here, as it loads slowly and only Dreem records need it

    try:
        file = h5py.File(path, "r")
    except _OF_DAMAGE as error:
        raise UserError(f"{path}: not a readable HDF5 file; fetch it again ({error})") from error
    try:
        with file:
            yield file
    except _OF_DAMAGE as error:
        raise UserError(f"{path}: damaged; fetch it again ({error})") from error


def attribute(file: Any, name: str) -> Any:
    """One value among the root's attributes, text as ``str``; ``None`` where there is none.

    Raises:
        ValueError: several values, or more than an attribute should hold.
    """
    if name not in file.attrs:
        return None
    stored = file.attrs.get_id(name)
    if stored.shape not in ((), (1,)) or stored.get_storage_size() > _LONGEST_TEXT:
        raise ValueError(f"attribute {name!r} is not one value")
    value = file.attrs[name]
    value = value[0] if stored.shape == (1,) else value
    return value.decode("utf-8") if isinstance(value, bytes) else value


def numbers_at(file: Any, path: Path, where: str, *, single: bool = False) -> Any:
    """The list of numbers at ``/where``, still in the file.

    ``single``: MATLAB's lists, which are a matrix of one row or column, are lists as well.

    Raises:
        UserError: there is none, it lies in another file, or it is no list of numbers.
    """
    from h5py import Dataset

    numbers = file[_place(file, path, where)]
    if not isinstance(numbers, Dataset):
        raise UserError(f"{path}: /{where} is a group, not a list of numbers")
    if numbers.external or numbers.is_virtual:
        raise UserError(f"{path}: /{where} lies in another file, which is not opened")
    is_list = numbers.ndim == 1 or (single and numbers.ndim == 2 and min(numbers.shape) == 1)
    if numbers.shape is None or not is_list or numbers.dtype.kind not in "iuf":
        shape = "nothing" if numbers.shape is None else f"{numbers.dtype} {numbers.shape}"
        raise UserError(f"{path}: /{where} is not a list of numbers but {shape}")
    # a block is unpacked as a whole, and may claim more than the list
    n_numbers, actual = max(numbers.size, math.prod(numbers.chunks or (1,))), path.stat().st_size
    if n_numbers * numbers.dtype.itemsize > max(_ALWAYS_FINE, _MOST_UNFOLDED * actual):
        raise UserError(
            f"{path}: /{where} claims {n_numbers:,} numbers in a file of {actual:,} bytes; "
            "damaged, fetch it again"
        )
    return numbers


def _place(file: Any, path: Path, where: str) -> str:
    """``where`` with its links followed, though never to another file: that may be anybody's.

    Raises:
        UserError: nothing is there, links lead in a circle, or out of the file.
    """
    from h5py import ExternalLink, Group, SoftLink

    waiting, done, n_links = where.split("/"), "/", 0
    while waiting:
        part = waiting.pop(0)
        if not part:
            continue
        link = file[done].get(part, getlink=True)
        if isinstance(link, ExternalLink):
            raise UserError(f"{path}: /{where} is a link to another file, which is not followed")
        if isinstance(link, SoftLink):
            n_links += 1
            waiting = link.path.split("/") + waiting
            done = "/" if link.path.startswith("/") else done
        elif link is not None:
            done = f"{done.rstrip('/')}/{part}"
        is_lost = link is None or (any(waiting) and not isinstance(file[done], Group))
        if is_lost or n_links > _MOST_LINKS:
            present = ", ".join(sorted(file)[:_SHOWN]) or "nothing"
            raise UserError(f"{path}: no signal /{where}; the file holds {present}")
    return done
