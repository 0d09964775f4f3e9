"""What a finished store of channels named by role holds, and what was left out of it, in lines."""

from __future__ import annotations

from collections.abc import Mapping

from datasets.store import folds
from datasets.store.descriptions import note_lines
from datasets.store.store import Store
from utils.files import remove_ours, write_table
from utils.stages import STAGES

_SHOWN = 10  # recordings that are left out


def write_folds(store: Store, name: str) -> None:
    """Write a fold table; the default becomes one fold per subject if there are fewer than 5."""
    subjects = store.subjects
    # only the default gives way: a table that was asked for is made or refused
    if name == "kfold:5:0" and len(subjects) < 5:
        name = f"kfold:{len(subjects)}:0"
    if len(subjects) > 1:
        folds.write(store.path / "folds", folds.make(name, subjects))


def report(store: Store, out: Mapping[str, str]) -> None:
    """Print what the store holds, the nights without each role, and what was left ``out``."""
    rows = store.recordings.values()
    nights = [store.night(recording) for recording in store.recordings]
    print(f"{len(rows)} nights of {len(store.subjects)} subjects, {store.cohort}")
    totals = (f"{name} {sum(int(row[name]) for row in rows):,}" for name in (*STAGES, "unscored"))
    print("  epochs: " + ", ".join(totals))
    for k, channel in enumerate(store.channels):
        # a night's derivation of a role is None where it lacks the role
        made = sorted({n.derivations[k] for n in nights if n.derivations[k] is not None})
        absent = sum(night.derivations[k] is None for night in nights)
        missing = f"; absent in {absent}" if absent else ""
        print(f"  {channel.role:<6}{', '.join(made) or '–'}{missing}")
    table = [{"recording": name, "reason": reason} for name, reason in sorted(out.items())]
    remove_ours(store.path / "left_out.csv")  # of an earlier run, which left out others
    if table:
        write_table(store.path / "left_out.csv", table)
        for row in table[:_SHOWN]:
            print(f"  left out: {row['recording']}: {row['reason']}")
        print(f"left out: {len(table)}, all in {store.path / 'left_out.csv'}")
    tables = folds.names_in(store.path / "folds")
    for line in note_lines(store.path / "nights"):
        print(line)
    print(f"store: {store.path}   folds: {', '.join(tables) or folds.OF_ONE_SUBJECT}")
