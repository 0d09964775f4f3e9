"""The events of a night: graphoelements drawn by rate and state, added to signals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datasets.synthetic.graphoelements import ALL_KINDS, KINDS, W_CLOSED, W_OPEN
from datasets.synthetic.hypnogram import N1, N2, N3, REM
from datasets.synthetic.streams import stream
from datasets.synthetic.subject import FOLLOWED, Subject
from datasets.synthetic.timeline import SLOT_SECONDS, SLOTS, Timeline
from utils.stages import EPOCH_SECONDS

# size of the alpha that is left, beside that of Wake: W open, W closed, N1, N2, N3, REM
_ALPHA_OF_STATE = np.array([1, 1, 0.6, 0.5, 0.35, 0.6], dtype=np.float32)
_MOST_DRIFT_DB = 6.0
_SLOW_SPINDLES = 0.4  # share of slow ones among spindles of N2
_K_WITH_SPINDLE = 0.4  # share of K-complexes that a spindle follows
_TOUCHING = 1e-6  # seconds: waves of a train follow each other without a gap
_DROWSY_SEM_RATE = 1.8
_BURSTS = {"rem": 1.8, "wake": 0.5}  # bursts of saccades per epoch of phasic REM, of open eyes


@dataclass(frozen=True)
class Events:
    """All events of one kind in a night, in time order; 1-D arrays of equal length."""

    kind: str
    onset: np.ndarray
    duration: np.ndarray
    amplitude: np.ndarray
    hz: np.ndarray
    phase: np.ndarray

    def __len__(self) -> int:
        return len(self.onset)

    def add_to(self, signal: np.ndarray, fs: float, derivation: str, gain: float = 1.0) -> None:
        """Add these events to ``signal`` (1-D float32 at ``fs``) as the derivation sees them."""
        gain = gain * ALL_KINDS[self.kind].gains.get(derivation, 0.0)
        if gain == 0.0 or len(self) == 0:
            return
        wave = ALL_KINDS[self.kind].wave
        for index, t, of in samples_within(self.onset, self.duration, fs, len(signal)):
            shape = (self.duration, self.hz, self.phase)
            unit = wave(t, *(values[of].astype(np.float32) for values in shape))
            # waves of a train touch: += would add only one where two share a sample
            np.add.at(signal, index, (gain * self.amplitude[of] * unit).astype(np.float32))


def samples_within(onset: np.ndarray, duration: np.ndarray, fs: float, n_samples: int):
    """Yield (sample index, seconds since onset, event number) of every sample inside an event.

    Flat arrays of at most a few hundred thousand entries at a time, so memory stays flat.
    """
    # 1e-6 of a sample: an onset on a sample takes it in, however the product was rounded
    first = np.ceil(onset * fs - 1e-6).astype(np.int64)
    last = np.minimum(np.floor((onset + duration) * fs + 1e-6).astype(np.int64), n_samples - 1)
    length = np.maximum(last - first + 1, 0)
    parts = np.cumsum(length) // 400_000
    for part in range(int(parts[-1]) + 1 if len(parts) else 0):
        chosen = np.flatnonzero(parts == part)
        of = chosen.repeat(length[chosen])
        within = np.arange(len(of)) - (np.cumsum(length[chosen]) - length[chosen]).repeat(
            length[chosen]
        )
        index = first[of] + within
        yield index, (index / fs - onset[of]).astype(np.float32), of


def draw_events(subject: Subject, night: int, timeline: Timeline) -> dict[str, Events]:
    """Draw one night's events; each kind has its own stream, so omitting one changes no other."""
    streams = {
        kind: stream(subject.seed, "subject", subject.number, "night", night, kind)
        for kind in KINDS
    }
    onsets = {
        kind: draw_onsets(streams[kind], _slot_rates(kind, subject, timeline))
        for kind in KINDS
        if kind not in ("rem", "slow_wave", "sawtooth")
    }
    events = {
        kind: draw_kind(kind, streams[kind], onsets[kind], subject, timeline) for kind in onsets
    }
    bursts = draw_onsets(streams["rem"], _slot_rates("rem", subject, timeline))
    events["rem"] = _saccades(streams["rem"], bursts, subject, timeline)
    events["sawtooth"] = _before_bursts(streams["sawtooth"], bursts, subject, timeline)
    events["slow_wave"] = _slow_waves(streams["slow_wave"], subject, timeline)
    # last: these need the K-complexes
    events["spindle"] = _with_k_spindles(streams["spindle"], events, subject, timeline)
    return {kind: events[kind] for kind in KINDS}


def coverage(events: Events, n_epochs: int) -> np.ndarray:
    """Share of each epoch that events cover (n_epochs,)."""
    seconds = np.zeros(n_epochs)  # counted at 20 Hz, 600 samples per epoch
    for index, _, _ in samples_within(events.onset, events.duration, 20, n_epochs * 20 * 30):
        seconds += np.bincount(index // 600, minlength=n_epochs) / 20
    return np.minimum(seconds / EPOCH_SECONDS, 1)


def _slot_rates(kind: str, subject: Subject, timeline: Timeline) -> np.ndarray:
    """Expected events per 2 s slot (n_slots,)."""
    state = timeline.state
    rates = state @ np.array(KINDS[kind].rates, dtype=np.float32)
    marked = timeline.evidence.repeat(SLOTS, axis=0)  # columns: N2, REM, N1
    if kind in ("spindle", "k_complex"):
        rates = np.where(marked[:, 0], rates, rates - state[:, 1 + N2] * KINDS[kind].rates[1 + N2])
    elif kind == "sem":
        drowsy = timeline.drowsy.repeat(SLOTS)
        rates = np.where(marked[:, 2], rates, rates - state[:, 1 + N1] * KINDS[kind].rates[1 + N1])
        rates = rates + state[:, W_CLOSED] * drowsy * _DROWSY_SEM_RATE
    elif kind == "rem":
        hours = np.arange(len(state)) * SLOT_SECONDS / 3600
        # eye movements grow denser from one REM period to the next
        denser = 0.75 + 0.5 * hours / max(hours[-1], 1e-9)
        rates = state[:, 1 + REM] * marked[:, 1] * _BURSTS["rem"] * denser
        rates = rates + state[:, W_OPEN] * _BURSTS["wake"]
    # of alpha the size drifts
    rise = 1.0 if kind == "alpha" else _rise(kind, timeline)
    return rates * rise * subject.rate.get(kind, 1.0) / SLOTS


def _rise(kind: str, timeline: Timeline) -> np.ndarray:
    """Factor (n_slots,) by which the power of the events' band is above its stage's level."""
    if kind not in FOLLOWED:
        return np.ones(len(timeline.drift), np.float32)
    _, value = FOLLOWED[kind]
    drift = timeline.drift[:, value]
    return 10 ** (np.clip(drift, -_MOST_DRIFT_DB, _MOST_DRIFT_DB) / 10)


def draw_onsets(rng: np.random.Generator, rates: np.ndarray) -> np.ndarray:
    """Onsets in seconds of events as frequent as ``rates`` per slot, more even than by chance.

    One event, anywhere, for each time that the expected number grows by one. Waves keep a distance
    from each other: numbers by chance alone would make epochs of a stage vary more than real ones.
    """
    expected = np.concatenate(([0.0], np.cumsum(np.maximum(rates, 0), dtype=float)))
    # a first one that may lie before the night: whole numbers would always begin at its start
    wanted = np.arange(np.ceil(expected[-1]) + 1) - rng.random()
    wanted += rng.random(len(wanted))
    wanted = wanted[(wanted >= 0) & (wanted < expected[-1])]
    return np.interp(wanted, expected, np.arange(len(expected))) * SLOT_SECONDS


def _clipped_log_normal(
    rng: np.random.Generator, law: tuple[float, float, float, float], n: int, factor: float = 1.0
) -> np.ndarray:
    median, log_sd, low, high = law
    return np.clip(factor * median * np.exp(log_sd * rng.standard_normal(n)), low, high)


def draw_kind(
    kind: str,
    rng: np.random.Generator,
    onset: np.ndarray,
    subject: Subject,
    timeline: Timeline,
    duration: np.ndarray | None = None,
) -> Events:
    """Draw durations, sizes and frequencies for ``onset``; later ones of an overlap are dropped."""
    n, spec = len(onset), KINDS[kind]
    if duration is None:
        duration = _clipped_log_normal(rng, spec.seconds, n)
    factor = subject.amplitude.get(kind, 1.0)
    # the table's least amplitude would undo the small alpha that some subjects have
    law = spec.amplitude if kind != "alpha" else (*spec.amplitude[:2], 1.0, spec.amplitude[3])
    amplitude = _clipped_log_normal(rng, law, n, factor)
    if kind == "alpha":
        slot = (onset // SLOT_SECONDS).astype(int)
        amplitude *= timeline.state[slot] @ _ALPHA_OF_STATE
        # runs of alpha fill most of Wake: their size changes, not their number
        amplitude *= np.sqrt(_rise(kind, timeline)[slot])
    events = Events(
        kind,
        onset,
        duration,
        amplitude,
        _frequencies(kind, rng, onset, subject, timeline),
        rng.random(n),
    )
    end = timeline.n_epochs * EPOCH_SECONDS - 0.1
    return selected(events, _without_overlap(onset, duration) & (onset + duration < end))


def _frequencies(
    kind: str, rng: np.random.Generator, onset: np.ndarray, subject: Subject, timeline: Timeline
) -> np.ndarray:
    mean, sd = KINDS[kind].hz
    spread = rng.standard_normal(len(onset))
    if kind == "alpha":
        slot = (onset // SLOT_SECONDS).astype(int)
        # alpha of REM is 1 to 2 Hz slower than that of Wake (AASM manual)
        slower = 1.5 * timeline.state[slot, 1 + REM]
        return subject.alpha_hz + sd * spread - slower
    if kind == "spindle":
        slow, fast = subject.spindle_hz
        # N3 has mostly slow ones
        deep = timeline.state[(onset // SLOT_SECONDS).astype(int), 1 + N3]
        is_slow = rng.random(len(onset)) < _SLOW_SPINDLES + 0.35 * deep
        return np.clip(np.where(is_slow, slow, fast) + 0.3 * spread, 11, 16)
    return np.maximum(mean + sd * spread, 0.2)


def selected(events: Events, keep: np.ndarray) -> Events:
    """Those of the events for which ``keep`` (k,) is true."""
    return Events(
        events.kind,
        *(
            column[keep]
            for column in (events.onset, events.duration, events.amplitude, events.hz, events.phase)
        ),
    )


def _without_overlap(onset: np.ndarray, duration: np.ndarray) -> np.ndarray:
    keep = np.zeros(len(onset), dtype=bool)
    free_from = 0.0
    ends = (onset + duration).tolist()
    for number, start in enumerate(onset.tolist()):
        if start >= free_from - _TOUCHING:
            keep[number] = True
            free_from = ends[number]
    return keep


def _saccades(
    rng: np.random.Generator, bursts: np.ndarray, subject: Subject, timeline: Timeline
) -> Events:
    """Bursts of 2-10 saccades, 0.35-1.3 s apart."""
    sizes = np.minimum(1 + rng.geometric(0.35, len(bursts)), 10)
    gaps = rng.uniform(0.35, 1.3, sizes.sum())
    starts = np.cumsum(sizes) - sizes
    within = np.cumsum(gaps)
    within -= within[starts].repeat(sizes) if len(starts) else 0
    onset = bursts.repeat(sizes) + within
    # bursts may overlap, and what follows needs onsets in time order
    order = np.argsort(onset, kind="stable")
    return draw_kind("rem", rng, onset[order], subject, timeline)


def _before_bursts(
    rng: np.random.Generator, bursts: np.ndarray, subject: Subject, timeline: Timeline
) -> Events:
    """Sawtooth waves, which lead into a third of the bursts of REM."""
    slot = (bursts // SLOT_SECONDS).astype(int)
    # after 5 s, the longest sawtooth: none begins before the recording
    led = (timeline.state[slot, 1 + REM] > 0.5) & (rng.random(len(bursts)) < 0.35) & (bursts > 5)
    duration = _clipped_log_normal(rng, KINDS["sawtooth"].seconds, int(led.sum()))
    onset = bursts[led] - duration
    order = np.argsort(onset, kind="stable")
    return draw_kind("sawtooth", rng, onset[order], subject, timeline, duration[order])


def _slow_waves(rng: np.random.Generator, subject: Subject, timeline: Timeline) -> Events:
    """Trains of 2-4 waves that cover the epoch's depth in N3, and a few shorter ones in N2."""
    median, log_sd, *_ = KINDS["slow_wave"].seconds
    wave_seconds = median * np.exp(log_sd**2 / 2)  # the mean of the log-normal law
    train_seconds = 3 * wave_seconds  # the mean of 2 to 4 waves
    depth = (timeline.depth * np.sqrt(subject.rate["slow_wave"])).repeat(SLOTS)
    rise = _rise("slow_wave", timeline)
    busy = timeline.state[:, 1 + N3] * np.minimum(depth * rise, 0.9)
    # a train that begins within another is dropped: to cover the share ``busy`` of the time,
    # busy / (1 - busy) trains must begin per train's length (hence the 0.9 above)
    rates = busy / (1 - busy) * SLOT_SECONDS / train_seconds
    rates += timeline.state[:, 1 + N2] * KINDS["slow_wave"].rates[1 + N2] / SLOTS * rise
    trains = draw_onsets(rng, rates)
    deep = timeline.state[(trains // SLOT_SECONDS).astype(int), 1 + N3] > 0.3
    sizes = np.where(deep, rng.integers(2, 5, len(trains)), rng.integers(1, 3, len(trains)))
    n_waves = np.maximum(sizes, 1)
    duration = _clipped_log_normal(rng, KINDS["slow_wave"].seconds, int(n_waves.sum()))
    starts = np.cumsum(n_waves) - n_waves
    within = np.cumsum(duration) - duration
    within -= within[starts].repeat(n_waves) if len(starts) else 0
    lengths = np.add.reduceat(duration, starts) if len(starts) else np.zeros(0)
    kept = _without_overlap(trains, lengths).repeat(n_waves)
    onset = trains.repeat(n_waves) + within
    return draw_kind("slow_wave", rng, onset[kept], subject, timeline, duration[kept])


def _with_k_spindles(
    rng: np.random.Generator, events: dict[str, Events], subject: Subject, timeline: Timeline
) -> Events:
    """The night's own spindles, and those that follow 40 % of the K-complexes."""
    k, own = events["k_complex"], events["spindle"]
    followed = rng.random(len(k)) < _K_WITH_SPINDLE
    extra = draw_kind("spindle", rng, (k.onset + k.duration)[followed], subject, timeline)
    columns = ("onset", "duration", "amplitude", "hz", "phase")
    merged = {c: np.concatenate((vars(extra)[c], vars(own)[c])) for c in columns}
    order = np.argsort(merged["onset"], kind="stable")
    both = Events("spindle", *(merged[c][order] for c in columns))
    return selected(both, _without_overlap(both.onset, both.duration))
