"""Concepts of the scoring manual, and pairs of epochs that differ in one of them alone.

A direction learned from any epochs with spindles against any without would be the direction from
Wake to N2, or from small to large. Of simulated nights made again without the events of a kind,
both epochs of a pair are the same one, with and without them. Elsewhere both are of one night and
one stage, of the same total amplitude where such epochs exist, and as alike as possible in all
other concepts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import signal
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from interpret.evidence import event_mask
from interpret.explained_night import ExplainedNight
from utils.stages import EPOCH_SECONDS, STAGES, UNSCORED

_FS = 20  # at which seconds under events are counted
_FLOOR = 1e-6  # of powers: flat epochs have none
_SLOWEST_HZ = 0.5  # below it is drift
_CALIPER = 0.2  # of the standard deviation of the amplitude (Austin, Pharm Stat 2011)
_BEYOND = 1e3  # cost of a pair of unequal amplitude, far above any distance of the others
_MOST = 150  # epochs per side, night and stage: assignment takes their number cubed
# kinds of pairs, from the poorest to the best
PAIRS = (
    "two epochs of night, stage",
    "two epochs of night, stage, amplitude",
    "one epoch with and without its events",
)
_OF_STAGE, _ALIKE, _SAME = range(len(PAIRS))


@dataclass(frozen=True)
class Concept:
    """Something that scorers look for, and the rule of the AASM manual about it.

    ``kind`` of planted or detected events; ``role`` of the channel that shows it; ``stage`` it is
    evidence for and the one it is evidence ``against``. Where its events are not known, the power
    in ``band`` (Hz) measures it, as a share of all power if it is ``relative``.
    """

    name: str
    kind: str
    role: str
    stage: str
    against: str = ""
    band: tuple[float, float] | None = None
    relative: bool = True

    def rule(self, stage: str) -> str:
        """What the manual makes of it in ``stage``: "for", "against" or nothing."""
        return {self.stage: "for", self.against: "against"}.get(stage, "")


# AASM manual 2.6: theta stands for the low-amplitude mixed-frequency activity of N1; chin EMG is
# highest in Wake and lowest in REM
CONCEPTS = (
    Concept("spindle", "spindle", "EEG", "N2"),
    Concept("k_complex", "k_complex", "EEG", "N2"),
    Concept("slow_wave", "slow_wave", "EEG", "N3"),
    Concept("alpha", "alpha", "EEG", "W", band=(8.0, 13.0)),
    Concept("theta", "theta_run", "EEG", "N1", band=(4.0, 8.0)),
    Concept("rem", "rem", "EOG", "REM"),
    Concept("blink", "blink", "EOG", "W"),
    Concept("muscle_tone", "", "EMG", "W", "REM", (10.0, 50.0), relative=False),
)
KINDS = tuple(concept.kind for concept in CONCEPTS if concept.kind)


@dataclass(frozen=True)
class Amounts:
    """How much of a concept each epoch of a night has, (n,), and where that is known from.

    ``unit`` is s for events, dB for what is measured; ``amplitude`` (n,) is the total amplitude in
    dB of the channel on which epochs of a pair have to be alike.
    """

    values: np.ndarray
    unit: str
    source: str
    amplitude: np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Epochs ``more`` (k,) and ``less`` (k,) of a night that differ in a concept.

    ``other`` (k,) differ from ``more`` by chance: random concepts are made of them. ``kind`` (k,)
    is the number of the pair in ``PAIRS``, ``gap`` (k,) its difference in amplitude in dB. Where
    both are one epoch, ``without`` (k, m, t) are its signals without the events.
    """

    more: np.ndarray
    less: np.ndarray
    other: np.ndarray
    kind: np.ndarray
    gap: np.ndarray
    without: Tensor | None = None


def stages_of(night: ExplainedNight) -> np.ndarray:
    """Codes (n,) of the expert, or of the model where no epoch was scored."""
    staged = night.staged
    return staged.stages if (staged.expert == UNSCORED).all() else staged.expert


def amounts_of(
    night: ExplainedNight, events: Mapping[str, np.ndarray], source: str
) -> dict[str, Amounts]:
    """Amounts of every concept that is known in a night.

    ``events``: kind -> onset and duration in s, (k, 2), of every kind that was searched or planted.
    Concepts of other kinds are measured by the power of their band, or left out.
    """
    amounts = {}
    for concept in CONCEPTS:
        if concept.kind in events:
            covered = event_mask(events[concept.kind], night.staged.onsets, fs=_FS)
            values, unit, known = covered.mean(axis=1) * EPOCH_SECONDS, "s", source
        elif concept.band and concept.role in night.roles:
            values, unit, known = _level(night, concept), "dB", "measured"
        else:
            continue
        amounts[concept.name] = Amounts(values, unit, known, _amplitude(night, concept))
    return amounts


def _level(night: ExplainedNight, concept: Concept) -> np.ndarray:
    """Power in the concept's band in dB, or its share of all power: (n,)."""
    epochs = night.channel_epochs(night.roles.index(concept.role))
    frequencies, density = signal.welch(epochs, night.fs, nperseg=round(2 * night.fs))
    low, high = concept.band
    power = density[:, (frequencies >= low) & (frequencies < high)].sum(axis=1)
    if concept.relative:
        power = power / np.maximum(density[:, frequencies >= _SLOWEST_HZ].sum(axis=1), _FLOOR)
    return 10 * np.log10(np.maximum(power, _FLOOR))


def _amplitude(night: ExplainedNight, concept: Concept) -> np.ndarray:
    """Total amplitude in dB of the channel that shows the concept, or else of the first: (n,)."""
    # tone is the size of its own channel: nothing would be left of it
    wanted = "EEG" if concept.role == "EMG" else concept.role
    epochs = night.channel_epochs(night.roles.index(wanted) if wanted in night.roles else 0)
    return 10 * np.log10(np.maximum(epochs.var(axis=1), _FLOOR))


def pairs_of(
    night: ExplainedNight,
    amounts: Mapping[str, Amounts],
    without: Iterable[tuple[str, Tensor]] = (),
    *,
    seed: int,
) -> dict[str, Pairs]:
    """Pairs of a night's epochs for every concept whose amounts are known.

    ``without``: kinds of events, and signals (n, m, t) of the same night without them.
    """
    stages = stages_of(night)
    names = {concept.kind: concept.name for concept in CONCEPTS if concept.name in amounts}
    pairs = {
        names[kind]: same_epochs(night, names[kind], amounts, signals, seed=seed)
        for kind, signals in without
        if kind in names
    }
    matched = {
        name: matched_pairs(name, amounts, stages, seed=seed)
        for name in amounts
        if name not in pairs
    }
    return pairs | matched


def same_epochs(
    night: ExplainedNight,
    name: str,
    amounts: Mapping[str, Amounts],
    without: Tensor,
    *,
    seed: int,
) -> Pairs:
    """Some of the epochs with events of concept ``name``, each beside itself without them.

    ``without`` (n, m, t): signals of the whole night, in which nothing else differs.
    """
    own, stages, rng = amounts[name], stages_of(night), np.random.default_rng(seed)
    rows = rng.permutation(np.flatnonzero((own.values > 0) & (stages != UNSCORED)))[:_MOST]
    # each beside the next of its stage; the only epoch of a stage has none
    partners = [np.roll(of, 1) for of in _by_stage(stages, rows)]
    more = np.concatenate([np.zeros(0, int), *_by_stage(stages, rows)])
    other = np.concatenate([np.zeros(0, int), *partners])
    more, other = more[more != other], other[more != other]
    concept = next(concept for concept in CONCEPTS if concept.name == name)
    left = _amplitude(replace(night, signals=without), concept)
    return Pairs(
        more,
        more,
        other,
        np.full(len(more), _SAME),
        (own.amplitude - left)[more],
        without[more],
    )


def _by_stage(stages: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    return [rows[stages[rows] == code] for code in range(len(STAGES))]


def matched_pairs(
    name: str, amounts: Mapping[str, Amounts], stages: np.ndarray, *, seed: int
) -> Pairs:
    """Pairs of a night's epochs in which concept ``name`` differs and, where possible, it alone.

    Of every stage (codes ``stages`` (n,)) the upper third by amount against the lower third: with
    an event against without, or much against little where all epochs have some.
    """
    own = amounts[name]
    # an absent channel's concepts are no reason to leave epochs out
    others = [np.nan_to_num(other.values) for key, other in amounts.items() if key != name]
    known = np.isfinite(own.values) & np.isfinite(own.amplitude)
    rng = np.random.default_rng(seed)
    parts = []
    for rows in _by_stage(stages, np.flatnonzero(known)):
        if len(rows):
            features = np.stack([own.amplitude, *others])[:, rows].T
            more, less, alike = _matched(own.values[rows], features, rng)
            parts.append((rows[more], rows[less], np.where(alike, _ALIKE, _OF_STAGE)))
    empty = (np.zeros(0, int),) * 3
    more, less, kind = (np.concatenate(part) for part in zip(empty, *parts, strict=True))
    # which of a pair is which, is all that is random about a random concept
    return Pairs(more, less, less, kind, own.amplitude[more] - own.amplitude[less])


def _matched(
    values: np.ndarray, features: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows with much, rows with little, and whether their first features are alike.

    ``values`` (n,) are amounts, ``features`` (n, f) what should be equal, the amplitude first.
    """
    low, high = np.quantile(values, (1 / 3, 2 / 3))
    # where more than a third has nothing, low is 0 and every epoch with an event is above it
    sides = [np.flatnonzero((values > low) & (values >= high)), np.flatnonzero(values <= low)]
    more, less = (rng.choice(s, min(len(s), _MOST), replace=False) for s in sides)
    sd = features.std(axis=0)
    scaled = features / np.where(sd > 0, sd, 1.0)
    unequal = np.abs(scaled[more][:, None, 0] - scaled[less][None, :, 0]) > _CALIPER
    cost = cdist(scaled[more], scaled[less]) + _BEYOND * unequal
    # as many alike pairs as possible, and among them the most alike
    first, second = linear_sum_assignment(cost)
    return more[first], less[second], ~unequal[first, second]
