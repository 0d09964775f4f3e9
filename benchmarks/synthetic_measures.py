"""Figures of synthetic nights, computed as those of the real nights are.

Shared by the calibration script, the acceptance report and the tests. Functions that take nights
take synthetic and real ones alike: anything with ``subject``, ``stages`` (n,), -1 where unscored,
and ``decibels`` (n, 3, 5) of Fpz-Cz, Pz-Oz and EOG.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import joblib
import numpy as np
from scipy import signal, stats

from datasets.synthetic import corrections
from datasets.synthetic.levels import levels_of_night
from datasets.synthetic.night import Night, draw_night
from datasets.synthetic.subject import Difficulty, draw_subject

FS = 100.0
DERIVATIONS = ("EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal")
LIMITS_UV = (192, 197, 1009)  # of the recorder, as sleepedf_files writes them
MARGIN = 60  # epochs of Wake on either side of sleep, as kept of the real nights
BANDS = ((0.5, 4), (4, 8), (8, 12), (12, 16), (16, 30))  # of the table of real nights
# the table's nights were cleaned of eye movements before their band powers were taken
OF_THE_EYES = frozenset(("blink", "rem", "sem"))
FEWEST = 8  # epochs of a stage, below which a night is no measure of it


@dataclass(frozen=True)
class MeasuredNight:
    """Features of one night, Wake trimmed to 60 epochs around sleep.

    ``stages`` (n,) with -1 where unscored, ``decibels`` (n, 3, 5), ``time_domain`` (n, 3, 5): SD,
    IQR, zero crossings, mobility, excess kurtosis; ``target_db`` (5, 2, 5): levels of the stages
    that the law drew for this night.
    """

    subject: int
    stages: np.ndarray
    decibels: np.ndarray
    time_domain: np.ndarray
    target_db: np.ndarray
    latent_agreement: float


def measure_cohort(
    seed: int,
    *,
    level: int = 1,
    subjects: int = 10,
    nights: int = 2,
    hours: float | None = None,
    jobs: int = -1,
    background: dict[str, np.ndarray] | None = None,
) -> list[MeasuredNight]:
    """Draw, render and measure a cohort; ``background`` replaces constants of ``corrections``."""
    tasks = [(number, night) for number in range(subjects) for night in range(1, nights + 1)]
    return joblib.Parallel(n_jobs=jobs)(
        joblib.delayed(_measure)(seed, level, number, night, hours, background)
        for number, night in tasks
    )


def _measure(
    seed: int,
    level: int,
    number: int,
    night: int,
    hours: float | None,
    background: dict[str, np.ndarray] | None,
) -> MeasuredNight:
    for name, values in (background or {}).items():
        # in this worker's own copy of the module
        getattr(corrections, name)[:] = values
    return measure_night(
        draw_night(draw_subject(seed, number, Difficulty(level)), night, hours=hours)
    )


def measure_night(night: Night) -> MeasuredNight:
    """Figures of one night, clipped to the range of the file it would be written to."""
    labels = night.timeline.labels
    asleep = np.flatnonzero(night.timeline.stages > 0)
    kept = slice(max(0, asleep[0] - MARGIN), min(len(labels), asleep[-1] + MARGIN + 1))
    scored = labels[kept] >= 0
    # weights are per slot of a few seconds; the stage of an epoch is the one of largest mean weight
    weights = night.timeline.stage_weights().reshape(len(labels), -1, 5).mean(axis=1)
    latent = np.argmax(weights, axis=1)[kept]
    cleaned = replace(night, omit=night.omit | OF_THE_EYES)
    eeg = epochs_of(cleaned, kept)[:, :2]
    with_eyes = epochs_of(night, kept)
    return MeasuredNight(
        subject=night.subject.number,
        stages=labels[kept].astype(int),
        decibels=decibels(np.concatenate((eeg, with_eyes[:, 2:]), axis=1)),
        time_domain=time_domain(with_eyes),
        target_db=levels_of_night(night.subject, night.number).reshape(5, 2, 5),
        latent_agreement=float((latent[scored] == labels[kept][scored]).mean()),
    )


def epochs_of(night: Night, kept: slice) -> np.ndarray:
    """Samples (n, 3, 3000) of the three derivations in uV."""
    return np.stack(
        [
            np.clip(night.render(name, FS), -limit, limit).reshape(-1, 3000)[kept]
            for name, limit in zip(DERIVATIONS, LIMITS_UV, strict=True)
        ],
        axis=1,
    )


def decibels(epochs: np.ndarray) -> np.ndarray:
    """Mean power density of epochs (n, c, t) in the table's bands: (n, c, 5), dB of uV**2/Hz."""
    hertz, density = signal.welch(epochs, FS, nperseg=400)
    bands = [(hertz >= low) & (hertz < high) for low, high in BANDS]
    power = np.stack([density[..., band].mean(axis=-1) for band in bands], axis=-1)
    return 10 * np.log10(np.maximum(power, 1e-4))  # the floor is for flat epochs


def time_domain(epochs: np.ndarray) -> np.ndarray:
    """(..., T) -> (..., 5): SD, IQR, zero crossings, mobility per sample, excess kurtosis.

    The kurtosis of a flat epoch is NaN.
    """
    centred = epochs - epochs.mean(axis=-1, keepdims=True)
    sd = centred.std(axis=-1)
    quartiles = np.percentile(centred, (25, 75), axis=-1)
    crossings = (np.diff(np.signbit(centred), axis=-1)).sum(axis=-1)
    # a flat epoch has no deviation to divide by
    mobility = np.diff(centred, axis=-1).std(axis=-1) / np.maximum(sd, 1e-9)
    with np.errstate(invalid="ignore", divide="ignore"):
        kurtosis = stats.kurtosis(centred, axis=-1)
    return np.stack((sd, quartiles[1] - quartiles[0], crossings, mobility, kurtosis), axis=-1)


def time_domain_medians(nights: Sequence[MeasuredNight]) -> np.ndarray:
    """(5 stages, 3 derivations, 5 figures): medians over all epochs of a stage."""
    labels = np.concatenate([n.stages for n in nights])
    figures = np.concatenate([n.time_domain for n in nights])
    return np.stack([np.nanmedian(figures[labels == stage], axis=0) for stage in range(5)])


def levels(nights: Sequence[Any]) -> np.ndarray:
    """Mean decibels (nights, 5, 2, 5) of each stage of the EEGs; NaN where it has few epochs."""
    return np.stack([_by_stage(night, np.mean) for night in nights])


def spreads(nights: Sequence[Any]) -> np.ndarray:
    """Deviation in decibels within a night and stage (5, 2, 5), mean over nights."""
    return np.nanmean([_by_stage(night, lambda x, axis: x.std(axis=axis)) for night in nights], 0)


def _by_stage(night: Any, figure: Any) -> np.ndarray:
    out = np.full((5, 2, 5), np.nan)
    for stage in range(5):
        of_stage = night.decibels[night.stages == stage, :2]
        if len(of_stage) >= FEWEST:
            out[stage] = figure(of_stage, axis=0)
    return out


def relative_to_n2(of_nights: np.ndarray) -> np.ndarray:
    """Levels (nights, 5, 2, 5) less those of N2 of the same night."""
    return of_nights - of_nights[:, 2:3]


def contrasts(nights: Sequence[Any]) -> np.ndarray:
    """Decibels by which delta of N3 exceeds that of N2 at Fpz-Cz, of nights that have N3."""
    values = relative_to_n2(levels(nights))[:, 3, 0, 0]
    return values[np.isfinite(values)]


def persistence(nights: Sequence[Any], lag: int) -> np.ndarray:
    """Correlation (5, 2, 5) of an epoch's decibels with those ``lag`` epochs later, same stage.

    About the night's mean of the stage: high at a lag of some minutes means that levels drift.
    """
    each = []
    for night in nights:
        out, of_night = np.full((5, 2, 5), np.nan), night.decibels[:, :2]
        for stage in range(5):
            own = night.stages == stage
            both = own[:-lag] & own[lag:]
            if both.sum() >= 2 * FEWEST:
                x = of_night - of_night[own].mean(axis=0)
                out[stage] = (x[:-lag][both] * x[lag:][both]).mean(axis=0) / x[own].var(axis=0)
        each.append(out)
    return np.nanmean(each, axis=0)


@dataclass(frozen=True)
class Architecture:
    """Hypnogram figures of sleep periods: shares (5,), transitions (5, 5), bouts, hours (8, 5).

    ``n3_shares`` (nights,) of N3 in sleep.
    """

    shares: np.ndarray
    transitions: np.ndarray
    bout_median: np.ndarray
    bout_mean: np.ndarray
    hourly: np.ndarray
    n3_shares: np.ndarray


def architecture(nights: Sequence[Any]) -> Architecture:
    """Figures from the first to the last epoch of sleep; an unscored epoch is no transition."""
    counts, hourly = np.zeros((5, 5)), np.zeros((8, 5))
    bouts: list[list[int]] = [[] for _ in range(5)]
    n3 = []
    sleeps = [sleep_of(night.stages) for night in nights]
    for sleep in sleeps:
        pairs = (sleep[:-1] >= 0) & (sleep[1:] >= 0)
        np.add.at(counts, (sleep[:-1][pairs], sleep[1:][pairs]), 1)
        for first, last in pairwise(np.r_[0, np.flatnonzero(np.diff(sleep)) + 1, len(sleep)]):
            if sleep[first] >= 0:
                bouts[sleep[first]].append(last - first)
        for hour in range(8):  # of 120 epochs
            part = sleep[120 * hour : 120 * (hour + 1)]
            hourly[hour] += np.bincount(part[part >= 0], minlength=5)
        n3.append((sleep == 3).sum() / (sleep > 0).sum())
    every = np.concatenate(sleeps)
    return Architecture(
        shares=np.bincount(every[every >= 0], minlength=5) / (every >= 0).sum(),
        transitions=counts / counts.sum(axis=1, keepdims=True),
        bout_median=np.array([np.median(b) for b in bouts]),
        bout_mean=np.array([np.mean(b) for b in bouts]),
        # short nights leave the last hours empty
        hourly=hourly / np.maximum(hourly.sum(axis=1, keepdims=True), 1),
        n3_shares=np.array(n3),
    )


def sleep_of(stages: np.ndarray) -> np.ndarray:
    """Stages from the first to the last epoch of sleep."""
    asleep = np.flatnonzero(stages > 0)
    return stages[asleep[0] : asleep[-1] + 1]


def difficulty(nights: Sequence[Any]) -> dict[str, tuple[float, float, np.ndarray]]:
    """Accuracy, macro-F1 and F1 per stage of a linear discriminant, leaving one subject out.

    Three feature sets: the ten EEG band powers as they are, z-scored per night, and z-scored with
    five epochs of context on either side.
    """
    scored = [night.stages >= 0 for night in nights]
    labels = np.concatenate([n.stages[s] for n, s in zip(nights, scored, strict=True)])
    subjects = np.concatenate(
        [[n.subject] * int(s.sum()) for n, s in zip(nights, scored, strict=True)]
    )
    plain = [n.decibels[s, :2].reshape(-1, 10) for n, s in zip(nights, scored, strict=True)]
    standard = [(x - x.mean(axis=0)) / x.std(axis=0) for x in plain]
    context = [_with_context(x, 5) for x in standard]
    return {
        name: _leave_one_out(np.concatenate(x), labels, subjects)
        for name, x in (("as they are", plain), ("z-scored", standard), ("context", context))
    }


def _with_context(x: np.ndarray, reach: int) -> np.ndarray:
    # the first and last epoch stand in for what lies beyond the night
    padded = np.pad(x, ((reach, reach), (0, 0)), mode="edge")
    return np.concatenate([padded[k : k + len(x)] for k in range(2 * reach + 1)], axis=1)


def _leave_one_out(x: np.ndarray, labels: np.ndarray, subjects: np.ndarray):
    # late: calibration measures nights without it
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.metrics import f1_score
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict

    predicted = cross_val_predict(
        LinearDiscriminantAnalysis(), x, labels, groups=subjects, cv=LeaveOneGroupOut()
    )
    f1 = f1_score(labels, predicted, average=None, labels=range(5))
    return float((predicted == labels).mean()), float(f1.mean()), f1
