"""Figures of synthetic nights, computed as those of the real nights in the tables were.

Shared by the calibration script, the acceptance report and the tests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import joblib
import numpy as np
from scipy import stats

from datasets.synthetic import corrections
from datasets.synthetic.night import Night, draw_night
from datasets.synthetic.subject import Difficulty, draw_subject
from utils.signals import band_powers

FS = 100.0
DERIVATIONS = ("EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal")
MARGIN = 60  # epochs of Wake on either side of sleep, as kept of the real nights


@dataclass(frozen=True)
class MeasuredNight:
    """Features of the scored epochs of one night, Wake trimmed to 60 epochs around sleep.

    ``labels`` (n,), ``log_power`` (n, 2, 5) of the EEGs, ``time_domain`` (n, 3, 5): SD, IQR, zero
    crossings, mobility, excess kurtosis; ``kept``: labels with -1 in place; ``onset`` of sleep in
    ``kept``.
    """

    subject: int
    labels: np.ndarray
    log_power: np.ndarray
    time_domain: np.ndarray
    kept: np.ndarray
    onset: int
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
    """Draw, render and measure a cohort.

    With ``background``, constants of ``corrections`` are replaced and all subjects have the
    population's median spectrum: for fitting those constants.
    """
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
    subject = draw_subject(seed, number, Difficulty(level))
    if background is not None:
        for name, values in background.items():
            # in this worker's own copy of the module
            getattr(corrections, name)[:] = values
        subject = replace(subject, band_shift=np.zeros_like(subject.band_shift))
    return measure_night(draw_night(subject, night, hours=hours))


def measure_night(night: Night) -> MeasuredNight:
    """Figures of one night, clipped to the range of the file it would be written to."""
    labels = night.timeline.labels
    asleep = np.flatnonzero(night.timeline.stages > 0)
    start, stop = max(0, asleep[0] - MARGIN), min(len(labels), asleep[-1] + MARGIN + 1)
    # (n, 3, 3000); limits in uV are the recorder's, as sleepedf_files writes them
    epochs = np.stack(
        [
            np.clip(night.render(name, FS), -limit, limit).reshape(-1, 3000)[start:stop]
            for name, limit in zip(DERIVATIONS, (192, 197, 1009), strict=True)
        ],
        axis=1,
    )
    kept = labels[start:stop]
    scored = kept >= 0
    epochs = epochs[scored]
    # weights are per slot of a few seconds; the stage of an epoch is the one of largest mean weight
    latent = np.argmax(
        night.timeline.stage_weights().reshape(len(labels), -1, 5).mean(axis=1), axis=1
    )
    return MeasuredNight(
        subject=night.subject.number,
        labels=kept[scored],
        # the floor keeps the logarithm of a flat epoch finite
        log_power=np.log10(np.maximum(band_powers(epochs[:, :2], FS), 1e-4)),
        time_domain=time_domain(epochs),
        kept=kept,
        onset=int(asleep[0] - start),
        latent_agreement=float((latent[start:stop][scored] == kept[scored]).mean()),
    )


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


def pooled_medians(nights: list[MeasuredNight]) -> np.ndarray:
    """(5 stages, 2 derivations, 5 bands): medians over all epochs of a stage."""
    labels = np.concatenate([n.labels for n in nights])
    power = np.concatenate([n.log_power for n in nights])
    return np.stack([np.median(power[labels == stage], axis=0) for stage in range(5)])


def spreads(nights: list[MeasuredNight]) -> tuple[np.ndarray, np.ndarray]:
    """SD between nights of the night's median, and mean SD within a night: (5, 2, 5) each."""
    between, within = [], []
    for stage in range(5):
        of_stage = [n.log_power[n.labels == stage] for n in nights]
        # a spread of fewer epochs is mostly chance
        of_stage = [values for values in of_stage if len(values) > 4]
        between.append(np.std([np.median(v, axis=0) for v in of_stage], axis=0, ddof=1))
        within.append(np.mean([v.std(axis=0, ddof=1) for v in of_stage], axis=0))
    return np.stack(between), np.stack(within)


def time_domain_medians(nights: list[MeasuredNight]) -> np.ndarray:
    """(5 stages, 3 derivations, 5 figures): medians over all epochs of a stage."""
    labels = np.concatenate([n.labels for n in nights])
    figures = np.concatenate([n.time_domain for n in nights])
    return np.stack([np.nanmedian(figures[labels == stage], axis=0) for stage in range(5)])


@dataclass(frozen=True)
class Architecture:
    """Hypnogram figures: shares (5,), transitions (5, 5), bouts, shares by hour (8, 5)."""

    shares: np.ndarray
    transitions: np.ndarray
    bout_median: np.ndarray
    bout_mean: np.ndarray
    hourly: np.ndarray


def architecture(nights: list[MeasuredNight]) -> Architecture:
    """Figures of the scored hypnograms; an unscored epoch ends a bout and is no transition."""
    counts, hourly = np.zeros((5, 5)), np.zeros((8, 5))
    bouts: list[list[int]] = [[] for _ in range(5)]
    for night in nights:
        kept = night.kept.astype(int)
        pairs = (kept[:-1] >= 0) & (kept[1:] >= 0)
        np.add.at(counts, (kept[:-1][pairs], kept[1:][pairs]), 1)
        borders = np.r_[0, np.flatnonzero(np.diff(kept)) + 1, len(kept)]
        for first, last in pairwise(borders):
            if kept[first] >= 0:
                bouts[kept[first]].append(last - first)
        for hour in range(8):  # of 120 epochs
            part = kept[night.onset + 120 * hour : night.onset + 120 * (hour + 1)]
            hourly[hour] += np.bincount(part[part >= 0], minlength=5)
    labels = np.concatenate([n.labels for n in nights])
    return Architecture(
        shares=np.bincount(labels, minlength=5) / len(labels),
        transitions=counts / counts.sum(axis=1, keepdims=True),
        bout_median=np.array([np.median(b) for b in bouts]),
        bout_mean=np.array([np.mean(b) for b in bouts]),
        hourly=hourly / hourly.sum(axis=1, keepdims=True),
    )


def difficulty(nights: list[MeasuredNight]) -> dict[str, tuple[float, float, np.ndarray]]:
    """Accuracy, macro-F1 and F1 per stage of a linear discriminant, leaving one subject out.

    Three feature sets: the ten log band powers as they are, z-scored per night, and z-scored with
    five epochs of context on either side.
    """
    labels = np.concatenate([n.labels for n in nights])
    subjects = np.concatenate([[n.subject] * len(n.labels) for n in nights])
    plain = [n.log_power.reshape(len(n.labels), -1) for n in nights]
    scored = [(x - x.mean(axis=0)) / x.std(axis=0) for x in plain]
    context = [_with_context(x, 5) for x in scored]
    return {
        name: _leave_one_out(np.concatenate(x), labels, subjects)
        for name, x in (("as they are", plain), ("z-scored", scored), ("context", context))
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
