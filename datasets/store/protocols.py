"""Which part of a recording a study keeps: the published trimming rules, by name.

The three rules agree on a regular night and differ wherever ``?``, movement or an unusual end
occur; accuracies under different rules are not comparable. Kept ranges are ``[start, stop)`` in
epochs; nothing inside a kept range is ever removed, published counts are its scored epochs.
"""

from __future__ import annotations

import numpy as np

from datasets.readers.recording import Recording
from utils.errors import UserError
from utils.stages import UNSCORED

MARGIN = 60  # epochs of Wake kept on either side: 30 min
KEEP_ALL = "keep_all"
_WAKE = 0


def tinysleepnet(recording: Recording) -> tuple[int, int]:
    """Range with margins around all that is not Wake, ``?`` and movement too (Supratak 2020)."""
    return _around(np.flatnonzero(recording.stages != _WAKE), len(recording.stages))


def deepsleepnet(recording: Recording) -> tuple[int, int]:
    """Range with margins around sleep, unscored epochs passed over (Supratak 2017).

    The margins count scored epochs only, so unscored ones inside a margin widen the range.
    """
    scored = np.flatnonzero(recording.stages != UNSCORED)
    sleep = np.flatnonzero(recording.stages[scored] != _WAKE)
    start, stop = _around(sleep, len(scored))
    # back from places among scored epochs; ``stop`` may lie one past the last of them
    return int(scored[start]), int(scored[stop - 1]) + 1


def cmt(recording: Recording) -> tuple[int, int]:
    """30 min before the second annotation to 30 min after the *onset* of the last but one.

    Pradeepkumar et al. 2022, taken literally: right where a tape ends with Wake and ``?``, off by
    a bout elsewhere, and meaningless on telemetry files, which are refused.
    """
    bouts = recording.bouts
    if not recording.id.startswith("SC"):  # by name: a cassette recording of Sleep-EDF
        raise UserError(
            f"{recording.id}: the cmt protocol is defined on cassette tapes only; "
            "use --protocol tinysleepnet"
        )
    n_epochs = len(recording.stages)
    if len(bouts) < 3:  # of two, the second comes after the last but one
        return 0, n_epochs
    start = max(0, bouts[1].first - MARGIN)
    stop = min(n_epochs, bouts[-2].first + MARGIN)
    if start >= stop:
        raise UserError(
            f"{recording.id}: the cmt protocol keeps nothing of it (its annotations do not end in "
            "Wake and '?'); use --protocol tinysleepnet"
        )
    return start, stop


def keep_all(recording: Recording) -> tuple[int, int]:
    """The whole recording."""
    return 0, len(recording.stages)


PROTOCOLS = {
    "tinysleepnet": tinysleepnet,
    "deepsleepnet": deepsleepnet,
    "cmt": cmt,
    KEEP_ALL: keep_all,
}


# how much Wake around the night each of them keeps, for tables
WAKE_KEPT = {
    "tinysleepnet": "30 min of Wake around all that is not Wake",
    "deepsleepnet": "30 scored min of Wake around sleep",
    "cmt": "30 min around second and last but one annotation",
    "keep_all": "all Wake",
}


def around_most_sleep(stages: np.ndarray) -> tuple[int, int]:
    """Range with margins around the stretch in which sleep outweighs Wake most, of stages (n,).

    For stages of a model, which takes some epochs of the day for sleep where an expert does not.
    """
    balance = np.concatenate(([0], np.cumsum(np.where(stages != _WAKE, 1, -1))))
    end = int(np.argmax(balance - np.minimum.accumulate(balance)))
    first = int(np.argmin(balance[: end + 1]))
    return _around(np.arange(first, end), len(stages))


def _around(indices: np.ndarray, n_epochs: int) -> tuple[int, int]:
    """Range from ``MARGIN`` before the first index to ``MARGIN`` after the last; all if none."""
    if len(indices) == 0:
        return 0, n_epochs
    return max(0, int(indices[0]) - MARGIN), min(n_epochs, int(indices[-1]) + MARGIN + 1)
