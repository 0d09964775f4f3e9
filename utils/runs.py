"""Run folders: the settings of a training, what it measured, and its checkpoints.

``<folder>/run.json`` settings and versions, ``metrics.jsonl`` one line per pass,
``checkpoints/{last,best,…}.pt``. A checkpoint is a dict of tensors and plain values.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Mapping
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files import (
    append_text,
    check_file,
    read_json,
    remove_ours,
    remove_results,
    sweep,
    write_json,
    write_text,
)
from utils.json_values import parsed

_EVENTS = "tensorboard/events.out.tfevents.*"
_RESULTS = ("evaluation*", "interpretations*", "embeddings", "encoded")  # folders beside them
# others are copies of a user
_OWN_CHECKPOINT = re.compile(r"last|best|best_accuracy|pass_\d+|step_\d+")
# what may differ when a run is resumed: how long, where its files are, what is written beside
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

    ``settings`` are the values of the flags that decide the result, ``facts`` what else later
    steps read (subjects, store, command).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = path / "metrics.jsonl"

    def checkpoint(self, name: str) -> Path:
        """Where the checkpoint ``name`` is or would be."""
        return self.path / "checkpoints" / f"{name}.pt"

    def begin(self, settings: Mapping[str, Any], facts: Mapping[str, Any], *, fresh: bool) -> None:
        """Open the folder for training: resume what it holds, or start ``fresh``.

        Raises:
            UserError: it holds a run with other settings, of another store or begun with other
                weights, or somebody else's file under a name that training writes.
        """
        sweep(self.path, depth=2)
        checkpoints = [
            path
            for path in sorted((self.path / "checkpoints").glob("*.pt"))
            if _OWN_CHECKPOINT.fullmatch(path.stem)
        ]
        written = [
            self.path / name for name in ("run.json", "metrics.csv", "curve.png", "curve.pdf")
        ]
        # all of them before the first is removed: a refusal leaves the folder as it was
        for path in (self.metrics, *written, *checkpoints):
            check_file(path)
        if fresh:
            for path in (*checkpoints, self.metrics, *written, *self.path.glob(_EVENTS)):
                remove_ours(path)
        if self.checkpoint("last").exists():
            self._refuse_others(settings, facts)
        else:  # lines of passes that were never saved, and results of other weights
            remove_ours(self.metrics)
            remove_ours(self.path / "cohorts.csv")
            for folder in [path for name in _RESULTS for path in self.path.glob(name)]:
                remove_results(folder)
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
        # runs from before this was recorded are resumed
        start = facts.get("starting_weights")
        if former.get("starting_weights", start) != start:
            differing.append("begun with other weights than those given now")
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
                rows.append(parsed(line))
            except ValueError:
                break
        return rows

    def rewind(self, passes: int) -> None:
        """Drop the lines after ``passes`` passes, which no checkpoint holds."""
        kept = [row for row in self.rows() if row["pass"] <= passes]
        write_text(self.metrics, "".join(json.dumps(row) + "\n" for row in kept))

    def log(self, row: Mapping[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``."""
        append_text(self.metrics, json.dumps(row) + "\n")


def _versions() -> dict[str, str]:
    libraries = ("torch", "lightning-fabric", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in libraries}


def command() -> str:
    """The command line of this process, without the folder its script lies in."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


def newest_run(project: Path, pattern: str, *, but_not: str = "") -> Path:
    """The run folder under ``project`` whose name matches and that was trained last.

    Raises:
        UserError: there is none.
    """
    runs = [path.parent for path in project.glob(f"{pattern}/checkpoints")]
    runs = [run for run in runs if not fnmatch(run.name, but_not)]
    if not runs:
        raise UserError(f"{project}: no trained run {pattern}; train one first")
    return max(runs, key=lambda run: (run / "checkpoints").stat().st_mtime_ns)
