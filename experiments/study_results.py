"""Figures of the pretraining study, all from its table: intervals, differences, rankings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from experiments.study_rows import (
    CURVE,
    POWERS,
    RANDOM,
    TABLE,
    Cell,
    Rows,
    is_control,
    without_budget,
)
from probing.latent_report import correlations
from utils import metrics
from utils.intervals import over_subjects

FEWEST = 10  # held-out subjects; of fewer nothing is claimed


@dataclass(frozen=True, order=True)
class Space:
    """A row of the table: a control or an objective, and its encoder ("" of band powers)."""

    objective: str
    encoder: str

    @property
    def title(self) -> str:
        """As the table has it."""
        return f"{self.objective}, {self.encoder}" if self.encoder else self.objective


def spaces_of(rows: Rows, store: str, controls: Sequence[str]) -> list[Space]:
    """The rows of the final table of a store, the controls first, in their order."""
    cells = rows.cells(store=store, part=TABLE)
    spaces = {Space(cell.objective, cell.encoder) for cell in cells}
    places = {objective: k for k, objective in enumerate(controls)}
    last = len(places)
    return sorted(
        spaces,
        key=lambda one: (places.get(one.objective, last), not is_control(one.objective), one),
    )


def by_subject(
    rows: Rows, store: str, space: Space, budget: str, seeds: Sequence[int]
) -> tuple[list[str], np.ndarray] | None:
    """Held-out subjects and counts (subjects, seeds, 5, 5); None unless every seed has them."""
    about = {"store": store, "part": TABLE, "budget": budget}
    about |= {"objective": space.objective, "encoder": space.encoder}
    cells = [one for seed in seeds for one in rows.cells(seed=seed, **about)]
    if len(cells) != len(seeds):
        return None
    each = [rows.probed[cell] for cell in cells]
    subjects = sorted(each[0].subjects)
    if any(sorted(one.subjects) != subjects for one in each):
        return None  # seeds of different held-out subjects have no figure together
    order = [[one.subjects.index(name) for name in subjects] for one in each]
    parts = [one.counts[places] for one, places in zip(each, order, strict=True)]
    return subjects, np.stack(parts, axis=1)


def over_seeds(counts: np.ndarray) -> np.ndarray:
    """Macro-F1 of counts (…, seeds, 5, 5), mean over seeds."""
    return metrics.macro_f1(counts).mean(axis=-1)


def figure(
    rows: Rows, store: str, space: Space, budget: str, seeds: Sequence[int]
) -> dict[str, Any] | None:
    """Macro-F1 of a row with its interval by subject, plain; None where it was not probed."""
    if (known := by_subject(rows, store, space, budget, seeds)) is None:
        return None
    subjects, counts = known
    return over_subjects(counts, subjects, {"macro_f1": over_seeds})["macro_f1"].plain()


def difference(
    rows: Rows, store: str, pair: tuple[Space, Space], budget: str, seeds: Sequence[int]
) -> dict[str, Any] | None:
    """Macro-F1 of the first less that of the second, paired by subject, with its interval."""
    sides = [by_subject(rows, store, space, budget, seeds) for space in pair]
    if None in sides or sides[0][0] != sides[1][0]:
        return None
    parts = np.stack([counts for _, counts in sides], axis=1)  # (subjects, 2, seeds, 5, 5)

    def less(counts: np.ndarray) -> np.ndarray:
        both = over_seeds(counts)
        return both[..., 0] - both[..., 1]

    return over_subjects(parts, sides[0][0], {"difference": less})["difference"].plain()


def sign_of(known: Mapping[str, Any] | None) -> int:
    """1 or -1 where an interval lies above or below 0, 0 where it holds it or is none."""
    if known is None or known["low"] is None:
        return 0
    return int(known["low"] > 0) - int(known["high"] < 0)


def is_ahead(differences: Sequence[Mapping[str, Any] | None]) -> bool:
    """Whether a row is ahead: of every control, in an interval of enough subjects."""
    return all(sign_of(one) == 1 and one["subjects"] >= FEWEST for one in differences)


def controls_of(space: Space) -> tuple[Space, Space]:
    """The two controls that an objective has to be ahead of, both."""
    return Space(RANDOM, space.encoder), Space(POWERS, "")


def rankings(
    rows: Rows, store: str, spaces: Sequence[Space], budgets: Sequence[str], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Rankings whose interval excludes 0 in two seeds or more, and whether those agree."""
    result = []
    for budget in budgets:
        for pair in combinations(spaces, 2):
            each = {seed: difference(rows, store, pair, budget, [seed]) for seed in seeds}
            signs = {seed: sign_of(known) for seed, known in each.items() if sign_of(known)}
            if len(signs) > 1:
                result.append(
                    {
                        "budget": budget,
                        "pair": pair,
                        "differences": {seed: each[seed] for seed in signs},
                        "agree": len(set(signs.values())) == 1,
                    }
                )
    return result


def curve_figure(rows: Rows, cells: Sequence[Cell]) -> dict[str, Any]:
    """Macro-F1 of the validation subjects of cells that differ in their seed, pooled over seeds."""
    each = [rows.probed[cell] for cell in cells]
    subjects = [name for one in each for name in one.subjects]
    counts = np.concatenate([one.counts for one in each])
    known = over_subjects(counts, subjects, {"macro_f1": metrics.macro_f1})["macro_f1"].plain()
    took = {
        "minutes": float(np.mean([one.seconds for one in each])) / 60,
        "samples": max(one.samples for one in each),
    }
    return known | took | {"seeds": len(each)}


def curve_points(rows: Rows, store: str, axis: str) -> list[dict[str, Any]]:
    """Points of the curve against ``axis``: "steps", "nights" or "budget"."""
    cells = rows.cells(store=store, part=CURVE)
    groups: dict[tuple, list[Cell]] = {}
    for cell in cells:
        nights = _nights(cell, cells)
        key = (cell.objective, cell.setting, cell.encoder, cell.steps, nights, cell.budget)
        groups.setdefault(key, []).append(cell)
    last = max((cell.steps for cell in cells), default=0)
    points = []
    for (objective, setting, encoder, steps, nights, budget), group in groups.items():
        is_control = steps == 0
        on_axis = {
            "steps": nights == "all",
            "nights": steps == last,
            "budget": steps == last and nights == "all",
        }[axis]
        if not (is_control or on_axis):
            continue
        # all of them are as many as the seed with the most has
        number = max(cell.nights for cell in group) if nights == "all" else nights
        x = {"steps": steps, "nights": number, "budget": _labelled(budget, cells)}[axis]
        known = curve_figure(rows, group)
        points.append(
            {
                "axis": axis,
                "objective": objective,
                "setting": setting,
                "encoder": encoder,
                "budget": budget,
                "x": None if is_control and axis != "budget" else x,
                "tick": budget if axis == "budget" else f"{x:g}",
                "is_control": is_control,
                "macro_f1": known["value"],
                **{
                    k: known[k] for k in ("mean_of_subjects", "low", "high", "interval", "subjects")
                },
                **{k: known[k] for k in ("minutes", "samples", "seeds")},
            }
        )
    return points


def _nights(cell: Cell, cells: Sequence[Cell]) -> int | str:
    """Unlabelled nights of a cell, "all" if they are as many as its seed has."""
    most = max(one.nights for one in cells if one.seed == cell.seed)
    return "all" if cell.nights in (0, most) else cell.nights


def _labelled(budget: str, cells: Sequence[Cell]) -> int:
    """Where a budget stands on its axis: all of them beyond the largest number."""
    numbers = [int(cell.budget) for cell in cells if cell.budget.isdecimal()]
    return int(budget) if budget.isdecimal() else 2 * max(numbers, default=1)


def correlated(rows: Rows, store: str, budget: str) -> list[dict[str, Any]]:
    """Correlation of each label-free metric with the probe, over checkpoints of the curves."""
    probe, listed = {}, []
    for cell in rows.cells(store=store, part=CURVE, budget=budget):
        if cell.steps:
            of = without_budget(cell)
            probe[of] = float(metrics.macro_f1(rows.probed[cell].counts.sum(axis=0)))
    for (cell, name), value in rows.measured.items():
        plain = None if value != value else value
        listed.append({"space": cell, "metric": name, "value": plain, "needs_labels": False})
    return correlations([row for row in listed if row["space"] in probe], probe)
