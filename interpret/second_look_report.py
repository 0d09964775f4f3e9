"""A run's epochs for a second look, and how well their order brings up planted label errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interpret.index import Entry
from interpret.label_errors import Evidence, evaluated
from interpret.scoreboard import summarise
from interpret.second_look import (
    decibels_of,
    eeg_of,
    fitted_temperature,
    reasons_of,
    second_look,
    shares_of_alike,
    with_alike,
    write_second_look,
)
from utils.files import write_table
from utils.staged_night import StagedNight

PLANTED = "planted_label_errors.csv"
Rows = list[dict[str, Any]]


def write_run(
    folder: Path,
    view: Any,
    nights: Sequence[StagedNight],
    events: Mapping[str, Mapping[str, np.ndarray]],
    entries: Sequence[Entry],
    temperature: float,
    scorers: Mapping[str, np.ndarray],
) -> dict[str, Rows]:
    """Write the tables of all ``nights`` of a ``datasets.store.views.View``; rows by recording.

    ``events`` are known of the explained recordings, reasons of the epochs in ``entries``, whose
    files lie in ``folder``; ``scorers`` (s, n) are the stages that several scorers gave a night.
    """
    staged = {night.recording: night for night in nights}
    channel = eeg_of([one.role for one in view.channels])
    rows: dict[str, Rows] = {}
    evidence = []
    for recording, signals, _ in view.whole_nights():
        night, epochs = staged[recording], signals[:, channel].cpu().numpy()
        rows[recording] = second_look(
            night,
            epochs,
            view.fs,
            events=events.get(recording),
            reasons=reasons_by_epoch(folder, entries, recording),
            temperature=temperature,
            scorers=scorers.get(recording),
        )
        _, decibels = decibels_of(epochs, view.fs)
        evidence.append(
            Evidence(night.subject, night.probabilities, decibels, night.expert, temperature)
        )
    write_second_look(folder, [row for own in rows.values() for row in own], temperature)
    write_planted(folder, evidence)
    return rows


def temperature_of(view: Any, nights: Sequence[StagedNight]) -> float:
    """Temperature fitted on staged ``nights`` of a ``datasets.store.views.View``."""
    channel = eeg_of([one.role for one in view.channels])
    parts = []
    for night, (_, signals, _) in zip(nights, view.whole_nights(), strict=True):
        _, decibels = decibels_of(signals[:, channel].cpu().numpy(), view.fs)
        parts.append(with_alike(night.probabilities, shares_of_alike(decibels, night.expert)))
    expert = np.concatenate([night.expert for night in nights])
    return fitted_temperature(np.concatenate(parts), expert)


def write_planted(folder: Path, nights: Sequence[Evidence]) -> Rows:
    """Write ``planted_label_errors.csv``, if anybody scored a night; returns its rows."""
    rows = summarise(evaluated(nights))
    # here a ranking stands where scores have a method, and a kind of error where they have a stage
    table = [{"ranking": r.pop("method"), "errors": r.pop("stage"), **r} for r in rows]
    table = [row | {"draws": row.pop("epochs")} for row in table]
    if table:
        write_table(folder / PLANTED, table)
    return table


def reasons_by_epoch(folder: Path, entries: Sequence[Entry], recording: str) -> Mapping[int, str]:
    """Reasons of a night's explained epochs, by number."""
    own = [entry for entry in entries if entry["recording"] == recording]
    return {entry["epoch"]: reasons_of(folder, entry) for entry in own}
