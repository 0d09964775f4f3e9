"""Parts of a night in an ``.npz`` file, as nights are shared of which not all may be given away."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from datasets.readers import npz_file
from datasets.readers.raw_file import RawFile
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS, LONGEST_SECONDS, STAGES, UNSCORED

_LABEL = "EEG C4-A1"
_MOST_EPOCHS = LONGEST_SECONDS // EPOCH_SECONDS
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
    if not _fit_together(arrays):
        raise UserError(
            f"{path}: its arrays are none of a night recorded in part, or do not belong together"
        )
    recorded, n_epochs = arrays["epoch"], int(arrays["n_epochs"])
    x = np.zeros((n_epochs, arrays["x"].shape[1]))
    x[recorded] = arrays["x"] * float(arrays["scale"])
    expert = np.full(n_epochs, UNSCORED, np.int8)
    expert[recorded] = arrays["stage"][recorded]
    about = mne.create_info([_LABEL], float(arrays["fs"]), "misc")
    return RawFile(mne.io.RawArray(x.reshape(1, -1), about, verbose="error")), expert


def _fit_together(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether arrays are of the shapes and kinds that :func:`read` describes."""
    x, epoch, stage = (arrays[name] for name in ("x", "epoch", "stage"))
    scalars = [arrays[name] for name in ("scale", "n_epochs", "fs")]
    if not all(one.shape == () and one.dtype.kind in "iuf" and np.isfinite(one) for one in scalars):
        return False
    if (x.ndim, epoch.ndim, stage.ndim) != (2, 1, 1) or x.dtype.kind not in "iuf":
        return False
    if not {epoch.dtype.kind, stage.dtype.kind} <= {"i", "u"} or len(x) != len(epoch):
        return False
    n_epochs = int(arrays["n_epochs"])
    is_night = 0 < n_epochs == len(stage) <= _MOST_EPOCHS and np.isfinite(x).all()
    is_placed = ((epoch >= 0) & (epoch < n_epochs)).all() and len(set(epoch.tolist())) == len(epoch)
    are_stages = ((stage >= UNSCORED) & (stage < len(STAGES))).all()
    # a rate that does not make its epochs would stage them at another
    return bool(
        is_night and is_placed and are_stages and x.shape[1] == round(arrays["fs"] * EPOCH_SECONDS)
    )
