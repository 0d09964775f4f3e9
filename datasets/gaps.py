"""Gaps of a recording bridged: epochs without a signal get that of the nearest recorded epoch.

For models that know no gaps: flat epochs would be a stage of their own to them, and move whatever
is computed over the night. What is staged there is a guess, which quality flags mark.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from datasets.readers.incoming import are_numbers
from datasets.readers.missing import filled
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
    return replace(recording, signals=signals), n_bridged


def _bridged(signal: Signal, n_epochs: int) -> tuple[Signal, int]:
    """One signal without gaps, held in memory if it had any, and how many epochs those were."""
    samples = signal.read(0, signal.seconds)
    known = are_numbers(samples)
    # each epoch by its own time: of odd rates they differ by a sample
    begins = np.round(EPOCH_SECONDS * signal.fs * np.arange(n_epochs)).astype(int)
    width = int(EPOCH_SECONDS * signal.fs)
    begins = begins[begins + width <= len(samples)]
    size = np.array([_size(samples[k : k + width], known[k : k + width]) for k in begins])
    heard = size > 0
    if heard.any():
        heard &= size > _FLAT * np.median(size[heard])
    if known.all() and (heard.all() or heard.sum() < _FEWEST):
        return signal, 0
    # a copy: what a file holds is also what quality is assessed on
    samples = filled(samples, known) if not known.all() else samples.copy()
    n_bridged = 0
    if heard.sum() >= _FEWEST:
        ends, stand_in = np.append(begins[1:], begins[-1] + width), nearest(heard)
        for k in np.flatnonzero(~heard):
            n = ends[k] - begins[k]
            source = min(begins[stand_in[k]], len(samples) - n)
            samples[begins[k] : ends[k]] = samples[source : source + n]
        n_bridged = int((~heard).sum())

    def read(start: float, stop: float) -> np.ndarray:
        return samples[round(start * signal.fs) : round(stop * signal.fs)]

    return replace(signal, read=read), n_bridged


def _size(epoch: np.ndarray, known: np.ndarray) -> float:
    """Peak to peak of an epoch (t,), 0 where half of it or more is missing."""
    return float(np.ptp(epoch[known])) if known.mean() > 0.5 else 0.0


def nearest(heard: np.ndarray) -> np.ndarray:
    """Number of the nearest epoch that is ``heard`` (n,), for every epoch; the earlier of two."""
    numbers = np.flatnonzero(heard)
    at = np.arange(len(heard))
    after = np.searchsorted(numbers, at).clip(0, len(numbers) - 1)
    before = (after - 1).clip(0)
    is_nearer = np.abs(numbers[before] - at) <= np.abs(numbers[after] - at)
    return np.where(is_nearer, numbers[before], numbers[after])
