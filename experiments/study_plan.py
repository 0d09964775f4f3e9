"""What the pretraining study has to make: cells of curves, then those of the final table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.store import splits
from datasets.store.folds import FoldTable
from datasets.store.store import Store
from experiments.study_grid import Grid
from experiments.study_rows import (
    ALL,
    CURVE,
    POWERS,
    PUBLISHED,
    RANDOM,
    SUPERVISED,
    TABLE,
    Cell,
    Rows,
)
from utils import metrics
from utils.checkpoint import Checkpoint
from utils.errors import UserError
from utils.files import read_json, sha256, write_json
from utils.version import VERSION

# settings of what pretraining discards; all others decide how an encoder reads an epoch
_DISCARDED = {"decoder", "predicts", "projection", "patch", "decoder_depth"}


@dataclass(frozen=True)
class Study:
    """A grid on a store whose folds ``held_out`` nobody but the final table reads.

    ``words`` are further ones for every training.
    """

    grid: Grid
    store: Store
    table: FoldTable
    held_out: tuple[int, ...]
    seeds: tuple[int, ...]
    root: Path
    words: tuple[str, ...]
    device: torch.device

    @property
    def identity(self) -> str:
        """The store by its cohort and its table of recordings, which a rebuilt store has, too."""
        return f"{self.store.cohort} {sha256(self.store.path / 'recordings.csv')[:8]}"

    @property
    def decided(self) -> Path:
        """The file of what decides the rows."""
        return self.root / "pretraining.json"

    @property
    def trained(self) -> list[int]:
        """Numbers of the folds that train."""
        return [k for k in range(len(self.table.folds)) if k not in self.held_out]

    def split(self, seed: int) -> splits.Split:
        """Subjects of a seed; those held out are the same for all seeds."""
        share = self.grid.val_share
        return splits.split(self.table, self.trained, self.held_out, share=share, seed=seed)

    def n_nights(self, seed: int) -> int:
        """Nights of all training subjects of a seed."""
        return len(self.store.of_subjects(self.split(seed).train))

    def cell(self, part: str, seed: int, budget: str, **values: Any) -> Cell:
        """A cell of this study; without ``values`` of a space that nothing was trained for."""
        plain = {"objective": POWERS, "setting": "", "encoder": "", "steps": 0, "nights": 0}
        return Cell(self.identity, part, seed=seed, budget=budget, **plain | values)


def check_same_study(study: Study, rows: Rows, *, overwrite: bool | None) -> None:
    """Refuse a folder whose rows came about otherwise; seeds, nights, settings may be added.

    Raises:
        UserError: naming what differs, or rows that nothing tells the origin of.
    """
    path, grid = study.decided, study.grid
    if rows.probed and not path.exists():
        raise UserError(
            f"{path}: missing, so nobody knows what the rows of {rows.path} are of; put it back, "
            "or choose another --project_path"
        )
    fixed = ("steps", "draws", "val_share", "batch_size", "supervised_steps", "supervised_draws")
    asked = {
        "store": study.identity,
        "folds": study.table.name,
        "held_out": list(study.held_out),
        "flags": list(study.words),
        "version": VERSION,
        "words": {f"{one.objective}: {one.name}": list(one.words) for one in grid.objectives},
    } | {name: _plain(asdict(grid)[name]) for name in fixed}
    known = read_json(path) if path.exists() else asked
    words = known.get("words", {}) | asked["words"]
    differing = [name for name in asked if name != "words" and known.get(name) != asked[name]]
    differing += [
        name for name in asked["words"] if words[name] != known["words"].get(name, words[name])
    ]
    if differing:
        raise UserError(
            f"{path}: the rows beside it are of another {', '.join(differing)}; choose another "
            "--project_path, or another name for a changed setting"
        )
    write_json(path, known | asked | {"words": words}, overwrite=overwrite)


def check_same_reading(study: Study, encoder: str, checkpoint: Checkpoint) -> None:
    """Refuse a run whose encoder is built or read otherwise than that of the others of its name.

    One random encoder and one supervised one stand beside all of them: a latent pooled otherwise,
    or of other channels, would be compared with a control that is not its own.

    Raises:
        UserError: naming what differs.
    """
    known = read_json(study.decided)
    asked = {k: _plain(v) for k, v in checkpoint.settings.items() if k not in _DISCARDED}
    asked |= {"channels": checkpoint.labels, "normalization": checkpoint.standardise}
    read = known.setdefault("read", {}).setdefault(encoder, asked)
    if differing := sorted(k for k in read | asked if read.get(k) != asked.get(k)):
        raise UserError(
            f"{checkpoint.path}: another {', '.join(differing)} than other encoders "
            f"{encoder} of {study.root}, so their controls are not its own; name one in the words "
            "of all settings, in another --project_path"
        )
    write_json(study.decided, known)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def curve_cells(study: Study, seed: int) -> list[Cell]:
    """Cells of the curves of a seed: steps, unlabelled nights, labelled subjects, and controls."""
    grid, known = study.grid, study.split(seed)
    everything = study.n_nights(seed)
    budgets = [n for n in grid.budgets if n == ALL or int(n) < len(known.train)]
    table, last = [n for n in grid.table if n in budgets], grid.steps[-1]
    plain = [POWERS, *(f"{PUBLISHED}{name}" for name in grid.published)]
    cells = [study.cell(CURVE, seed, budget, objective=one) for one in plain for budget in budgets]
    for encoder in grid.encoders:
        for control in (RANDOM, SUPERVISED):
            about = {"objective": control, "encoder": encoder}
            cells += [study.cell(CURVE, seed, budget, **about) for budget in budgets]
        points = [(steps, everything) for steps in grid.steps]
        points += [(last, n) for n in grid.nights if n < everything]
        for one in grid.objectives:
            for steps, nights in points:
                about = {"objective": one.objective, "setting": one.name, "encoder": encoder}
                wanted = budgets if (steps, nights) == (last, everything) else table
                cells += [
                    study.cell(CURVE, seed, budget, steps=steps, nights=nights, **about)
                    for budget in wanted
                ]
    return cells


def table_cells(
    study: Study, seed: int, chosen: Mapping[tuple[str, str], tuple[str, int]]
) -> list[Cell]:
    """Cells of the final table of a seed: the controls, and what was chosen of each objective."""
    cells = [
        replace(cell, part=TABLE)
        for cell in curve_cells(study, seed)
        if cell.budget in study.grid.table
    ]
    everything = study.n_nights(seed)
    return [
        cell
        for cell in cells
        if cell.steps == 0
        or (
            cell.nights == everything
            and chosen[cell.objective, cell.encoder] == (cell.setting, cell.steps)
        )
    ]


def selected(study: Study, rows: Rows) -> dict[tuple[str, str], tuple[str, int]]:
    """The setting and the steps of each objective and encoder, chosen on validation subjects.

    By macro-F1, mean over the seeds and the budgets of the final table, of trainings on all
    unlabelled nights; of equals the first of the grid.
    """
    scores: dict = defaultdict(lambda: defaultdict(list))
    for seed in study.seeds:
        everything = study.n_nights(seed)
        for cell in curve_cells(study, seed):
            if cell.steps and cell.nights == everything and cell.budget in study.grid.table:
                macro_f1 = metrics.macro_f1(rows.probed[cell].counts.sum(axis=0))
                of = scores[cell.objective, cell.encoder]
                of[cell.setting, cell.steps].append(float(macro_f1))
    return {key: max(of, key=lambda one: np.mean(of[one])) for key, of in scores.items()}


def check_selection(
    study: Study, rows: Rows, chosen: Mapping[tuple[str, str], tuple[str, int]]
) -> None:
    """Refuse to read held-out subjects for a second selection.

    Raises:
        UserError: the table has rows of another setting or other steps.
    """
    for cell in rows.cells(store=study.identity, part=TABLE):
        kept = chosen.get((cell.objective, cell.encoder), (cell.setting, cell.steps))
        if cell.steps and kept != (cell.setting, cell.steps):
            raise UserError(
                f"{rows.path}: held-out subjects were read for {cell.objective}, {cell.setting}, "
                f"{cell.steps} steps; a second selection ({kept[0]}, {kept[1]} steps) on the same "
                "subjects is none: hold out others, in another --project_path"
            )
