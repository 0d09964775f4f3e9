"""The table of band powers of 153 real nights, for scripts that fit or check the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HELD_OUT, SEED = 16, 20  # subjects that nothing is fitted to, and the seed they are drawn with


@dataclass(frozen=True)
class RealNight:
    """Decibels (n, 3, 5) of Fpz-Cz, Pz-Oz and EOG, and stages (n,) with -1 where unscored."""

    recording: str
    decibels: np.ndarray
    stages: np.ndarray

    @property
    def subject(self) -> str:
        """Two digits: SC4ssN."""
        return self.recording[3:5]

    @property
    def eeg(self) -> np.ndarray:
        """Both EEGs' bands side by side (n, 10)."""
        return self.decibels[:, :2].reshape(len(self.stages), -1)

    @property
    def sleep(self) -> np.ndarray:
        """Stages from the first to the last epoch of sleep."""
        asleep = np.flatnonzero(self.stages > 0)
        return self.stages[asleep[0] : asleep[-1] + 1]


def read_nights(path: Path) -> list[RealNight]:
    """Every night of the table, in the order of their names."""
    with np.load(path) as arrays:
        names = sorted(name.removesuffix("_db") for name in arrays.files if name.endswith("_db"))
        return [
            RealNight(n, arrays[f"{n}_db"].astype(float), arrays[f"{n}_stage"].astype(int))
            for n in names
        ]


def held_out(nights: Sequence[RealNight]) -> set[str]:
    """Subjects that take no part in any fit."""
    subjects = sorted({night.subject for night in nights})
    return set(np.random.default_rng(SEED).permutation(subjects)[:HELD_OUT].tolist())
