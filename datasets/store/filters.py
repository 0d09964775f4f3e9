"""Filters and resampling of whole nights: zero-phase, and as the Dreem papers filter."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from scipy import signal

from utils.stages import EPOCH_SECONDS

_MOST_DRIFT_SECONDS = 1e-4  # over a whole recording, by which a simple ratio may be wrong
_REACH_SAMPLES = 10  # of the lower rate to either side, as scipy's own filter has
_PHASES, _AT_ONCE = 512, 50_000
_HAMMING_LENGTH = 3.3  # taps of a Hamming low-pass = 3.3 * fs / transition width


def bandpass_taps(low: float, high: float, fs: float) -> np.ndarray:
    """Taps of the zero-phase FIR band-pass ``low``-``high`` Hz that MNE designs by default.

    The difference of two windowed-sinc low-passes (Hamming), each as long as its own transition
    needs: ``min(max(low / 4, 2), low)`` Hz wide below and ``min(max(high / 4, 2), fs/2 - high)``
    above, with the -6 dB points in the middle of the transitions (Widmann et al. 2015). At
    0.2-40 Hz and 100 Hz this is the CMT papers' filter of 1651 taps.

    Raises:
        ValueError: unless 0 < ``low`` < ``high`` < ``fs / 2``.
    """
    if not 0 < low < high < fs / 2:
        raise ValueError(f"band-pass {low:g}-{high:g} Hz needs 0 < low < high < {fs / 2:g} Hz")
    low_width = min(max(low / 4, 2.0), low)
    high_width = min(max(high / 4, 2.0), fs / 2 - high)
    wide = _lowpass(high + high_width / 2, high_width, fs)
    narrow = _lowpass(low - low_width / 2, low_width, fs)
    taps = np.zeros(max(len(wide), len(narrow)))
    for part, sign in ((wide, 1), (narrow, -1)):
        offset = (len(taps) - len(part)) // 2
        taps[offset : offset + len(part)] += sign * part
    return taps


def _lowpass(cutoff: float, width: float, fs: float) -> np.ndarray:
    length = round(_HAMMING_LENGTH * fs / width)
    # made odd, so that the taps are symmetric about one of them
    return signal.firwin(length + 1 - length % 2, cutoff, window="hamming", fs=fs)


def filter_zero_phase(samples: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Convolve 1-D ``samples`` with symmetric ``taps``; output as long as the input.

    Beyond its ends the signal continues as its own point reflection, so a constant or a ramp
    passes without a step; past the reflection (signals shorter than the filter) it is zero.
    """
    half = len(taps) // 2
    reach = min(half, len(samples) - 1)
    before = 2 * samples[0] - samples[reach:0:-1]
    after = 2 * samples[-1] - samples[-2 : -reach - 2 : -1]
    padded = np.concatenate((before, samples, after))
    # overlap-add, as a night is far longer than any filter
    filtered = signal.oaconvolve(padded, taps, mode="full")
    return filtered[reach + half : reach + half + len(samples)]


def resample(samples: np.ndarray, fs: float, new_fs: float) -> np.ndarray:
    """Resample 1-D ``samples`` from ``fs`` to ``new_fs`` Hz, with an anti-alias filter.

    By a polyphase filter where the rates have a simple ratio; other rates, such as a recorder's own
    clock has (199.99 Hz), by sums of sinc functions at the exact instants.
    """
    if fs == new_fs:
        return samples
    # rates are quotients of header fields, often no whole numbers: the nearest ratio
    ratio = Fraction(new_fs / fs).limit_denominator(10_000)
    drift = abs(float(ratio) * fs / new_fs - 1) * len(samples) / fs
    if drift <= _MOST_DRIFT_SECONDS:
        return signal.resample_poly(samples, ratio.numerator, ratio.denominator)
    # close to the new rate first, as sums over samples of the old one would be long
    near = Fraction(new_fs / fs).limit_denominator(100)
    samples = signal.resample_poly(samples, near.numerator, near.denominator)
    return _at_instants(samples, fs * float(near), new_fs)


def resample_epochs(epochs: np.ndarray, fs: float, new_fs: float) -> np.ndarray:
    """Consecutive epochs (n, c, t) at ``new_fs`` Hz, each channel resampled as one signal."""
    if fs == new_fs:
        return epochs
    shape = (*epochs.shape[:2], round(new_fs * EPOCH_SECONDS))
    out = np.empty(shape, np.float32)
    for channel in range(shape[1]):
        samples = epochs[:, channel].reshape(-1).astype(np.float32)
        samples = resample(samples, fs, new_fs)[: shape[0] * shape[2]]
        # rates without a simple ratio may leave a last sample out
        samples = np.pad(samples, (0, shape[0] * shape[2] - len(samples)), "edge")
        out[:, channel] = samples.reshape(shape[0], shape[2])
    return out


def _at_instants(samples: np.ndarray, fs: float, new_fs: float) -> np.ndarray:
    """Sinc interpolation of ``samples`` at the instants k / ``new_fs``, Kaiser window as scipy's.

    The weights are looked up in a table of ``_PHASES`` fractions of a sample, between which they
    are interpolated linearly.
    """
    slower = min(1.0, new_fs / fs)
    reach = math.ceil(_REACH_SAMPLES / slower)
    offsets = np.arange(-reach, reach) + 1  # of the samples around an instant, from the one before
    fractions = np.arange(_PHASES + 1)[:, None] / _PHASES
    distance = (fractions - offsets) / reach
    window = np.i0(5.0 * np.sqrt(np.clip(1 - distance**2, 0, None))) / np.i0(5.0)
    table = np.sinc((fractions - offsets) * slower) * window * slower
    table /= table.sum(axis=1, keepdims=True)  # a constant stays as it is
    n = math.floor((len(samples) - 1) / fs * new_fs + 1e-9) + 1
    padded = np.pad(np.asarray(samples, float), reach)
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach)
    out = np.empty(n)
    for first in range(0, n, _AT_ONCE):
        place = np.arange(first, min(n, first + _AT_ONCE)) * (fs / new_fs)
        before = np.floor(place).astype(int)
        phase = (place - before) * _PHASES
        low = phase.astype(int)
        part = (phase - low)[:, None]
        weights = table[low] * (1 - part) + table[low + 1] * part
        out[first : first + len(place)] = np.einsum("ij,ij->i", around[before + 1], weights)
    return out


def butterworth_sections(low: float | None, high: float | None, fs: float) -> np.ndarray | None:
    """Second-order Butterworth band in Hz as sections (n, 6); ``None`` if no edge is left.

    An upper edge that the rate does not hold is left out: the recorder has cut there already.

    Raises:
        ValueError: the edges are not in order, or nothing of the signal is above the lower one.
    """
    if low is not None and high is not None and not 0 < low < high:
        raise ValueError(f"band {low:g}-{high:g} Hz: the first edge must be the lower one")
    if low is not None and low >= 0.5 * fs:
        raise ValueError(f"a high-pass of {low:g} Hz leaves nothing of a signal of {fs:g} Hz")
    high = high if high is not None and high < 0.5 * fs else None
    if low is None and high is None:
        return None
    if low is None:
        return signal.butter(2, high, "lowpass", fs=fs, output="sos")
    if high is None:
        return signal.butter(2, low, "highpass", fs=fs, output="sos")
    return signal.butter(2, (low, high), "bandpass", fs=fs, output="sos")


def filter_sections(samples: np.ndarray, sections: np.ndarray) -> np.ndarray:
    """Filter forwards and backwards, without delay; the ends are continued by point reflection."""
    # about scipy's default, which refuses signals shorter than its padding
    pad = min(len(samples) - 1, 3 * (2 * len(sections) + 1))
    return signal.sosfiltfilt(sections, samples, padlen=pad)


def dreem_sections(fs: float) -> np.ndarray:
    """The Dreem papers' causal filter as second-order sections (n, 6), for ``sosfilt``.

    Butterworth band-pass of order 2 at 0.4-18 Hz, band-stops of order 3 at 58-62 and 48-52 Hz, and
    a Bessel band-stop of order 1 at 62-63 Hz (Guillot et al. 2020, code). As one polynomial of
    degree 18, which is how the reference applies it, the same filter loses digits.

    Raises:
        ValueError: ``fs`` is too low for the band-stops.
    """
    if fs <= 126:
        raise ValueError(f"the Dreem filter stops 62-63 Hz, which {fs:g} Hz does not hold")
    return np.concatenate(
        [
            signal.butter(2, (0.4, 18), "bandpass", fs=fs, output="sos"),
            signal.butter(3, (58, 62), "bandstop", fs=fs, output="sos"),
            signal.butter(3, (48, 52), "bandstop", fs=fs, output="sos"),
            signal.bessel(1, (62, 63), "bandstop", fs=fs, output="sos"),
        ]
    )


def filter_as_dreem(samples: np.ndarray, fs: float, new_fs: float) -> np.ndarray:
    """The Dreem papers' preparation: their causal filter from rest, then linear interpolation."""
    filtered = signal.sosfilt(dreem_sections(fs), samples)
    # 1e-9: a whole number of samples may come out a little smaller
    times = np.arange(int(len(samples) / fs * new_fs + 1e-9)) / new_fs
    return np.interp(times, np.arange(len(samples)) / fs, filtered)


def resample_reach_seconds(fs: float, new_fs: float) -> float:
    """Seconds of input to either side on which one sample of :func:`resample` depends."""
    # scipy's filter has 10 samples of the lower rate on either side; half a sample to spare
    return 0.0 if fs == new_fs else 10.5 / min(fs, new_fs)
