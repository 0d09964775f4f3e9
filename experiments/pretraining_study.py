"""The pretraining study: trainings, their curves on validation subjects, and the final table.

Every finished cell is on the disk at once; the same command resumes, also on a fresh checkout that
has the table of an earlier session but none of its runs.
"""

from __future__ import annotations

import shlex
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch

from datasets.store import splits
from datasets.store.folds import FoldTable
from datasets.store.store import Store
from evaluation import embed
from evaluation.encoder_controls import embed_powers, published_encoder
from evaluation.stagers import catalogue
from experiments import band_context, study_page, study_spaces
from experiments.cells import Cell as Command
from experiments.cells import run_cells
from experiments.reproducing import ROOT
from experiments.study_grid import Setting, read_grid, refuse_ours
from experiments.study_plan import (
    Study,
    check_same_reading,
    check_same_study,
    check_selection,
    curve_cells,
    selected,
    table_cells,
)
from experiments.study_rows import (
    ALL,
    CURVE,
    POWERS,
    PUBLISHED,
    RANDOM,
    SUPERVISED,
    Cell,
    Probed,
    Rows,
    without_budget,
)
from utils.arguments import add_flag
from utils.checkpoint import Checkpoint, load_checkpoint
from utils.errors import UserError
from utils.files import read_json, safe_name
from utils.runs import Run

GRID = ROOT / "configs" / "study" / "pretraining.json"


@dataclass(frozen=True)
class StudyFlags:
    """Settings of --table pretraining, one field per flag."""

    grid: Path | None
    final: bool
    band_table: Path | None

    def __post_init__(self) -> None:
        if self.band_table and not self.final:
            raise UserError("--band_table: reads held-out subjects; add --final, or leave it out")


def add_flags(group: Any) -> None:
    """Add the flags of the pretraining study."""
    group.add_argument(
        "--grid",
        type=Path,
        help="what is compared, a JSON file (default: configs/study/pretraining.json)",
    )
    add_flag(
        group,
        "--final",
        help="also read the held-out subjects, once: of each objective the setting and the steps "
        "that validation subjects choose; without it the curves alone are made",
    )
    group.add_argument(
        "--band_table",
        type=Path,
        help="with --final, table of band powers of real nights: a context model is pretrained on "
        "their sequences and probed beside its controls, too",
    )


def study_of(
    flags: StudyFlags,
    nights: tuple[Store, FoldTable],
    held_out: Sequence[int],
    seeds: Sequence[int],
    root: Path,
    words: str,
    device: torch.device,
) -> Study:
    """The study of the flags on a store and one of its fold tables.

    The ``held_out`` folds are held out together.

    Raises:
        UserError: no grid, folds that leave nothing to train on, or words of which the study sets
            one itself.
    """
    grid, (store, table) = read_grid(flags.grid or GRID), nights
    further = tuple(shlex.split(words))
    refuse_ours(further, "--flags")
    trained = [k for k in range(len(table.folds)) if k not in held_out]
    splits.held_out_folds(table, trained, held_out)  # refuses what leaves none
    return Study(grid, store, table, tuple(held_out), tuple(seeds), root, further, device)


def run(study: Study, flags: StudyFlags, how: Mapping[str, Any], *, overwrite: bool | None) -> Path:
    """Make every cell that the table lacks: curves first, then what held-out subjects are read for.

    ``how`` are the arguments of ``run_cells``. Returns the page, which is written from the table
    alone, also when nothing was lacking.
    """
    rows = Rows(study.root / f"{study_page.NAME}.csv", overwrite=overwrite)
    lacking = rows.lacking(cell for seed in study.seeds for cell in curve_cells(study, seed))
    for objective in sorted({cell.objective for cell in lacking}):
        published_of(objective)  # weights that are not here are missed before anything is written
    check_same_study(study, rows, overwrite=overwrite)
    for seed in study.seeds:
        make(study, rows, curve_cells(study, seed), how)
    if flags.final:
        chosen = selected(study, rows)
        check_selection(study, rows, chosen)
        for seed in study.seeds:
            make(study, rows, table_cells(study, seed, chosen), how)
    if flags.band_table is not None:
        band_context.run(flags.band_table, study.seeds, study.grid, rows)
    return study_page.write(rows, study.identity, study.grid, about(study), overwrite=overwrite)


def about(study: Study) -> str:
    """A sentence on nights and subjects, without date or machine: the same rows, the same page."""
    known = study.split(study.seeds[0])
    sizes = {
        name: splits.sizes(study.store, subjects)
        for name, subjects in (
            ("train", known.train),
            ("validate", known.validation),
            ("are held out", known.held_out),
        )
    }
    parts = "; ".join(f"{size} {name}" for name, size in sizes.items())
    if splits.own_validation(study.table, study.trained, study.held_out):
        parts += "; the folds name who validates, the same for every seed (`val_share` is not used)"
    return (
        f"{study.store.cohort}, folds {study.table.name}, fold "
        f"{', '.join(map(str, study.held_out))} held out. Of seed {study.seeds[0]}: {parts}. "
        "Written by `reproduce_tables.py --table pretraining` from the CSV beside it alone; the "
        "rule is `results/pretraining_rule.md`.\n"
    )


def make(study: Study, rows: Rows, cells: Sequence[Cell], how: Mapping[str, Any]) -> None:
    """Make the lacking ones of ``cells``, all of one seed.

    As many trainings as run at once are probed when they have ended, so that an interruption
    costs no more than these; those of the most nights come first.
    """
    lacking = rows.lacking(cells)
    if not lacking:
        return
    part, seed = lacking[0].part, lacking[0].seed
    print(f"{part}, seed {seed}: {len(lacking)} of {len(cells)} cells to make", flush=True)
    groups = defaultdict(list)
    for _, group in groupby(sorted(lacking), key=without_budget):
        same = list(group)
        needed = trained_for(study, same[0])
        groups[of_training(needed)].append((same, needed))
    order = sorted(groups, key=lambda training: (-training[-1], training))
    for some in batched(order, how["at_once"]):
        train(study, seed, some, how)
        for same, needed in (one for training in some for one in groups[training]):
            path = run_of(study, needed) / "checkpoints" / f"step_{needed.steps:06d}.pt"
            checkpoint = load_checkpoint(path)
            check_same_reading(study, needed.encoder, checkpoint)
            probe(study, rows, same, checkpoint)


def batched(items: Sequence[Any], n: int) -> list[Sequence[Any]]:
    """``items`` in parts of at most ``n``."""
    return [items[k : k + n] for k in range(0, len(items), n)]


def trained_for(study: Study, cell: Cell) -> Cell:
    """The cell whose training a cell is made from: its own, of a control the first of the grid.

    Controls take the shape of their encoder, the training nights and the split from it.
    """
    if cell.steps:
        return cell
    first, grid = study.grid.objectives[0], study.grid
    about = {"objective": first.objective, "setting": first.name, "steps": grid.steps[-1]}
    about |= {"encoder": cell.encoder or grid.encoders[0], "nights": study.n_nights(cell.seed)}
    return replace(cell, **about)


def of_training(cell: Cell) -> tuple[str, str, str, int]:
    """What tells the trainings of a seed apart."""
    return cell.objective, cell.setting, cell.encoder, cell.nights


def folder_of(study: Study, setting: Setting, encoder: str, nights: int) -> Path:
    """The project folder of trainings that differ in their seed alone."""
    decided = (study.identity, study.table.name, study.held_out, study.words, setting.words,
               study.grid.steps, study.grid.batch_size, study.grid.val_share)  # fmt: skip
    mark = crc32(repr(decided).encode())
    name = f"{setting.objective}_{setting.name}_{encoder}_{nights}nights_{mark:08x}"
    return study.root / "runs" / safe_name(name.replace(" ", "_"), study.root)


def setting_of(study: Study, cell: Cell) -> Setting:
    """The setting of the grid that a cell is of."""
    named = {(one.objective, one.name): one for one in study.grid.objectives}
    return named[cell.objective, cell.setting]


def run_of(study: Study, cell: Cell) -> Path:
    """The folder of the training that a cell probes."""
    folder = folder_of(study, setting_of(study, cell), cell.encoder, cell.nights)
    return next(iter(sorted(folder.glob(f"ssl_*_seed{cell.seed}"))), folder / "none")


def train(
    study: Study,
    seed: int,
    needed: Sequence[tuple[str, str, str, int]],
    how: Mapping[str, Any],
) -> None:
    """Run the trainings that are not done, each resumed where it stopped."""
    commands = []
    for objective, name, encoder, nights in needed:
        cell = study.cell(
            CURVE, seed, ALL, objective=objective, setting=name, encoder=encoder, nights=nights,
            steps=study.grid.steps[-1],
        )  # fmt: skip
        if (run_of(study, cell) / "checkpoints" / f"step_{cell.steps:06d}.pt").exists():
            continue
        setting = setting_of(study, cell)
        folder = folder_of(study, setting, encoder, nights)
        words = [sys.executable, str(ROOT / "ssl_training.py"), *words_of(study, setting, cell)]
        title = f"{objective}, {name}, {encoder}, {nights} nights, seed {seed}"
        words += ["--project_path", str(folder)]
        commands.append(Command(title, [words], folder / f"seed{seed}.log"))
    run_cells(commands, study.root / "submitted", **how)


def words_of(study: Study, setting: Setting, cell: Cell) -> list[str]:
    """Flags of the training that a cell probes."""
    grid = study.grid
    flags = {
        "data_path": study.store.path,
        "encoder": cell.encoder,
        "folds": study.table.name,
        "train_data_list": ",".join(map(str, study.trained)),
        "val_data_list": ",".join(map(str, study.held_out)),
        "val_share": grid.val_share,
        "seed": cell.seed,
        "batch_size": grid.batch_size,
        "n_nights": cell.nights,
        "keep_steps": ",".join(map(str, grid.steps)),
        "n_steps": grid.steps[-1],
        "patience": 0,
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    return [*setting.words, *study.words, *words]


def probe(study: Study, rows: Rows, cells: Sequence[Cell], checkpoint: Checkpoint) -> None:
    """Probe the budgets of one space: ``cells`` that differ in their budget alone."""
    first, grid = cells[0], study.grid
    how = study.device, first.part, first.seed
    other = published_of(first.objective)
    nights = study_spaces.open_nights(checkpoint, study.store, *how, read_by=other or checkpoint)
    if first.objective == SUPERVISED:
        steps, draws = grid.supervised_steps, grid.supervised_draws
        for cell in cells:
            n = 1 if cell.budget == ALL else draws
            rows.add(cell, study_spaces.supervised(checkpoint, nights, cell.budget, steps, n))
        return
    net = embed.encoder_of(checkpoint)
    if other is not None:
        encoders = [published_encoder(other, study.device)]
    elif first.objective == POWERS:
        encoders = [embed_powers]
    elif first.objective == RANDOM:
        untrained = study_spaces.untrained_of(checkpoint, nights)
        encoders = [
            study_spaces.pretrained_space(untrained(1000 * first.seed + k), checkpoint)
            for k in range(grid.draws)
        ]
    else:
        encoders = [study_spaces.pretrained_space(net, checkpoint)]
    with ExitStack() as files:
        raw = [
            files.enter_context(
                study_spaces.embedded(nights, encode, study.root / "runs" / f"space_{k}")
            )
            for k, encode in enumerate(encoders)
        ]
        spaces = [study_spaces.scaled(one, nights) for one in raw]
        if first.steps and first.part == CURVE:  # first: cells are taken for done by their rows
            of = without_budget(first)
            rows.measure(of, study_spaces.label_free(net, checkpoint, nights, raw[0]))
        seconds, samples = spent(checkpoint, first.steps)
        for cell in cells:
            made = study_spaces.probe(spaces, nights.labels, cell.budget, grid.draws)
            rows.add(cell, Probed(**made, seconds=seconds, samples=samples))


def published_of(objective: str) -> Checkpoint | None:
    """The weights of the published encoder that a row is about, if it is about one.

    Raises:
        UserError: no such encoder, or its weights are not here.
    """
    name = objective.removeprefix(PUBLISHED)
    return None if name == objective else catalogue.published_checkpoint(name)


def spent(checkpoint: Checkpoint, steps: int) -> tuple[float, int]:
    """Seconds of training up to so many steps of a run, and the epochs that it saw."""
    if not steps:
        return 0.0, 0
    passes = Run(checkpoint.run).rows()
    ends = np.cumsum([0.0, *(row["seconds"] for row in passes)])
    seconds = float(np.interp(steps, [0, *(row["steps"] for row in passes)], ends))
    flags = read_json(checkpoint.run / "run.json")["settings"]
    return seconds, steps * int(flags["batch_size"]) * int(flags["accumulate"])
