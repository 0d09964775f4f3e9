"""What resembles an event in all but one respect: planted to test what points at events.

Each has the energy of an event of its kind, but the wrong shape, or lies in the wrong band or in
the wrong channel, and it is as frequent in one state as in another, so it is evidence for no stage.
A model, or a map, that follows mere size takes them for events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from datasets.synthetic.events import Events, draw_kind, draw_onsets, selected
from datasets.synthetic.graphoelements import DISTRACTORS, KINDS
from datasets.synthetic.streams import stream
from datasets.synthetic.subject import Subject
from datasets.synthetic.timeline import SLOTS, Timeline

_RATE = 0.3  # of each, per epoch
_POINTS = 512  # of a wave whose energy is measured
_PADDED = 4 * _POINTS  # which makes its spectrum finer
_BAND_HZ = 2.0  # half the width of sigma


def draw_distractors(
    subject: Subject, night: int, timeline: Timeline, events: dict[str, Events]
) -> dict[str, Events]:
    """Draw the distractors of a night, none of them over an event of its kind or another one."""
    drawn: dict[str, Events] = {}
    slots = len(timeline.state)
    for name in DISTRACTORS:
        kind = name.split("_wrong_")[0]
        rng = stream(subject.seed, "subject", subject.number, "night", night, name)
        own = draw_kind(
            kind, rng, draw_onsets(rng, np.full(slots, _RATE / SLOTS)), subject, timeline
        )
        free = np.ones(len(own), bool)
        for other in (events[kind], *drawn.values()):
            free &= ~_touches(own, other)
        drawn[name] = _disguised(selected(own, free), name, kind, rng, subject)
    return drawn


def _touches(own: Events, other: Events) -> np.ndarray:
    """Whether each of ``own`` overlaps one of ``other``, which do not overlap each other: (k,)."""
    ends = other.onset + other.duration
    # the first that ends after each one's beginning: it overlaps if it begins before the end
    first = np.searchsorted(ends, own.onset, side="right")
    begins = np.concatenate((other.onset, [np.inf]))[first]
    return begins < own.onset + own.duration


def _disguised(
    own: Events, name: str, kind: str, rng: np.random.Generator, subject: Subject
) -> Events:
    """Events as the distractor ``name``: of the same energy, each by itself."""
    spec = DISTRACTORS[name]
    hz = own.hz
    if name.endswith("_band"):
        hz = spec.hz[0] + spec.hz[1] * rng.standard_normal(len(own))
    other = replace(own, kind=name, hz=hz)
    # an edge spreads a wave over all bands: of the wrong shape alone counts what is in its own
    in_band = name.endswith("_shape")
    energies = _energy(KINDS[kind].wave, own, in_band=in_band)
    scale = np.sqrt(energies / _energy(spec.wave, other, in_band=in_band))
    if name.endswith("_channel"):  # eyes are seen larger or smaller in a subject's EOG
        scale = scale * (subject.eog_gain if kind == "rem" else 1 / subject.eog_gain)
    return replace(other, amplitude=own.amplitude * scale)


def _energy(wave: Callable, events: Events, *, in_band: bool) -> np.ndarray:
    """Energy of the unit wave of every event beside its duration, (k,).

    ``in_band``: within 2 Hz of an event's own frequency, if it has a rhythm.
    """
    shares = (np.arange(_POINTS, dtype=np.float32) + 0.5) / _POINTS
    columns = (events.duration, events.hz, events.phase)
    d, hz, phase = (column.astype(np.float32)[:, None] for column in columns)
    power = np.abs(np.fft.rfft(wave(shares * d, d, hz, phase), _PADDED, axis=1)) ** 2
    hertz = np.arange(power.shape[1]) * _POINTS / _PADDED / d
    return np.where(in_band & (hz > 0) & (np.abs(hertz - hz) > _BAND_HZ), 0, power).sum(axis=1)
