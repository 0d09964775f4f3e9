"""Stages of a night: the scorer's labels per epoch, the body's latent states per 2 s slot.

The label changes on the 30 s grid; the body changes up to 15 s beside it, and some epochs hold a
mixture. Signals and events follow the slots alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from datasets.synthetic.hypnogram import N1, N2, N3, REM, W, draw_sleep
from datasets.synthetic.law import law
from datasets.synthetic.streams import stream
from datasets.synthetic.subject import Subject
from utils.stages import EPOCH_SECONDS, UNSCORED

SLOT_SECONDS = 2
SLOTS = EPOCH_SECONDS // SLOT_SECONDS
MOVEMENT, UNKNOWN = 6, 9  # codes of the EDF+ specification beside 0-5
SPECIALS = ("no_rem", "no_n3", "all_wake", "sleep_wake", "edge_bouts", "insomnia", "nap")
_BORDER_MIX = 0.25
_LARGEST_MIX = 0.4
# probability per epoch of W, N1, N2, N3 and REM that a run which resembles another stage begins
_ATYPICAL_START = np.array([0.008, 0.04, 0.018, 0.02, 0.018])
_ATYPICAL_WEIGHT = (0.4, 0.9)
_ATYPICAL_STOP = 0.25  # per epoch: a run lasts four on average
# [stage, stage it is mistaken for]
_CONFUSABLE = np.array(
    [
        [0.00, 0.60, 0.10, 0.00, 0.30],
        [0.25, 0.00, 0.35, 0.00, 0.40],
        [0.05, 0.30, 0.00, 0.30, 0.35],
        [0.00, 0.00, 0.95, 0.00, 0.05],
        [0.10, 0.55, 0.35, 0.00, 0.00],
    ]
)
_INSOMNIA = 5.0  # times as likely to wake
# planted share of an epoch from which half of it is taken to be slow waves
_DEEP = 0.25
_DROWSY_EPOCHS = 40  # 20 min before sleep onset


@dataclass(frozen=True)
class Timeline:
    """Stages and states of a night, before any signal.

    ``labels`` int8 (n,): what the scorer writes, -1 included. ``stages`` int8 (n,): the stage
    behind it, -1 nowhere. ``rk`` uint8 (n,): 0-5 with stages 3 and 4 apart, 6 movement, 9 unknown.
    ``state`` float32 (15 n, 6): weights of W eyes open, W eyes closed, N1, N2, N3, REM per slot,
    which events follow; ``background`` (15 n, 5): weights of the stages that the background
    follows, whose deviations within a stage are known and hold what is atypical.
    ``drowsy`` bool (n,): Wake on its way to sleep. ``depth`` (n,): share of slow waves if N3.
    ``evidence`` (n, 3): whether N2, REM and N1 epochs hold their marks. ``atypical`` bool (n,): the
    signal resembles another stage. ``lead_off``: runs ``[a, b)`` scored ``?``. ``beyond``: epochs
    of ``?`` after the signal's end. ``drift`` (15 n, 10): decibels by which the bands of both EEGs
    lie above their stage's level, once it is drawn; 0 before.
    """

    labels: np.ndarray
    stages: np.ndarray
    rk: np.ndarray
    state: np.ndarray
    background: np.ndarray
    drowsy: np.ndarray
    depth: np.ndarray
    evidence: np.ndarray
    atypical: np.ndarray
    lead_off: list[tuple[int, int]]
    beyond: int
    drift: np.ndarray

    @property
    def n_epochs(self) -> int:
        """Epochs with signal."""
        return len(self.labels)

    def stage_weights(self) -> np.ndarray:
        """Latent weights per slot (15 n, 5), both kinds of Wake together."""
        return np.concatenate(
            (self.state[:, :1] + self.state[:, 1:2], self.state[:, 2:]), axis=1, dtype=np.float32
        )


def draw_timeline(
    subject: Subject, night: int, hours: float | None, special: str | None = None
) -> Timeline:
    """Draw one night's timeline; ``hours`` None is a whole cassette tape of 21-24 h, by day too."""
    path = ("subject", subject.number, "night", night)
    rng = stream(subject.seed, *path, "hypnogram")
    stages, onset, end = _draw_stages(rng, subject, night, hours, special)
    latent = stream(subject.seed, *path, "latent")
    weights, background, atypical = _latent_weights(latent, stages, subject.difficulty.uncertainty)
    drowsy = np.zeros(len(stages), dtype=bool)
    drowsy[max(0, onset - _DROWSY_EPOCHS) : onset] = True
    closed = _eyes_closed(stream(subject.seed, *path, "eyes"), len(stages), onset, end, drowsy)
    wake = weights[:, :1]
    state = np.concatenate((wake * (1 - closed), wake * closed, weights[:, 1:]), axis=1)
    marks = stream(subject.seed, *path, "scorer")
    labels, lead_off = _unscored(marks, stages, onset, end)
    if special == "sleep_wake":
        labels = np.where(labels > W, N2, labels).astype(np.int8)
    return Timeline(
        labels=labels,
        stages=stages,
        rk=_rk_codes(labels, lead_off),
        state=state.astype(np.float32),
        background=background,
        drowsy=drowsy,
        depth=_depths(stream(subject.seed, *path, "depth"), stages),
        evidence=_evidence(latent, len(stages), subject.difficulty.uncertainty),
        atypical=atypical,
        lead_off=lead_off,
        beyond=int(marks.integers(20, 241)) if hours is None else int(marks.integers(1, 11)),
        drift=np.zeros((len(state), law().mean_db.shape[1]), np.float32),
    )


def with_deep_codes(timeline: Timeline, coverage: np.ndarray) -> Timeline:
    """Stage 3 becomes 4 where slow waves cover more than half of the epoch (R&K).

    Planted ones are taken for half of them: the background of N3 is large and slow as well.
    """
    rk = timeline.rk.copy()
    rk[(rk == 3) & (coverage > _DEEP)] = 4
    return replace(timeline, rk=rk)


def _draw_stages(
    rng: np.random.Generator, subject: Subject, night: int, hours: float | None, special: str | None
) -> tuple[np.ndarray, int, int]:
    """Stages of the whole recording, and where sleep begins and ends."""
    if hours is None:
        n_epochs = int(rng.integers(2570, 2851))
        onset = int(rng.integers(640, min(1290, n_epochs - 1400)))
        period = subject.traits.period
    else:
        n_epochs = max(12, round(hours * 3600 / EPOCH_SECONDS))
        margin = min(70, max(3, round(0.08 * n_epochs)))
        onset, period = margin, n_epochs - 2 * margin
    traits = subject.traits
    if night == 1:  # first-night effect
        traits = replace(traits, wakeful=1.15 * traits.wakeful)
    if special == "insomnia":
        traits = replace(traits, wakeful=_INSOMNIA * traits.wakeful, deep=0.5 * traits.deep)
    traits = replace(traits, period=period)
    # a nap is the beginning of a night, any other short recording a night in time lapse
    is_nap = special == "nap"
    needed = {N1, N2} if is_nap or n_epochs < 40 else {N1, N2, N3, REM}
    # drawn again where a stage is missing by chance: ordinary nights hold all that fit into them
    sleep = draw_sleep(rng, traits, in_time_lapse=not is_nap)
    for _ in range(200):
        if needed <= set(sleep.tolist()):
            break
        sleep = draw_sleep(rng, traits, in_time_lapse=not is_nap)
    stages = np.zeros(n_epochs, dtype=np.int8)
    stages[onset : onset + len(sleep)] = sleep
    end = onset + len(sleep)
    if special in ("no_rem", "no_n3"):
        stages[stages == (REM if special == "no_rem" else N3)] = N2
    elif special == "all_wake":
        stages[:] = W
    elif special == "edge_bouts":
        stages[[0, -1]] = N1, REM
    return stages, onset, end


def _latent_weights(
    rng: np.random.Generator, stages: np.ndarray, uncertainty: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slot weights (15 n, 5) of the body's stage, without what is atypical, and where that is."""
    n_epochs = len(stages)
    onehot = np.eye(5, dtype=np.float32)
    weights = onehot[stages].repeat(SLOTS, axis=0)
    changes = np.flatnonzero(np.diff(stages)) + 1
    # at most 4 of an epoch's 15 slots: the borders of a bout of one epoch never cross
    shifts = np.rint(rng.uniform(-4, 4, len(changes)) * min(uncertainty, 1)).astype(int)
    for change, shift in zip(changes, shifts, strict=True):
        border = change * SLOTS
        if shift > 0:
            weights[border : border + shift] = onehot[stages[change - 1]]
        elif shift < 0:
            weights[border + shift : border] = onehot[stages[change]]
    mix = rng.uniform(0, _LARGEST_MIX, (len(changes), 2))
    mixed = rng.random((len(changes), 2)) < _BORDER_MIX * uncertainty
    for row, change in enumerate(changes):
        pair = onehot[stages[change - 1]], onehot[stages[change]]
        for side, epoch in enumerate((change - 1, change)):
            if mixed[row, side]:
                own, other = pair[side], pair[1 - side]
                blend = (1 - mix[row, side]) * own + mix[row, side] * other
                weights[epoch * SLOTS : (epoch + 1) * SLOTS] = blend
    background = weights.copy()
    atypical = np.zeros(n_epochs, dtype=bool)
    for start in np.flatnonzero(rng.random(n_epochs) < _ATYPICAL_START[stages] * uncertainty):
        run = slice(start, min(n_epochs, start + rng.geometric(_ATYPICAL_STOP)))
        other = rng.choice(5, p=_CONFUSABLE[stages[start]])
        weight = rng.uniform(*_ATYPICAL_WEIGHT)
        # cut where the bout ends: the run is of one stage
        run = slice(start, start + int((stages[run] == stages[start]).cumprod().sum()))
        slots = slice(run.start * SLOTS, run.stop * SLOTS)
        weights[slots] = (1 - weight) * weights[slots] + weight * onehot[other]
        atypical[run] = True
    return weights, background, atypical


def _eyes_closed(
    rng: np.random.Generator, n_epochs: int, onset: int, end: int, drowsy: np.ndarray
) -> np.ndarray:
    """Share of eyes-closed Wake per slot (15 n, 1): rare by day, usual in bed."""
    share = np.where(rng.random(n_epochs) < 0.08, 0.8, 0.0)
    in_bed = slice(max(0, onset - _DROWSY_EPOCHS), end)
    # eyes stay open or closed for minutes: a new share after ten epochs on average
    runs = np.cumsum(rng.random(in_bed.stop - in_bed.start) < 0.1)
    share[in_bed] = rng.beta(2.5, 1.2, runs[-1] + 1 if len(runs) else 0)[runs]
    share[drowsy] = np.maximum(share[drowsy], 0.6)
    return share.repeat(SLOTS)[:, None]


def _unscored(
    rng: np.random.Generator, stages: np.ndarray, onset: int, end: int
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Labels with 1-5 movement epochs and, in a third of the nights, runs of ``?`` (lead off)."""
    labels = stages.copy()
    # off the borders of sleep, and never empty
    sleep = np.arange(onset + 1, max(onset + 2, end - 1))
    n_movements = min(int(rng.integers(1, 6)), max(1, len(sleep) // 20))
    labels[rng.choice(sleep, n_movements, replace=False)] = UNSCORED
    lead_off = []
    if rng.random() < 1 / 3:
        for _ in range(int(rng.integers(1, 3))):
            start = int(rng.choice(sleep))
            stop = min(start + int(rng.integers(1, min(21, 2 + len(sleep) // 30))), end)
            lead_off.append((start, stop))
            labels[start:stop] = UNSCORED
    return labels, lead_off


def _rk_codes(labels: np.ndarray, lead_off: list[tuple[int, int]]) -> np.ndarray:
    # REM is 5; -1 would index from the end and is replaced below; 4 comes with the slow waves
    rk = np.array([0, 1, 2, 3, 5], dtype=np.uint8)[np.maximum(labels, 0)]
    rk[labels == UNSCORED] = MOVEMENT
    for start, stop in lead_off:
        rk[start:stop] = UNKNOWN
    return rk


def _depths(rng: np.random.Generator, stages: np.ndarray) -> np.ndarray:
    """Share of each epoch that planted slow waves cover if it is N3: by bout, with jitter."""
    changes = np.r_[0, np.flatnonzero(np.diff(stages)) + 1, len(stages)]
    by_bout = rng.uniform(0.2, 0.3, len(changes) - 1)
    depth = by_bout.repeat(np.diff(changes)) + rng.normal(0, 0.02, len(stages))
    return np.clip(depth, 0.2, 0.9)


def _evidence(rng: np.random.Generator, n_epochs: int, uncertainty: float) -> np.ndarray:
    """Whether epochs hold spindles and K-complexes if N2, REMs if REM, SEMs if N1: bool (n, 3)."""
    absent = np.array([0.25, 0.45, 0.40]) * min(uncertainty, 1.5)
    return rng.random((n_epochs, 3)) >= absent
