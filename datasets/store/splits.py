"""Which subjects train, which select the checkpoint and which are held out, from a fold table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets.store import folds
from datasets.store.folds import FoldTable
from datasets.store.store import Store
from utils.errors import UserError
from utils.files import sha256

PREFERRED = ("cmt5", "kfold-5-0")


@dataclass(frozen=True)
class Split:
    """Subject ids by what they are used for; held-out ones neither train nor select."""

    train: list[str]
    validation: list[str]
    held_out: list[str]


def find_table(store: Store, name: str | None) -> FoldTable:
    """The table ``name`` of a store; without a name ``cmt5``, then ``kfold-5-0``, then the first.

    Raises:
        UserError: no such table, or no table at all.
    """
    folder = store.path / "folds"
    present = folds.names_in(folder)
    if not present:
        raise UserError(
            f"{folder}: no fold tables; run the script that prepared the store again. A single "
            "subject cannot both train and be held out: evaluate a trained model on this store "
            "with --data_path, stage recordings with predict.py, or add subjects"
        )
    # kfold:5:0 is stored as kfold-5-0
    chosen = name.replace(":", "-") if name else _default(present)
    if chosen not in present:
        raise UserError(f"{folder}: no folds {name!r}; there are {', '.join(present)}")
    return folds.load(folder / f"{chosen}.json")


def has_table(store: Store, name: str) -> bool:
    """Whether the store has the fold table ``name``."""
    return (store.path / "folds" / f"{name.replace(':', '-')}.json").is_file()


def _default(present: list[str]) -> str:
    return next((name for name in PREFERRED if name in present), present[0])


def held_out_folds(
    table: FoldTable, train: Sequence[int], held_out: Sequence[int] | None
) -> list[int]:
    """Folds to report, checked against those to train on; default: all others.

    Raises:
        UserError: a fold named twice, in both lists, or not in the table; an empty list.
    """
    if held_out is None:
        held_out = [k for k in range(len(table.folds)) if k not in train]
    check_folds(table, train, "training")
    check_folds(table, held_out, "held-out")
    if both := sorted(set(train) & set(held_out)):
        raise UserError(
            f"folds {table.name}: fold {', '.join(map(str, both))} is both trained on and held out"
        )
    return list(held_out)


def check_folds(table: FoldTable, chosen: Sequence[int], role: str) -> None:
    """Refuse a list of folds that is empty, repeats one or names one the table lacks.

    Raises:
        UserError: saying which.
    """
    n_folds = len(table.folds)
    if wrong := [k for k in chosen if not 0 <= k < n_folds]:
        raise UserError(
            f"folds {table.name}: no fold {', '.join(map(str, wrong))} for the {role} list; there "
            f"are 0 to {n_folds - 1}"
        )
    if len(set(chosen)) < len(chosen):
        raise UserError(f"folds {table.name}: the {role} list {list(chosen)} repeats a fold")
    if not chosen:
        most = " ".join(map(str, range(n_folds - 1)))
        raise UserError(
            f"folds {table.name}: the {role} list is empty; share its {n_folds} folds between "
            f"--train_data_list and --val_data_list, such as --train_data_list {most}"
        )


def split(
    table: FoldTable, train: Sequence[int], held_out: Sequence[int], *, share: float, seed: int
) -> Split:
    """Subjects of the training folds, a share of whom only validate.

    Where exactly one fold is held out and all others train, the table's own validation subjects
    are used; otherwise ``share`` of the training subjects (at least one) is drawn by ``seed``.

    Raises:
        UserError: a single training subject cannot be split.
    """
    # by test lists, which part the subjects; the train lists of different folds overlap
    pool = sorted(s for k in train for s in table.folds[k].test)
    reported = sorted(s for k in held_out for s in table.folds[k].test)
    if len(pool) < 2:
        raise UserError(
            f"folds {table.name}: the training folds hold {len(pool)} subject(s); selecting a "
            "checkpoint needs one more, to validate on"
        )
    if own_validation(table, train, held_out):
        validation = set(table.folds[held_out[0]].val)
    else:
        # at least one validates, but the last one trains
        n = min(max(1, round(share * len(pool))), len(pool) - 1)
        validation = set(np.random.default_rng(seed).choice(pool, n, replace=False).tolist())
    return Split([s for s in pool if s not in validation], sorted(validation), reported)


def own_validation(table: FoldTable, train: Sequence[int], held_out: Sequence[int]) -> bool:
    """Whether the table's own validation subjects are used, the same for every seed.

    Only where one fold is held out and all others train are they those of the published split.
    """
    whole = len(held_out) == 1 and len(train) == len(table.folds) - 1
    return whole and bool(table.folds[held_out[0]].val)


def drawn_nights(
    store: Store, subjects: Sequence[str], n_nights: int | None, seed: int
) -> list[str]:
    """Recordings of these subjects: all, or ``n_nights`` drawn by ``seed``, in their order.

    Those of a smaller number are among those of a larger one.

    Raises:
        UserError: the subjects have fewer nights.
    """
    recordings = store.of_subjects(subjects)
    if n_nights is None:
        return recordings
    if n_nights > len(recordings):
        raise UserError(f"--n_nights {n_nights}: the training subjects have {len(recordings)}")
    order = np.random.default_rng(seed).permutation(len(recordings))
    return [recordings[k] for k in sorted(order[:n_nights])]


def fingerprint(store: Store) -> list[str]:
    """Checksums that tell two stores apart: their description and their table of recordings."""
    return [sha256(store.path / name) for name in ("dataset.json", "recordings.csv")]


def sizes(store: Store, subjects: Sequence[str]) -> str:
    """How many subjects, nights and epochs: ``5 subjects, 9 nights, 8,640 epochs``."""
    recordings = store.of_subjects(subjects)
    n_epochs = sum(int(store.recordings[recording]["n_epochs"]) for recording in recordings)
    return f"{len(subjects)} subjects, {len(recordings)} nights, {n_epochs:,} epochs"
