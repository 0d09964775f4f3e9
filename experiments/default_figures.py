"""How good the default is: on simulated nights, on partly recorded real ones, on held-out subjects.

What the card of the bundled weights reports, as plain values.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.band_tables import BandTable, split_of
from datasets.readers import partial_night
from datasets.readers.any_file import opened
from evaluation.stage import load_model
from evaluation.stagers.stager import Asked, Stager
from training.bands_family import probabilities_of
from utils import metrics
from utils.checkpoint import Checkpoint
from utils.intervals import over_subjects
from utils.staged_night import StagedNight
from utils.stages import STAGES

_BINS = 10


def of_files(stager: Stager, files: Sequence[Path]) -> list[StagedNight]:
    """Recordings with an expert's stages beside them, staged."""
    return [stager.stage(opened(path), Asked()) for path in files]


def of_partial(stager: Stager, files: Sequence[Path]) -> list[StagedNight]:
    """Partly recorded real nights, staged; epochs without a signal are unscored."""
    nights = []
    for path in files:
        file, expert = partial_night.read(path)
        staged = stager.stage(file, Asked(expert="none"))
        name = path.stem
        nights.append(StagedNight(name, name, staged.probabilities, expert, votes=staged.votes))
    return nights


def of_table(
    checkpoints: Sequence[Checkpoint], table: BandTable, derivation: str, split: dict[str, int]
) -> list[StagedNight]:
    """Held-out nights of a table of band powers, by the mean of networks on band powers."""
    _, _, subjects = split_of(table.subjects, split["n_test"], split["n_val"], split["seed"])
    nets = [load_model(checkpoint) for checkpoint in checkpoints]
    number = table.derivation(derivation)
    with torch.no_grad():
        return [
            StagedNight(
                night.recording,
                night.subject,
                np.mean([probabilities_of(net, night, number) for net in nets], axis=0),
                night.stages,
            )
            for night in table.of_subjects(subjects)
        ]


def summary(nights: Sequence[StagedNight]) -> dict[str, Any]:
    """Pooled agreement with its interval by subject, calibration, and what review would find."""
    counts = np.stack([night.counts for night in nights])
    subjects = [night.subject for night in nights]
    kappa = over_subjects(counts, subjects, {"kappa": metrics.kappa})["kappa"]
    pooled = counts.sum(axis=0)
    probabilities = np.concatenate([night.probabilities for night in nights])
    expert = np.concatenate([night.expert for night in nights])
    error, bins = metrics.calibration(probabilities, expert, _BINS)
    n3 = STAGES.index("N3")
    others = [STAGES.index(stage) for stage in ("W", "N1", "REM")]
    return {
        "nights": len(nights),
        "subjects": len(set(subjects)),
        "epochs": int(pooled.sum()),
        "kappa": _rounded(kappa.value),
        "kappa_mean_of_subjects": _rounded(kappa.mean),
        "kappa_low": _rounded(kappa.low),
        "kappa_high": _rounded(kappa.high),
        "kappa_interval": kappa.kind,
        "kappa_subjects": kappa.subjects,
        "accuracy": _rounded(metrics.accuracy(pooled)),
        "macro_f1": _rounded(metrics.macro_f1(pooled)),
        "f1": [_rounded(value) for value in metrics.f1(pooled)],
        "recall": [_rounded(value) for value in metrics.recall(pooled)],
        "n3_share": _rounded(pooled[:, n3].sum() / pooled.sum()),
        "n3_share_expert": _rounded(pooled[n3].sum() / pooled.sum()),
        "false_n3": _rounded(pooled[others, n3].sum() / pooled[others].sum()),
        "calibration_error": _rounded(error),
        "calibration_bins": [[_rounded(value) for value in row] for row in bins],
        "confusion": pooled.tolist(),
        "w_throughout": control_of(pooled),
        **review_of(nights),
    }


def control_of(pooled: np.ndarray) -> dict[str, float | None]:
    """Accuracy and F1 of Wake of an answer that needs no model, Wake throughout: kappa is 0."""
    counts = np.zeros_like(pooled)
    counts[:, STAGES.index("W")] = pooled.sum(axis=1)
    return {
        "accuracy": _rounded(metrics.accuracy(counts)),
        "f1": _rounded(metrics.f1(counts)[STAGES.index("W")]),
    }


def review_of(nights: Sequence[StagedNight]) -> dict[str, float | None]:
    """Share of errors among epochs marked for review, and among the others."""
    scored = np.concatenate([night.expert >= 0 for night in nights])
    wrong = np.concatenate([night.stages != night.expert for night in nights])
    marked = np.concatenate([night.to_review for night in nights])
    return {
        "errors_to_review": _rounded(wrong[scored & marked].mean()),
        "errors_elsewhere": _rounded(wrong[scored & ~marked].mean()),
    }


def by_part(nights: Sequence[StagedNight]) -> dict[str, float | None]:
    """Pooled kappa of each vote alone."""
    counts: dict[str, np.ndarray] = {}
    for night in nights:
        for vote in night.votes:
            stages = vote.probabilities.argmax(axis=1)
            counts[vote.name] = counts.get(vote.name, 0) + metrics.confusion(night.expert, stages)
    return {name: _rounded(metrics.kappa(value)) for name, value in counts.items()}


def _rounded(value: Any) -> float | None:
    """Four digits; ``None`` where a figure is undefined."""
    number = metrics.plain(value)
    return None if number is None else round(number, 4)
