"""Semi-Markov hypnograms: bouts of realistic length, whose jumps change through the night.

Bout lengths are far from geometric (Wake inside the night: median 2, mean 5.5 epochs), so a bout
lasts one epoch with its own probability and otherwise follows a mixture of a short geometric and
a log-normal law. Laws and jumps follow 20 nights of Sleep-EDF (see ``tables``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datasets.synthetic.tables import HOURLY_N3, HOURLY_REM, JUMPS

W, N1, N2, N3, REM = range(5)
_NO_REM_BEFORE = 80  # epochs since sleep onset: 40 min
_CYCLE = (160.0, 200.0)  # epochs: 80-100 min
_SHORTEST_NIGHT = 480  # epochs: anything shorter is a night in time lapse


@dataclass(frozen=True)
class BoutLaw:
    """Law of bout lengths: 1 epoch, or 1 plus a short geometric or a log-normal length.

    ``single`` is the probability of one epoch, ``short`` that of the geometric among the others.
    """

    single: float
    short: float
    geometric: float
    log_mean: float
    log_sd: float
    longest: int

    def draw(self, rng: np.random.Generator, scale: float) -> int:
        """One bout length in epochs; ``scale`` stretches all but the single-epoch bouts."""
        if rng.random() < self.single:
            return 1
        if rng.random() < self.short:
            length = rng.geometric(self.geometric)
        else:
            length = np.ceil(rng.lognormal(self.log_mean, self.log_sd))
        return 1 + min(max(1, round(float(length) * scale)), self.longest)


BOUTS = (  # of W, N1, N2, N3 and REM
    BoutLaw(0.49, 0.65, 0.35, 2.25, 0.90, 120),
    BoutLaw(0.39, 0.75, 0.45, 1.35, 0.60, 30),
    BoutLaw(0.22, 0.45, 0.30, 2.60, 0.85, 120),
    BoutLaw(0.47, 0.40, 0.50, 2.65, 0.75, 80),
    BoutLaw(0.09, 0.35, 0.18, 2.75, 0.65, 90),
)


@dataclass(frozen=True)
class SleepTraits:
    """How a subject sleeps: multipliers of the population's laws, and the period in epochs."""

    deep: float = 1.0
    wakeful: float = 1.0
    period: int = 920


def draw_sleep(rng: np.random.Generator, traits: SleepTraits) -> np.ndarray:
    """Stages from the first epoch of N1 to the last before final Wake, int8 (about ``period``).

    A period shorter than a night passes through all cycles faster, and no bout takes more than a
    sixth of it.
    """
    # room for a last bout that outlasts the period
    stages = np.empty(traits.period + 256, dtype=np.int8)
    cycle = rng.uniform(*_CYCLE)
    speed = max(1.0, _SHORTEST_NIGHT / traits.period)
    longest = max(2, traits.period // 6)
    stage, at = N1, 0
    while at < traits.period:
        clock = at * speed
        length = min(BOUTS[stage].draw(rng, _stretch(stage, clock, traits)), longest)
        stages[at : at + length] = stage
        at += length
        stage = int(rng.choice(5, p=_jump(stage, at * speed, cycle, traits)))
    stages = stages[: traits.period]
    return stages[: np.flatnonzero(stages != W)[-1] + 1]


def _stretch(stage: int, at: float, traits: SleepTraits) -> float:
    """Factor of a bout's length: N3 is longer early and in deep sleepers, Wake in the wakeful."""
    if stage == N3:
        return float(np.sqrt(_hourly(HOURLY_N3, at)) * traits.deep)
    return traits.wakeful if stage == W else 1.0


def _jump(stage: int, at: float, cycle: float, traits: SleepTraits) -> np.ndarray:
    """Probabilities of the next stage at epoch ``at`` since sleep onset."""
    jump = JUMPS[stage].copy()
    # N3 comes early in a cycle and REM late; over a cycle both factors have a mean near 1
    late_in_cycle = (at % cycle) / cycle
    jump[N3] *= _hourly(HOURLY_N3, at) * traits.deep * (1.5 - late_in_cycle)
    jump[REM] *= _hourly(HOURLY_REM, at) * 2.7 * late_in_cycle**1.5
    if at < _NO_REM_BEFORE:
        jump[REM] = 0.0
    jump[W] *= traits.wakeful
    return jump / jump.sum()


def _hourly(shares: np.ndarray, at: float) -> float:
    """A stage's hourly share at epoch ``at``, relative to its mean over the night."""
    # 120 epochs per hour; a share stands for the middle of its hour
    return float(np.interp(at / 120 - 0.5, np.arange(len(shares)), shares) / shares.mean())
