"""Fit the background of synthetic nights so that with their events they follow the law.

Renders a cohort, compares the levels of its stages with those that the law drew for each night,
the spreads within nights with the law's and the EOG with ``datasets/synthetic/tables.py``, and
moves the constants of ``datasets/synthetic/corrections.py``, printing them after every round.

    python -m benchmarks.calibrate_synthetic --rounds 6
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.synthetic_measures import (
    levels,
    measure_cohort,
    relative_to_n2,
    spreads,
    time_domain_medians,
)
from datasets.synthetic import corrections, tables
from datasets.synthetic.law import law

# less than whole steps: an epoch mixes stages by its weights, so moving one stage's constant
# moves the means of its neighbours too
DAMPING = 0.8
FITTED = ("FPZ", "PZ", "EOG", "FPZ_FAST", "PZ_FAST")


def calibrate(rounds: int, subjects: int, seed: int) -> None:
    """Move ``corrections`` towards the law; the same seed in every round, so noise cancels."""
    wanted = law().spread_db.reshape(5, 2, 5)
    for number in range(rounds):
        nights = measure_cohort(
            seed,
            subjects=subjects,
            nights=1,
            hours=9.0,
            # handed over: worker processes import the constants as they are on disk
            background={name: getattr(corrections, name) for name in FITTED},
        )
        move_levels(nights)
        move_eog(time_domain_medians(nights)[1:, 2])
        ratio = spreads(nights) / wanted
        print(f"round {number}: spread within nights, mean ratio {ratio.mean():.2f}")
        print(ratio.round(2).tolist())
        for name, index in (("FPZ_FAST", 0), ("PZ_FAST", 1)):
            share = getattr(corrections, name)
            # in place, and a share: the background has at most all of the law's fast deviations
            share *= ratio[:, index] ** -2.0
            np.clip(share, 0.1, 1.0, out=share)
        for name in FITTED:
            print(name, np.array2string(getattr(corrections, name).round(2), separator=", "))


def move_levels(nights: list) -> None:
    """Move the levels of the stages: N2 to its level in uV, the others relative to it."""
    measured = levels(nights)
    target = np.stack([night.target_db for night in nights])
    error = np.nanmean(relative_to_n2(target) - relative_to_n2(measured), axis=0)
    population = law().mean_db[2].reshape(2, 5)
    level = 10 * tables.N2_LEVEL[:, :5] + np.mean(target[:, 2] - population, axis=0)
    error += level - np.nanmean(measured[:, 2], axis=0)
    size = np.abs(error)
    print(f"levels: mean error {size.mean():.2f} dB, worst {size.max():.2f}")
    for constant, of_derivation in ((corrections.FPZ, error[:, 0]), (corrections.PZ, error[:, 1])):
        constant += DAMPING * of_derivation / 10
        # where events alone exceed a target, the background would fall further every round
        np.clip(constant, -2.5, 1.5, out=constant)


def move_eog(eog: np.ndarray) -> None:
    """Move the EOG's background by its medians (4, 5), stages N1 to REM as in the table."""
    wanted = tables.TIME_DOMAIN["EOG horizontal"]
    # background power follows the IQR (eye movements make the SD), fast activity the mobility
    # doubled: IQR and mobility are ratios of amplitudes, the constants log10 of power
    level = 2 * np.log10(wanted[:, 1] / eog[:, 1])
    tilt = 2 * np.log10(wanted[:, 3] / eog[:, 3])
    corrections.EOG[1:] += 0.5 * (level[:, None] + tilt[:, None] * np.array([0, 0.5, 1, 1, 1, 1]))


def main() -> None:
    """Parse the flags and fit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--subjects", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1000)
    args = parser.parse_args()
    calibrate(args.rounds, args.subjects, args.seed)


if __name__ == "__main__":
    main()
