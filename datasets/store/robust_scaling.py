"""Preparation of signals of any kind for RobustSleepNet: no unit, whatever the recorder.

Guillot and Thorey, RobustSleepNet, IEEE TNSRE 2021.
"""

from __future__ import annotations

import numpy as np

from datasets.store.filters import butterworth_sections, filter_sections, resample

BAND_HZ = (0.2, 30.0)
FS = 60.0
_CLIP = 40.0  # quartile distances, each side by its own
_LEAST_RANGE = 1e-5  # what a signal without any spread is divided by


def prepare_robustly(samples: np.ndarray, fs: float) -> np.ndarray:
    """A whole night's samples (n,) at ``fs`` Hz in any unit -> scaled, at 60 Hz, not padded.

    Band-passed by a Butterworth filter of order 2, forwards and backwards, then resampled.
    """
    filtered = filter_sections(samples, butterworth_sections(*BAND_HZ, fs))
    return robust_scale(resample(filtered, fs, FS))


def robust_scale(samples: np.ndarray) -> np.ndarray:
    """Centre samples (n,) on their median and divide by their interquartile range, clipped first.

    The limits are 40 times the distances of both quartiles from the median, around 0, which is
    where a band-pass leaves the median. Gaps (NaN) stay gaps and count for nothing.
    """
    if np.isnan(samples).all():
        return np.array(samples, dtype=float)
    low, middle, high = np.nanpercentile(samples, (25, 50, 75))
    clipped = np.clip(samples, -_CLIP * (middle - low), _CLIP * (high - middle))
    low, middle, high = np.nanpercentile(clipped, (25, 50, 75))
    # instead of 0, not added to it: signals in volts have ranges that small
    return (clipped - middle) / ((high - low) or _LEAST_RANGE)
