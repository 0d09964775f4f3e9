"""A night: hypnogram, events and artefacts drawn once, signals rendered when asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from datasets.synthetic import artefacts as of_artefacts
from datasets.synthetic import corrections, tables
from datasets.synthetic.artefacts import DERIVATIONS, Artefacts, add_artefacts, draw_artefacts
from datasets.synthetic.background import coloured_noise
from datasets.synthetic.events import KINDS, Events, coverage, draw_events
from datasets.synthetic.streams import stream
from datasets.synthetic.subject import (
    N_BANDS,
    N_CALIBRATED,
    OF_NIGHT,
    OF_STAGE,
    SHARED,
    Subject,
    correlated,
)
from datasets.synthetic.timeline import (
    SLOT_SECONDS,
    SLOTS,
    Timeline,
    draw_timeline,
    with_deep_codes,
)
from utils.errors import UserError

_EPOCH_CORRELATION = 0.5  # lag 1 of the residuals, in epochs
_ACROSS_VALUES = 0.35
_TAIL_DF = 12
_SHIFT_SCALE = 1.2  # events do not shift with the background, so it must shift more
_EEG_LEAK_INTO_EOG = 0.3
_EOG_RESIDUAL_SD = 0.15
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
    """Band targets (n_slots, 3 derivations, 5 bands): stage medians, random effects, residuals."""
    rng = stream(subject.seed, "subject", subject.number, "night", number, "effects")
    weights = timeline.stage_weights()
    if one_background:
        weights = np.full_like(weights, 1 / weights.shape[1])
    of_night = correlated(rng, (1, N_CALIBRATED, N_BANDS), _ACROSS_VALUES)
    # ``between`` in the tables is an SD over nights, so the three parts share a variance of 1
    total = np.sqrt(SHARED**2 + OF_STAGE**2 + OF_NIGHT**2)
    shift = _SHIFT_SCALE / total * (subject.band_shift + OF_NIGHT * of_night)
    gains = rng.normal(0, 0.04, N_CALIBRATED)[:, None]  # of all bands of a derivation, log10
    residual = _residuals(rng, timeline.n_epochs)
    spread = subject.difficulty.spread
    out = np.empty((len(weights), len(DERIVATIONS), N_BANDS), dtype=np.float32)
    calibrated = (
        (
            tables.FPZ_MEDIAN + corrections.FPZ,
            tables.FPZ_BETWEEN,
            tables.FPZ_WITHIN * corrections.FPZ_RESIDUAL,
        ),
        (
            tables.PZ_MEDIAN + corrections.PZ,
            tables.PZ_BETWEEN,
            tables.PZ_WITHIN * corrections.PZ_RESIDUAL,
        ),
    )
    for derivation, (median, between, within) in enumerate(calibrated):
        by_stage = median + spread * between * shift[:, derivation] + spread * gains[derivation]
        sd = spread * (weights @ within)
        out[:, derivation] = weights @ by_stage + sd * residual[:, derivation]
    # the tables have no bands of the EOG: its residual follows the mean of both EEGs
    own = spread * _EOG_RESIDUAL_SD * residual.mean(axis=1)
    out[:, N_CALIBRATED] = weights @ corrections.EOG + own
    return out


def _residuals(rng: np.random.Generator, n_epochs: int) -> np.ndarray:
    """Unit-variance deviations (n_slots, 2, 5): heavy-tailed, correlated across values and epochs.

    One value per epoch and one before and after the night, interpolated between epoch centres.
    """
    n_values = n_epochs + 2
    series = correlated(rng, (n_values, N_CALIBRATED, N_BANDS), _ACROSS_VALUES)
    keep = np.sqrt(1 - _EPOCH_CORRELATION**2)
    for value in range(1, n_values):
        series[value] = _EPOCH_CORRELATION * series[value - 1] + keep * series[value]
    # Student's t of unit variance; one draw for all bands: an outlier is a whole epoch
    tails = np.sqrt(rng.chisquare(_TAIL_DF, (n_values, 1, 1)) / _TAIL_DF)
    series /= tails * np.sqrt(_TAIL_DF / (_TAIL_DF - 2))
    # in values, of which the first lies before the night: epoch 0 has its centre at 1
    position = (np.arange(n_epochs * SLOTS) + 0.5) / SLOTS + 0.5
    before = position.astype(int)
    fraction = (position - before)[:, None, None]
    mixed = (1 - fraction) * series[before] + fraction * series[before + 1]
    # between two epoch centres the mixture of both would vary less than either
    between = 1 - 2 * fraction * (1 - fraction) * (1 - _EPOCH_CORRELATION)
    return (mixed / np.sqrt(between)).astype(np.float32)
