"""Samples of a recording as stagers of others take them: whole epochs, one rate, microvolts."""

from __future__ import annotations

from dataclasses import replace

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


def without_unit(signal: Signal) -> Signal:
    """The signal without the name of its unit: in microvolts, if it had one of volts."""
    factor = TO_MICROVOLT.get(signal.unit.lower(), 1.0)
    if factor == 1.0:
        return replace(signal, unit="")
    scale = signal.scale and (signal.scale[0] * factor, signal.scale[1])

    def read(start: float, stop: float) -> np.ndarray:
        return signal.read(start, stop) * factor

    return replace(signal, unit="", read=read, scale=scale)
