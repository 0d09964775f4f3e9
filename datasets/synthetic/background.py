"""Coloured noise through six band powers that change from slot to slot.

Every 4 s block gets its own spectrum, a piecewise linear log density over log frequency, and random
phases; square-root Hann windows with half overlap add up to constant power without steps.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

from datasets.synthetic.timeline import SLOT_SECONDS

BLOCK_SECONDS = 2 * SLOT_SECONDS
# Hz, of delta, theta, alpha, sigma, beta and gamma: geometric means; delta's is weighted
BAND_CENTRES = np.array([1.5, 5.7, 9.8, 13.9, 21.9, 38.7])
N_BANDS = len(BAND_CENTRES)
_HIGH_PASS_HZ = 0.5
_ROLL_OFF = -2.0  # density exponent above the highest centre
_BLOCKS_AT_ONCE = 4096  # keeps a 22 h tape below 100 MB of scratch


def coloured_noise(rng: np.random.Generator, log_power: np.ndarray, fs: float) -> np.ndarray:
    """Noise (n_slots * 2 * fs,) float32 whose band densities follow ``log_power`` (n_slots, 6).

    ``log_power`` is log10 of uV**2/Hz at ``BAND_CENTRES`` for each 2 s slot.
    """
    hop = round(SLOT_SECONDS * fs)
    n_slots = len(log_power)
    basis = _spectral_basis(2 * hop, fs)
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2 * hop) / (2 * hop)))
    window = window.astype(np.float32)
    # block b is centred on the border of slots b-1 and b
    edges = np.concatenate((log_power[:1], log_power, log_power[-1:]))
    centred = (0.5 * (edges[:-1] + edges[1:])).astype(np.float32)
    out = np.zeros((n_slots + 2, hop), dtype=np.float32)
    scale = np.float32(0.5 * np.log(10))
    for first in range(0, n_slots + 1, _BLOCKS_AT_ONCE):
        block = centred[first : first + _BLOCKS_AT_ONCE]
        amplitude = np.exp(scale * (np.c_[block, np.ones(len(block), np.float32)] @ basis))
        spectrum = rng.standard_normal((len(block), 2 * (hop + 1)), dtype=np.float32)
        spectrum = spectrum.view(np.complex64)
        spectrum *= amplitude
        pieces = fft.irfft(spectrum, n=2 * hop, axis=1, overwrite_x=True)
        pieces *= window
        out[first : first + len(block)] += pieces[:, :hop]
        out[first + 1 : first + 1 + len(block)] += pieces[:, hop:]
    return out[1:-1].reshape(-1)


def _spectral_basis(n: int, fs: float) -> np.ndarray:
    """(7, n//2 + 1): log10 density = band values @ basis[:6] + basis[6], scaled for ``irfft``."""
    frequencies = np.fft.rfftfreq(n, 1 / fs)
    log_f = np.log(np.maximum(frequencies, 1e-3))
    centres = np.log(BAND_CENTRES)
    basis = np.stack([np.interp(log_f, centres, row) for row in np.eye(N_BANDS)])
    fixed = np.where(frequencies > BAND_CENTRES[-1], _ROLL_OFF * (log_f - centres[-1]), 0)
    fixed = fixed / np.log(10)
    fixed -= np.log10(1 + (_HIGH_PASS_HZ / np.maximum(frequencies, 1e-2)) ** 8)
    # one-sided density D: a bin with independent unit normal parts needs amplitude sqrt(D*n*fs)/2
    fixed += np.log10(n * fs / 4)
    fixed[0] = -20.0
    return np.vstack((basis, fixed)).astype(np.float32)
