"""Agreement of staged nights with the expert: pooled, per stage, per recording, calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from utils import metrics
from utils.metrics import plain
from utils.staged_night import StagedNight
from utils.stages import STAGES

LEVEL = 0.95
SAMPLES = 2000  # bootstrap draws


def score(nights: Sequence[StagedNight]) -> dict[str, Any]:
    """Score staged nights against the expert, as plain values; undefined figures are ``None``.

    Pooled figures come from one confusion matrix over all scored epochs; intervals resample whole
    subjects. Nights nobody scored are listed and count for nothing.
    """
    counts = np.stack([night.counts for night in nights])
    subjects = [night.subject for night in nights]
    probabilities = np.concatenate([night.probabilities for night in nights])
    expert = np.concatenate([night.expert for night in nights])
    error, bins = metrics.calibration(probabilities, expert)
    area, points = metrics.risk_coverage(probabilities, expert)
    scored = counts.sum(axis=(1, 2)) > 0
    # an unscored night adds nothing, but would be drawn by the bootstrap
    pooled, kept = counts.sum(axis=0), [s for s, k in zip(subjects, scored, strict=True) if k]
    return {
        "epochs": int(counts.sum()),
        "subjects": len(set(kept)),
        "intervals": f"{LEVEL:.0%} percentile bootstrap over subjects, {SAMPLES} samples",
        "pooled": {
            name: _with_interval(counts[scored], kept, figure)
            for name, figure in metrics.SUMMARIES.items()
        },
        "per_stage": _per_stage(counts[scored], kept),
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
    row = {
        "recording": night.recording,
        "subject": night.subject,
        "epochs": len(night.expert),
        "scored": int(counts.sum()),
    }
    row |= {name: plain(figure(counts)) for name, figure in metrics.SUMMARIES.items()}
    for stage, value in zip(STAGES, metrics.f1(counts), strict=True):
        row[f"f1_{stage}"] = plain(value)
    return row


def _with_interval(counts: np.ndarray, subjects: Sequence[str], figure: Any) -> dict[str, Any]:
    if not len(counts):  # nobody scored any night
        return {"value": None, "low": None, "high": None}
    low, high = metrics.bootstrap(counts, subjects, figure, samples=SAMPLES, level=LEVEL)
    return {"value": plain(figure(counts.sum(axis=0))), "low": plain(low), "high": plain(high)}


def _per_stage(counts: np.ndarray, subjects: Sequence[str]) -> dict[str, dict[str, Any]]:
    stages: dict[str, dict[str, Any]] = {stage: {} for stage in STAGES}
    for name, figure in metrics.PER_STAGE.items():
        values = figure(counts.sum(axis=0))
        low = high = np.full(len(STAGES), np.nan)
        if len(counts) and name != "support":  # a number of epochs has no interval
            low, high = metrics.bootstrap(counts, subjects, figure, samples=SAMPLES, level=LEVEL)
        for k, stage in enumerate(STAGES):
            if name == "support":
                stages[stage][name] = int(values[k])
            else:
                entry = {"value": plain(values[k]), "low": plain(low[k]), "high": plain(high[k])}
                stages[stage][name] = entry
    return stages
