"""Band importance over whole nights, by stage: one table and one figure per run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from interpret import report_figures
from interpret.bands import BANDS, BandImportance, band_importance
from interpret.baselines import another_of_stage
from interpret.explained_night import ExplainedNight
from interpret.scoreboard import Score, summarise
from utils import figures
from utils.files import write_table
from utils.stages import STAGES

# fields of BandImportance, whose names are the table's
FIGURES = ("shapley", "single", "exchanged", "mean", "weighted")


def bands_of(model: Any, night: ExplainedNight) -> list[Score]:
    """Scores of band importance at every epoch of a night, for the stage the model gives it.

    Bands above half the sampling rate are left out; ``gap`` is what a figure's sum over bands
    misses of the whole change, 0 for Shapley values.
    """
    inside = {name: edges for name, edges in BANDS.items() if edges[1] <= night.fs / 2}
    stages = night.staged.stages
    classes = torch.from_numpy(stages.astype("int64")).to(night.signals.device)
    others = another_of_stage(classes, torch.arange(len(classes)), 0)
    importance = band_importance(model, night.signals, night.fs, classes, inside, others)
    return list(_scores(importance, [STAGES[code] for code in stages], night.staged.subject))


def _scores(importance: BandImportance, stages: Sequence[str], subject: str) -> Iterator[Score]:
    for figure in FIGURES:
        columns = dict(zip(importance.bands, vars(importance)[figure].T.tolist(), strict=True))
        columns["gap"] = importance.gap(figure).tolist()
        for name, values in columns.items():
            for stage, value in zip(stages, values, strict=True):
                yield Score(figure, name, stage, subject, value)


def write_bands(folder: Path, scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Write ``bands.csv`` and ``bands.png``; returns the table's rows."""
    rows = summarise(scores)
    # here a figure stands where scores have a method, and a band where they have a measure
    rows = [{"figure": r.pop("method"), "band": r.pop("measure"), **r} for r in rows]
    write_table(folder / "bands.csv", rows)
    shapley = {(row["stage"], row["band"]): row for row in rows if row["figure"] == "shapley"}
    bands = [band for band in BANDS if ("all", band) in shapley]
    picture = report_figures.draw_bands(shapley, bands)
    figures.save(picture, folder / "bands.png")
    return rows
