"""Power of epochs in the bands of the EEG."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from scipy import signal

from utils.stages import EPOCH_SECONDS

SHOWN_HZ = 40  # sampling rate of traces that are shown

BANDS = {
    "delta": (0.5, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "gamma": (30.0, 50.0),
}


def band_powers(
    epochs: np.ndarray, fs: float, bands: Mapping[str, tuple[float, float]] = BANDS
) -> np.ndarray:
    """Mean power density in each of ``bands``, in squared units of ``epochs`` per Hz.

    ``epochs`` (..., T) -> (..., bands): Welch's method with 256-sample Hann segments at 100 Hz
    (2.56 s at any rate), half overlapping, each segment's mean removed. A band that the rate does
    not hold has none.
    """
    segment = min(round(2.56 * fs), epochs.shape[-1])
    frequencies, density = signal.welch(epochs, fs, nperseg=segment)
    inside = [(frequencies >= low) & (frequencies < high) for low, high in bands.values()]
    return np.stack([density[..., band].sum(axis=-1) / max(1, band.sum()) for band in inside], -1)


def slowed(epochs: np.ndarray) -> np.ndarray:
    """Epochs (..., t) of 30 s at :data:`SHOWN_HZ`; slower ones as they are: they gain nothing."""
    ratio = Fraction(SHOWN_HZ * EPOCH_SECONDS, epochs.shape[-1])
    if ratio >= 1:
        return epochs
    return signal.resample_poly(epochs, ratio.numerator, ratio.denominator, axis=-1)
