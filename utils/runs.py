"""Run folders: what a training was told, what it measured, and its checkpoints.

``<folder>/run.json`` settings and versions, ``metrics.jsonl`` one line a pass,
``checkpoints/{last,best,…}.pt``. A checkpoint is a dict of tensors and plain values.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import platform
import re
import sys
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from utils.errors import UserError
from utils.files import (
    append_text,
    check_file,
    remove_ours,
    sweep,
    write_json,
    write_text,
    written_whole,
)

FORMAT_VERSION = 1
KEYS = ("model", "settings", "channels", "fs", "standardise", "state")  # what a checkpoint is for
_EVENTS = "tensorboard/events.out.tfevents.*"
_OWN_CHECKPOINT = re.compile(r"last|best|best_accuracy|pass_\d+")  # others are a person's copies
# what may differ when a run goes on: how long, where its files are, what is written beside
FREE = {
    "n_epochs",
    "patience",
    "save_model_freq",
    "logger",
    "budget_gb",
    "data_path",
    "max_minutes",
    "n_jobs",
}


class Run:
    """One training's folder.

    ``settings`` are the values of the flags that decide the result, ``facts`` what else is worth
    knowing later (subjects, store, command).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = path / "metrics.jsonl"

    def checkpoint(self, name: str) -> Path:
        """Where the checkpoint ``name`` is or would be."""
        return self.path / "checkpoints" / f"{name}.pt"

    def begin(self, settings: Mapping[str, Any], facts: Mapping[str, Any], *, fresh: bool) -> None:
        """Open the folder for training: go on with what it holds, or start ``fresh``.

        Raises:
            UserError: it holds a run with other settings or of another store, or somebody else's
                file under a name that training writes.
        """
        sweep(self.path, depth=2)
        checkpoints = [
            path for path in sorted((self.path / "checkpoints").glob("*.pt"))
            if _OWN_CHECKPOINT.fullmatch(path.stem)
        ]  # fmt: skip
        written = [self.path / name for name in ("run.json", "metrics.csv", "curve.png")]
        for path in (self.metrics, *written, *checkpoints):
            check_file(path)
        if fresh:
            for path in (*checkpoints, self.metrics, *written, *self.path.glob(_EVENTS)):
                remove_ours(path)
        if self.checkpoint("last").exists():
            self._refuse_others(settings, facts)
        else:
            remove_ours(self.metrics)
        about = {"settings": dict(settings), **facts, "versions": _versions()}
        write_json(self.path / "run.json", about)

    def _refuse_others(self, settings: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        former = read_json(self.path / "run.json")
        before = former.get("settings", {})
        differing = [
            f"{name} {before.get(name)} then, {settings.get(name)} now"
            for name in sorted(before.keys() | settings.keys())
            if name not in FREE and before.get(name) != settings.get(name)
        ]
        if former.get("store") != facts.get("store"):
            differing.append("another store")
        if differing:
            raise UserError(
                f"{self.path}: holds a run with other settings ({'; '.join(differing)}); choose "
                "another --project_path, or --resume False to replace it"
            )

    def rows(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``; a last line cut by a crash is left out."""
        if not self.metrics.exists():
            return []
        rows = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def rewind(self, passes: int) -> None:
        """Forget lines of passes that no checkpoint holds."""
        kept = [row for row in self.rows() if row["pass"] <= passes]
        write_text(self.metrics, "".join(json.dumps(row) + "\n" for row in kept))

    def log(self, row: Mapping[str, Any]) -> None:
        """Append one line."""
        append_text(self.metrics, json.dumps(row) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UserError: the file is missing or is none.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object")
    return value


def _versions() -> dict[str, str]:
    libraries = ("torch", "lightning-fabric", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in libraries}


def command() -> str:
    """The command line of this process, without the folder its script lies in."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


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


def newest_run(project: Path, pattern: str) -> Path:
    """The run folder under ``project`` whose name matches and that was trained last.

    Raises:
        UserError: there is none.
    """
    runs = [path.parent for path in project.glob(f"{pattern}/checkpoints")]
    if not runs:
        raise UserError(f"{project}: no trained run {pattern}; train one first")
    return max(runs, key=lambda run: (run / "checkpoints").stat().st_mtime_ns)
