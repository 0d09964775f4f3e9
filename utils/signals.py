"""Power of epochs in the bands of the EEG."""

from __future__ import annotations

import numpy as np
from scipy import signal

BANDS = {
    "delta": (0.5, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "gamma": (30.0, 50.0),
}


def band_powers(epochs: np.ndarray, fs: float) -> np.ndarray:
    """Mean power density in each of ``BANDS``, in squared units of ``epochs`` per Hz.

    ``epochs`` (..., T) -> (..., 5): Welch's method with 256-sample Hann segments at 100 Hz
    (2.56 s at any rate), half overlapping, each segment's mean removed. A band that the rate does
    not hold has none.
    """
    segment = min(round(2.56 * fs), epochs.shape[-1])
    frequencies, density = signal.welch(epochs, fs, nperseg=segment)
    bands = [(frequencies >= low) & (frequencies < high) for low, high in BANDS.values()]
    return np.stack(
        [density[..., band].sum(axis=-1) / max(1, band.sum()) for band in bands], axis=-1
    )
