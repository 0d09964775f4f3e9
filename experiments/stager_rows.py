"""Rows of tables for stagers by name: they stage a store's nights as those stand there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any
from zlib import crc32

import numpy as np
import torch

from datasets.store import splits
from datasets.store.store import Store
from datasets.store.stored_file import StoredFile
from evaluation.evaluation_files import write_evaluation
from evaluation.stagers import catalogue
from evaluation.stagers.network_stager import NetworkStager
from evaluation.stagers.stager import Asked, Stager
from evaluation.stagers.vote import stage_file
from experiments import model_table
from utils import runs
from utils.checkpoint import refuse_seen
from utils.files import read_json
from utils.staged_night import StagedNight
from utils.stages import STAGES
from utils.version import VERSION

NO_MODEL = "no model: the commonest stage throughout"


def rows(
    names: Sequence[str],
    root: Path,
    store: Store,
    subjects: Sequence[str],
    which: str,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Rows of stagers by name on held-out subjects, and of no model at all; ``which`` folds."""
    table = []
    for name in names:
        stager = catalogue.load(name, device)
        print(f"{name}: {stager.headline}")
        # several runs have a best.pt, and weights of one name may change
        folder = f"{stager.name}_{crc32(stager.fingerprint.encode()):08x}"
        run = evaluated(root / folder, stager, store, subjects, folds=which)
        table.append(row_of(name, run))
    return [*table, row_without_model(run)]


def evaluated(
    folder: Path, stager: Stager, store: Store, subjects: Sequence[str], *, folds: str
) -> Path:
    """Stage the nights of ``subjects`` and write the evaluation, unless ``folder`` has it already.

    Returns the run's folder, whose ``evaluation`` is that of every other run.

    Raises:
        UserError: a checkpoint that was trained on some of them, a channel is lacking, or the
            store's signals have no unit.
    """
    if isinstance(stager, NetworkStager):
        check_unseen(stager, store, subjects)
    asked = {
        "stager": stager.fingerprint,
        "store": splits.fingerprint(store),
        "tested": list(subjects),
        "version": VERSION,
    }
    path = folder / "evaluation" / "metrics.json"
    if path.is_file() and asked.items() <= read_json(path)["about"].items():
        return folder
    nights, seconds = [], []
    for recording in store.of_subjects(subjects):
        started = time.perf_counter()
        nights.append(staged(stager, store, recording))
        seconds.append(time.perf_counter() - started)
    about = {
        "headline": f"{stager.headline}; {store.cohort}, {folds}",
        "command": runs.command(),
        "model": stager.name,
        "cohort": store.cohort,
        "protocol": store.settings["protocol"],
        "folds": folds,
        "seconds_per_night": round(median(seconds), 4),
        "source": f"{stager.headline}; from the store's filtered signals",
        **asked,
    }
    write_evaluation(folder / "evaluation", nights, about, pictures=2)
    return folder


def check_unseen(stager: NetworkStager, store: Store, subjects: Sequence[str]) -> None:
    """Refuse to evaluate a checkpoint on subjects that its training has seen."""
    refuse_seen(
        stager.checkpoint.training,
        store.cohort,
        subjects,
        where=str(store.path),
        remedy="hold out other folds",
    )


def staged(stager: Stager, store: Store, recording: str) -> StagedNight:
    """A stored night as the stager stages it, without its signals."""
    file = StoredFile(store, recording)
    night = stage_file(file, [stager], Asked())
    return StagedNight(
        recording,
        file.night.subject,
        night.probabilities,
        file.stages,
        file.night.first_epoch,
        file.night.start,
        night.quality_flags,
        votes=night.votes,
        own_onsets=file.night.onsets,
    )


def row_of(name: str, run: Path) -> dict[str, Any]:
    """The row of a stager that was evaluated into ``run``."""
    about = read_json(run / "evaluation" / "metrics.json")["about"]
    subjects, counts = model_table.confusions([run])
    return {
        "model": name,
        "whose": "ours, weights of others",
        "data": model_table.data_of(about),
        **model_table.figures_of(subjects, counts),
        "seconds_per_night": about["seconds_per_night"],
        "runs": 1,
        "subjects": len(set(subjects)),
        "epochs": int(counts.sum()),
        "source": about["source"],
    }


def row_without_model(run: Path) -> dict[str, Any]:
    """The control: every epoch of a run's nights gets the stage that their expert gave most."""
    about = read_json(run / "evaluation" / "metrics.json")["about"]
    subjects, counts = model_table.confusions([run])
    commonest = int(counts.sum(axis=(0, 2)).argmax())
    alone = np.zeros_like(counts)
    alone[:, :, commonest] = counts.sum(axis=2)
    return {
        "model": f"{NO_MODEL}, {STAGES[commonest]}",
        "whose": "control",
        "data": model_table.data_of(about),
        **model_table.figures_of(subjects, alone),
        "subjects": len(set(subjects)),
        "epochs": int(counts.sum()),
        "source": "",
    }
