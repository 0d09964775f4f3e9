"""Arrays of an ``.npz`` file that anyone may have made: pickles in it never run."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from utils.errors import UserError


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
            return {key: file[key] for key in file.files}
    # what numpy raises for other files, cut ones, pickles, and single arrays instead of several
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: no {what}, or damaged; make it again") from error
