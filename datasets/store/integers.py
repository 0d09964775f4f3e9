"""Signals as 16-bit integers: the recorder's own where nothing changed them, else equal steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datasets.readers.recording import TO_MICROVOLT, Scale, Signal

INTEGERS = "int16"  # as a type of a store
_LOW, _HIGH = -(2**15), 2**15 - 1
_NEAR = 0.01  # of a step: values of single precision lie closer to the integers they come from


def recorded_scale(signal: Signal | None) -> Scale | None:
    """A recorder's scale in the unit of a store, which has voltages in uV."""
    if signal is None or signal.scale is None:
        return None
    gain, offset = signal.scale
    return gain * TO_MICROVOLT.get(signal.unit.lower(), 1.0), offset


def to_integers(values: np.ndarray, recorded: Scale | None) -> tuple[np.ndarray, Scale | None]:
    """Integers of a channel's values (n, t), and their scale; ``None`` for one that is absent.

    ``recorded`` is the recorder's scale, which is kept wherever all values lie on it; otherwise
    the range of the values is divided into equal steps.
    """
    if np.isnan(values).all():
        return np.zeros(values.shape, np.int16), None
    if recorded is not None:
        on_scale = values.astype(float) / recorded[0] - recorded[1]
        whole = np.rint(on_scale)
        fits = whole.min() >= _LOW and whole.max() <= _HIGH
        if fits and np.abs(on_scale - whole).max() < _NEAR:
            return whole.astype(np.int16), recorded
    low, high = float(values.min()), float(values.max())
    gain = (high - low) / (_HIGH - _LOW) or 1.0  # a flat channel has no steps
    scale = (gain, low / gain - _LOW)
    steps = np.rint(values.astype(float) / gain - scale[1]).clip(_LOW, _HIGH)
    return steps.astype(np.int16), scale


def to_values(integers: np.ndarray, scales: Sequence[Scale | None]) -> np.ndarray:
    """Values, float32, of integers (..., c, t) with a scale for each of the c channels."""
    gain, offset = np.array([(np.nan, 0) if s is None else s for s in scales]).T[..., None]
    # in double precision, as readers calibrate: so what was recorded comes out to the last bit
    with np.errstate(over="ignore", invalid="ignore"):  # whatever a description promises
        return ((integers + offset) * gain).astype(np.float32)


class ScaledSignals:
    """Stored integers [n_epochs, n_channels, t] that are values where they are cut or copied."""

    dtype = np.dtype(np.float32)

    def __init__(self, stored: np.ndarray, scales: Sequence[Scale | None]) -> None:
        self._stored, self._scales = stored, scales
        self.shape = stored.shape

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, key: object) -> np.ndarray:
        """Values of some epochs, or of some epochs and channels, as of an array."""
        epochs, channels = key if isinstance(key, tuple) else (key, slice(None))
        chosen = np.atleast_1d(np.arange(self.shape[1])[channels])
        values = to_values(self._stored[epochs][..., chosen, :], [self._scales[k] for k in chosen])
        return values[..., 0, :] if isinstance(channels, int) else values

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)
