"""Probes of frozen encoders on other cohorts, and how far each is ahead of its controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from datasets.store.views import View
from evaluation import probe_pretrained
from evaluation.probe_pretrained import LabelFlags, Splits
from probing.embeddings import Embed, epochs_of
from utils import metrics
from utils.files import scratch_beside, write_json, write_table
from utils.intervals import columns, difference, of_columns, over_subjects, with_interval

_FIGURES = {"macro_f1": metrics.macro_f1, "kappa": metrics.kappa}
PRETRAINED = "pretrained"


def transferred(
    spaces: Mapping[str, list[Splits]],
    encoders: Mapping[str, Sequence[Embed]],
    views: Mapping[str, View],
    other: View,
    flags: LabelFlags,
    folder: Path,
) -> Iterator[dict[str, Any]]:
    """Rows of the same probes, learned and chosen where ``spaces`` were, tested on ``other``.

    ``encoders``: what embeds each of the spaces, in their order. Embeddings of ``other`` lie beside
    ``folder``, which need not exist, until the rows are made.
    """
    epochs = epochs_of(other)
    with scratch_beside(folder) as scratch:

        def moved(name: str, k: int, splits: Splits) -> Splits:
            z = encoders[name][k](other, scratch / f"{name.replace(' ', '_')}_{k}.npy")
            tested = replace(
                splits["held_out"], z=z, stages=epochs["stage"], subjects=epochs["subject"]
            )
            return {**splits, "held_out": tested}

        elsewhere = {
            name: [moved(name, k, splits) for k, splits in enumerate(kinds)]
            for name, kinds in spaces.items()
        }
        yield from probe_pretrained.frozen_rows(elsewhere, flags, {**views, "held_out": other})


def differences(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The pretrained encoder's figures less those of every control, paired by subject.

    Of counts summed over seeds; an encoder is ahead where an interval lies above 0.
    """
    keys = ("cohort", "probe", "labels", "share")
    ours = {tuple(row.get(k) for k in keys): row for row in rows if row["space"] == PRETRAINED}
    compared = []
    for row in rows:
        mine = ours.get(tuple(row.get(k) for k in keys))
        if mine is None or row["space"] == PRETRAINED:
            continue
        names = sorted(mine["per_subject"])
        counts = np.array(
            [[_mean_of_seeds(one, name) for one in (mine, row)] for name in names]
        )  # (subjects, 2, 5, 5)
        more = over_subjects(counts, names, {n: difference(f) for n, f in _FIGURES.items()})
        about = {key: row[key] for key in keys if key in row} | {"control": row["space"]}
        for name in _FIGURES:
            about |= columns(f"{name}_more", more[name].plain())
        compared.append(about)
    return compared


def _mean_of_seeds(row: Mapping[str, Any], subject: str) -> np.ndarray:
    # spaces of one network count as much as those of several
    return np.array(row["per_subject"][subject]) / row["seeds"]


def write_transfer(
    folder: Path, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]
) -> None:
    """Write ``transfer.csv`` and ``.json``; counts by subject in the json alone."""
    write_json(folder / "transfer.json", {"about": dict(about), "rows": list(rows)})
    table = [{k: v for k, v in row.items() if k != "per_subject"} for row in rows]
    write_table(folder / "transfer.csv", table)


def report(rows: Sequence[Mapping[str, Any]], *, probe: str = "linear") -> None:
    """Print how far one probe of the pretrained encoder is ahead of that of its controls."""
    for row in rows:
        if row["probe"] != probe:
            continue
        labels = (
            "all labels" if row["labels"] == "all" else f"{row['share']:.0%} by {row['labels']}"
        )
        shown = with_interval(of_columns("macro_f1_more", row))
        where = f"{row['cohort']}: " if "cohort" in row else ""
        print(f"  {where}{probe}, {labels}: pretrained less {row['control']} {shown}")
