"""Tables of the pretraining study, made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.study_rows import POWERS, RANDOM, TABLE, Cell, Probed, Rows

GRID = {
    "objectives": {"contrastive": {"plain": "--objective contrastive"}},
    "published": [],
    "encoders": ["chambon2018"],
    "steps": [1, 2],
    "nights": [1],
    "budgets": [1, "all"],
    "table": [1, "all"],
    "pairs": [["contrastive", "random encoder"]],
    "draws": 2,
    "val_share": 0.25,
    "batch_size": 8,
    "supervised_steps": 1,
    "supervised_draws": 1,
}
STORE = "synthetic 00000000"


def counts_of(right: int, wrong: int) -> np.ndarray:
    """N2 and REM, ``right`` epochs of each and ``wrong`` taken for the other: F1 is their share."""
    counts = np.zeros((5, 5), int)
    counts[2, 2] = counts[4, 4] = right
    counts[2, 4] = counts[4, 2] = wrong
    return counts


def rows_of(path: Path, rights: dict[str, list[int]], n: int = 12, seeds=(0, 1)) -> Rows:
    """Every space's subjects have ``rights`` of ten epochs right, subject after subject.

    Random encoders have theirs in another order, so that subjects are paired by name alone.
    """
    rows = Rows(path)
    for seed in seeds:
        for objective, right in rights.items():
            each = [right[k % len(right)] for k in range(n)]
            encoder = "" if objective == POWERS else "cnn"
            steps = 0 if objective in (POWERS, RANDOM) else 30
            cell = Cell(STORE, TABLE, objective, "", encoder, seed, steps, 9, "1")
            counts = np.stack([counts_of(k, 10 - k) for k in each])
            names, order = [f"s{k:02}" for k in range(n)], np.arange(n)
            order = order[::-1] if objective == RANDOM else order
            rows.add(cell, Probed(tuple(names[k] for k in order), counts[order], 1, 2.0, 100))
    return rows
