"""Samples of a recording as stagers of others take them: whole epochs, one rate, microvolts."""

from __future__ import annotations

import numpy as np

from datasets.readers.recording import TO_MICROVOLT, Signal
from datasets.store.filters import resample
from utils.stages import EPOCH_SECONDS


def in_microvolt(signal: Signal, fs: float, n_epochs: int) -> np.ndarray:
    """Samples of whole epochs at ``fs`` Hz, in microvolts where the unit is known."""
    seconds = n_epochs * EPOCH_SECONDS
    scale = TO_MICROVOLT.get(signal.unit.lower(), 1.0)
    samples = resample(signal.read(0, signal.seconds) * scale, signal.fs, fs)
    n = round(seconds * fs)
    # a file may end within a sample of its last whole epoch
    return np.pad(samples[:n], (0, max(0, n - len(samples))), "edge")
