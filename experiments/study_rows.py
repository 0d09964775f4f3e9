"""Rows of the pretraining study: counts of a subject in a cell, in one resumable table."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.files import write_table
from utils.stages import STAGES

CURVE, TABLE = "curve", "table"  # of validation subjects, of held-out ones
ALL = "all"  # labelled subjects
RANDOM, POWERS, SUPERVISED = "random encoder", "band powers", "supervised"
CONTROLS = (RANDOM, POWERS, SUPERVISED)
PUBLISHED = "published: "  # controls by name: encoders of others


def is_control(objective: str) -> bool:
    """Whether a row is what pretraining is compared with."""
    return objective in CONTROLS or objective.startswith(PUBLISHED)


@dataclass(frozen=True, order=True)
class Cell:
    """What was probed: where, by what, and how much of everything it was given.

    ``store`` identifies the nights; ``setting`` is one of several of an objective, "" of controls.
    ``steps`` of the optimiser and ``nights`` without labels are 0 where there was no pretraining;
    ``budget`` are labelled subjects, a number or ``all``.
    """

    store: str
    part: str
    objective: str
    setting: str
    encoder: str
    seed: int
    steps: int
    nights: int
    budget: str

    def of(self, **values: Any) -> bool:
        """Whether the cell has these values."""
        known = asdict(self)
        return all(known[name] == value for name, value in values.items())


@dataclass(frozen=True)
class Probed:
    """Counts (subjects, 5, 5) of ``subjects``, draws of labels together, and what they took.

    ``seconds`` and ``samples`` (epochs of 30 s) are those of the training that was probed.
    """

    subjects: tuple[str, ...]
    counts: np.ndarray
    draws: int
    seconds: float
    samples: int


@dataclass(frozen=True)
class Measured:
    """A label-free metric of the validation subjects' embeddings, of the run up to these steps."""

    cell: Cell
    metric: str
    value: float


_COLUMNS = (*(one.name for one in fields(Cell)), "subject", "draws", "seconds", "samples", "counts")
_NUMBERS = ("seed", "steps", "nights")
_OF_METRIC = (*(one.name for one in fields(Cell)), "metric", "value")


class Rows:
    """Cells of held-out subjects in a file; beside it those of curves, and label-free metrics.

    Whatever is added is on the disk at once, whole, so that an interrupted study loses one cell.

    Raises:
        UserError: a file that has other columns or values than ours, or a subject twice in a cell.
    """

    def __init__(self, path: Path, *, overwrite: bool | None = None) -> None:
        self.path, self._overwrite = path, overwrite
        self.curves_path = path.with_name(f"{path.stem}_curves.csv")
        self.metrics_path = path.with_name(f"{path.stem}_metrics.csv")
        self.probed: dict[Cell, Probed] = {}
        self.measured: dict[tuple[Cell, str], float] = {}
        for part in (TABLE, CURVE):
            of = self._path_of(part)
            for cell, rows in _grouped(_read(of, _COLUMNS), of).items():
                if cell.part != part:
                    raise UserError(f"{of}: rows of {cell.part!r} do not belong here; move them")
                self.probed[cell] = _probed(cell, rows, of)
        for cell, rows in _grouped(_read(self.metrics_path, _OF_METRIC), self.metrics_path).items():
            for row in rows:
                value = float(row["value"]) if row["value"] else float("nan")
                self.measured[cell, row["metric"]] = value

    def add(self, cell: Cell, probed: Probed) -> None:
        """Write the rows of a cell, which must be new."""
        assert cell not in self.probed, f"{cell} was probed already"
        self.probed[cell] = probed
        rows = [
            row for one in self.cells(part=cell.part) for row in _rows_of(one, self.probed[one])
        ]
        write_table(self._path_of(cell.part), rows, overwrite=self._overwrite)

    def _path_of(self, part: str) -> Path:
        return self.curves_path if part == CURVE else self.path

    def measure(self, cell: Cell, metrics: Mapping[str, float]) -> None:
        """Write the label-free metrics of a cell."""
        self.measured |= {(cell, name): value for name, value in metrics.items()}
        rows = [
            asdict(of) | {"metric": name, "value": None if value != value else f"{value:.6g}"}
            for (of, name), value in sorted(self.measured.items(), key=lambda item: item[0])
        ]
        write_table(self.metrics_path, rows, overwrite=self._overwrite)

    def cells(self, **values: Any) -> list[Cell]:
        """The probed cells that have these values, in order."""
        return sorted(cell for cell in self.probed if cell.of(**values))

    def lacking(self, cells: Iterable[Cell]) -> list[Cell]:
        """Those of ``cells`` that were not probed yet."""
        return [cell for cell in cells if cell not in self.probed]


def _probed(cell: Cell, rows: Sequence[Mapping[str, str]], path: Path) -> Probed:
    subjects, about = tuple(row["subject"] for row in rows), rows[0]
    if len(set(subjects)) < len(subjects):
        raise UserError(f"{path}: a subject has two rows in {_named(cell)}; remove one")
    counts = np.stack([_counts(row["counts"], path) for row in rows])
    took = float(about["seconds"]), int(about["samples"])
    return Probed(subjects, counts, int(about["draws"]), *took)


def _rows_of(cell: Cell, probed: Probed) -> list[dict[str, Any]]:
    about = asdict(cell)
    took = {"seconds": f"{probed.seconds:.1f}", "samples": probed.samples}
    return [
        {
            **about,
            "subject": subject,
            "draws": probed.draws,
            **took,
            "counts": " ".join(map(str, counts.ravel().tolist())),
        }
        for subject, counts in zip(probed.subjects, probed.counts, strict=True)
    ]


def _read(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if tuple(reader.fieldnames or ()) != tuple(columns) or any(
        None in row or None in row.values() for row in rows
    ):
        raise UserError(f"{path}: not a table of this study; its columns are {', '.join(columns)}")
    return rows


def _grouped(rows: Sequence[Mapping[str, str]], path: Path) -> dict[Cell, list[Mapping[str, str]]]:
    groups: dict[Cell, list[Mapping[str, str]]] = {}
    for row in rows:
        values = {one.name: row[one.name] for one in fields(Cell)}
        try:
            cell = Cell(**values | {name: int(values[name]) for name in _NUMBERS})
        except ValueError as error:
            raise UserError(f"{path}: no row of this study ({error}); remove it") from error
        groups.setdefault(cell, []).append(row)
    return groups


def _counts(text: str, path: Path) -> np.ndarray:
    k = len(STAGES)
    numbers = text.split()
    if len(numbers) != k * k or not all(one.isdecimal() for one in numbers):
        raise UserError(f"{path}: counts {text!r:.60} are not {k * k} numbers; remove the cell")
    return np.array(numbers, dtype=np.int64).reshape(k, k)


def _named(cell: Cell) -> str:
    return ", ".join(str(value) for value in astuple(cell) if value != "")


def without_budget(cell: Cell) -> Cell:
    """The training of a cell, whatever labels probed it."""
    return replace(cell, budget="")
