"""A context model pretrained on sequences of real band powers, beside its controls.

It reads band powers alone, so this is a check of embeddings, not of encoders of signals. Subjects
are split with all their nights; those held out are the same for every seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
from torch import nn

from datasets.band_batches import BandSource
from datasets.band_tables import BandNight, BandTable, read_table, split_of
from experiments.study_grid import Grid
from experiments.study_rows import ALL, TABLE, Cell, Probed, Rows
from experiments.study_spaces import Labels, Splits, counted, probe
from probing.probes import Labelled
from probing.row_files import scaled_by_night
from training import context_training
from training.context_training import ContextTraining
from utils.files import sha256

ENCODER = "context of band powers"
POWERS, RANDOM, SUPERVISED = "powers themselves", "random context", "supervised context"
MASKED = "masked band powers"
CONTROLS = (RANDOM, POWERS, SUPERVISED)
PAIRS = tuple((MASKED, control) for control in CONTROLS)
_HELD_OUT, _VALIDATE = 20, 10  # subjects, of a table that has enough


@dataclass(frozen=True)
class Sequences:
    """A table's nights by split, and how labels of a seed's training subjects are drawn."""

    table: BandTable
    splits: dict[str, list[BandNight]]
    labels: Labels

    def source(self, nights: Sequence[BandNight]) -> BandSource:
        """Nights for batches."""
        return BandSource(tuple(nights), tuple(self.table.is_eog))

    def space(self, embed: Callable[[BandNight], np.ndarray]) -> Splits:
        """Embeddings of all splits, every night centred and scaled by itself."""
        return {name: _labelled(nights, embed) for name, nights in self.splits.items()}


def sequences_of(table: BandTable, seed: int) -> Sequences:
    """The split of a table: up to 20 subjects are held out, up to 10 validate, by seed 0."""
    n = len(table.subjects)
    parts = split_of(table.subjects, min(_HELD_OUT, n // 4), min(_VALIDATE, max(1, n // 8)), 0)
    names = ("train", "validation", "held_out")
    splits = {name: table.of_subjects(some) for name, some in zip(names, parts, strict=True)}
    return Sequences(table, splits, Labels(len(parts[0]), "held_out", seed))


def _labelled(nights: Sequence[BandNight], embed: Callable[[BandNight], np.ndarray]) -> Labelled:
    lengths = [len(night.stages) for night in nights]
    z = np.concatenate([embed(night) for night in nights])
    scaled = scaled_by_night(z, np.concatenate([[0], np.cumsum(lengths)]))
    stages = np.concatenate([night.stages for night in nights])
    return Labelled(scaled, stages, np.repeat([night.subject for night in nights], lengths))


def run(
    path: Path,
    seeds: Sequence[int],
    grid: Grid,
    rows: Rows,
    how: ContextTraining | None = None,
) -> None:
    """Add what the table lacks: a row per seed, space, number of labelled subjects and subject."""
    table, how = read_table(path), how or ContextTraining()
    store = f"{table.cohort} band powers {sha256(path)[:8]}"
    for seed in seeds:
        nights = sequences_of(table, seed)
        budgets = [n for n in grid.table if n == ALL or int(n) < nights.labels.n_train]
        cell = Cell(store, TABLE, "", "", ENCODER, seed, 0, 0, "")
        for objective in (*CONTROLS, MASKED):
            pretrains = objective == MASKED
            about = {"objective": objective, "steps": how.steps if pretrains else 0}
            about |= {"nights": len(nights.splits["train"]) if pretrains else 0}
            wanted = [replace(cell, budget=budget, **about) for budget in budgets]
            if lacking := rows.lacking(wanted):
                print(f"{store}, seed {seed}: {objective}", flush=True)
                _add(nights, how, grid, rows, lacking)


def _add(
    nights: Sequences, how: ContextTraining, grid: Grid, rows: Rows, cells: Sequence[Cell]
) -> None:
    """Probe the cells of one space."""
    objective, seed, begun = cells[0].objective, cells[0].seed, perf_counter()
    seen = how.steps * how.batch_size  # nights
    epochs = round(np.mean([len(night.stages) for night in nights.splits["train"]]) * seen)
    if objective == SUPERVISED:
        for cell in cells:
            rows.add(cell, _supervised(nights, how, cell, grid.supervised_draws, epochs))
        return
    if objective == MASKED:
        source = nights.source(nights.splits["train"])
        nets = [context_training.pretrained(how, source, seed)]
    else:
        n = grid.draws if objective == RANDOM else 1
        nets = [context_training.untrained(how, 1000 * seed + k) for k in range(n)]
    embed = context_training.powers_of if objective == POWERS else context_training.context_of
    seconds, samples = (perf_counter() - begun, epochs) if objective == MASKED else (0.0, 0)
    spaces = [nights.space(_by(net, embed)) for net in nets]
    for cell in cells:
        made = probe(spaces, nights.labels, cell.budget, grid.draws)
        rows.add(cell, Probed(**made, seconds=seconds, samples=samples))


def _by(
    net: nn.Module, embed: Callable[[nn.Module, BandNight], np.ndarray]
) -> Callable[[BandNight], np.ndarray]:
    return lambda night: embed(net, night)


def _supervised(
    nights: Sequences, how: ContextTraining, cell: Cell, draws: int, samples: int
) -> Probed:
    """The same model trained by the labels that a probe of the same draw learns from."""
    begun, train, staged = perf_counter(), nights.splits["train"], []
    subjects = Labelled(  # an epoch of every night, which is all that drawing subjects needs
        np.zeros((len(train), 1)), np.zeros(len(train), int), np.array([n.subject for n in train])
    )
    draws = 1 if cell.budget == ALL else draws
    for k in range(draws):
        some = [train[row] for row in nights.labels.rows_of(subjects, cell.budget, k)]
        net = context_training.supervised(
            how, nights.source(some), nights.splits["validation"], 1000 * cell.seed + k
        )
        each = [context_training.stages_of(net, night) for night in nights.splits["held_out"]]
        staged.append(np.concatenate(each))
    target = _labelled(nights.splits["held_out"], lambda night: night.decibels[:, 0])
    made = counted(target, staged)
    return Probed(**made, seconds=(perf_counter() - begun) / draws, samples=samples)
