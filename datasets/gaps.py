"""Gaps of a recording bridged: epochs without a signal get that of the nearest recorded epoch.

For models that know no gaps: flat epochs would be a stage of their own to them, and move whatever
is computed over the night. What is staged there is a guess, which quality flags mark.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from datasets.readers.recording import Recording, Signal
from utils.stages import EPOCH_SECONDS

_FLAT = 1e-4  # of the night's median peak to peak, below which an epoch has no signal
_FEWEST = 10  # recorded epochs, below which there is no night to bridge


def bridged(recording: Recording) -> tuple[Recording, int]:
    """The recording without gaps, and how many epochs of any of its signals were bridged."""
    signals: dict[str, Signal] = {}
    n_bridged = 0
    for label, signal in recording.signals.items():
        signals[label], n = _bridged(signal, len(recording.stages))
        n_bridged = max(n_bridged, n)
    return (replace(recording, signals=signals), n_bridged) if n_bridged else (recording, 0)


def _bridged(signal: Signal, n_epochs: int) -> tuple[Signal, int]:
    """One signal without gaps, held in memory if it had any, and how many epochs those were."""
    samples = signal.read(0, signal.seconds)
    width = round(EPOCH_SECONDS * signal.fs)
    n = min(n_epochs, len(samples) // width)
    epochs = samples[: n * width].reshape(n, width)
    # one value each: no copy of the night
    size = epochs.max(axis=1, initial=-np.inf) - epochs.min(axis=1, initial=np.inf)
    heard = np.isfinite(size) & (size > 0)
    if heard.any():
        heard &= size > _FLAT * np.median(size[heard])
    if heard.all() or heard.sum() < _FEWEST:
        return signal, 0
    # a copy: what a file holds is also what quality is assessed on
    samples = samples.copy()
    epochs = samples[: n * width].reshape(n, width)
    epochs[~heard] = epochs[nearest(heard)[~heard]]

    def read(start: float, stop: float) -> np.ndarray:
        return samples[round(start * signal.fs) : round(stop * signal.fs)]

    return replace(signal, read=read), int((~heard).sum())


def nearest(heard: np.ndarray) -> np.ndarray:
    """Number of the nearest epoch that is ``heard`` (n,), for every epoch; the earlier of two."""
    numbers = np.flatnonzero(heard)
    at = np.arange(len(heard))
    after = np.searchsorted(numbers, at).clip(0, len(numbers) - 1)
    before = (after - 1).clip(0)
    is_nearer = np.abs(numbers[before] - at) <= np.abs(numbers[after] - at)
    return np.where(is_nearer, numbers[before], numbers[after])
