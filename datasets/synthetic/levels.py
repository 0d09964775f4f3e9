"""Levels of the bands through a night: by stage, with what drifts and what waxes and wanes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import signal

from datasets.synthetic import corrections, tables
from datasets.synthetic.hypnogram import N2
from datasets.synthetic.law import context_of, law
from datasets.synthetic.streams import stream
from datasets.synthetic.subject import Subject, levels_db
from datasets.synthetic.timeline import SLOTS, Timeline

_N_EEG = 2  # derivations that the law of real nights has: Fpz-Cz and Pz-Oz
_OF_LAW = 5  # bands of the law: gamma, which it lacks, goes with beta
_TAIL_DF = 8  # of Student's t: an unusual moment is unusual in all bands
_FAST_SLOTS = 5  # 10 s, after which a fast deviation is another one
_EOG_SHARE = 0.7  # of the EEGs' deviations


@dataclass(frozen=True)
class Levels:
    """``log_power`` (n_slots, 3 derivations, 6 bands), log10 of uV**2/Hz, of the background.

    ``drift`` (n_slots, 10): decibels by which the law's values lie above their stage's for minutes.
    """

    log_power: np.ndarray
    drift: np.ndarray


def draw_levels(
    subject: Subject, number: int, timeline: Timeline, *, one_background: bool = False
) -> Levels:
    """Draw the levels of one night by the law of real nights."""
    rng = stream(subject.seed, "subject", subject.number, "night", number, "effects")
    weights = timeline.background
    if one_background:
        weights = np.full_like(weights, 1 / weights.shape[1])
    slow, fast = _deviations(rng, timeline.n_epochs, weights)
    spread = subject.difficulty.spread
    moved = 0.0 if one_background else _moved_by_context(timeline.stages)
    drift = spread * (slow + moved)
    deviations = drift + spread * fast
    # (n_slots, 2, 5), relative to N2 of the population, whose level is known
    levels = levels_of_night(subject, number)
    values = weights @ levels + deviations - law().mean_db[N2]
    values = values.reshape(len(weights), _N_EEG, _OF_LAW) / 10
    values += np.tensordot(weights, np.stack((corrections.FPZ, corrections.PZ), axis=1), axes=1)
    values = np.concatenate((values, values[..., -1:]), axis=-1) + tables.N2_LEVEL
    # the law has no EOG with eye movements left in: it goes with Fpz-Cz, where the eyes are near
    frontal = (levels - law().mean_db)[:, :_OF_LAW]
    own = weights @ np.concatenate((frontal, frontal[:, -1:]), axis=1)
    own += deviations.mean(axis=1, keepdims=True)
    eog = weights @ corrections.EOG + _EOG_SHARE / 10 * own
    log_power = np.concatenate((values, eog[:, None]), axis=1).astype(np.float32)
    return Levels(log_power, drift.astype(np.float32))


def levels_of_night(subject: Subject, number: int) -> np.ndarray:
    """Decibels (5, 10) of each stage and value: the subject's, but for what nights differ by."""
    rng = stream(subject.seed, "subject", subject.number, "night", number, "levels")
    factors = np.sqrt(law().repeat) * subject.factors
    factors = factors + np.sqrt(1 - law().repeat) * rng.standard_normal(factors.shape)
    own = subject.difficulty.spread * levels_db(factors, subject.own)
    return law().mean_db + own + subject.beyond_db


def _moved_by_context(stages: np.ndarray) -> np.ndarray:
    """Decibels (n_slots, 10) by which the stages around an epoch move it from its stage's mean."""
    unusual = context_of(stages) - law().usual_context[stages]
    moved = np.einsum("ni,nij->nj", unusual, law().context_db[stages])
    return moved.repeat(SLOTS, axis=0)


def _deviations(
    rng: np.random.Generator, n_epochs: int, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Slow and fast deviations (n_slots, 10) from the stages' levels, dB.

    Slow ones drift over minutes; fast ones wax and wane within an epoch, and are as heavy-tailed
    as real ones.
    """
    slow = _drifting(rng, n_epochs)
    n_fast = n_epochs * SLOTS // _FAST_SLOTS
    fast = rng.standard_normal((n_fast, slow.shape[1]))
    tails = np.sqrt(rng.chisquare(_TAIL_DF, (n_fast, 1)) / _TAIL_DF)
    fast /= tails * np.sqrt(_TAIL_DF / (_TAIL_DF - 2))
    # the mean over an epoch's three values varies by the third of their variance
    fast = np.sqrt(SLOTS / _FAST_SLOTS) * fast.repeat(_FAST_SLOTS, axis=0)
    share = np.concatenate((corrections.FPZ_FAST, corrections.PZ_FAST), axis=1)
    slow_out, fast_out = np.zeros_like(slow), np.zeros_like(fast)
    for stage, of_stage in enumerate(weights.T):
        slow_out += of_stage[:, None] * (slow @ law().slow_db[stage])
        fast_out += of_stage[:, None] * share[stage] * (fast @ law().fast_db[stage])
    return slow_out, fast_out


def _drifting(rng: np.random.Generator, n_epochs: int) -> np.ndarray:
    """Unit normals (n_slots, 10) that change over minutes."""
    keep = np.exp(-1 / law().slow_epochs)
    # one value before the night and one after it, interpolated between the middles of epochs
    values = rng.standard_normal((n_epochs + 2, law().mean_db.shape[1]))
    values[1:] *= np.sqrt(1 - keep**2)
    values = signal.lfilter([1.0], [1.0, -keep], values, axis=0)
    middles = np.arange(n_epochs + 2) - 0.5
    at = (np.arange(n_epochs * SLOTS) + 0.5) / SLOTS
    return np.stack([np.interp(at, middles, column) for column in values.T], axis=1)
