"""Folds by subject: published tables shipped as id lists, and two rules for any cohort.

``kfold:N:seed`` draws folds, ``usleep:seed`` one split as U-Sleep's rule has it. A fold is three
disjoint lists of subject ids; every subject of the store is tested exactly once. A published split
is fold 0 of a table whose folds 1 and 2 test the subjects that it validates and trains on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.files import write_json
from utils.json_values import value_in

TABLES = Path(__file__).parents[1] / "cohorts" / "fold_tables"
_KFOLD = re.compile(r"kfold:(\d+):(\d+)")
_USLEEP = re.compile(r"usleep:(\d+)")
_VALIDATION_SHARE = 0.1
# U-Sleep (Perslev et al. 2021): shares of a cohort's persons, and the most of them
_USLEEP_VALIDATES, _USLEEP_TESTS = (0.10, 50), (0.15, 100)
# what stores print in place of their tables
OF_ONE_SUBJECT = "none, as a single subject cannot be split: evaluate trained models on this store"


@dataclass(frozen=True)
class Fold:
    """One fold: subject ids to train on, to validate on and to test on."""

    train: list[str]
    val: list[str]
    test: list[str]


@dataclass(frozen=True)
class FoldTable:
    """Named folds and where they come from."""

    name: str
    source: str
    folds: list[Fold]


def published_names() -> list[str]:
    """Names of the tables that come with the code."""
    return sorted(path.stem for path in TABLES.glob("*.json"))


def make(name: str, subjects: Sequence[str], *, allow_missing: bool = False) -> FoldTable:
    """The table ``name`` for a cohort: a published one, ``kfold:N:seed`` or ``usleep:seed``.

    Raises:
        UserError: an unknown name, more folds than subjects, or a published table that names
            subjects the cohort lacks (unless ``allow_missing``) or does not test one it has.
    """
    if match := _KFOLD.fullmatch(name):
        return _kfold(int(match[1]), int(match[2]), subjects)
    if match := _USLEEP.fullmatch(name):
        return _usleep(int(match[1]), subjects)
    path = TABLES / f"{name}.json"
    # word characters alone: a name must not lead to another folder
    if not re.fullmatch(r"\w+", name) or not path.is_file():
        raise UserError(
            f"unknown folds {name!r}; there are {', '.join(published_names())}, kfold:N:seed and "
            "usleep:seed"
        )
    return fit(load(path), subjects, allow_missing=allow_missing)


def for_few(subjects: Sequence[str]) -> FoldTable | None:
    """``kfold:5:0``, with fewer than five subjects a fold for each; ``None`` for a single one."""
    n = min(5, len(subjects))
    return make(f"kfold:{n}:0", subjects) if n > 1 else None


def load(path: Path) -> FoldTable:
    """Read a table and check that each fold's lists are disjoint.

    Raises:
        UserError: the file is missing, is not a fold table, or a fold leaks.
    """
    try:
        raw = value_in(path)
        table = FoldTable(raw["name"], raw["source"], [Fold(**fold) for fold in raw["folds"]])
        for number, fold in enumerate(table.folds):
            _check_disjoint(fold, f"{path}: fold {number}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a fold table ({error})") from error
    return table


def write(folder: Path, table: FoldTable) -> Path:
    """Write ``<folder>/<name>.json``; ``:`` becomes ``-``, which every file system takes."""
    path = path_of(folder, table.name)
    write_json(path, asdict(table))
    return path


def names_in(folder: Path) -> list[str]:
    """Names of the tables that a store has."""
    # files that begin with a dot are being written
    return sorted(path.stem for path in folder.glob("[!.]*.json"))


def path_of(folder: Path, name: str) -> Path:
    """Where the table ``name`` of a store is kept."""
    return folder / f"{name.replace(':', '-')}.json"


def fit(table: FoldTable, subjects: Iterable[str], *, allow_missing: bool = False) -> FoldTable:
    """``table`` restricted to ``subjects``, each of which it must test exactly once.

    Raises:
        UserError: listing the subjects the cohort lacks, or those not tested exactly once.
    """
    present = set(subjects)
    named = {s for fold in table.folds for s in (*fold.train, *fold.val, *fold.test)}
    if (missing := sorted(named - present)) and not allow_missing:
        raise UserError(
            f"folds {table.name}: the store lacks {len(missing)} of their subjects: "
            f"{', '.join(missing)}. Add their recordings, choose other folds (kfold:5:0), or pass "
            "--allow_missing"
        )
    tests = Counter(s for fold in table.folds for s in fold.test)
    if wrong := sorted(s for s in present if tests[s] != 1):
        raise UserError(
            f"folds {table.name}: these subjects are not tested exactly once: {', '.join(wrong)}; "
            "choose folds made for this cohort (kfold:5:0)"
        )
    kept = [
        Fold(*([s for s in part if s in present] for part in (fold.train, fold.val, fold.test)))
        for fold in table.folds
    ]
    return FoldTable(table.name, table.source, kept)


def _kfold(n_folds: int, seed: int, subjects: Sequence[str]) -> FoldTable:
    """Shuffled folds of nearly equal size; a tenth of each training set (at least 1) validates."""
    ids = sorted(subjects)  # the draw must not depend on the order in which they come
    name = f"kfold:{n_folds}:{seed}"
    if not 2 <= n_folds <= len(ids):
        raise UserError(
            f"folds {name}: {len(ids)} subjects allow 2 to {len(ids)} folds"
            if len(ids) > 1
            else f"folds {name}: one subject cannot be split by subject"
        )
    rng = np.random.default_rng(seed)
    folds = []
    for test in np.array_split(rng.permutation(ids), n_folds):
        tested = set(test.tolist())
        rest = [s for s in ids if s not in tested]
        # at least one validates, but the last one trains
        n_val = min(max(1, round(_VALIDATION_SHARE * len(rest))), len(rest) - 1)
        val = set(rng.choice(rest, n_val, replace=False).tolist())
        folds.append(Fold([s for s in rest if s not in val], sorted(val), sorted(tested)))
    return FoldTable(name, f"{n_folds} folds drawn from the store's subjects, seed {seed}", folds)


def _usleep(seed: int, subjects: Sequence[str]) -> FoldTable:
    """One split by U-Sleep's rule: at least one subject validates, one is tested, one trains."""
    ids, name = sorted(subjects), f"usleep:{seed}"
    if len(ids) < 3:
        raise UserError(f"folds {name}: {len(ids)} subjects cannot be split in three")
    n_val, n_test = (
        min(most, max(1, round(share * len(ids))))
        for share, most in (_USLEEP_VALIDATES, _USLEEP_TESTS)
    )
    drawn = np.random.default_rng(seed).permutation(ids).tolist()
    parts = (drawn[n_val + n_test :], drawn[:n_val], drawn[n_val : n_val + n_test])
    source = f"U-Sleep's rule: 10 % validate, 50 at most, 15 % are tested, 100 at most; seed {seed}"
    return of_split(name, source, Fold(*map(sorted, parts)))


def of_split(name: str, source: str, split: Fold) -> FoldTable:
    """A table whose fold 0 is one split; folds 1 and 2 test those that it validates, trains on."""
    every = sorted((*split.train, *split.val, *split.test))

    def testing(part: list[str]) -> Fold:
        tested = set(part)
        return Fold([s for s in every if s not in tested], [], part)

    return FoldTable(name, source, [split, testing(split.val), testing(split.train)])


def in_order(name: str, ids: Sequence[str], n_folds: int) -> FoldTable:
    """Folds that test consecutive blocks of ids sorted as text.

    Blocks are of equal size but for the last ones, which may be one smaller. A fifth of the other
    subjects, drawn by a fixed seed, validates.
    """
    ids, rng, tables = sorted(ids), np.random.default_rng(0), []
    for block in np.array_split(np.array(ids), n_folds):
        test = set(block.tolist())
        rest = [s for s in ids if s not in test]
        val = set(rng.choice(rest, max(1, round(0.2 * len(rest))), replace=False).tolist())
        tables.append(Fold([s for s in rest if s not in val], sorted(val), sorted(test)))
    return FoldTable(name, f"{n_folds} blocks of the ids sorted as text, seed 0", tables)


def _check_disjoint(fold: Fold, where: str) -> None:
    counts = Counter((*fold.train, *fold.val, *fold.test))
    if twice := sorted(s for s, n in counts.items() if n > 1):
        raise UserError(f"{where}: subjects in more than one list: {', '.join(twice)}")
