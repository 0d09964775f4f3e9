"""Shapes of graphoelements: unit peak-to-peak waves of time since onset, all events at once.

Every shape takes flat float32 arrays, one entry per sample: ``t`` seconds since its event's onset,
``d`` the event's duration in seconds, ``hz`` its frequency and ``phase`` in [0, 1). Waves without a
rhythm take their form from ``phase``, too, so that no two of them are one template.
"""

from __future__ import annotations

import numpy as np

TWO_PI = np.float32(2 * np.pi)


def _hann(t: np.ndarray, d: np.ndarray) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(TWO_PI * t / d)


def _tapered(t: np.ndarray, d: np.ndarray, edge: float) -> np.ndarray:
    """1 in the middle, raised-cosine ends of ``edge`` seconds (at most half the event)."""
    width = np.minimum(np.float32(edge), d / 2)
    near = np.minimum(np.minimum(t, d - t) / width, 1)
    # the last sample may lie a rounding error beyond the end
    return 0.5 - 0.5 * np.cos(np.float32(np.pi) * np.maximum(near, 0))


def _form(phase: np.ndarray, which: int) -> np.ndarray:
    """Part ``which`` of an event's form, between -1 and 1: digits of its phase."""
    return 2 * ((phase * np.float32(10.0**which)) % 1) - 1


def alpha(t, d, hz, phase):
    """Alpha rhythm with slow amplitude modulation and tapered ends."""
    swell = 0.75 + 0.25 * np.sin(TWO_PI * (0.35 * t + phase))
    return 0.5 * _tapered(t, d, 0.5) * swell * np.sin(TWO_PI * (hz * t + phase))


def theta_run(t, d, hz, phase):
    """Theta rhythm with tapered ends."""
    return 0.5 * _tapered(t, d, 0.4) * np.sin(TWO_PI * (hz * t + phase))


def spindle(t, d, hz, phase):
    """Spindle: rising and falling envelope, slowing by half a hertz over its length."""
    # the frequency is the derivative, hz - 0.5 t / d
    chirp = hz * t - 0.25 * t * t / d
    return 0.5 * _hann(t, d) * np.sin(TWO_PI * (chirp + phase))


def waning_spindle(t, d, hz, phase):
    """Waves of a spindle that are smallest in the middle, where those of a spindle are largest."""
    chirp = hz * t - 0.25 * t * t / d
    return 0.5 * _tapered(t, d, 0.1) * (1 - _hann(t, d)) * np.sin(TWO_PI * (chirp + phase))


def backwards(wave):
    """The shape ``wave`` run backwards, which has the same spectrum."""
    return lambda t, d, hz, phase: wave(d - t, d, hz, phase)


def k_complex(t, d, hz, phase):
    """K-complex: sharp negative wave, then a slower positive one, each as wide as it happens."""
    u = t / d
    negative = np.exp(-0.5 * ((u - 0.25 - 0.04 * _form(phase, 1)) / 0.085) ** 2)
    width = 0.14 + 0.03 * _form(phase, 2)
    positive = np.exp(-0.5 * ((u - 0.62 - 0.05 * _form(phase, 3)) / width) ** 2)
    return _tapered(t, d, 0.08) * (0.6 * positive - 0.65 * negative)


def vertex_wave(t, d, hz, phase):
    """Vertex wave: sharp and negative, with a small positive one after it."""
    u = t / d
    negative = np.exp(-0.5 * ((u - 0.35 - 0.04 * _form(phase, 1)) / 0.09) ** 2)
    width = 0.13 + 0.02 * _form(phase, 2)
    positive = np.exp(-0.5 * ((u - 0.72) / width) ** 2)
    return _tapered(t, d, 0.04) * (0.22 * positive - 0.8 * negative)


def slow_wave(t, d, hz, phase):
    """Slow wave: negative half first and steeper than the positive half; zero at both ends."""
    u = t / d
    split = 0.42 + 0.06 * _form(phase, 1)
    rising = np.sin(np.float32(np.pi) * u / split)
    falling = np.sin(np.float32(np.pi) * (u - split) / (1 - split))
    return np.where(u < split, -0.52 * rising, 0.48 * falling)


def sawtooth(t, d, hz, phase):
    """Sawtooth waves: triangles, steep on one side."""
    cycle = (hz * t + phase) % 1
    steep = 0.7 + 0.08 * _form(phase, 1)
    triangle = np.where(cycle < steep, cycle / steep, (1 - cycle) / (1 - steep)) - 0.5
    return _tapered(t, d, 0.3) * triangle


def saccade(t, d, hz, phase):
    """Eye jump: rise within 1/``hz`` seconds, plateau, exponential return; sign from ``phase``."""
    rise = np.minimum(t * hz, 1)
    hold = (0.35 + 0.12 * _form(phase, 1)) * d
    back = np.exp(-np.maximum(t - hold, 0) / (0.16 * d))
    tail = np.minimum((d - t) / (0.08 * d), 1)
    return np.where(phase < 0.5, -1, 1) * (3 * rise**2 - 2 * rise**3) * back * tail


def slow_eye_movement(t, d, hz, phase):
    """Slow rolling of the eyes, either direction first."""
    return np.where(phase < 0.5, -0.5, 0.5) * _tapered(t, d, 0.6) * np.sin(TWO_PI * hz * t)


def blink(t, d, hz, phase):
    """Blink: one positive lobe."""
    # under the lids the eyes turn up: their corneas, which are positive, come near Fpz
    early = d * (1 + 0.25 * _form(phase, 1) * np.sin(np.float32(np.pi) * t / d))
    return _hann(np.minimum(t * d / early, d), d)


def arousal(t, d, hz, phase):
    """Arousal: abrupt alpha and beta, a bundle of incommensurate rhythms."""
    ratios = np.array([0.81, 1.0, 1.27, 1.62, 2.03, 2.41], dtype=np.float32)
    bundle = sum(np.sin(TWO_PI * (hz * r * t + phase * (k + 1))) for k, r in enumerate(ratios))
    return _tapered(t, d, 0.6) * bundle / np.float32(7)


def twitch(t, d, hz, phase):
    """Muscle twitch: one short burst."""
    return 0.5 * _hann(t, d) * np.sin(TWO_PI * (hz * t + phase))
