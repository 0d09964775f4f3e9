"""Counterfactuals of explained epochs: arrays, entries of the index, a table, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interpret.counterfactual_figures import draw_counterfactual
from interpret.counterfactual_words import (
    Row,
    criterion_of,
    plausible_row,
    row_of,
    sentence_of,
    support_of,
)
from interpret.counterfactuals import Outcome, Search, confirmed, least, outcomes_of, search_of
from interpret.explained_night import ExplainedNight
from interpret.index import Entry, add_answer
from interpret.plausibility import night_powers, plausibility_of
from interpret.playing import Player
from interpret.question import Plan
from utils import figures, files
from utils.stages import STAGES

METHOD = "counterfactual"


def add_counterfactuals(
    folder: Path,
    night: ExplainedNight,
    entries: Sequence[Entry],
    player: Player,
    plan: Plan,
    pictures: int = 0,
) -> None:
    """Seek the least edit of the plan's number of explained epochs; add it to their entries.

    Writes ``counterfactual.npz`` into an epoch's folder: ``edited`` and ``added`` (m, t) in the
    night's unit, zero where no edit changes the stage; ``pictures`` are drawn.
    """
    chosen = list(entries)[: plan.counterfactuals]
    wanted = STAGES.index(plan.counterfactual_to) if plan.counterfactual_to in STAGES else None
    search = search_of(night, player, wanted, plan.seed)
    every = outcomes_of(search, [entry["epoch"] for entry in chosen])
    smallest = [least(outcomes) for outcomes in every]
    checked = iter(confirmed(search, [one for one in smallest if one is not None]))
    final = [None if one is None else next(checked) for one in smallest]
    powers = night_powers(night)
    criteria = {one.activity.name: criterion_of(one) for one in search.measured}
    for number, (entry, outcomes, one) in enumerate(zip(chosen, every, final, strict=True)):
        settings = {**_settings(search, outcomes, one, powers), "criteria": criteria}
        if outcomes and STAGES[outcomes[0].stage] != entry["model"]:
            # as where the night's stages are those of several models, of which one is explained
            settings["sentence"] = f"By what is explained alone: {settings['sentence']}"
        _write_arrays(folder, night, entry, one)
        row = settings["least"] or {}
        values = {"value": row.get("p_before"), "baseline_value": row.get("p_after")}
        add_answer(entry, METHOD, settings, **values)
        if number < pictures:
            _draw(folder, night, entry, one)


def _settings(
    search: Search, outcomes: Sequence[Outcome], smallest: Outcome | None, powers: np.ndarray
) -> dict[str, Any]:
    rows = [row_of(outcome) for outcome in outcomes]
    least_row: Row | None = None
    if smallest is not None:
        least_row = row_of(smallest) | plausible_row(plausibility_of(search, smallest, powers))
    return {
        "sentence": sentence_of(rows, least_row),
        "support": support_of(least_row),
        "least": least_row,
        "edits": rows,
    }


def _write_arrays(
    folder: Path, night: ExplainedNight, entry: Entry, smallest: Outcome | None
) -> None:
    signals = night.physical(entry["epoch"]).astype(np.float32)
    added = np.zeros_like(signals)
    if smallest is not None:
        added[smallest.edit.measured.columns] = smallest.added()
    place = folder / entry["folder"] / f"{METHOD}.npz"
    files.write_arrays(place, {"edited": signals + added, "added": added})


def _draw(folder: Path, night: ExplainedNight, entry: Entry, smallest: Outcome | None) -> None:
    if smallest is None:
        return
    about = entry["methods"][METHOD]["settings"]
    picture = draw_counterfactual(
        night.physical(entry["epoch"])[smallest.edit.measured.columns],
        smallest.added(),
        title=f"{night.staged.recording}, epoch {entry['epoch']}: {about['sentence']}",
        note=about["support"],
        channels=[night.channels[k] for k in smallest.edit.measured.columns],
        unit=night.unit,
    )
    figures.save(picture, folder / entry["folder"] / f"{METHOD}.png")


def write_counterfactuals(folder: Path, entries: Sequence[Entry]) -> None:
    """``counterfactuals.json`` and ``.csv``: one row for each epoch and edit; nothing without any.

    The least edit of an epoch is marked, and has fields that the others lack.
    """
    answers = [
        (entry["recording"], entry["methods"][METHOD]["settings"])
        for entry in entries
        if METHOD in entry["methods"]
    ]
    if not answers:
        return
    epochs = [{"recording": name, **about} for name, about in answers]
    files.write_json(folder / "counterfactuals.json", {"epochs": epochs})
    rows = [
        {"recording": name, **_flat(row, about["least"])}
        for name, about in answers
        for row in about["edits"]
    ]
    if rows:
        columns = dict.fromkeys(key for row in rows for key in row)
        files.write_table(
            folder / "counterfactuals.csv", [{key: row.get(key) for key in columns} for row in rows]
        )


def _flat(row: Row, smallest: Row | None) -> Row:
    """A row of the table; the least edit's has its own fields, and votes as text."""
    is_least = smallest is not None and (row["edit"], row["amount"] > 0) == (
        smallest["edit"],
        smallest["amount"] > 0,
    )
    if not is_least:
        return {**row, "least": False}
    votes = "; ".join(f"{name}: {a} > {b}" for name, (a, b) in smallest["votes"].items())
    return {**smallest, "votes": votes, "least": True}


def shown(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the page shows of an epoch's counterfactual: sentences and a table of all edits."""
    if METHOD not in entry["methods"]:
        return None
    about = entry["methods"][METHOD]["settings"]
    return {"sentence": about["sentence"], "support": about["support"]}
