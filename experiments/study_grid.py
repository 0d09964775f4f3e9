"""What the pretraining study runs: a grid of objectives, encoders, steps, nights and labels."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from experiments.study_rows import ALL, CONTROLS, PUBLISHED, is_control
from utils.errors import UserError
from utils.files import read_json

# flags of ssl_training.py that the study sets itself, for every run alike
_OURS = {
    "--encoder", "-e", "--fold", "--folds", "--train_data_list", "--val_data_list",
    "--test_data_list", "--val_share", "--seed", "--data_path", "--project_path", "--batch_size",
    "--n_epochs", "--n_steps", "--patience", "--keep_steps", "--n_nights", "--select_on",
    "--max_minutes",
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """One setting of an objective: the words that ``ssl_training.py`` is given for it."""

    objective: str
    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A study; of several settings of an objective validation subjects choose one.

    ``published`` are encoders of others, by name, that are read beside them.
    ``steps`` are those of the optimiser at which weights are probed, ``nights`` numbers of
    unlabelled nights beside all of them, ``budgets`` numbers of labelled subjects beside all,
    ``table`` those of them in the final table. ``draws`` of labelled subjects are one figure;
    ``supervised_steps`` and ``supervised_draws`` are of networks trained with the same labels.
    """

    objectives: tuple[Setting, ...]
    published: tuple[str, ...]
    encoders: tuple[str, ...]
    steps: tuple[int, ...]
    nights: tuple[int, ...]
    budgets: tuple[str, ...]
    table: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    draws: int
    val_share: float
    batch_size: int
    supervised_steps: int
    supervised_draws: int


def read_grid(path: Path) -> Grid:
    """Read a grid from a JSON file.

    Raises:
        UserError: a key that is missing or unknown, or a value that a study cannot have.
    """
    raw = read_json(path)
    known = {one.name for one in fields(Grid)}
    if wrong := sorted(known ^ raw.keys()):
        kind = "lacks" if wrong[0] in known else "nothing reads"
        raise UserError(f"{path}: {kind} {wrong[0]}; a grid has {', '.join(sorted(known))}")
    try:
        grid = _grid(raw)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: no grid of a study ({error})") from error
    _check(grid, path)
    return grid


def _grid(raw: dict[str, Any]) -> Grid:
    named = raw["objectives"]
    if not isinstance(named, dict) or not all(isinstance(one, dict) for one in named.values()):
        raise TypeError("objectives are settings by name, by the name of their objective")
    settings = [
        Setting(objective, name, tuple(shlex.split(str(words))))
        for objective, each in named.items()
        for name, words in each.items()
    ]
    values = {
        "objectives": tuple(settings),
        "published": tuple(map(str, raw["published"])),
        "encoders": tuple(map(str, raw["encoders"])),
        "budgets": tuple(map(str, raw["budgets"])),
        "table": tuple(map(str, raw["table"])),
        "pairs": tuple((str(one), str(other)) for one, other in raw["pairs"]),
        "val_share": float(raw["val_share"]),
    }
    values |= {name: tuple(sorted({int(n) for n in raw[name]})) for name in ("steps", "nights")}
    numbers = ("draws", "batch_size", "supervised_steps", "supervised_draws")
    return Grid(**values, **{name: int(raw[name]) for name in numbers})


def refuse_ours(words: Sequence[str], where: str) -> None:
    """Refuse words of a training that the study decides.

    Raises:
        UserError: naming one.
    """
    given = {word.partition("=")[0] for word in words}
    if taken := sorted(given & _OURS):
        raise UserError(f"{where}: the study sets {taken[0]}; take it out")


def _check(grid: Grid, path: Path) -> None:
    for setting in grid.objectives:
        refuse_ours(setting.words, f"{path}: {setting.name}")
        if is_control(setting.objective):
            raise UserError(f"{path}: {setting.objective} is a control; name the objective")
    names = {setting.objective for setting in grid.objectives} | set(CONTROLS)
    names |= {f"{PUBLISHED}{name}" for name in grid.published}
    if unknown := [one for pair in grid.pairs for one in pair if one not in names]:
        raise UserError(f"{path}: pairs: no objective or control {unknown[0]!r}")
    counted = [n for n in grid.budgets if n != ALL]
    numbers = [*grid.steps, *grid.nights, grid.draws, grid.batch_size]
    numbers += [grid.supervised_steps, grid.supervised_draws]
    sound = (
        all(n > 0 for n in numbers)
        and all(n.isdecimal() and int(n) > 0 for n in counted)
        and set(grid.table) <= set(grid.budgets)
        and 0 < grid.val_share < 1
    )
    if not (sound and grid.objectives and grid.encoders and grid.steps and grid.table):
        raise UserError(
            f"{path}: objectives, encoders, steps, budgets and table have one entry or more, "
            "numbers are above 0, val_share is a share, and table is part of budgets"
        )
