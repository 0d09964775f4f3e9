"""Synthetic nights against the figures of real ones: a quick check, and the whole table (slow)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from benchmarks.synthetic_measures import (
    architecture,
    difficulty,
    measure_cohort,
    pooled_medians,
    spreads,
    time_domain_medians,
)
from datasets.synthetic import tables
from datasets.synthetic.night import draw_night
from datasets.synthetic.subject import Difficulty, draw_subject

MEDIAN = np.stack((tables.FPZ_MEDIAN, tables.PZ_MEDIAN), axis=1)
BETWEEN = np.stack((tables.FPZ_BETWEEN, tables.PZ_BETWEEN), axis=1)
WITHIN = np.stack((tables.FPZ_WITHIN, tables.PZ_WITHIN), axis=1)
SEEDS = (1, 2, 3)


def averaged(cohorts, measure):
    return np.mean([measure(nights) for nights in cohorts], axis=0)


def check_spectra(cohorts, slack: float) -> None:
    """Medians within the between-night SD, spreads within a factor 1.5."""
    error = np.abs(averaged(cohorts, pooled_medians) - MEDIAN)
    assert (error <= slack * BETWEEN).all()
    assert error.mean() <= 0.12 * slack
    between, within = averaged(cohorts, lambda n: np.stack(spreads(n)))
    for ratio in (between / BETWEEN, within / WITHIN):
        assert ratio.max() <= 1.5 * slack
        assert ratio.min() >= 1 / (1.5 * slack)
        assert 1 - 0.15 * slack <= ratio.mean() <= 1 + 0.2 * slack


def check_architecture(cohorts, slack: float) -> None:
    """Shares, transitions, bouts and the course of the night."""
    each = [architecture(nights) for nights in cohorts]
    mean = {name: np.mean([getattr(a, name) for a in each], axis=0) for name in each[0].__dict__}
    assert np.abs(mean["shares"] - tables.STAGE_SHARES).max() <= 0.05 * slack
    difference = np.abs(mean["transitions"] - tables.TRANSITIONS)
    assert np.diag(difference).max() <= 0.03 * slack
    assert difference.max() <= 0.04 * slack
    assert np.abs(mean["bout_mean"] / tables.BOUT_MEAN - 1).max() <= 0.25 * slack
    limits = slack * np.array([2, 2, 2, 2, 4])
    assert (np.abs(mean["bout_median"] - tables.BOUT_MEDIAN) <= limits).all()
    for stage, hourly in ((3, tables.HOURLY_N3), (4, tables.HOURLY_REM)):
        assert np.corrcoef(mean["hourly"][:, stage], hourly)[0, 1] >= 1 - 0.2 * slack


def check_time_domain(cohorts, slack: float) -> None:
    """SD, IQR, zero crossings and mobility of sleep; REM betrays itself by the EOG's kurtosis."""
    medians = averaged(cohorts, time_domain_medians)
    for channel, name in enumerate(("EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal")):
        ratio = medians[1:, channel, :4] / tables.TIME_DOMAIN[name][:, :4]
        limits = slack * np.array([0.35, 0.35, 0.30, 0.30])
        assert (np.abs(ratio - 1) <= limits).all(), name
    kurtosis = medians[1:, 2, 4]
    assert kurtosis.argmax() == 3
    assert kurtosis[3] > 1.5


def test_a_small_cohort_resembles_real_nights():
    cohorts = [measure_cohort(11, subjects=8, hours=8)]
    check_spectra(cohorts, 2)
    check_time_domain(cohorts, 2)
    accuracy, macro_f1, f1 = difficulty(cohorts[0])["z-scored"]
    assert 0.69 <= accuracy <= 0.89
    assert 0.59 <= macro_f1 <= 0.83
    assert f1.argmin() == 1, "N1 is the hardest stage"


def spindle_intervals(samples: np.ndarray, asleep: np.ndarray) -> np.ndarray:
    """Where the 11-16 Hz envelope exceeds 2.6 times its median for 0.3-3 s: (n, 2) seconds."""
    band = signal.butter(4, (11, 16), "bandpass", fs=100, output="sos")
    envelope = np.abs(signal.hilbert(signal.sosfiltfilt(band, samples)))
    envelope = np.convolve(envelope, np.full(20, 1 / 20), "same")
    above = (envelope > 2.6 * np.median(envelope[asleep])) & asleep
    runs = np.flatnonzero(np.diff(np.r_[0, above.astype(int), 0])).reshape(-1, 2) / 100
    seconds = runs[:, 1] - runs[:, 0]
    return runs[(seconds > 0.3) & (seconds < 3)]


def hits(these: np.ndarray, those: np.ndarray) -> int:
    """How many of ``these`` intervals touch any of ``those``."""
    return sum(((those[:, 0] < b) & (those[:, 1] > a)).any() for a, b in these)


@pytest.mark.parametrize("number", range(3))
def test_a_plain_detector_finds_the_planted_spindles_and_not_in_the_twin(number):
    subject = draw_subject(5, number, Difficulty(0))
    night = draw_night(subject, 1, hours=4)
    twin = draw_night(subject, 1, hours=4, omit=("spindle",))
    asleep = np.isin(night.timeline.labels, (2, 3)).repeat(3000)
    detected = spindle_intervals(night.render("EEG Fpz-Cz", 100), asleep)
    events = night.events["spindle"]
    planted = np.c_[events.onset, events.onset + events.duration]
    planted = planted[asleep[(events.onset * 100).astype(int)]]
    precision, recall = (
        hits(detected, planted) / len(detected),
        hits(planted, detected) / len(planted),
    )
    assert 2 * precision * recall / (precision + recall) >= 0.6
    assert len(spindle_intervals(twin.render("EEG Fpz-Cz", 100), asleep)) <= 0.2 * len(detected)


@pytest.fixture(scope="module")
def levels():
    """Thirty subjects in three cohorts of full tapes, at each level."""
    return {level: [measure_cohort(seed, level=level) for seed in SEEDS] for level in (0, 1, 2)}


def scores(cohorts) -> dict[str, np.ndarray]:
    """Mean accuracy and macro-F1 over cohorts, by feature set."""
    each = [difficulty(nights) for nights in cohorts]
    return {name: np.mean([d[name][:2] for d in each], axis=0) for name in each[0]}


@pytest.mark.slow
def test_acceptance_of_spectra_architecture_and_waves(levels):
    check_spectra(levels[1], 1)
    check_architecture(levels[1], 1)
    check_time_domain(levels[1], 1)


@pytest.mark.slow
def test_acceptance_of_difficulty(levels):
    reached = {level: scores(cohorts) for level, cohorts in levels.items()}
    demanded = {
        "as they are": ((0.75, 0.06), (0.67, 0.07)),
        "z-scored": ((0.79, 0.05), (0.71, 0.06)),
        "context": ((0.83, 0.05), (0.78, 0.06)),
    }
    for name, limits in demanded.items():
        for value, (centre, width) in zip(reached[1][name], limits, strict=True):
            assert abs(value - centre) <= width, (name, reached[1][name])
        for nights in levels[1]:
            assert difficulty(nights)[name][2].argmin() == 1
    assert reached[0]["as they are"][0] >= 0.90
    assert reached[0]["context"][0] >= 0.94
    assert reached[2]["context"][0] <= reached[1]["context"][0] - 0.04
    agreement = np.mean([night.latent_agreement for nights in levels[1] for night in nights])
    assert 0.90 <= agreement <= 0.96
