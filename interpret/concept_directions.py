"""Directions of concepts at a layer, and whether a stage's output rises along them (TCAV).

Kim et al., Interpretability Beyond Feature Attribution, ICML 2018, with three changes that its
claims need here. The direction is what a concept adds on average to an encoding (Haufe et al.,
NeuroImage 2014; Pahde et al., 2022), not the normal of a classifier, which also points away from
noise. Random concepts are made of pairs that differ by chance: the concept's own with their epochs
exchanged, or, where both are one epoch with and without its events, that epoch and another with
events (exchanged, a difference without noise would stay the concept, up to its sign). And they are
compared with directly: a t test over refitted directions gets as significant as one has patience,
since all of them share the same epochs.

Captum's TCAV is not used: it splits epochs at random (one subject's would be in both parts), writes
every activation to files of its own, and has no test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RANDOM = 1999  # random concepts: no p-value is below 1 / 2000
_SURE = 0.05
# pairs without which a direction is not learned, or not evaluated
FEWEST = 20
_FLOOR = 1e-9


@dataclass(frozen=True)
class Directions:
    """The concept's direction, first, and those of random concepts: (1 + r, d) each.

    ``patterns``: steps one standard deviation long in the metric of differences by chance, whose
    ``covariance`` is (d, d). ``probe`` (d,): the linear classifier that belongs to the first
    (discriminant analysis). ``added``: standard deviations that the concept adds on average.
    """

    patterns: np.ndarray
    probe: np.ndarray
    covariance: np.ndarray
    added: float


def learn(
    more: np.ndarray,
    less: np.ndarray,
    other: np.ndarray,
    *,
    seed: int,
    n_random: int = RANDOM,
) -> Directions:
    """Directions from encodings (k, d) of epochs with much of a concept and with ``less`` of it.

    ``other`` (k, d) differ from those with much of it by chance.
    """
    from sklearn.covariance import ledoit_wolf

    by_chance = (more - other).astype(float)
    scale = np.sqrt(np.square(by_chance).mean(axis=0))
    scale[scale < _FLOOR] = 1.0  # a dimension that no epoch varies
    by_chance /= scale
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], (n_random, len(by_chance)))
    added = ((more - less) / scale).mean(axis=0)
    patterns = np.vstack([added, signs @ by_chance / len(by_chance)])
    # not centred, so that it is the same whichever epoch of a pair is which
    covariance, _ = ledoit_wolf(by_chance, assume_centered=True)
    towards = np.linalg.solve(covariance, patterns.T).T
    length = np.sqrt(np.maximum((patterns * towards).sum(axis=1, keepdims=True), _FLOOR))
    return Directions(
        patterns=patterns / length * scale,
        probe=towards[0] / length[0] / scale,
        covariance=covariance * scale * scale[:, None],
        added=float(length[0, 0]),
    )


def accuracy(directions: Directions, more: np.ndarray, less: np.ndarray) -> tuple[float, float]:
    """Share of pairs (k, d) that the probe tells apart, and its p-value; chance is 0.5.

    The p-value is one-sided, of a sign test; pairs without a difference count half.
    """
    from scipy.stats import binomtest

    apart = (more - less) @ directions.probe
    right = int((apart > 0).sum()) + int((apart == 0).sum()) // 2
    p = binomtest(right, len(apart), alternative="greater").pvalue
    return right / len(apart), float(p)


@dataclass(frozen=True)
class Sensitivity:
    """How a stage's output changes along a concept's direction.

    ``tcav`` is the share of epochs in which it rises, ``low`` and ``high`` the middle 95 % of that
    share for random concepts, ``derivative`` the mean rise for a step of one standard deviation.
    ``alignment`` is the mean over epochs of that rise as a share of the steepest one, -1 to 1: it
    knows no scale, so models can be compared and no epoch counts more than another; ``p`` is its
    two-sided p-value.
    """

    tcav: float
    low: float
    high: float
    derivative: float
    alignment: float
    p: float


def sensitivity(directions: Directions, gradients: np.ndarray) -> Sensitivity:
    """Sensitivity of the output whose gradients (e, d) at some epochs are given."""
    rises = (gradients @ directions.patterns.T) > 0
    tcav = rises.mean(axis=0)
    low, high = np.quantile(tcav[1:], (0.025, 0.975))
    steepest = np.sqrt(np.maximum(((gradients @ directions.covariance) * gradients).sum(axis=1), 0))
    # an output that does not change has no direction
    unit = gradients / np.where(steepest > 0, steepest, 1.0)[:, None]
    # tested is the mean, not the share: gradients of a stage resemble each other so much that the
    # share is 0 or 1 for many random directions, too
    alignment = directions.patterns @ unit.mean(axis=0)
    return Sensitivity(
        tcav=float(tcav[0]),
        low=float(low),
        high=float(high),
        derivative=float(directions.patterns[0] @ gradients.mean(axis=0)),
        alignment=float(alignment[0]),
        p=_p_value(np.abs(alignment)),
    )


def _p_value(values: np.ndarray) -> float:
    """Share of values at least as large as the first, itself included."""
    # as large but for rounding
    return float((values >= values[0] - _FLOOR * abs(values[0])).mean())


def verdict(row: Mapping[str, Any], untrained: Sequence[float] = ()) -> str:
    """What a row of the table means for the manual's rule of its stage; nothing without a rule.

    ``untrained``: alignments of the same concept and stage in copies with random weights.
    """
    if not row["rule"]:
        return ""
    if row["probe_p"] > _SURE:
        return "no direction"  # a direction that does not tell other subjects' epochs apart
    if row["q"] > _SURE:
        return "not shown"
    if abs(row["alignment"]) <= max(map(abs, untrained), default=0.0):
        return "no more than untrained"
    rises = row["alignment"] > 0
    if rises != (row["tcav"] > 0.5):
        return "mixed"  # it rises in most epochs and falls on average, or the other way round
    return "as the rule" if rises == (row["rule"] == "for") else "against the rule"


def with_false_discovery_rate(rows: Sequence[dict]) -> list[dict]:
    """Rows with ``q``, the false discovery rate over all of them (Benjamini and Hochberg 1995)."""
    from scipy.stats import false_discovery_control

    q = false_discovery_control([row["p"] for row in rows]) if rows else []
    return [row | {"q": float(value)} for row, value in zip(rows, q, strict=True)]
