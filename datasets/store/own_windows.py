"""Epochs that lie on onsets of their own, cut out of a whole prepared night."""

from __future__ import annotations

import numpy as np

from utils.stages import EPOCH_SECONDS


def cut_out(samples: np.ndarray, onsets: np.ndarray, fs: float) -> np.ndarray:
    """Samples (n * fs * 30,) of the 30 s from each onset (n,) in s, one after the other."""
    first = np.rint(onsets * fs).astype(int)
    places = first[:, None] + np.arange(round(EPOCH_SECONDS * fs))
    # the last window may round to a sample more than there is
    return samples[np.minimum(places, len(samples) - 1)].reshape(-1)


def touched(onsets: np.ndarray, lost: set[int]) -> set[int]:
    """Numbers of windows that reach into any of the ``lost`` epochs from the signal's start."""
    first = (onsets // EPOCH_SECONDS).astype(int).tolist()
    ends = (-(-(onsets + EPOCH_SECONDS) // EPOCH_SECONDS)).astype(int).tolist()
    windows = enumerate(zip(first, ends, strict=True))
    return {k for k, (begin, end) in windows if not lost.isdisjoint(range(begin, end))}
