"""Five scorers of a synthetic night, who agree about as well as human scorers do.

Borders move, short bouts become what they are mistaken for, and each scorer has a bias. The
confusions are those of the human scorers of DOD-H given the consensus of the other four.
"""

from __future__ import annotations

import numpy as np

N_SCORERS = 5
_FARTHEST, _STAY = 2, 0.4  # epochs a border moves at most, and how often it stays
_SHORT = 6  # epochs; longer bouts keep their stage
# [consensus, scorer], pooled over the 25 records
_CONFUSION = np.array(
    [
        [0.858, 0.082, 0.041, 0.006, 0.014],
        [0.172, 0.543, 0.218, 0.005, 0.061],
        [0.022, 0.048, 0.856, 0.054, 0.020],
        [0.005, 0.001, 0.168, 0.826, 0.000],
        [0.012, 0.037, 0.071, 0.001, 0.880],
    ]
)
_SINGLE = 0.22  # epochs that are scored on their own


def draw_scorers(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Stages (5, n) of five scorers, given the labels (n,); unscored epochs stay so for all."""
    return np.stack([_one(rng, labels) for _ in range(N_SCORERS)])


def _one(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    bias = _CONFUSION * np.exp(0.4 * rng.standard_normal(_CONFUSION.shape))
    bias /= bias.sum(axis=1, keepdims=True)
    borders = np.flatnonzero(np.diff(labels)) + 1
    moved = rng.integers(-_FARTHEST, _FARTHEST + 1, len(borders))
    moved = np.where(rng.random(len(borders)) < _STAY, 0, moved)
    starts = np.maximum.accumulate(np.r_[0, np.clip(borders + moved, 0, len(labels))])
    stops = np.r_[starts[1:], len(labels)]
    stages = labels[np.r_[0, borders]]
    scored = np.empty_like(labels)
    for start, stop, stage in zip(starts, stops, stages, strict=True):
        if stage >= 0 and stop - start <= _SHORT:
            stage = rng.choice(5, p=bias[stage])
        scored[start:stop] = stage
    scored = np.where(scored < 0, labels, scored)  # what is unscored keeps its borders
    alone = (scored >= 0) & (rng.random(len(labels)) < _SINGLE)
    scored[alone] = [rng.choice(5, p=bias[stage]) for stage in scored[alone]]
    return np.where(labels < 0, labels, scored).astype(np.int8)
