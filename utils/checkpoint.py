"""Checkpoints: tensors and plain values that build a model and say where it is from."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from utils.errors import UserError
from utils.files import written_whole

FORMAT_VERSION = 1
KEYS = ("model", "settings", "channels", "fs", "standardise", "state")  # what a checkpoint is for


def save_checkpoint(
    path: Path, checkpoint: Mapping[str, Any], *, what: str = "", overwrite: bool | None = None
) -> None:
    """Write a checkpoint, whole or not at all."""
    with written_whole(path, what=what, overwrite=overwrite) as temporary:
        torch.save({"format": FORMAT_VERSION, **checkpoint}, temporary)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU without running any code it may hold.

    Raises:
        UserError: no such file, a damaged one, one that is no checkpoint of this project, or one
            whose loading would execute code.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; train first, or name another")
    if not zipfile.is_zipfile(path):  # older pickles and cut files never reach the unpickler
        raise UserError(f"{path}: damaged, or no checkpoint of this project")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: refused: it is not a file of plain tensors, and loading it could run code; "
            "only checkpoints written by this project are read"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise UserError(f"{path}: damaged, or no checkpoint ({type(error).__name__})") from error
    if not isinstance(checkpoint, dict) or not set(KEYS) <= checkpoint.keys():
        raise UserError(f"{path}: not a checkpoint of this project (needs {', '.join(KEYS)})")
    if checkpoint.get("format") != FORMAT_VERSION:
        raise UserError(
            f"{path}: checkpoint format {checkpoint.get('format')}, this code reads "
            f"{FORMAT_VERSION}; train again"
        )
    return checkpoint


def fingerprint(checkpoint: Mapping[str, Any]) -> str:
    """The first twelve digits of the weights' checksum, whatever file they are in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(checkpoint["state"].items()):
        digest.update(name.encode() + tensor.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]
