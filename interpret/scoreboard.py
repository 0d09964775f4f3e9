"""Scores of all explanation methods in one table: means over epochs, intervals by subject."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SAMPLES = 2000  # of the bootstrap


@dataclass(frozen=True)
class Score:
    """One measurement at one epoch; NaN is left out of the table."""

    method: str
    measure: str
    stage: str
    subject: str
    value: float


def summarise(scores: Sequence[Score], *, seed: int = 0) -> list[dict[str, Any]]:
    """Rows by method, measure and stage: mean, 95 % interval by subject, epochs and subjects.

    Subjects are resampled whole; fewer than two have no interval. Stage "all" takes every epoch.
    """
    groups: dict[tuple[str, str, str], list[Score]] = defaultdict(list)
    for score in scores:
        if not np.isnan(score.value):
            groups[score.method, score.measure, score.stage].append(score)
            groups[score.method, score.measure, "all"].append(score)
    rows = []
    for (method, measure, stage), group in groups.items():
        low, high = _interval(group, seed)
        rows.append(
            {
                "method": method,
                "measure": measure,
                "stage": stage,
                "mean": float(np.mean([score.value for score in group])),
                "low": low,
                "high": high,
                "epochs": len(group),
                "subjects": len({score.subject for score in group}),
            }
        )
    # an order that does not depend on which night came first
    return sorted(rows, key=lambda row: (row["measure"], row["stage"], row["method"]))


def _interval(group: Sequence[Score], seed: int) -> tuple[float | None, float | None]:
    names, of = np.unique([score.subject for score in group], return_inverse=True)
    if len(names) < 2:
        return None, None
    # epochs of a subject resemble each other, so subjects are drawn, not epochs; sums and sizes
    # suffice for the pooled mean of every draw
    sums = np.bincount(of, [score.value for score in group])
    sizes = np.bincount(of)
    rng = np.random.default_rng(seed)
    # how often each subject is drawn: (samples, subjects)
    times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=SAMPLES)
    low, high = np.quantile((times @ sums) / (times @ sizes), (0.025, 0.975))
    return float(low), float(high)
