"""Gaps bridged: nearest recorded epochs, nothing else changed, nothing of the file touched."""

from __future__ import annotations

import numpy as np
import pytest

from datasets.gaps import bridged, nearest
from datasets.readers.recording import Recording, Signal


def recording(samples: np.ndarray, fs: float = 10.0) -> Recording:
    def read(start: float, stop: float) -> np.ndarray:
        return samples[round(start * fs) : round(stop * fs)]

    n = int(len(samples) / fs / 30)
    signal = Signal(fs, "uV", len(samples) / fs, read)
    return Recording("n", "n", 1, {"EEG": signal}, (), np.zeros(n, np.int8), None)


def test_the_nearest_epoch_is_the_earlier_of_two():
    heard = np.array([0, 0, 1, 0, 0, 0, 1, 1, 0], bool)
    assert nearest(heard).tolist() == [2, 2, 2, 2, 2, 6, 6, 7, 7]
    assert nearest(np.ones(3, bool)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("lost", [0.0, 7.5, np.nan])
def test_epochs_without_a_signal_are_those_beside_them(lost):
    epochs = np.random.default_rng(0).normal(0, 20, (20, 300))
    epochs[[0, 5, 6, 7]] = lost
    samples = np.r_[epochs.ravel(), np.ones(50)]  # and part of an epoch at the end
    kept = samples.copy()
    whole, n = bridged(recording(samples))
    assert n == 4
    read = whole.signals["EEG"].read(0, 605)
    got = read[:6000].reshape(20, 300)
    assert (got[[0, 5, 6, 7]] == epochs[[1, 4, 4, 8]]).all()
    others = [k for k in range(20) if k not in (0, 5, 6, 7)]
    assert (got[others] == epochs[others]).all() and (read[6000:] == 1).all()
    assert np.array_equal(samples, kept, equal_nan=True), "what the file holds stays as it is"
    assert (whole.signals["EEG"].read(150, 180) == epochs[4]).all()


def test_nothing_is_bridged_where_nothing_or_nearly_all_is_lost():
    epochs = np.random.default_rng(0).normal(0, 20, (20, 300))
    given = recording(epochs.ravel())
    assert bridged(given) == (given, 0)
    epochs[9:] = 0
    given = recording(epochs.ravel())
    assert bridged(given) == (given, 0)
