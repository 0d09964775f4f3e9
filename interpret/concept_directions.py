"""Directions of concepts at a layer, and whether a stage's output rises along them (TCAV).

Kim et al., Interpretability Beyond Feature Attribution, ICML 2018, with three changes that its
claims need here. The direction is what a concept adds on average to an encoding (Haufe et al.,
NeuroImage 2014; Pahde et al., 2022), not the normal of a classifier, which also points away from
noise. Random concepts exchange the epochs of each pair, so that they differ from the concept in
nothing but the label. And the test is one of permutations: a t test over refitted directions gets
as significant as one has patience, since all of them share the same epochs.

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

    ``patterns``: steps that a concept adds to an encoding, one standard deviation long in the
    metric of the pairs' differences. ``probes``: the linear classifiers that belong to them
    (discriminant analysis); a step along a pattern raises its probe's score by 1. ``covariance``
    (d, d) of the differences is that metric's inverse.
    """

    patterns: np.ndarray
    probes: np.ndarray
    covariance: np.ndarray


def learn(more: np.ndarray, less: np.ndarray, *, seed: int, n_random: int = RANDOM) -> Directions:
    """Directions from encodings (k, d) of epochs with much of a concept and their partners."""
    from sklearn.covariance import ledoit_wolf

    difference = (more - less).astype(float)
    scale = np.sqrt(np.square(difference).mean(axis=0))
    scale[scale < _FLOOR] = 1.0  # a dimension that no epoch varies
    difference /= scale
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], (1 + n_random, len(difference)))
    signs[0] = 1.0
    patterns = signs @ difference / len(difference)
    # not centred, so that it is the same whichever epoch of a pair has the concept
    covariance, _ = ledoit_wolf(difference, assume_centered=True)
    probes = np.linalg.solve(covariance, patterns.T).T
    length = np.sqrt(np.maximum((patterns * probes).sum(axis=1, keepdims=True), _FLOOR))
    covariance *= scale * scale[:, None]
    return Directions(patterns / length * scale, probes / length / scale, covariance)


def accuracy(directions: Directions, more: np.ndarray, less: np.ndarray) -> tuple[float, float]:
    """Share of pairs (k, d) that the probe tells apart, and its p-value; chance is 0.5.

    The p-value is one-sided, against the probes of random concepts.
    """
    apart = directions.probes @ (more - less).T
    shares = (apart > 0).mean(axis=1) + (apart == 0).mean(axis=1) / 2
    return float(shares[0]), _p_value(shares)


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
