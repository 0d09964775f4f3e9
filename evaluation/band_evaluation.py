"""Held-out nights of band powers staged, scored and written as every other evaluation is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.band_tables import BandTable, read_table, split_of
from datasets.store.splits import fingerprint
from datasets.store.store import Store
from evaluation.evaluation_files import EVALUATION, write_evaluation
from evaluation.stage import load_model
from training.bands_family import MODEL, probabilities_of, stored_table
from utils import runs
from utils.checkpoint import Checkpoint, refuse_seen
from utils.errors import UserError
from utils.files import check_folder, read_json, safe_name, sha256
from utils.metrics import plain
from utils.staged_night import StagedNight
from utils.stages import STAGES


@dataclass(frozen=True)
class BandEvaluationFlags:
    """Which checkpoint, which table or store, whom of it, and in which derivation."""

    model_path: Path | None
    project_path: Path
    table: Path | None
    data_path: Path | None
    derivation: str | None
    n_test: int
    n_val: int
    seed: int
    pictures: int


def evaluate(flags: BandEvaluationFlags, checkpoint: Checkpoint) -> dict[str, Any]:
    """Stage the held-out subjects of a table or store and write the evaluation.

    Returns what ``metrics.json`` holds, and the ``folder``.

    Raises:
        UserError: the checkpoint is of another model, or has seen one of the subjects.
    """
    if checkpoint.model != MODEL or checkpoint.training is None:
        raise UserError(f"{checkpoint.path}: not a {MODEL} trained here; see bands_training.py")
    table, checksums = open_table(flags)
    subjects = held_out(flags, table, checkpoint)
    derivation = table.derivation(flags.derivation) if flags.derivation else 0
    folder = folder_for(checkpoint, flags, table.derivations[derivation], checksums)
    check_folder(folder, EVALUATION)
    net = load_model(checkpoint)
    nights = [
        StagedNight(n.recording, n.subject, probabilities_of(net, n, derivation), n.stages)
        for n in table.of_subjects(subjects)
    ]
    about = {
        "headline": f"{table.cohort}, {table.derivations[derivation]}, {len(subjects)} subjects",
        "command": runs.command(),
        "checkpoint": checkpoint.path.name,
        "pass": checkpoint.passes,
        "model": checkpoint.model,
        "settings": dict(checkpoint.settings),
        "cohort": table.cohort,
        "derivation": table.derivations[derivation],
        "store": checksums,
        "split": {"n_test": flags.n_test, "n_val": flags.n_val, "seed": flags.seed},
        "subjects": subjects,
        "shares": shares(nights),
        "select_on": checkpoint.training.facts["select_on"],
    }
    return {**write_evaluation(folder, nights, about, pictures=flags.pictures), "folder": folder}


def open_table(flags: BandEvaluationFlags) -> tuple[BandTable, list[str]]:
    """The table, read or measured of a store, and the checksums it is known by."""
    if (flags.table is None) == (flags.data_path is None):
        raise UserError("--table and --data_path: one of them, not both")
    if flags.table is not None:
        return read_table(flags.table), [sha256(flags.table)]
    table = stored_table(flags.data_path, flags.project_path)
    return table, fingerprint(Store(flags.data_path))


def held_out(flags: BandEvaluationFlags, table: BandTable, checkpoint: Checkpoint) -> list[str]:
    """Subjects that the split of the flags holds out, all if ``n_test`` is 0; none was seen."""
    subjects = table.subjects
    if flags.n_test:
        _, _, subjects = split_of(table.subjects, flags.n_test, flags.n_val, flags.seed)
    refuse_seen(
        checkpoint.training,
        table.cohort,
        subjects,
        where=f"{table.path}",
        remedy="give --n_test, --n_val and --seed as in training: "
        f"{checkpoint.training.facts.get('split')}",
    )
    return subjects


def folder_for(
    checkpoint: Checkpoint, flags: BandEvaluationFlags, derivation: str, checksums: list[str]
) -> Path:
    """``evaluation_<table>_<derivation>``, in the run's folder or beside the checkpoint.

    ``checksums`` are the table's, by which it differs from others of its name.
    """
    name = flags.table.stem if flags.table else flags.data_path.resolve().name
    parts = ["evaluation", name, derivation.replace(" ", "-").replace("/", "-")]
    if not checkpoint.is_in_run:  # other weights may lie beside it
        parts += [checkpoint.path.stem, checkpoint.fingerprint()[:8]]
    elif checkpoint.path.stem != "best":
        parts.append(checkpoint.path.stem)
    folder = checkpoint.run / safe_name("_".join(parts), checkpoint.path)
    former = folder / "metrics.json"
    if former.is_file() and read_json(former).get("about", {}).get("store") != checksums:
        return folder.with_name(f"{folder.name}_{checksums[0][:8]}")  # of another of that name
    return folder


def shares(nights: Sequence[StagedNight]) -> dict[str, dict[str, float | None]]:
    """Share of each stage among the scored epochs, by the expert and by the model."""
    counts = sum(night.counts for night in nights)
    total = np.maximum(counts.sum(), 1)
    return {
        who: dict(zip(STAGES, map(plain, counts.sum(axis=axis) / total), strict=True))
        for who, axis in (("expert", 1), ("model", 0))
    }
