"""Transitions between stages from one epoch to the next, by the expert and by the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from utils.metrics import confusion, plain
from utils.staged_night import StagedNight
from utils.stages import STAGES, UNSCORED

WHO = ("expert", "model")


def transition_counts(nights: Sequence[StagedNight]) -> np.ndarray:
    """How often stage i was followed by stage j, (2, 5, 5) by expert and model, of all nights.

    Counted are neighbouring epochs both of which the expert scored, the same for both sides.
    """
    counts = np.zeros((len(WHO), len(STAGES), len(STAGES)), dtype=int)
    for night in nights:
        scored = night.expert != UNSCORED
        follows = scored[:-1] & scored[1:]
        for side, stages in enumerate((night.expert, night.stages)):
            counts[side] += confusion(stages[:-1][follows], stages[1:][follows])
    return counts


def transition_shares(counts: np.ndarray) -> np.ndarray:
    """Shares (…, 5, 5) of the epochs of stage i that stage j follows: rows sum to 1.

    A stage that is never left nor stayed in has a row of NaN.
    """
    totals = counts.sum(axis=-1, keepdims=True)
    shares = np.full(counts.shape, np.nan)
    return np.divide(counts, totals, out=shares, where=totals > 0)


def transition_rows(nights: Sequence[StagedNight]) -> list[dict[str, Any]]:
    """Plain rows by pair of stages: counts and shares of both sides, ``None`` where undefined."""
    counts = transition_counts(nights)
    shares = transition_shares(counts)
    return [
        {"from": STAGES[i], "to": STAGES[j]}
        | {who: int(counts[side, i, j]) for side, who in enumerate(WHO)}
        | {f"{who}_share": plain(shares[side, i, j]) for side, who in enumerate(WHO)}
        for i, j in np.ndindex(len(STAGES), len(STAGES))
    ]
