"""What a scorer sees in an epoch, measured: slow waves, spindles, alpha, eye movements, bands.

The amplitudes and durations are those of the AASM manual where it gives any (Berry et al., version
2.6, 2020): slow waves of 0.5-2 Hz and more than 75 uV, spindles of 11-16 Hz and at least 0.5 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import uniform_filter1d

from interpret.bands import BANDS
from interpret.explained_night import ExplainedNight
from utils.stages import STAGES

SLOW_WAVE_UV = 75.0  # peak to peak
# the same in medians of the night's own waves, where no microvolt is known: 75 uV are 3.4 and 3.5
# times the median wave of Fpz-Cz in two simulated nights
SLOW_WAVE_TIMES = 3.5
_WAVE_SECONDS = (0.5, 2.0)
_ENVELOPE_SECONDS = 0.5
_EDGE = 0.15  # of a band's limits, over which its filter rises and falls
_SILENCE = 1e-12  # power of a channel without a signal, in its unit squared


@dataclass(frozen=True)
class Activity:
    """Something measured in every epoch, in the channels of ``role`` between two frequencies in Hz.

    ``how``: waves, from one falling zero crossing to the next; bursts, in which the envelope is
    ``times`` its median in the night for at least ``shortest`` s; or the level of the whole epoch.
    ``noun`` is what there is more or less of, ``unit`` what of it is counted, ``stages`` those in
    which it is no artefact: eye movements look like slow waves, muscle like spindles.
    """

    name: str
    role: str
    band: tuple[float, float]
    how: str
    noun: str
    unit: str
    times: float = 0.0
    shortest: float = 0.0
    stages: tuple[str, ...] = STAGES

    @property
    def is_counted(self) -> bool:
        """Whether events are counted; otherwise their share of the epoch is measured."""
        return self.unit == "events"


# bursts: of lengths and levels tried on two simulated nights, those that agreed best with what was
# planted in their epochs
ACTIVITIES = (
    Activity("slow waves", "EEG", (0.5, 2.0), "waves", "slow-wave time", "%", stages=("N2", "N3")),
    Activity(
        "spindles", "EEG", (11.0, 16.0), "bursts", "spindle", "events", 3.0, 0.5, ("N2", "N3")
    ),
    # the manual has 8-13 Hz, where slow spindles would count as alpha
    Activity("alpha", "EEG", (8.0, 12.0), "bursts", "alpha time", "%", 1.5, 1.0, ("W", "N1")),
    Activity(
        "eye movements", "EOG", (0.5, 5.0), "bursts", "eye movement", "events", 3.0, 0.5, ("REM",)
    ),
    Activity("muscle tone", "EMG", (10.0, 100.0), "level", "muscle tone", "dB"),
    *(
        Activity(f"{name} power", "EEG", BANDS[name], "level", f"{name} power", "dB")
        for name in ("delta", "theta", "alpha", "sigma", "beta")
    ),
)


@dataclass(frozen=True)
class Events:
    """Events of a line of samples: ``start`` and ``stop`` (k,), and their ``size`` (k,)."""

    start: np.ndarray
    stop: np.ndarray
    size: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    def some(self, which: np.ndarray) -> Events:
        """The events of a mask or of numbers."""
        return Events(self.start[which], self.stop[which], self.size[which])

    def per_epoch(self, n_epochs: int, length: int, *, counted: bool) -> np.ndarray:
        """How many lie in each epoch of ``length`` samples, or the share that they take in %."""
        if counted:
            middles = (self.start + self.stop) // 2 // length
            return np.bincount(middles, minlength=n_epochs)[:n_epochs].astype(float)
        # +1 where one begins and -1 where one ends: events of a line do not overlap
        steps = np.zeros(n_epochs * length + 1)
        np.add.at(steps, self.start, 1)
        np.add.at(steps, self.stop, -1)
        return 100 * (steps[:-1].cumsum() > 0).reshape(n_epochs, length).mean(axis=1)


class Measured:
    """An activity in all epochs of a night: the ``part`` (n, c, t) of its channels in its band.

    ``columns`` are these channels' numbers in the night; ``floor`` is the size that an event has to
    have, in the night's unit.
    """

    def __init__(self, activity: Activity, night: ExplainedNight, columns: Sequence[int]) -> None:
        self.activity, self.fs, self.columns = activity, night.fs, list(columns)
        self.unit, self.in_microvolt = night.unit, night.unit.startswith("µV")
        scored = (night.staged.expert >= 0).any()
        stages = night.staged.expert if scored else night.staged.stages
        # epochs (n,) whose events can be planted elsewhere
        self.lends = np.isin(stages, [STAGES.index(name) for name in activity.stages])
        self.part = band_part(
            np.stack([night.channel_epochs(k) for k in columns], axis=1), night.fs, activity.band
        )

    @property
    def length(self) -> int:
        """Samples of an epoch."""
        return self.part.shape[-1]

    @cached_property
    def line(self) -> np.ndarray:
        """The first channel's part of the whole night, (n * t,)."""
        return np.ascontiguousarray(self.part[:, 0]).reshape(-1)

    @cached_property
    def typical(self) -> float:
        """Median size of the night's waves, or of its envelope."""
        if self.activity.how == "waves":
            sizes = waves(self.line, self.fs).size
            return float(np.median(sizes)) if len(sizes) else 0.0
        return float(np.median(envelope(self.line, self.fs)))

    @cached_property
    def floor(self) -> float:
        """Least size of an event: of the manual where microvolts are known, else of the night."""
        if self.activity.how == "waves":
            return SLOW_WAVE_UV if self.in_microvolt else SLOW_WAVE_TIMES * self.typical
        return self.activity.times * self.typical

    @cached_property
    def events(self) -> Events:
        """All events of the night."""
        return self.events_in(self.line)

    def events_in(self, line: np.ndarray, share: float = 1.0) -> Events:
        """Events of a line of samples (k,) of this band, at least ``share`` of the floor large."""
        if self.activity.how == "waves":
            every = waves(line, self.fs)
            return every.some(every.size > share * self.floor)
        return bursts(line, self.fs, share * self.floor, self.activity.shortest)

    @cached_property
    def values(self) -> np.ndarray:
        """The activity in each epoch (n,): %, number of events, or dB."""
        if self.activity.how == "level":
            return decibels(self.part[:, 0])
        n_epochs = len(self.part)
        return self.events.per_epoch(n_epochs, self.length, counted=self.activity.is_counted)

    def value_with(self, epoch: int, added: np.ndarray) -> float:
        """The activity in an epoch to whose part (c, t) something is ``added``."""
        own = self.part[epoch, 0] + added[0]
        if self.activity.how == "level":
            return float(decibels(own[None])[0])
        # between its neighbours, because events reach across the edges of an epoch
        first, last = max(0, epoch - 1), min(len(self.part), epoch + 2)
        line = self.part[first:last, 0].copy()
        line[epoch - first] = own
        events = self.events_in(line.reshape(-1))
        shares = events.per_epoch(last - first, self.length, counted=self.activity.is_counted)
        return float(shares[epoch - first])

    @cached_property
    def sd(self) -> float:
        """How much the activity differs between epochs of the night; at least one event or 1 %."""
        return max(float(np.std(self.values)), 1.0)


def measured_in(night: ExplainedNight) -> list[Measured]:
    """Every activity of channels that the night has, and that record something."""
    result = []
    for activity in ACTIVITIES:
        columns = [
            k
            for k, role in enumerate(night.roles)
            if role.startswith(activity.role) and night.sd[k] > 0
        ]
        if columns and activity.band[0] < 0.4 * night.fs:
            measured = Measured(activity, night, columns)
            if np.square(measured.line).mean() > _SILENCE:
                result.append(measured)
    return result


def band_part(night: np.ndarray, fs: float, band: tuple[float, float]) -> np.ndarray:
    """The part of a continuous night (n, c, t) in a band, whose edges are smooth.

    Of zero phase, from the spectrum of the whole night; the gain falls as a cosine over 30 % about
    each limit, where it is one half.
    """
    shape = night.shape
    line = np.nan_to_num(night.swapaxes(0, 1).reshape(shape[1], -1))
    frequencies = np.fft.rfftfreq(line.shape[1], 1 / fs)
    low, high = band
    rise = np.clip((frequencies / low - 1 + _EDGE) / (2 * _EDGE), 0, 1)
    fall = np.clip((1 + _EDGE - frequencies / high) / (2 * _EDGE), 0, 1)
    gain = np.sin(np.pi / 2 * rise) ** 2 * np.sin(np.pi / 2 * fall) ** 2
    part = np.fft.irfft(np.fft.rfft(line) * gain, n=line.shape[1])
    return part.reshape(shape[1], shape[0], shape[2]).swapaxes(0, 1).astype(np.float32)


def decibels(part: np.ndarray) -> np.ndarray:
    """Mean power of epochs (n, t) in dB of their unit squared: (n,)."""
    return 10 * np.log10(np.square(part, dtype=float).mean(axis=-1) + _SILENCE)


def envelope(line: np.ndarray, fs: float) -> np.ndarray:
    """Root mean square over half a second, as the amplitude of a sine: (k,)."""
    power = uniform_filter1d(np.square(line, dtype=float), max(1, round(_ENVELOPE_SECONDS * fs)))
    return np.sqrt(2 * np.maximum(power, 0))


def waves(line: np.ndarray, fs: float) -> Events:
    """Waves from one falling zero crossing to the next, 0.5 to 2 s long; sizes are peak to peak."""
    falls = np.flatnonzero((line[:-1] >= 0) & (line[1:] < 0)) + 1
    if len(falls) < 2:
        return Events(*np.zeros((2, 0), int), np.zeros(0))
    start, stop = falls[:-1], falls[1:]
    # the last piece, from the last crossing to the end, is no wave
    size = (np.maximum.reduceat(line, falls) - np.minimum.reduceat(line, falls))[:-1]
    shortest, longest = _WAVE_SECONDS
    fits = (stop - start >= shortest * fs) & (stop - start <= longest * fs)
    return Events(start, stop, size).some(fits)


def bursts(line: np.ndarray, fs: float, floor: float, shortest: float) -> Events:
    """Stretches of at least ``shortest`` s with an envelope above ``floor``; sizes are means."""
    size = envelope(line, fs)
    edges = np.diff(np.concatenate([[0], (size > floor).astype(np.int8), [0]]))
    start, stop = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    long = stop - start >= shortest * fs
    start, stop = start[long], stop[long]
    total = np.concatenate([[0.0], np.cumsum(size)])
    return Events(start, stop, (total[stop] - total[start]) / np.maximum(stop - start, 1))
