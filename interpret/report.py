"""Files of a run's explanations: index, tables and figures of trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interpret import explanation_figures
from interpret.explaining import Found, mean_curves
from interpret.scoreboard import summarise
from utils import figures
from utils.files import write_json, write_table

Row = Mapping[str, Any]
_EVIDENCE = ("auroc_", "pointing_")


def write_report(folder: Path, found: Found, about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Write what ``results`` readers look for; returns the rows of ``summary.csv``.

    ``index.json``, ``summary.csv``, ``faithfulness.json``, ``planted_events.csv`` (or
    ``found_events.csv``), ``deletion_insertion.csv`` and ``.png``, ``randomisation.png``,
    ``stage_means.*``.
    """
    rows = summarise(found.scores)
    write_json(folder / "index.json", {"about": about, "explanations": found.entries})
    write_json(folder / "faithfulness.json", {"about": about, "rows": rows})
    if not rows:
        return rows
    write_table(folder / "summary.csv", rows)
    if evidence := [row for row in rows if row["measure"].startswith(_EVIDENCE)]:
        planted = any(entry["evidence"] == "planted" for entry in found.entries)
        write_table(folder / f"{'planted' if planted else 'found'}_events.csv", evidence)
    _write_curves(folder, found, str(about["headline"]))
    _draw_randomisation(folder, rows)
    found.means.write(folder)
    return rows


def _write_curves(folder: Path, found: Found, headline: str) -> None:
    curves = mean_curves(found.curves)
    table = [
        {"method": name, "share": share, "deletion": removed, "insertion": added}
        for name, curve in curves.items()
        for share, removed, added in zip(
            curve.share.tolist(), curve.deletion.mean(axis=0).tolist(),
            curve.insertion.mean(axis=0).tolist(), strict=True,
        )
    ]  # fmt: skip
    write_table(folder / "deletion_insertion.csv", table)
    n_epochs = len(next(iter(curves.values())).deletion)
    picture = explanation_figures.draw_curves(curves, title=f"{headline}; {n_epochs} epochs")
    figures.save(picture, folder / "deletion_insertion.png")


def _draw_randomisation(folder: Path, rows: Sequence[Row]) -> None:
    """Rows ``likeness_<depth>_<layer>`` and ``likeness_to_random_weights`` as lines."""
    overall = {(r["method"], r["measure"]): r["mean"] for r in rows if r["stage"] == "all"}
    names = {measure for _, measure in overall if measure.startswith("likeness_")}
    layers = sorted(
        (n for n in names if n.split("_")[1].isdigit()), key=lambda n: int(n.split("_")[1])
    )
    layers.append("likeness_to_random_weights")
    methods = [m for m, measure in overall if measure == layers[-1]]
    if not methods:
        return
    lines = {
        m: [1.0, *(overall.get((m, layer), np.nan) for layer in layers)] for m in sorted(methods)
    }
    labels = ["none", *(layer.split("_", 2)[2] for layer in layers[:-1]), "all"]
    picture = explanation_figures.draw_randomisation(lines, labels)
    figures.save(picture, folder / "randomisation.png")
