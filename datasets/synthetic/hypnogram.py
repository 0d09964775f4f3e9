"""Semi-Markov hypnograms: bouts of realistic length, whose jumps change through the night.

Bout lengths are far from geometric (Wake inside the night: median 2, mean 6 epochs), so they are
drawn from the lengths of real bouts. Lengths and jumps follow the law of real nights (see ``law``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datasets.synthetic.law import law

W, N1, N2, N3, REM = range(5)
_NO_REM_BEFORE = 70  # epochs since sleep onset: 35 min
_CYCLE = (160.0, 200.0)  # epochs: 80-100 min
_SHORTEST_NIGHT = 480  # epochs: anything shorter is a night in time lapse
_SAME_REM = 12  # epochs after REM in which it belongs to the same period of REM
_LATE, _RETURNS = 1.0, 0.8  # place in the cycle: at its end, and within a period of REM
_DEEP_STRETCH = 0.85, 1.7  # of bouts of N3, and the most


@dataclass(frozen=True)
class SleepTraits:
    """How a subject sleeps: multipliers of the population's jumps, and the period in epochs."""

    deep: float = 1.0
    wakeful: float = 1.0
    light: float = 1.0
    period: int = 920


def draw_traits(rng: np.random.Generator, factors: np.ndarray) -> SleepTraits:
    """Draw how a subject sleeps, which goes with the levels of its bands by their ``factors`` (k,).

    Spreads were tuned until shares of N1, N3 and Wake over subjects matched those of real nights.
    """
    known = law().trait_loadings
    own = np.sqrt(1 - (known**2).sum(axis=1))
    deep, wakeful, light = known @ factors + own * rng.standard_normal(3)
    return SleepTraits(
        deep=float(np.exp(1.1 * deep - 0.2)),
        wakeful=float(np.exp(0.6 * wakeful - 0.2)),
        light=float(np.exp(0.4 * light - 0.2)),
        period=int(np.clip(rng.normal(935, 130), 560, 1240)),
    )


def draw_sleep(
    rng: np.random.Generator, traits: SleepTraits, *, in_time_lapse: bool = True
) -> np.ndarray:
    """Stages from the first epoch of N1 to the last before final Wake, int8 (about ``period``).

    A period shorter than a night passes through all cycles faster, unless it is not
    ``in_time_lapse``, and no bout takes more than a sixth of it.
    """
    # room for a last bout that outlasts the period
    stages = np.empty(traits.period + 512, dtype=np.int8)
    cycle = rng.uniform(*_CYCLE)
    speed = max(1.0, _SHORTEST_NIGHT / traits.period) if in_time_lapse else 1.0
    longest = max(2, traits.period // 6)
    stage, at, rem_end = N1, 0, 0
    while at < traits.period:
        length = min(_bout(rng, stage, at * speed, traits), longest)
        stages[at : at + length] = stage
        at += length
        if stage == REM:
            rem_end = at
        late = _place_in_cycle(at * speed, rem_end * speed, cycle)
        stage = int(rng.choice(5, p=_jump(stage, at * speed, late, traits)))
    stages = stages[: traits.period]
    return stages[: np.flatnonzero(stages != W)[-1] + 1]


def _bout(rng: np.random.Generator, stage: int, at: float, traits: SleepTraits) -> int:
    """Length of a bout in epochs: N3 lasts longer early and in deep sleepers, Wake in wakeful."""
    length = float(np.interp(rng.random(), law().bout_shares, law().bout_epochs[stage]))
    stretch = 1.0
    if stage == N3:
        usual, most = _DEEP_STRETCH
        stretch = min(most, usual * float(np.sqrt(_hourly(N3, at) * traits.deep)))
    elif stage == W:
        stretch = float(np.sqrt(traits.wakeful))
    return max(1, round(1 + (length - 1) * stretch))


def _place_in_cycle(at: float, rem_end: float, cycle: float) -> float:
    """How late in its cycle of N3 and REM an epoch lies, 0 to 1; a cycle ends with its REM."""
    since = at - rem_end
    if rem_end and since < _SAME_REM:
        return _RETURNS
    return min(_LATE, since / cycle)


def _jump(stage: int, at: float, late: float, traits: SleepTraits) -> np.ndarray:
    """Probabilities of the next stage at epoch ``at`` since sleep onset, ``late`` in its cycle."""
    jump = law().jumps[stage].copy()
    # N3 comes early in a cycle and REM late; over a cycle both factors have a mean near 1
    jump[N3] *= _hourly(N3, at) * traits.deep * (1.5 - late)
    jump[REM] *= _hourly(REM, at) * 2.7 * late**1.5
    if at < _NO_REM_BEFORE:
        jump[REM] = 0.0
    jump[W] *= traits.wakeful
    jump[N1] *= traits.light
    return jump / jump.sum()


def _hourly(stage: int, at: float) -> float:
    """A stage's hourly share at epoch ``at``, relative to its mean over the night."""
    # 120 epochs per hour; a share stands for the middle of its hour
    shares = law().hourly[:, stage]
    return float(np.interp(at / 120 - 0.5, np.arange(len(shares)), shares) / shares.mean())
