"""Synthetic subjects: random effects on sleep and signals, drawn once per subject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datasets.synthetic.hypnogram import N1, N2, N3, SleepTraits, W, draw_traits
from datasets.synthetic.law import law
from datasets.synthetic.streams import stream

_RATE_SD = 0.35
_VARIED = ("spindle", "k_complex", "rem", "blink", "vertex_wave", "alpha", "sem", "slow_wave")
_OF_DECIBELS = np.log(10) / 20  # an amplitude's logarithm per decibel
# events that go with the level of a band: the stage by whose level a subject's are large or small,
# and the value of the law, a band of Fpz-Cz or Pz-Oz, with whose drift they come and go
_DELTA, _THETA, _SIGMA, _PZ_ALPHA = 0, 1, 3, 7
FOLLOWED = {
    "slow_wave": (N3, _DELTA),
    "k_complex": (N2, _DELTA),
    "spindle": (N2, _SIGMA),
    "theta_run": (N1, _THETA),
    "alpha": (W, _PZ_ALPHA),
}


@dataclass(frozen=True)
class Difficulty:
    """How hard a cohort is to stage: 0 for sanity checks, 1 like real nights, 2 harder."""

    level: int

    @property
    def spread(self) -> float:
        """Multiplier of random effects and residuals."""
        return (0.4, 1.0, 1.3)[self.level]

    @property
    def uncertainty(self) -> float:
        """Multiplier of the probabilities of mixed, atypical and evidence-free epochs."""
        return (0.0, 1.0, 2.0)[self.level]


@dataclass(frozen=True)
class Subject:
    """Sleep and physiology of one subject.

    ``factors`` (k,) and ``own`` (5, 10) are unit normals of :class:`datasets.synthetic.law.Law`,
    from which the levels of the bands in each stage follow; ``beyond_db`` (5, 10) is added to them
    in cohorts that differ more than the law's. Rates and amplitudes multiply the population's.
    """

    number: int
    seed: int
    difficulty: Difficulty
    traits: SleepTraits
    factors: np.ndarray
    own: np.ndarray
    beyond_db: np.ndarray
    rate: dict[str, float]
    amplitude: dict[str, float]
    alpha_hz: float
    spindle_hz: tuple[float, float]
    emg_level: float
    eog_gain: float
    heart_per_minute: float
    breaths_per_minute: float
    ecg_leak_uv: float


def levels_db(factors: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Decibels (5, 10) above the population's mean, of each stage and value."""
    return law().loadings_db @ factors + law().own_db * own


def draw_subject(seed: int, number: int, difficulty: Difficulty) -> Subject:
    """Draw subject ``number`` of the cohort ``seed``, the same whatever else is drawn."""
    rng = stream(seed, "subject", number)
    factors = rng.standard_normal(law().loadings_db.shape[-1])
    own = rng.standard_normal(law().own_db.shape)
    spread = difficulty.spread
    # large waves in a subject with much of their band: both follow the same level
    follows = {k: spread * levels_db(factors, own)[where] for k, where in FOLLOWED.items()}

    def log_normal(sd: float) -> float:
        return float(np.exp(spread * sd * np.clip(rng.standard_normal(), -2.5, 2.5)))

    # of adults some 10 to 20 % have little or no alpha with closed eyes (AASM manual)
    no_alpha = rng.random() < 0.15
    return Subject(
        number=number,
        seed=seed,
        difficulty=difficulty,
        traits=draw_traits(rng, factors),
        factors=factors,
        own=own,
        beyond_db=np.zeros_like(own),
        rate={kind: log_normal(_RATE_SD) for kind in _VARIED},
        amplitude={
            kind: log_normal(0.1 if kind in follows else 0.25)
            * float(np.exp(_OF_DECIBELS * follows.get(kind, 0.0)))
            * (0.2 if kind == "alpha" and no_alpha else 1.0)
            for kind in (*_VARIED, "theta_run")
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
