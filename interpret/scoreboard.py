"""Scores of explanations, and their means by method, measure, stage and subject."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from utils.intervals import Figure, over_subjects

# beginnings of measures of which a method may have more than maps that know no model
COMPARED = ("auroc", "pointing", "from_wrong", "deletion", "insertion", "band_deletion")
_LEADING = 5  # rows of the figure of metrics


@dataclass(frozen=True)
class Score:
    """One measurement at one epoch, or of one night; NaN is left out of the tables."""

    method: str
    measure: str
    stage: str
    subject: str
    value: float


def summarise(scores: Sequence[Score], *, seed: int = 0) -> list[dict[str, Any]]:
    """Rows by method, measure and stage: mean over epochs, interval over subjects, their numbers.

    For few subjects the interval is that of the mean over subjects. Stage "all" takes every epoch.
    """
    rows = []
    for (method, measure, stage), group in _groups(scores).items():
        # epochs of a subject resemble each other: their sum and number are its part in the mean
        parts = np.array([(score.value, 1) for score in group])
        row = {"method": method, "measure": measure, "stage": stage}
        row |= _with_interval(parts, [score.subject for score in group], _mean, seed)
        rows.append(row | {"epochs": len(group)})
    return _sorted(rows)


def differences(scores: Sequence[Score], other: str, *, seed: int = 0) -> list[dict[str, Any]]:
    """Rows like those of :func:`summarise`: mean of a method minus that of ``other``, paired.

    Paired are the means of a subject, of those who have both.
    """
    groups, rows = _groups(scores), []
    for (method, measure, stage), group in groups.items():
        beside = groups.get((other, measure, stage), [])
        both = {score.subject for score in group} & {score.subject for score in beside}
        pairs = [(s.subject, (s.value, 1, 0, 0)) for s in group if s.subject in both]
        pairs += [(s.subject, (0, 0, s.value, 1)) for s in beside if s.subject in both]
        if method == other or not pairs:
            continue
        subjects, parts = zip(*pairs, strict=True)
        row = {"method": method, "minus": other, "measure": measure, "stage": stage}
        rows.append(row | _with_interval(np.array(parts), subjects, _difference, seed))
    return _sorted(rows)


def compare(
    scores: Sequence[Score], free: Collection[str], *, seed: int = 0
) -> list[dict[str, Any]]:
    """Rows of every method beside the best of the model-free ones, ``free``, by measure and stage.

    The best is that of the highest mean over subjects. ``difference`` is paired by subject;
    ``ahead`` is true where its interval lies above 0.
    """
    best: dict[tuple[str, str], tuple[float, str]] = {}
    for (method, measure, stage), group in sorted(_groups(scores).items()):
        if method in free and measure.startswith(COMPARED):
            own = [row["mean"] for row in by_subject(group) if row["stage"] == "all"]
            one = (float(np.mean(own)), method)
            best[measure, stage] = max(best.get((measure, stage), one), one)
    rows = []
    for against in sorted({method for _, method in best.values()}):
        for row in differences(scores, against, seed=seed):
            chosen = best.get((row["measure"], row["stage"]), (0.0, ""))[1] == against
            if chosen and row["method"] not in free:
                row["against"], row["difference"] = row.pop("minus"), row.pop("mean")
                rows.append(row | {"ahead": row["low"] is not None and row["low"] > 0})
    return _sorted(rows)


def leading(
    rows: Sequence[dict[str, Any]], free: Collection[str], measures: Sequence[str]
) -> list[dict[str, Any]]:
    """Five rows a measure of those of :func:`summarise`: the best of the model-free ones first.

    Below it the four methods of the highest means in the first of the ``measures``, the same in
    all. The best model-free one is that of the highest mean over subjects, as in :func:`compare`.
    ``row`` is the place, from 1.
    """
    overall = [row for row in rows if row["stage"] == "all" and row["measure"] in measures]
    others = [row for row in overall if row["method"] not in free]
    ranked = sorted(others, key=lambda row: (measures.index(row["measure"]), -row["mean"]))
    methods = list(dict.fromkeys(row["method"] for row in ranked))[: _LEADING - 1]
    chosen = []
    for measure in measures:
        own = [row for row in overall if row["measure"] == measure]
        known = [row for row in own if row["method"] in free]
        first = max(known, key=lambda row: row["mean_of_subjects"], default=None)
        chosen += [{"row": 1, **first}] if first else []
        places = {name: k for k, name in enumerate(methods, 2)}
        chosen += sorted(
            ({"row": places[row["method"]], **row} for row in own if row["method"] in places),
            key=lambda row: row["row"],
        )
    return chosen


def by_subject(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Rows by method, measure, stage and subject: mean over epochs, and their number."""
    rows = []
    for (method, measure, stage), group in _groups(scores).items():
        for subject in sorted({score.subject for score in group}):
            values = [score.value for score in group if score.subject == subject]
            row = {"method": method, "measure": measure, "stage": stage, "subject": subject}
            rows.append(row | {"mean": float(np.mean(values)), "epochs": len(values)})
    return _sorted(rows)


def _groups(scores: Sequence[Score]) -> dict[tuple[str, str, str], list[Score]]:
    groups: dict[tuple[str, str, str], list[Score]] = defaultdict(list)
    for score in scores:
        if not np.isnan(score.value):
            groups[score.method, score.measure, score.stage].append(score)
            groups[score.method, score.measure, "all"].append(score)
    return groups


def _with_interval(
    parts: np.ndarray, subjects: Sequence[str], figure: Figure, seed: int
) -> dict[str, Any]:
    plain = over_subjects(parts, subjects, {"mean": figure}, seed=seed)["mean"].plain()
    return {"mean": plain.pop("value"), **plain}


def _mean(parts: np.ndarray) -> np.ndarray:
    """Mean of sums and numbers (…, 2)."""
    return parts[..., 0] / parts[..., 1]


def _difference(parts: np.ndarray) -> np.ndarray:
    """Difference of two means, of the sums and numbers of both (…, 4)."""
    return _mean(parts[..., :2]) - _mean(parts[..., 2:])


def _sorted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # an order that does not depend on which night came first; of a subject's rows it stays
    return sorted(rows, key=lambda row: (row["measure"], row["stage"], row["method"]))
