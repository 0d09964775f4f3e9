"""Made-up nights of band powers whose stages show in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.band_tables import BandNight, BandTable, write_table

# dB of delta, theta, alpha, sigma, beta by stage
LEVELS = np.array(
    [[0, 0, 8, 0, 8], [0, 4, 2, 0, 3], [6, 3, 0, 6, 0], [14, 4, 0, 3, -3], [1, 5, 1, -2, 2]], float
)
DERIVATIONS = ("EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal")


def made_up_night(recording: str, subject: str, n: int = 60, *, shift: float = 0.0) -> BandNight:
    """A night of blocks of ten epochs of one stage; ``shift`` adds decibels to N3's delta."""
    rng = np.random.default_rng(sum(map(ord, recording)))
    stages = np.repeat(rng.permutation(np.arange(n // 10) % 5), 10).astype(np.int8)
    db = LEVELS[stages][:, None] + rng.normal(20, 5, (1, 3, 5)) + rng.normal(0, 0.5, (n, 3, 5))
    db[stages == 3, :, 0] += shift
    stages[0] = -1
    return BandNight(recording, subject, db.astype(np.float32), stages)


def made_up_table(
    path: Path, n_subjects: int = 6, cohort: str = "synthetic-table", shift: float = 0.0
) -> BandTable:
    """Write a table of one night for each subject, of 60 to 110 epochs."""
    nights = [
        made_up_night(f"SC4{k:02}1", f"SC4{k:02}", 60 + 10 * (k % 6), shift=shift)
        for k in range(n_subjects)
    ]
    table = BandTable(path, cohort, DERIVATIONS, tuple(nights))
    write_table(path, table)
    return table
