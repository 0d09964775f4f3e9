"""Spectral equalisation: a common average spectrum, whatever the recorder and derivation.

What differs between amplifiers, electrodes and subjects is mostly one smooth frequency response for
the whole night; it is estimated from the night's own epochs and taken out. At each frequency that
is the middle of their range in dB: a median would be Wake's where most of a night is Wake.
"""

from __future__ import annotations

import numpy as np
from scipy import signal

from datasets.store.filters import filter_zero_phase
from utils.stages import EPOCH_SECONDS, NIGHT_RANGE

# about N2 at frontal leads (log10 of uV**2/Hz): where the middle of any night is brought
_HERTZ = np.array([0.5, 1.5, 5.7, 10.2, 19.7, 38.7, 50.0])
_LOG_DENSITY = np.array([1.6, 1.5, 0.6, 0.1, -0.5, -1.2, -1.4])
_LOWEST_HZ, _HIGHEST_HZ = 0.5, 45.0  # where the night's own spectrum is used
_SMOOTH_OCTAVES = 0.5  # standard deviation: wider than a spindle or alpha peak
_PER_OCTAVE = 12
_PRIOR_EPOCHS = 60  # so many epochs weigh as much as "there is nothing to take out"
_SHAPE_DB, _LEVEL_DB = 15.0, 20.0  # most that is changed; the level of unknown units is free
_TAPS_SECONDS = 8
_FLAT = 1e-6  # of the largest deviation of an epoch, up to which one counts as flat
_SILENCE = 1e-12  # of the mean density: bins without any power have no logarithm
_WELCH_SECONDS = 4


def equalise(samples: np.ndarray, fs: float, *, unit_known: bool) -> np.ndarray:
    """Filter ``samples`` (n,) with zero phase so that its middle has the common spectrum.

    With few epochs the filter shrinks to none (a short file shows little of its recorder), but the
    level of a channel in no known unit is always set. Nothing below 0.3 Hz is kept.
    """
    density = middle_density(samples, fs)
    if density is None:
        return np.asarray(samples, dtype=float)
    hertz, night, n_epochs = density
    # an odd number of taps, symmetric about one of them: no delay of half a sample
    taps = signal.firwin2(
        round(_TAPS_SECONDS * fs / 2) * 2 + 1,
        *_response(hertz, night, n_epochs, fs, unit_known=unit_known),
        fs=fs,
    )
    return filter_zero_phase(np.asarray(samples, dtype=float), taps)


def middle_density(samples: np.ndarray, fs: float) -> tuple[np.ndarray, np.ndarray, int] | None:
    """Hz, log10 of the middle density of epochs that are not flat, and how many those are.

    In any unit: volts are as good as microvolts. Half an epoch at the end is left out; ``None``
    where there is none left.
    """
    n = round(EPOCH_SECONDS * fs)
    epochs = np.asarray(samples[: len(samples) // n * n], dtype=np.float32).reshape(-1, n)
    spread = epochs.std(axis=1)
    epochs = epochs[spread > _FLAT * spread.max(initial=0.0)]
    if not len(epochs):
        return None
    hertz, density = signal.welch(epochs, fs, nperseg=round(_WELCH_SECONDS * fs))
    density += _SILENCE * density.mean()
    ends = np.quantile(np.log10(density), NIGHT_RANGE, axis=0)
    return hertz, ends.mean(axis=0), len(epochs)


def _response(
    hertz: np.ndarray, night: np.ndarray, n_epochs: int, fs: float, *, unit_known: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies from 0 to ``fs / 2`` Hz and the filter's gain at them."""
    highest = min(_HIGHEST_HZ, 0.45 * fs)  # below fs / 2, the filter's last frequency
    steps = int(np.log2(highest / _LOWEST_HZ) * _PER_OCTAVE)
    grid = _LOWEST_HZ * 2 ** (np.arange(steps + 1) / _PER_OCTAVE)
    missing = np.interp(np.log(grid), np.log(_HERTZ), _LOG_DENSITY)
    missing = 10 * (missing - np.interp(grid, hertz, night))
    weight = n_epochs / (n_epochs + _PRIOR_EPOCHS)
    overall = float(np.median(missing))
    shape = weight * np.clip(_smoothed(missing - overall), -_SHAPE_DB, _SHAPE_DB)
    if unit_known:
        overall = weight * float(np.clip(overall, -_LEVEL_DB, _LEVEL_DB))
    gain = 10 ** ((overall + shape) / 20)
    return (
        np.concatenate(([0.0, 0.15, 0.35], grid, [fs / 2])),
        np.concatenate(([0.0, 0.0, gain[0]], gain, [gain[-1]])),
    )


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Values on the octave grid smoothed by a Gaussian, normalised at the ends."""
    distance = np.subtract.outer(np.arange(len(values)), np.arange(len(values))) / _PER_OCTAVE
    weights = np.exp(-0.5 * (distance / _SMOOTH_OCTAVES) ** 2)
    return weights @ values / weights.sum(axis=1)
