"""Arrays of an ``.npz`` file that anyone may have made: pickles in it never run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from utils.errors import UserError

# arrays of a night fold to a half, those of a dead channel to nothing
_ALWAYS_FINE, _MOST_UNFOLDED = 50_000_000, 20


def read(path: Path, what: str) -> dict[str, np.ndarray]:
    """Every array by its name.

    Raises:
        UserError: no such file, or none of arrays alone; ``what`` it should be is named.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such {what}; name an .npz file")
    try:
        # opened here, as numpy leaves damaged files open; pickles would run code
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            n_bytes = sum(member.file_size for member in file.zip.infolist())
            if n_bytes > max(_ALWAYS_FINE, _MOST_UNFOLDED * path.stat().st_size):
                raise ValueError("it unfolds to more than such arrays do")
            return {key: _checked(file[key]) for key in file.files}
    except Exception as error:  # other files, cut ones, pickles, one array: a dozen kinds
        raise UserError(f"{path}: no {what}, or damaged; make it again") from error


def _checked(array: object) -> np.ndarray:
    """An array; other members of the archive are read as bytes."""
    if not isinstance(array, np.ndarray):
        raise TypeError("no array")
    return array
