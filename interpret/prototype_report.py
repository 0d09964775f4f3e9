"""Prototypes of explained epochs, and how often the nearest one has the expert's stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from interpret import prototype_figures
from interpret.explained_night import ExplainedNight
from interpret.index import Entry, method_entry
from interpret.prototypes import METHOD, Prototypes, arrays_of, encoded, shown, thinned
from interpret.scoreboard import Score, summarise
from interpret.second_look import decibels_of, eeg_of
from utils import figures, files
from utils.stages import STAGES

LATENT, POWERS = "latent space", "log band powers"
TABLE, OVERVIEW = "prototypes.csv", "prototypes.png"
_CONTROLLED = 8  # held-out recordings whose nearest prototypes are compared with the expert
_OVERVIEW = 3  # medoids of each stage


def add_prototypes(
    folder: Path,
    night: ExplainedNight,
    model: Any,
    known: Prototypes,
    entries: Sequence[Entry],
    pictures: int = 0,
) -> None:
    """Add the nearest prototypes to a night's index ``entries``: arrays, and figures of the first.

    ``pictures`` is the number of epochs that are drawn.
    """
    rows = np.array([entry["epoch"] for entry in entries], dtype=int)
    if not len(rows):
        return
    distances, numbers = known.nearest(encoded(model, night.signals, rows))
    typical = round(known.typical, 4)
    for k, entry in enumerate(entries):
        arrays = arrays_of(known, distances[k], numbers[k])
        file = f"{entry['folder']}/{METHOD}.npz"
        files.write_arrays(folder / file, arrays)
        settings = {
            "among": len(known.z),
            "stages": [STAGES[code] for code in arrays["stages"]],
            "distances": distances[k].round(4).tolist(),
            "typical_distance": typical,
        }
        entry["methods"][METHOD] = method_entry(file, settings)
        if k < pictures:
            title = f"{night.staged.recording}, epoch {entry['epoch']}: model {entry['model']}"
            picture = prototype_figures.draw_beside(
                night.physical(entry["epoch"]), shown(arrays), title, night.channels, night.unit
            )
            figures.save(picture, folder / entry["folder"] / f"{METHOD}.png")


def write_control(folder: Path, view: Any, model: Any, known: Prototypes) -> list[dict[str, Any]]:
    """Write ``prototypes.csv`` and ``.png`` of a run; returns the rows of the table.

    How often the nearest prototype has the stage that the expert gives a held-out epoch, in the
    latent space and in log band powers, for which no model is needed; and the difference.
    """
    scores: list[Score] = []
    eeg = eeg_of([channel.role for channel in view.channels])
    subjects = {night.id: night.subject for night in view.nights}
    for recording, signals, stages in islice(view.whole_nights(), _CONTROLLED):
        mean, sd = view.moments(recording)
        epochs = signals[:, eeg].cpu().numpy() * sd[eeg] + mean[eeg]
        z = encoded(model, signals, np.arange(len(signals)))
        powers = decibels_of(epochs, view.fs)[1]
        scores += compared(known, z, powers, stages.cpu().numpy(), subjects[recording])
    rows = [{"space": row.pop("method"), **row} for row in summarise(scores)]
    if rows:
        files.write_table(folder / TABLE, rows)
    overview = thinned(known, _OVERVIEW)
    figures.save(prototype_figures.draw_overview(overview), folder / OVERVIEW)
    return rows


def compared(
    known: Prototypes, z: np.ndarray, decibels: np.ndarray, expert: np.ndarray, subject: str
) -> Iterator[Score]:
    """Whether the nearest prototype has the stage of each scored epoch (n,), by each space.

    ``z`` (n, d) and ``decibels`` (n, bands) are the two spaces.
    """
    rows = np.flatnonzero((expert >= 0) & np.isfinite(decibels).all(axis=1))
    if not len(rows):
        return
    share = np.bincount(known.stages, minlength=len(STAGES)) / len(known.stages)
    latent = known.stages[known.nearest(z[rows], 1)[1][:, 0]] == expert[rows]
    powers = known.stages[known.nearest_powers(decibels[rows])] == expert[rows]
    by_space = {
        LATENT: latent,
        POWERS: powers,
        f"{LATENT}, less {POWERS}": latent.astype(int) - powers,
        "drawn at random": share[expert[rows]],
    }
    for space, values in by_space.items():
        for code, value in zip(expert[rows], values, strict=True):
            yield Score(space, "same_stage", STAGES[code], subject, float(value))
