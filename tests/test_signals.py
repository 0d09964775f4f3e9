"""Filters, resampling and band powers on signals with a known answer, and against MNE."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from datasets.store.filters import (
    bandpass_taps,
    filter_zero_phase,
    resample,
    resample_reach_seconds,
)
from utils.signals import band_powers

FS = 100.0


def sine(hz: float, seconds: float = 60, fs: float = FS, amplitude: float = 1.0) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * fs)) / fs)


def test_power_of_a_known_sine():
    # 10 uV at 10 Hz carries 50 uV**2, all of it in alpha
    powers = band_powers(sine(10, 30, amplitude=10).reshape(1, -1), FS)[0]
    widths = np.array([3.5, 4, 5, 17, 20])
    assert powers[2] * widths[2] == pytest.approx(50, rel=0.1)
    assert powers[[0, 1, 3, 4]].max() < 0.01 * powers[2]


def test_power_is_the_same_at_another_rate():
    white = np.random.default_rng(0).standard_normal((40, 3000))
    by_hundred = band_powers(white, 100).mean(axis=0)
    np.testing.assert_allclose(by_hundred, 2 / 100, rtol=0.05)


def test_the_cmt_filter_has_1651_taps():
    assert len(bandpass_taps(0.2, 40, 100)) == 1651


@pytest.mark.parametrize(("low", "high", "fs"), [(0.2, 40, 100), (0.3, 35, 100), (0.5, 30, 128)])
def test_filter_equals_mne(low, high, fs):
    x = np.random.default_rng(1).standard_normal(20_000).cumsum() * 0.1
    ours = filter_zero_phase(x, bandpass_taps(low, high, fs))
    theirs = mne.filter.filter_data(x, fs, low, high, verbose=False)
    np.testing.assert_allclose(ours, theirs, atol=1e-9 * np.abs(x).max())


def test_filter_keeps_phase_and_passband():
    x = sine(10)
    filtered = filter_zero_phase(x, bandpass_taps(0.3, 35, FS))
    np.testing.assert_allclose(filtered[1000:-1000], x[1000:-1000], atol=5e-3)


def test_filter_removes_offset_and_stopband():
    taps = bandpass_taps(0.5, 30, FS)
    assert np.abs(filter_zero_phase(np.full(6000, 100.0), taps)).max() < 0.2
    assert np.abs(filter_zero_phase(sine(45), taps)[1000:-1000]).max() < 5e-3


def test_filter_of_a_signal_shorter_than_itself():
    assert filter_zero_phase(np.ones(300), bandpass_taps(0.3, 35, FS)).shape == (300,)


@pytest.mark.parametrize(("low", "high"), [(0, 40), (40, 0.2), (0.2, 50), (0.2, 60)])
def test_impossible_bands_are_refused(low, high):
    with pytest.raises(ValueError):
        bandpass_taps(low, high, FS)


@pytest.mark.parametrize(("fs", "new_fs"), [(128, 100), (256, 100), (100, 128), (1, 100), (50, 64)])
def test_resampling_preserves_a_sine(fs, new_fs):
    hz = min(fs, new_fs) / 10
    out = resample(sine(hz, 120, fs), fs, new_fs)
    assert len(out) == 120 * new_fs
    middle = slice(20 * new_fs, 100 * new_fs)
    np.testing.assert_allclose(out[middle], sine(hz, 120, new_fs)[middle], atol=5e-3)


def test_resampling_to_the_same_rate_is_the_same_array():
    x = sine(3)
    assert resample(x, FS, FS) is x
    assert resample_reach_seconds(FS, FS) == 0


def test_resampling_reach_covers_the_filter():
    # an impulse reaches no further than the stated reach
    x = np.zeros(6000)
    x[3000] = 1
    out = resample(x, 100, 128)
    touched = np.flatnonzero(np.abs(out) > 1e-12) / 128
    assert np.abs(touched - 30).max() <= resample_reach_seconds(100, 128)
