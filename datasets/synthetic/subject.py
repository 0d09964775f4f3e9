"""Synthetic subjects: random effects on sleep and signals, drawn once per subject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datasets.synthetic.hypnogram import SleepTraits
from datasets.synthetic.streams import stream

N_BANDS = 5
N_CALIBRATED = 2  # derivations with band tables: Fpz-Cz and Pz-Oz
_ACROSS_VALUES = 0.2  # correlation of a subject's shifts over bands and derivations
SHARED, OF_STAGE, OF_NIGHT = 0.75, 0.6, 0.3  # weights of a subject's and a night's band shifts
_RATE_SD = 0.35
_VARIED = ("spindle", "k_complex", "rem", "blink", "vertex_wave", "alpha", "sem", "slow_wave")


@dataclass(frozen=True)
class Difficulty:
    """How hard a cohort is to stage: 0 for sanity checks, 1 like real nights, 2 harder."""

    level: int

    @property
    def spread(self) -> float:
        """Multiplier of random effects and residuals."""
        return (0.5, 1.0, 1.3)[self.level]

    @property
    def uncertainty(self) -> float:
        """Multiplier of the probabilities of mixed, atypical and evidence-free epochs."""
        return (0.0, 1.0, 2.0)[self.level]


@dataclass(frozen=True)
class Subject:
    """Sleep and physiology of one subject.

    ``band_shift`` (5 stages, 2 derivations, 5 bands) is in units of the between-night SD; rates and
    amplitudes multiply the population's.
    """

    number: int
    seed: int
    difficulty: Difficulty
    traits: SleepTraits
    band_shift: np.ndarray
    rate: dict[str, float]
    amplitude: dict[str, float]
    alpha_hz: float
    spindle_hz: tuple[float, float]
    emg_level: float
    eog_gain: float
    heart_per_minute: float
    breaths_per_minute: float
    ecg_leak_uv: float


def correlated(rng: np.random.Generator, shape: tuple[int, ...], correlation: float) -> np.ndarray:
    """Unit normals (..., derivations, bands), equally correlated over the last two axes."""
    common = rng.standard_normal((*shape[:-2], 1, 1))
    own = rng.standard_normal(shape)
    return np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own


def draw_subject(seed: int, number: int, difficulty: Difficulty) -> Subject:
    """Draw subject ``number`` of the cohort ``seed``, the same whatever else is drawn."""
    rng = stream(seed, "subject", number)
    shared = correlated(rng, (1, N_CALIBRATED, N_BANDS), _ACROSS_VALUES)
    own = correlated(rng, (5, N_CALIBRATED, N_BANDS), _ACROSS_VALUES)
    spread = difficulty.spread

    def log_normal(sd: float) -> float:
        return float(np.exp(spread * sd * np.clip(rng.standard_normal(), -2.5, 2.5)))

    return Subject(
        number=number,
        seed=seed,
        difficulty=difficulty,
        traits=SleepTraits(
            deep=float(np.clip(np.exp(rng.normal(-0.05, 0.3)), 0.45, 1.7)),
            wakeful=float(np.clip(np.exp(rng.normal(0.0, 0.3)), 0.5, 2.0)),
            period=int(np.clip(rng.normal(900, 70), 700, 1060)),
        ),
        band_shift=SHARED * shared + OF_STAGE * own,
        rate={kind: log_normal(_RATE_SD) for kind in _VARIED},
        amplitude={
            # of adults some 10 to 20 % have little or no alpha with closed eyes (AASM manual)
            "alpha": 0.12 if rng.random() < 0.15 else log_normal(_RATE_SD),
            **{kind: log_normal(0.25) for kind in _VARIED if kind != "alpha"},
        },
        alpha_hz=float(np.clip(rng.normal(10, 0.9), 8, 12.5)),
        spindle_hz=(  # of slow and of fast spindles
            float(np.clip(rng.normal(12, 0.5), 11.2, 12.9)),
            float(np.clip(rng.normal(13.6, 0.5), 12.8, 15.0)),
        ),
        emg_level=log_normal(0.1),
        eog_gain=log_normal(0.15),
        heart_per_minute=float(rng.uniform(50, 75)),
        breaths_per_minute=float(rng.uniform(12, 18)),
        ecg_leak_uv=float(rng.uniform(2, 10)) if rng.random() < 0.2 else 0.0,
    )
