"""Agreement of staged nights with the expert: pooled, per stage, per recording, calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from utils import metrics
from utils.intervals import Figure, over_subjects
from utils.metrics import plain
from utils.staged_night import StagedNight
from utils.stages import STAGES

INTERVALS = (
    "95 % over subjects: below 8 subjects Student's t of the mean of their own values, from 8 on "
    "BCa of the pooled figure; each names its kind, and how many subjects have the figure"
)


def _of_stage(figure: Figure, k: int) -> Figure:
    return lambda counts: figure(counts)[..., k]


# a number of epochs has no interval
_RATIOS = [name for name in metrics.PER_STAGE if name != "support"]
_FIGURES = metrics.SUMMARIES | {
    f"{name} {stage}": _of_stage(metrics.PER_STAGE[name], k)
    for name in _RATIOS
    for k, stage in enumerate(STAGES)
}


def score(nights: Sequence[StagedNight]) -> dict[str, Any]:
    """Score staged nights against the expert, as plain values; undefined figures are ``None``.

    Pooled figures come from one confusion matrix over all scored epochs; intervals are over
    subjects. Nights nobody scored are listed and count for nothing.
    """
    counts = np.stack([night.counts for night in nights])
    subjects = [night.subject for night in nights]
    probabilities = np.concatenate([night.probabilities for night in nights])
    expert = np.concatenate([night.expert for night in nights])
    error, bins = metrics.calibration(probabilities, expert)
    area, points = metrics.risk_coverage(probabilities, expert)
    scored = counts.sum(axis=(1, 2)) > 0
    # an unscored night adds nothing, but its subject would be counted
    pooled, kept = counts.sum(axis=0), [s for s, k in zip(subjects, scored, strict=True) if k]
    figures = over_subjects(counts[scored], kept, _FIGURES)
    return {
        "epochs": int(counts.sum()),
        "subjects": len(set(kept)),
        "intervals": INTERVALS,
        "pooled": {name: figures[name].plain() for name in metrics.SUMMARIES},
        "per_stage": {
            stage: {name: figures[f"{name} {stage}"].plain() for name in _RATIOS} | {"support": n}
            for stage, n in zip(STAGES, metrics.support(pooled).tolist(), strict=True)
        },
        "per_subject": [
            {"subject": name} | _agreement(counts[np.array(subjects) == name].sum(axis=0))
            for name in sorted(set(kept))
        ],
        # neither in the expert's stages nor in the model's: their F1 is undefined
        "absent": [s for s, n in zip(STAGES, pooled.sum(0) + pooled.sum(1), strict=True) if not n],
        "confusion": pooled.tolist(),
        "calibration": {
            "expected_calibration_error": plain(error),
            "bins": [[plain(value) for value in row] for row in bins],
        },
        "risk_coverage": {"area": plain(area), "points": points.tolist()},
        "recordings": [
            _recording(night, matrix) for night, matrix in zip(nights, counts, strict=True)
        ],
    }


def _recording(night: StagedNight, counts: np.ndarray) -> dict[str, Any]:
    about = {
        "recording": night.recording,
        "subject": night.subject,
        "epochs": len(night.expert),
    }
    return about | _agreement(counts)


def _agreement(counts: np.ndarray) -> dict[str, Any]:
    row: dict[str, Any] = {"scored": int(counts.sum())}
    row |= {name: plain(figure(counts)) for name, figure in metrics.SUMMARIES.items()}
    by_stage = zip(STAGES, metrics.f1(counts), strict=True)
    return row | {f"f1_{stage}": plain(value) for stage, value in by_stage}
