"""Epochs of interest of a staged night: transitions, those to look at again, the least certain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from utils.stages import STAGES

_APART = 4  # epochs between two that are chosen


def choose_epochs(
    probabilities: np.ndarray, flags: Sequence[str], n: int, again: Sequence[int] = ()
) -> list[tuple[int, str]]:
    """Up to ``n`` epochs (number, reason), in order: half of them transitions.

    A transition counts by the shorter of the two bouts it joins, uncertainty by the highest
    probability; epochs ``again``, for a second look, come before uncertain ones. Epochs with a
    quality flag ("" for none) are left out: what the model makes of a poor signal explains no
    stage.
    """
    stages, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    sound = np.array([not flag for flag in flags], bool)
    changes = np.flatnonzero(np.diff(stages)) + 1
    lengths = np.diff(np.concatenate(([0], changes, [len(stages)])))
    # transitions between two long bouts first; transition k joins bouts k and k + 1
    by_bout = changes[np.argsort(-np.minimum(lengths[:-1], lengths[1:]), kind="stable")]
    chosen: dict[int, str] = {}

    def take(candidates: np.ndarray, most: int, why: str) -> None:
        for k in candidates.tolist():
            if len(chosen) >= most:
                return
            if sound[k] and all(abs(k - other) >= _APART for other in chosen):
                before = STAGES[stages[k - 1]] if k else ""  # nothing before the first epoch
                chosen[k] = why.format(before=before, sure=sure[k])

    take(by_bout, n // 2, "transition from {before}")
    take(np.asarray(again, int), n, "second look")
    # up to n in all: where transitions are few, uncertain epochs take their places
    take(np.argsort(sure, kind="stable"), n, "uncertain, {sure:.0%} sure")
    return sorted(chosen.items())
