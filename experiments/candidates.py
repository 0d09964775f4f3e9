"""Candidates for the default: parts, their seeds and means, measured and chosen by a written rule.

The rule stands in ``results/weights/rule.md``; the constants here are its numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.metrics import confusion, f1, kappa, recall
from utils.stages import STAGES

W, N3 = STAGES.index("W"), STAGES.index("N3")
MOST_FALSE_N3, LEAST_W_F1, LEAST_N3_RECALL = 0.03, 0.9, 0.5
NEAR_RECALL, NEAR_SCORE = 0.05, 0.01
BANDS = ("bands-simulated", "bands-moved", "bands-table", "bands-both")
CONTROL = "no model, W throughout"
PARTS = ("spectra", *BANDS, "robust", "yasa")
# kinds of parts of a mean; "bands" stands for each of BANDS
MEANS = (
    ("spectra", "yasa"),
    ("bands", "yasa"),
    ("spectra", "bands"),
    ("spectra", "bands", "yasa"),
    ("robust", "bands", "yasa"),
    ("spectra", "bands", "robust", "yasa"),
)


@dataclass(frozen=True)
class ExpertNight:
    """A night that candidates are measured on: its name, expert (n,), and whether it is real."""

    name: str
    expert: np.ndarray
    is_real: bool


@dataclass(frozen=True)
class Candidate:
    """One or several parts, by kind, with the rows of its seeds."""

    parts: tuple[str, ...]
    rows: Sequence[Mapping[str, float]]

    @property
    def score(self) -> float:
        """Mean of both kappas, of the worst seed."""
        return min(score_of(row) for row in self.rows)

    @property
    def spread(self) -> float:
        """How far the seeds' scores lie apart."""
        scores = [score_of(row) for row in self.rows]
        return max(scores) - min(scores)

    def worst(self, figure: str) -> float:
        """The lowest value of a figure over seeds; of false N3 the highest."""
        values = [row[figure] for row in self.rows]
        return max(values) if figure == "false_n3" else min(values)


def score_of(row: Mapping[str, float]) -> float:
    """Mean of the kappas on simulated and on partial nights."""
    return (row["kappa_simulated"] + row["kappa_partial"]) / 2


def runs_of(folder: Path, kind: str) -> dict[int, Path]:
    """Best checkpoints by seed of one kind of part, trained into ``parts/<kind>/seed<k>``."""
    paths = sorted((folder / "parts" / kind).glob("seed*/*/checkpoints/best.pt"))
    return {int(path.parents[2].name.removeprefix("seed")): path for path in paths}


def combinations(kinds: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Every part alone, then every mean whose parts there are."""
    yield from ((kind,) for kind in kinds)
    for mean in MEANS:
        for bands in BANDS if "bands" in mean else ("",):
            parts = tuple(bands if kind == "bands" else kind for kind in mean)
            if set(parts) <= set(kinds):
                yield parts


def measured(
    probabilities: Mapping[str, Mapping[int, Mapping[str, np.ndarray]]],
    nights: Sequence[ExpertNight],
) -> list[Candidate]:
    """Candidates with the figures of every seed.

    ``probabilities`` by kind, seed and night's name, (n, 5). Seed k of a mean has seed k of each
    part; a part without seeds, which was trained by others, serves all.
    """
    candidates = [Candidate((CONTROL,), [{"seed": 0, **figures(all_wake(nights), nights)}])]
    for parts in combinations(list(probabilities)):
        seeds = [set(probabilities[kind]) for kind in parts if len(probabilities[kind]) > 1]
        rows = []
        for seed in sorted(set.intersection(*seeds)) if seeds else [0]:
            own = [probabilities[k].get(seed, next(iter(probabilities[k].values()))) for k in parts]
            mean = {n.name: np.mean([part[n.name] for part in own], axis=0) for n in nights}
            rows.append({"seed": seed, **figures(mean, nights)})
        candidates.append(Candidate(parts, rows))
    return candidates


def all_wake(nights: Sequence[ExpertNight]) -> dict[str, np.ndarray]:
    """The control that needs no model: Wake, the commonest stage, throughout."""
    return {night.name: np.eye(len(STAGES))[np.full(len(night.expert), W)] for night in nights}


def figures(
    probabilities: Mapping[str, np.ndarray], nights: Sequence[ExpertNight]
) -> dict[str, float]:
    """The rule's figures of one candidate's probabilities, by night's name."""
    counts = {True: np.zeros((5, 5), int), False: np.zeros((5, 5), int)}
    for night in nights:
        stages = probabilities[night.name].argmax(axis=1)
        counts[night.is_real] += confusion(night.expert, stages)
    simulated, partial = counts[False], counts[True]
    others = [k for k, name in enumerate(STAGES) if name in ("W", "N1", "REM")]
    return {
        "kappa_simulated": float(kappa(simulated)),
        "false_n3": float(simulated[others, N3].sum() / simulated[others].sum()),
        "n3_recall": float(recall(partial)[N3]),
        "w_f1": float(f1(partial)[W]),
        "kappa_partial": float(kappa(partial)),
    }


def choose(candidates: Sequence[Candidate]) -> tuple[Candidate, list[Candidate]]:
    """The chosen candidate, and those that were eligible.

    Raises:
        UserError: there is no mean that keeps to the rule's limits.
    """
    means = [
        one
        for one in candidates
        if len(one.parts) > 1
        and one.worst("false_n3") <= MOST_FALSE_N3
        and one.worst("w_f1") >= LEAST_W_F1
    ]
    if not means:
        raise UserError("no mean of two parts keeps to the limits of results/weights/rule.md")
    eligible = [one for one in means if one.worst("n3_recall") >= LEAST_N3_RECALL]
    if not eligible:
        best = max(one.worst("n3_recall") for one in means)
        eligible = [one for one in means if one.worst("n3_recall") >= best - NEAR_RECALL]
    highest = max(one.score for one in eligible)
    near = [one for one in eligible if one.score >= highest - NEAR_SCORE]
    return max(near, key=lambda one: (len(one.parts), -one.spread)), eligible


def rows_of(candidates: Sequence[Candidate], eligible: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Table rows, one for each candidate and seed."""
    return [
        {
            "candidate": " + ".join(one.parts),
            "seed": row["seed"] if len(one.rows) > 1 else "",
            **{name: f"{value:.3f}" for name, value in row.items() if name != "seed"},
            "score": f"{score_of(row):.3f}",
            "eligible": "yes" if one in eligible else "",
        }
        for one in candidates
        for row in one.rows
    ]
