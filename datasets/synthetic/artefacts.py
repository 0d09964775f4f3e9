"""What corrupts recordings: movement, electrode pops, lost leads, sweat, heartbeats in the EEG."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datasets.synthetic.events import samples_within
from datasets.synthetic.streams import stream
from datasets.synthetic.subject import Subject
from datasets.synthetic.timeline import MOVEMENT, Timeline
from utils.stages import EPOCH_SECONDS

DERIVATIONS = ("EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal")
ALL = -1  # channel number of an artefact on every derivation
KINDS = ("movement", "pop", "flat", "sweat", "ecg_leak")
_QRS_SECONDS = 0.09  # a normal QRS complex lasts 0.06 to 0.10 s
_SIZE_IN_SLEEP, _SIZE_IN_WAKE = 0.2, 0.6  # of the size of movements that hide an epoch


@dataclass(frozen=True)
class Artefacts:
    """All artefacts of one kind; ``channel`` numbers ``DERIVATIONS``, or is ``ALL``."""

    kind: str
    onset: np.ndarray
    duration: np.ndarray
    amplitude: np.ndarray
    channel: np.ndarray

    def __len__(self) -> int:
        return len(self.onset)

    def on(self, number: int) -> np.ndarray:
        """Which of the artefacts touch derivation ``number``, bool (n,)."""
        return (self.channel == number) | (self.channel == ALL)


def draw_artefacts(subject: Subject, night: int, timeline: Timeline) -> dict[str, Artefacts]:
    """Draw every kind of artefact of one night, each from its own stream."""
    path = ("subject", subject.number, "night", night)
    seconds = timeline.n_epochs * EPOCH_SECONDS
    rngs = {kind: stream(subject.seed, *path, kind) for kind in KINDS}
    often = subject.rate.get("movement", 1.0)
    return {
        "movement": _movements(rngs["movement"], timeline, seconds, often),
        "pop": _pops(rngs["pop"], seconds),
        "flat": _flats(rngs["flat"], timeline, seconds),
        "sweat": _sweat(rngs["sweat"], seconds),
        "ecg_leak": _heartbeats(rngs["ecg_leak"], subject, seconds),
    }


def _movements(
    rng: np.random.Generator, timeline: Timeline, seconds: int, often: float
) -> Artefacts:
    """Often and violent in Wake, rare and small in sleep, always in an epoch scored as movement."""
    asleep = timeline.stages > 0
    # per epoch: one in an hour of sleep, one in 15 minutes of Wake
    rates = np.where(asleep, 1.0 / 120, often / 30)
    epochs = np.arange(timeline.n_epochs).repeat(rng.poisson(rates))
    # R&K score movement time where movement hides more than half of an epoch: these last 16 to 20 s
    scored = np.flatnonzero(timeline.rk == MOVEMENT)
    starts = np.concatenate(
        (
            epochs * EPOCH_SECONDS + rng.uniform(0, 29, len(epochs)),
            scored * EPOCH_SECONDS + rng.uniform(1, 8, len(scored)),
        )
    )
    durations = np.concatenate(
        (
            np.clip(3 * np.exp(0.7 * rng.standard_normal(len(epochs))), 1, 15),
            rng.uniform(16, 20, len(scored)),
        )
    )
    sizes = rng.uniform(300, 900, len(starts))
    # movement that was scored keeps its full size, asleep or not: it must hide the epoch
    sizes[: len(epochs)] *= np.where(asleep[epochs], _SIZE_IN_SLEEP, _SIZE_IN_WAKE)
    order = np.argsort(starts, kind="stable")
    starts, durations, sizes = starts[order], durations[order], sizes[order]
    inside = starts + durations < seconds
    channel = np.full(int(inside.sum()), ALL)
    return Artefacts("movement", starts[inside], durations[inside], sizes[inside], channel)


def _pops(rng: np.random.Generator, seconds: int) -> Artefacts:
    n = int(rng.integers(0, 7))
    onset = np.sort(rng.uniform(0, seconds - 2, n))
    return Artefacts(
        "pop",
        onset,
        np.full(n, 1.5),
        rng.uniform(50, 500, n) * rng.choice((-1, 1), n),
        rng.integers(0, len(DERIVATIONS), n),
    )


def _flats(rng: np.random.Generator, timeline: Timeline, seconds: int) -> Artefacts:
    """Short losses of one lead anywhere, and one loss per run of epochs scored ``?``."""
    n = int(rng.integers(0, 3))
    onset = rng.uniform(0, max(1, seconds - 60), n)
    duration = np.minimum(rng.uniform(5, 50, n), seconds - onset)
    runs = np.array(timeline.lead_off, dtype=float).reshape(-1, 2) * EPOCH_SECONDS
    onset = np.concatenate((onset, runs[:, 0]))
    duration = np.concatenate((duration, runs[:, 1] - runs[:, 0]))
    order = np.argsort(onset, kind="stable")
    channel = rng.integers(0, len(DERIVATIONS), len(onset))
    return Artefacts("flat", onset[order], duration[order], np.zeros(len(onset)), channel)


def _sweat(rng: np.random.Generator, seconds: int) -> Artefacts:
    """Slow sway of one EEG channel, in one night of ten."""
    n = int(rng.random() < 0.1)
    duration = np.minimum(rng.uniform(600, 3600, n), 0.4 * seconds)
    onset = rng.uniform(0, 1, n) * (seconds - duration)
    channel = rng.integers(0, 2, n)  # the first two derivations are the EEGs
    return Artefacts("sweat", onset, duration, rng.uniform(20, 80, n), channel)


def _heartbeats(rng: np.random.Generator, subject: Subject, seconds: int) -> Artefacts:
    """QRS complexes of a whole night, for subjects whose electrodes pick up the ECG."""
    if subject.ecg_leak_uv == 0:
        empty = np.zeros(0)
        return Artefacts("ecg_leak", empty, empty, empty, empty)
    interval = 60 / subject.heart_per_minute
    n = int(seconds / interval)
    # no interval beyond 30 to 150 beats per minute, whatever the jitter
    onset = np.cumsum(np.clip(interval * (1 + 0.04 * rng.standard_normal(n)), 0.4, 2))
    onset = onset[onset < seconds - 1]
    amplitude = np.full(len(onset), subject.ecg_leak_uv)
    return Artefacts(
        "ecg_leak", onset, np.full(len(onset), _QRS_SECONDS), amplitude, np.full(len(onset), ALL)
    )


def add_artefacts(
    signal: np.ndarray,
    fs: float,
    derivation: str,
    artefacts: Artefacts,
    rng: np.random.Generator,
) -> None:
    """Add one kind of artefact to ``signal`` in place; ``flat`` replaces the signal by zeros."""
    number = DERIVATIONS.index(derivation)
    touched = np.flatnonzero(artefacts.on(number))
    onset, duration = artefacts.onset[touched], artefacts.duration[touched]
    for index, t, of in samples_within(onset, duration, fs, len(signal)):
        event = touched[of]
        size = artefacts.amplitude[event].astype(np.float32)
        if artefacts.kind == "flat":
            signal[index] = 0.0
            continue
        wave = _WAVES[artefacts.kind](t, duration[of].astype(np.float32), rng)
        # artefacts may overlap: += would add only one of those that share a sample
        np.add.at(signal, index, size * wave)


def _movement_wave(t: np.ndarray, d: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Drift and broadband muscle under one envelope; large enough to saturate."""
    noise = rng.standard_normal(len(t), dtype=np.float32)
    drift = np.sin(2 * np.pi * (0.35 * t + 0.1)) * np.sin(2 * np.pi * 0.13 * t + 1)
    # at the end rounding leaves the sine just below zero, where the root would be NaN
    return np.sqrt(np.maximum(np.sin(np.pi * t / d), 0)) * (0.6 * drift + 0.22 * noise)


def _pop_wave(t: np.ndarray, d: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # the last 0.1 s lead to zero: only the onset of a pop is a step
    return np.exp(-t / (0.2 * d)) * np.minimum((d - t) / 0.1, 1)


def _sweat_wave(t: np.ndarray, d: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sway = np.sin(2 * np.pi * 0.27 * t) + 0.6 * np.sin(2 * np.pi * 0.41 * t + 1)
    return 0.3 * sway * np.minimum(np.minimum(t, d - t) / 10, 1)


def _qrs_wave(t: np.ndarray, d: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    u = t / d  # R wave up, then a smaller S wave down
    return np.exp(-0.5 * ((u - 0.45) / 0.12) ** 2) - 0.35 * np.exp(-0.5 * ((u - 0.75) / 0.1) ** 2)


_WAVES = {
    "movement": _movement_wave, "pop": _pop_wave, "sweat": _sweat_wave, "ecg_leak": _qrs_wave
}  # fmt: skip
