"""A night: hypnogram, events and artefacts drawn once, signals rendered when asked for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from datasets.synthetic import artefacts as of_artefacts
from datasets.synthetic.artefacts import DERIVATIONS, Artefacts, add_artefacts, draw_artefacts
from datasets.synthetic.background import coloured_noise
from datasets.synthetic.distractors import draw_distractors
from datasets.synthetic.events import Events, coverage, draw_events
from datasets.synthetic.graphoelements import KINDS
from datasets.synthetic.levels import draw_levels
from datasets.synthetic.streams import stream
from datasets.synthetic.subject import Subject
from datasets.synthetic.timeline import (
    SLOT_SECONDS,
    SLOTS,
    Timeline,
    draw_timeline,
    with_deep_codes,
)
from utils.errors import UserError

_EEG_LEAK_INTO_EOG = 0.3
_EMG_BY_STAGE = np.array([1.0, 0.75, 0.6, 0.5, 0.3])  # W, N1, N2, N3, REM
_EMG_WAKE_UV = 3.4
EYE_MOVEMENTS = ("blink", "rem", "sem")
OMITTABLE = (*KINDS, *of_artefacts.KINDS, *(f"background:{name}" for name in DERIVATIONS))


@dataclass(frozen=True)
class Night:
    """One synthetic night; ``render`` is pure, so two calls give the same samples.

    ``omit`` names kinds of events or artefacts (or ``background:<derivation>``) left out of the
    signals; everything else stays bit for bit what it would be. ``eyes`` is the share of eye
    movements that electrodes pick up, 1 as at Fpz, Pz and beside the eyes.
    """

    subject: Subject
    number: int
    timeline: Timeline
    events: dict[str, Events]
    artefacts: dict[str, Artefacts]
    log_power: np.ndarray = field(repr=False)
    omit: frozenset[str] = frozenset()
    eyes: float = 1.0

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
                seen = self.eyes if kind in EYE_MOVEMENTS else 1.0
                events.add_to(signal, fs, derivation, seen * gain)
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
    distractors: bool = False,
) -> Night:
    """Draw night ``number`` (1, 2, …) of ``subject``; ``hours`` None is a whole cassette tape.

    With ``one_background`` the noise is the same in every stage, so that the planted events alone
    tell stages apart: a model that stages such nights well must use them. ``distractors`` resemble
    events in all but one respect.

    Raises:
        UserError: ``omit`` names something that no night has.
    """
    if unknown := sorted(set(omit) - set(OMITTABLE)):
        raise UserError(f"--omit {', '.join(unknown)}: unknown; there are {', '.join(OMITTABLE)}")
    timeline = draw_timeline(subject, number, hours, special)
    levels = draw_levels(subject, number, timeline, one_background=one_background)
    # waves come and go with the levels of their bands
    timeline = replace(timeline, drift=levels.drift)
    events = draw_events(subject, number, timeline)
    if distractors:
        events |= draw_distractors(subject, number, timeline, events)
    # stages 3 and 4 of R&K differ by the slow waves of an epoch, which are known only now
    timeline = with_deep_codes(timeline, coverage(events["slow_wave"], timeline.n_epochs))
    return Night(
        subject=subject,
        number=number,
        timeline=timeline,
        events=events,
        artefacts=draw_artefacts(subject, number, timeline),
        log_power=levels.log_power,
        omit=frozenset(omit),
    )
