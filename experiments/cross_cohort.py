"""Across cohorts: which to train on and which to hold out, and the rows of their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.store.joined import described
from datasets.store.store import Store
from datasets.store.views import View
from experiments import model_table
from experiments.reproducing import Job
from utils.arguments import add_list, nearest, positive
from utils.errors import UserError
from utils.files import write_table
from utils.stages import STAGES

COHORTS = "cohorts.csv"


@dataclass(frozen=True)
class CrossFlags:
    """Settings of --table cross_cohort, one field per flag."""

    stores: list[Path]
    train: list[str]
    test: list[str]
    roles: list[str]
    rate: int | None


def add_flags(group: Any) -> None:
    """Add the flags of the table across cohorts."""
    add_list(
        group, "--stores", item=Path, default=[], help="stores of two cohorts or more, to be joined"
    )
    add_list(
        group,
        "--train",
        default=[],
        help="cohorts of one training (default: each cohort is held out in turn, all others train)",
    )
    add_list(group, "--test", default=[], help="cohorts that are held out (default: all others)")
    add_list(
        group,
        "--roles",
        default=[],
        help="channels that all cohorts have (default: those of EEG, EOG, EMG that they have)",
    )
    group.add_argument(
        "--rate", type=positive, help="rate of all channels in Hz (default: the lowest of theirs)"
    )


def numbers_of(names: Sequence[str], cohorts: Sequence[str], flag: str) -> tuple[int, ...]:
    """Numbers of cohorts, which are those of their folds, by name; ``synthetic-`` may be left out.

    Raises:
        UserError: a name that no store has.
    """
    known = [cohort.removeprefix("synthetic-") for cohort in cohorts]
    for name in names:
        if name.removeprefix("synthetic-") not in known:
            raise UserError(
                f"{flag} {name}: the stores hold {', '.join(cohorts)}{nearest(name, known)}"
            )
    return tuple(sorted({known.index(name.removeprefix("synthetic-")) for name in names}))


def held_out(
    train: Sequence[str], test: Sequence[str], cohorts: Sequence[str]
) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Numbers of the cohorts to train on, and those to hold out, training by training.

    Without ``train`` every cohort of ``test`` (all, if none is named) is held out in turn and all
    others train: then the first is empty. With it one training is tested on ``test``, or on all
    cohorts that it is not trained on.

    Raises:
        UserError: unknown names, a cohort in both, or none to test on.
    """
    trained, tested = numbers_of(train, cohorts, "--train"), numbers_of(test, cohorts, "--test")
    if not trained:
        return (), [(k,) for k in tested or range(len(cohorts))]
    if both := sorted(set(trained) & set(tested)):
        raise UserError(f"--test {cohorts[both[0]]}: --train names it too; hold it out of one")
    tested = tested or tuple(k for k in range(len(cohorts)) if k not in trained)
    if not tested:
        raise UserError("--train names every cohort; leave one out to test on")
    return trained, [tested]


def write_cohorts(folder: Path, stores: Sequence[Store], roles: Sequence[str]) -> str:
    """Write ``cohorts.csv``, what each cohort is; the same as lines of text."""
    rows = [described(store, roles) for store in stores]
    write_table(folder / COHORTS, rows)
    lines = []
    for row in rows:
        shares = ", ".join(f"{name} {row[name]:.1%}" for name in STAGES)
        lines.append(
            f"{row['cohort']}: {row['nights']} nights of {row['subjects']} subjects, "
            f"{row['epochs']:,} scored epochs ({shares}); {row['montage']}; {row['hz']} Hz, "
            f"{row['bandpass']}; protocol {row['protocol']}"
        )
    return "\n".join(lines)


def rows(
    name: str, jobs: Sequence[Job], root: Path, view: View, stores: Sequence[Store]
) -> list[dict[str, Any]]:
    """Rows of one model, one per cohort that was held out; several seeds are pooled."""
    table = []
    for k in sorted({k for job in jobs for k in job.held_out}):
        of_cohort = [job for job in jobs if k in job.held_out]
        runs = [job.run(root) for job in of_cohort]
        trained = [stores[n].cohort for n in of_cohort[0].train]
        row = model_table.own_row(name, runs, view, selected="best")
        table.append(row | tested_on(stores[k], runs, trained))
    return table


def tested_on(store: Store, runs: Sequence[Path], trained: Sequence[str]) -> Mapping[str, Any]:
    """Figures of the held-out nights of one cohort, which ``runs`` may share with others."""
    subjects, counts = model_table.confusions(runs)
    own = np.isin(subjects, store.subjects)
    return {
        "data": f"{store.cohort}; trained on {', '.join(trained)}",
        "tested": store.cohort,
        "trained": ", ".join(trained),
        **model_table.figures_of(np.array(subjects)[own].tolist(), counts[own]),
        "subjects": len(set(np.array(subjects)[own])),
        "epochs": int(counts[own].sum()),
    }
