"""Parts of a night in an ``.npz`` file, as nights are shared of which not all may be given away."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.readers import npz_file
from datasets.readers.raw_file import RawFile
from utils.errors import UserError
from utils.stages import UNSCORED

_LABEL = "EEG C4-A1"
_KEYS = ("x", "scale", "epoch", "n_epochs", "stage", "fs")


def read(path: Path) -> tuple[RawFile, np.ndarray]:
    """The night as a file of one EEG that names no unit, and the expert's stages (n,).

    ``x`` (k, t) int16 are the recorded epochs, ``epoch`` (k,) their numbers, ``stage`` (n,) the
    whole night's stages, of which those of recorded epochs alone are taken. Elsewhere the signal is
    0 and the expert -1.

    Raises:
        UserError: the file is damaged, lacks one of these arrays, or they do not fit together.
    """
    import mne

    arrays = npz_file.read(path, "partly recorded night")
    if missing := [name for name in _KEYS if name not in arrays]:
        raise UserError(f"{path}: holds no {', '.join(missing)}; it has {', '.join(arrays)}")
    recorded, n_epochs = arrays["epoch"], int(arrays["n_epochs"])
    if len(arrays["stage"]) != n_epochs or not ((recorded >= 0) & (recorded < n_epochs)).all():
        raise UserError(f"{path}: stage and epoch do not belong to {n_epochs} epochs")
    x = np.zeros((n_epochs, arrays["x"].shape[1]))
    x[recorded] = arrays["x"] * float(arrays["scale"])
    expert = np.full(n_epochs, UNSCORED, np.int8)
    expert[recorded] = arrays["stage"][recorded]
    about = mne.create_info([_LABEL], float(arrays["fs"]), "misc")
    return RawFile(mne.io.RawArray(x.reshape(1, -1), about, verbose="error")), expert
