"""Missing samples of a recording: straight lines in their place, so that no filter spreads them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from datasets.readers.incoming import are_numbers
from datasets.readers.recording import Recording, Signal
from utils.stages import EPOCH_SECONDS


def mended(recording: Recording, lost: set[int] | None = None) -> Recording:
    """The recording with straight lines where samples are missing, or are no numbers.

    Numbers of the epochs in which that was so are added to ``lost`` as they are read.
    """
    signals = {
        label: _mended(signal, set() if lost is None else lost)
        for label, signal in recording.signals.items()
    }
    return replace(recording, signals=signals)


def _mended(signal: Signal, lost: set[int]) -> Signal:
    def read(start: float, stop: float) -> np.ndarray:
        samples = signal.read(start, stop)
        known = are_numbers(samples)
        if known.all():
            return samples
        missing = np.flatnonzero(~known)
        times = (round(start * signal.fs) + missing) / signal.fs
        lost.update(np.unique(times // EPOCH_SECONDS).astype(int).tolist())
        return filled(samples, known)

    return replace(signal, read=read)


def filled(samples: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Samples (n,) with a straight line between those that are ``known`` (n,), zeros without any.

    Before the first and after the last one that is known its value continues.
    """
    if not known.any():
        return np.zeros_like(samples)
    at = np.arange(len(samples))
    return np.where(known, samples, np.interp(at, at[known], samples[known]))
