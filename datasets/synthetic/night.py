"""A night: hypnogram, events and artefacts drawn once, signals rendered when asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import signal as filters

from datasets.synthetic import artefacts as of_artefacts
from datasets.synthetic import corrections, tables
from datasets.synthetic.artefacts import DERIVATIONS, Artefacts, add_artefacts, draw_artefacts
from datasets.synthetic.background import coloured_noise
from datasets.synthetic.events import KINDS, Events, coverage, draw_events
from datasets.synthetic.hypnogram import N2
from datasets.synthetic.law import context_of, law
from datasets.synthetic.streams import stream
from datasets.synthetic.subject import Subject, levels_db
from datasets.synthetic.timeline import (
    SLOT_SECONDS,
    SLOTS,
    Timeline,
    draw_timeline,
    with_deep_codes,
)
from utils.errors import UserError

_N_EEG = 2  # derivations that the law of real nights has: Fpz-Cz and Pz-Oz
_OF_LAW = 5  # bands of the law: gamma, which it lacks, goes with beta
_TAIL_DF = 8  # of Student's t: an unusual moment is unusual in all bands
_FAST_SLOTS = 5  # 10 s, after which a fast deviation is another one
_EEG_LEAK_INTO_EOG = 0.3
_EOG_SHARE = 0.7  # of the EEGs' deviations
_EMG_BY_STAGE = np.array([1.0, 0.75, 0.6, 0.5, 0.3])  # W, N1, N2, N3, REM
_EMG_WAKE_UV = 3.4
OMITTABLE = (*KINDS, *of_artefacts.KINDS, *(f"background:{name}" for name in DERIVATIONS))


@dataclass(frozen=True)
class Night:
    """One synthetic night; ``render`` is pure, so two calls give the same samples.

    ``omit`` names kinds of events or artefacts (or ``background:<derivation>``) left out of the
    signals; everything else stays bit for bit what it would be.
    """

    subject: Subject
    number: int
    timeline: Timeline
    events: dict[str, Events]
    artefacts: dict[str, Artefacts]
    log_power: np.ndarray = field(repr=False)
    omit: frozenset[str] = frozenset()

    @property
    def seconds(self) -> int:
        """Length of the signals."""
        return self.timeline.n_epochs * SLOTS * SLOT_SECONDS

    def stream(self, *path: str) -> np.random.Generator:
        """Random numbers of one quantity of this night, from the start of their stream."""
        return stream(
            self.subject.seed, "subject", self.subject.number, "night", self.number, *path
        )

    def background(self, derivation: str, fs: float) -> np.ndarray:
        """Coloured noise of one derivation alone, uV."""
        if f"background:{derivation}" in self.omit:
            return np.zeros(round(self.seconds * fs), np.float32)
        number = DERIVATIONS.index(derivation)
        rng = self.stream("background", derivation)
        return coloured_noise(rng, self.log_power[:, number], fs)

    def render(self, derivation: str, fs: float) -> np.ndarray:
        """Samples of one derivation in uV, float32 (seconds * fs,), before any digitising."""
        signal = self.background(derivation, fs)
        gain = 1.0
        if derivation == "EOG horizontal":
            gain = self.subject.eog_gain
            # the background alone: events reach the EOG by their own gains
            signal += np.float32(_EEG_LEAK_INTO_EOG) * self.background("EEG Fpz-Cz", fs)
        for kind, events in self.events.items():
            if kind not in self.omit:
                events.add_to(signal, fs, derivation, gain)
        # artefacts after events: a lost lead shows nothing of the brain
        for kind, artefacts in self.artefacts.items():
            if kind not in self.omit:
                add_artefacts(signal, fs, derivation, artefacts, self.stream(kind, derivation))
        return signal

    def render_emg_envelope(self) -> np.ndarray:
        """Rectified, smoothed chin EMG at 1 Hz, uV: lowest in REM, highest in movement."""
        level = self.timeline.stage_weights() @ _EMG_BY_STAGE
        level = _EMG_WAKE_UV * self.subject.emg_level * level.repeat(SLOT_SECONDS)
        envelope = level * np.exp(0.05 * self.stream("emg").standard_normal(len(level)))
        envelope = envelope.astype(np.float32)
        for kind in ("arousal", "twitch"):
            if kind not in self.omit:
                _raise_envelope(envelope, self.events[kind], KINDS[kind].gains["EMG submental"])
        if "movement" not in self.omit:
            _raise_envelope(envelope, self.artefacts["movement"], 0.03)
        return envelope


def _raise_envelope(envelope: np.ndarray, events: Events | Artefacts, gain: float) -> None:
    """Add each event's mean rectified size to the seconds it touches."""
    first = events.onset.astype(int)
    last = np.ceil(events.onset + events.duration).astype(int)
    for start, stop, d, size in zip(first, last, events.duration, events.amplitude, strict=True):
        envelope[start:stop] += gain * size * min(1.0, d)


def draw_night(
    subject: Subject,
    number: int,
    *,
    hours: float | None = None,
    special: str | None = None,
    omit: tuple[str, ...] = (),
    one_background: bool = False,
) -> Night:
    """Draw night ``number`` (1, 2, …) of ``subject``; ``hours`` None is a whole cassette tape.

    With ``one_background`` the noise is the same in every stage, so that the planted events alone
    tell stages apart: a model that stages such nights well must use them.

    Raises:
        UserError: ``omit`` names something that no night has.
    """
    if unknown := sorted(set(omit) - set(OMITTABLE)):
        raise UserError(f"--omit {', '.join(unknown)}: unknown; there are {', '.join(OMITTABLE)}")
    timeline = draw_timeline(subject, number, hours, special)
    events = draw_events(subject, number, timeline)
    # stages 3 and 4 of R&K differ by the slow waves of an epoch, which are known only now
    timeline = with_deep_codes(timeline, coverage(events["slow_wave"], timeline.n_epochs))
    return Night(
        subject=subject,
        number=number,
        timeline=timeline,
        events=events,
        artefacts=draw_artefacts(subject, number, timeline),
        log_power=_log_power(subject, number, timeline, one_background),
        omit=frozenset(omit),
    )


def _log_power(
    subject: Subject, number: int, timeline: Timeline, one_background: bool
) -> np.ndarray:
    """Targets (n_slots, 3 derivations, 6 bands), log10 of uV**2/Hz, by the law of real nights."""
    rng = stream(subject.seed, "subject", subject.number, "night", number, "effects")
    weights = timeline.stage_weights()
    if one_background:
        weights = np.full_like(weights, 1 / weights.shape[1])
    levels = levels_of_night(subject, number)
    deviations = subject.difficulty.spread * _deviations(rng, timeline.n_epochs, weights)
    if not one_background:
        deviations += _moved_by_context(timeline.stages)
    # (n_slots, 2, 5), relative to N2 of the population, whose level is known
    values = (weights @ levels + deviations).reshape(len(weights), _N_EEG, _OF_LAW)
    values = (values - law().mean_db[N2].reshape(_N_EEG, _OF_LAW)) / 10
    fitted = np.stack((corrections.FPZ, corrections.PZ), axis=1)
    values += np.tensordot(weights, fitted, axes=1)
    values = np.concatenate((values, values[..., -1:]), axis=-1) + tables.N2_LEVEL
    # the law has no EOG whose eye movements were left in: its deviations are the mean of the EEGs'
    own = deviations.reshape(values.shape[0], -1).mean(axis=1, keepdims=True)
    eog = weights @ corrections.EOG + _EOG_SHARE / 10 * own
    return np.concatenate((values, eog[:, None]), axis=1).astype(np.float32)


def levels_of_night(subject: Subject, number: int) -> np.ndarray:
    """Decibels (5, 10) of each stage and value: the subject's, but for what nights differ by."""
    rng = stream(subject.seed, "subject", subject.number, "night", number, "levels")
    factors = np.sqrt(law().repeat) * subject.factors
    factors = factors + np.sqrt(1 - law().repeat) * rng.standard_normal(factors.shape)
    return law().mean_db + subject.difficulty.spread * levels_db(factors, subject.own)


def _moved_by_context(stages: np.ndarray) -> np.ndarray:
    """Decibels (n_slots, 10) by which the stages around an epoch move it from its stage's mean."""
    unusual = context_of(stages) - law().usual_context[stages]
    moved = np.einsum("ni,nij->nj", unusual, law().context_db[stages])
    return moved.repeat(SLOTS, axis=0)


def _deviations(rng: np.random.Generator, n_epochs: int, weights: np.ndarray) -> np.ndarray:
    """Slow and fast deviations (n_slots, 10) from the stages' levels, dB.

    Slow ones drift over minutes; fast ones wax and wane within an epoch, and are as heavy-tailed
    as real ones.
    """
    n_values = law().mean_db.shape[1]
    keep = np.exp(-1 / law().slow_epochs)
    # one value before the night and one after it, interpolated between the middles of epochs
    slow = rng.standard_normal((n_epochs + 2, n_values))
    slow[1:] *= np.sqrt(1 - keep**2)
    slow = filters.lfilter([1.0], [1.0, -keep], slow, axis=0)
    middles = np.arange(n_epochs + 2) - 0.5
    at = (np.arange(n_epochs * SLOTS) + 0.5) / SLOTS
    slow = np.stack([np.interp(at, middles, column) for column in slow.T], axis=1)
    n_fast = n_epochs * SLOTS // _FAST_SLOTS
    fast = rng.standard_normal((n_fast, n_values))
    tails = np.sqrt(rng.chisquare(_TAIL_DF, (n_fast, 1)) / _TAIL_DF)
    fast /= tails * np.sqrt(_TAIL_DF / (_TAIL_DF - 2))
    # the mean over an epoch's three values varies by the third of their variance
    fast = np.sqrt(SLOTS / _FAST_SLOTS) * fast.repeat(_FAST_SLOTS, axis=0)
    out = np.zeros_like(slow)
    share = np.concatenate((corrections.FPZ_FAST, corrections.PZ_FAST), axis=1)
    for stage, of_stage in enumerate(weights.T):
        own = slow @ law().slow_db[stage] + share[stage] * (fast @ law().fast_db[stage])
        out += of_stage[:, None] * own
    return out
