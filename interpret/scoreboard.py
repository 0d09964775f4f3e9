"""Scores of explanations, and their means by method, measure, stage and subject."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from utils import metrics

# beginnings of measures of which a method may have more than maps that know no model
COMPARED = ("auroc", "pointing", "from_wrong", "deletion", "insertion")


@dataclass(frozen=True)
class Score:
    """One measurement at one epoch, or of one night; NaN is left out of the tables."""

    method: str
    measure: str
    stage: str
    subject: str
    value: float


def summarise(scores: Sequence[Score], *, seed: int = 0) -> list[dict[str, Any]]:
    """Rows by method, measure and stage: mean, 95 % interval by subject, epochs and subjects.

    Subjects are resampled whole; fewer than two have no interval. Stage "all" takes every epoch.
    """
    rows = []
    for (method, measure, stage), group in _grouped(scores).items():
        values, subjects = [score.value for score in group], [score.subject for score in group]
        low, high = interval(values, subjects, seed=seed)
        rows.append(
            {
                "method": method,
                "measure": measure,
                "stage": stage,
                "mean": float(np.mean(values)),
                "low": low,
                "high": high,
                "epochs": len(group),
                "subjects": len(set(subjects)),
            }
        )
    # an order that does not depend on which night came first
    return sorted(rows, key=lambda row: (row["measure"], row["stage"], row["method"]))


def by_subject(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Rows by method, measure, stage and subject: mean and epochs."""
    rows = []
    for (method, measure, stage), group in _grouped(scores).items():
        for subject, values in _of_subjects(group).items():
            about = {"method": method, "measure": measure, "stage": stage, "subject": subject}
            rows.append({**about, "mean": float(np.mean(values)), "epochs": len(values)})
    keys = ("measure", "stage", "method", "subject")
    return sorted(rows, key=lambda row: tuple(row[key] for key in keys))


def compare(
    scores: Sequence[Score], free: Collection[str], *, seed: int = 0
) -> list[dict[str, Any]]:
    """Rows of every method beside the best of the model-free ones, ``free``, by measure and stage.

    The best is that of the highest mean over subjects. ``difference`` is the mean over subjects of
    each one's own, with its 95 % interval; ``ahead`` is true where the interval lies above 0.
    """
    means: dict[tuple[str, str], dict[str, dict[str, float]]] = defaultdict(dict)
    for (method, measure, stage), group in _grouped(scores).items():
        if measure.startswith(COMPARED):
            values = {name: float(np.mean(part)) for name, part in _of_subjects(group).items()}
            means[measure, stage][method] = values
    rows = []
    for (measure, stage), methods in sorted(means.items()):
        known = sorted(name for name in methods if name in free)
        if not known:
            continue
        best = max(known, key=lambda name: np.mean(list(methods[name].values())))
        for method in sorted(name for name in methods if name not in free):
            own, other = methods[method], methods[best]
            subjects = sorted(own.keys() & other.keys())
            if not subjects:
                continue
            differences = [own[name] - other[name] for name in subjects]
            low, high = interval(differences, subjects, seed=seed)
            rows.append(
                {
                    "method": method,
                    "measure": measure,
                    "stage": stage,
                    "against": best,
                    "difference": float(np.mean(differences)),
                    "low": low,
                    "high": high,
                    "subjects": len(subjects),
                    "ahead": low is not None and low > 0,
                }
            )
    return rows


def interval(
    values: Sequence[float], subjects: Sequence[str], *, seed: int = 0
) -> tuple[float | None, float | None]:
    """95 % interval of the mean of ``values``, each of one of ``subjects``, who are drawn whole.

    ``None`` for fewer than two subjects.
    """
    if len(set(subjects)) < 2:
        return None, None
    # sums and numbers, of which the pooled mean of any draw of subjects is made
    sums = np.stack([values, np.ones(len(values))], axis=1)[:, None]
    low, high = metrics.bootstrap(sums, subjects, lambda s: s[..., 0, 0] / s[..., 0, 1], seed=seed)
    return float(low), float(high)


def _grouped(scores: Sequence[Score]) -> dict[tuple[str, str, str], list[Score]]:
    groups: dict[tuple[str, str, str], list[Score]] = defaultdict(list)
    for score in scores:
        if not np.isnan(score.value):
            groups[score.method, score.measure, score.stage].append(score)
            groups[score.method, score.measure, "all"].append(score)
    return groups


def _of_subjects(group: Sequence[Score]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = defaultdict(list)
    for score in group:
        values[score.subject].append(score.value)
    return values
