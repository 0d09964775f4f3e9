"""The scale of a file's signals: by the moments of what training kept of its nights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from datasets.store.moments import channel_moments
from datasets.store.protocols import KEEP_ALL, around_most_sleep
from utils.checkpoint import Checkpoint
from utils.checkpoint_fields import KEPT
from utils.errors import UserError
from utils.staged_night import Vote, mean_of

_FLAT = 1e-6  # standard deviation up to which a channel is flat
_ROUNDS = 3  # after which the night stays the same on simulated tapes of 22 h
Scaled = tuple[np.ndarray, np.ndarray, np.ndarray]  # signals (n, c, t), mean and sd (c,)


def scaled_and_staged(
    signals: np.ndarray,
    checkpoint: Checkpoint,
    votes_of: Callable[[np.ndarray], list[Vote]],
) -> tuple[Scaled, list[Vote]]:
    """Signals (n, c, t) scaled as those of the training nights were, and the votes on them.

    Moments are of a part of the file where those of training were. That part is known by stages:
    an expert's in training; in a file, which nobody has scored, those of ``votes_of`` itself, from
    all of the file at first, then from what they show to be the night, until that stays the same.
    """
    how, kept = checkpoint.standardise, (0, len(signals))
    scaled = standardised(signals, how)
    votes = votes_of(scaled[0])
    for _ in range(_ROUNDS if is_trimmed(checkpoint) else 0):
        former, kept = kept, around_most_sleep(mean_of(votes).argmax(axis=1))
        if kept == former:
            break
        scaled = standardised(signals, how, kept)
        votes = votes_of(scaled[0])
    return scaled, votes


def is_trimmed(checkpoint: Checkpoint) -> bool:
    """Whether the moments of the checkpoint's training nights are of a part of their files."""
    depends = checkpoint.standardise != "none" and checkpoint.scaled_over == KEPT
    preparation = checkpoint.training.preparation if checkpoint.training else {}
    return depends and preparation.get("protocol", KEEP_ALL) != KEEP_ALL


def standardised(signals: np.ndarray, how: str, kept: tuple[int, int] | None = None) -> Scaled:
    """Standardise signals per recording and channel, as in training; also the mean and sd (c,).

    "present" leaves flat channels out as NaN, "none" changes nothing. Moments are those of the
    epochs ``kept``, from the first to before the last; of all by default.

    Raises:
        UserError: the checkpoint was trained on statistics that it does not carry.
    """
    n_channels = signals.shape[1]
    if how == "none":
        return signals, np.zeros(n_channels), np.ones(n_channels)
    if how == "train":
        raise UserError("a checkpoint scaled by its training nights cannot stage other files")
    first, end = kept or (0, len(signals))
    # every epoch of that range counts: those of a new file are not scored
    mean, sd = channel_moments(signals[first:end], np.zeros(end - first, np.int8))
    flat = ~(sd > _FLAT)  # so written, NaN counts as flat
    taken = np.where(flat & (how == "present"), np.nan, mean)
    scaled = (signals - taken[:, None]) / np.where(flat, 1.0, sd)[:, None]
    return scaled.astype(np.float32), mean, sd
