"""The page of the pretraining study, written from its table alone: controls, then objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import band_context, study_figures
from experiments.study_grid import Grid
from experiments.study_results import (
    FEWEST,
    Space,
    controls_of,
    correlated,
    curve_points,
    difference,
    figure,
    is_ahead,
    rankings,
    sign_of,
    spaces_of,
)
from experiments.study_rows import ALL, CONTROLS, CURVE, PUBLISHED, TABLE, Rows, is_control
from utils import figures
from utils.files import write_table, write_text
from utils.intervals import T, with_interval

NAME = "pretraining"
AXES = ("steps", "nights", "budget")
_PAIRS = "## The pairs named before\n"
_PAIR_HEAD = ("pair", "labels", "difference", "interval")


def files_of(folder: Path, name: str = NAME) -> list[Path]:
    """Paths of the files that the study writes, of the table ``name``."""
    names = [
        f"{name}{ending}" for ending in (".csv", "_curves.csv", "_metrics.csv", ".json", ".md")
    ]
    curves = [f"{name}_{axis}.{end}" for axis in AXES for end in ("csv", "png", "pdf")]
    return [folder / one for one in (*names, *curves)]


def write(rows: Rows, store: str, grid: Grid, conditions: str, *, overwrite: bool | None) -> Path:
    """Write the page of one store and, beside it, its curves as tables and pictures."""
    folder = rows.path.parent
    parts = [
        "# Pretraining: what it adds to its controls\n",
        conditions,
        *_table(rows, store, grid),
    ]
    parts += _curves(rows, store, folder, overwrite)
    parts += _correlations(rows, store, grid)
    parts += _of_bands(rows, grid)
    path = folder / f"{NAME}.md"
    write_text(path, "\n".join(parts) + "\n", overwrite=overwrite)
    return path


def lines_of(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    cells = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(row) + " |\n" for row in cells)


def labels(budget: str) -> str:
    """A number of labelled subjects in words."""
    if budget == ALL:
        return "all labelled subjects"
    return f"{budget} labelled subject{'' if budget == '1' else 's'}"


def _seeds(rows: Rows, store: str, part: str) -> list[int]:
    return sorted({cell.seed for cell in rows.cells(store=store, part=part)})


def _table(rows: Rows, store: str, grid: Grid) -> list[str]:
    spaces, seeds = spaces_of(rows, store, CONTROLS), _seeds(rows, store, TABLE)
    if not spaces:
        return [
            "## Held-out subjects\n",
            "Not read yet: add `--final` once settings and steps are chosen.\n",
        ]
    listed = []
    for space in spaces:
        each = [figure(rows, store, space, budget, seeds) for budget in grid.table]
        chosen = {
            f"{cell.setting}, {cell.steps} steps"
            for cell in rows.cells(
                store=store, part=TABLE, objective=space.objective, encoder=space.encoder
            )
            if cell.steps
        }
        listed.append([space.title, *map(_text, each), "; ".join(sorted(chosen)) or "–"])
    head = ["space", *map(labels, grid.table), "chosen on validation subjects"]
    seeded = ", ".join(map(str, seeds))
    return [
        "## Held-out subjects\n",
        "Macro-F1 with 95 % intervals over held-out subjects, mean over seed(s) "
        f"{seeded}. The same linear probe of every space, centred and scaled by night.\n",
        lines_of(head, listed),
        *_differences(rows, store, grid, spaces, seeds),
        *_named_pairs(rows, store, grid, spaces, seeds),
        *_rankings(rows, store, grid, spaces, seeds),
    ]


def _differences(
    rows: Rows, store: str, grid: Grid, spaces: Sequence[Space], seeds: Sequence[int]
) -> list[str]:
    listed = []
    for space in spaces:
        if is_control(space.objective):
            continue
        for budget in grid.table:
            both = [
                difference(rows, store, (space, control), budget, seeds)
                for control in controls_of(space)
            ]
            verdict = "**ahead**" if is_ahead(both) else "no claim"
            listed.append([space.title, labels(budget), *map(_text, both), verdict])
    head = ["objective", "labels", "less its random encoder", "less band powers", "of both"]
    return [
        "## Differences to both controls\n",
        f"Paired by subject. *Ahead* only where both intervals lie above 0, of {FEWEST} held-out "
        "subjects or more.\n",
        lines_of(head, listed),
    ]


def _named_pairs(
    rows: Rows, store: str, grid: Grid, spaces: Sequence[Space], seeds: Sequence[int]
) -> list[str]:
    listed = _pairs(rows, store, grid.pairs, grid.table, spaces, seeds)
    return [_PAIRS, lines_of(_PAIR_HEAD, listed)] if listed else []


def _pairs(
    rows: Rows,
    store: str,
    pairs: Sequence[tuple[str, str]],
    budgets: Sequence[str],
    spaces: Sequence[Space],
    seeds: Sequence[int],
) -> list[list[str]]:
    """Rows of the differences of pairs, of the same encoder where both have one."""
    listed = []
    for one, other in pairs:
        for first in (space for space in spaces if space.objective == one):
            for second in (space for space in spaces if space.objective == other):
                if "" not in (first.encoder, second.encoder) and first.encoder != second.encoder:
                    continue
                for budget in budgets:
                    known = difference(rows, store, (first, second), budget, seeds)
                    words = {1: "above 0", -1: "below 0", 0: "no claim"}[sign_of(known)]
                    listed.append(
                        [f"{first.title} less {second.title}", labels(budget), _text(known), words]
                    )
    return listed


def _rankings(
    rows: Rows, store: str, grid: Grid, spaces: Sequence[Space], seeds: Sequence[int]
) -> list[str]:
    title = "## Do seeds agree?\n"
    if len(seeds) < 2:
        return [title, "One seed: nothing to compare.\n"]
    ranked = rankings(rows, store, spaces, grid.table, seeds)
    if not ranked:
        return [title, "No ranking has an interval beside 0 in two seeds.\n"]
    listed = [
        [
            " less ".join(space.title for space in one["pair"]),
            labels(one["budget"]),
            "; ".join(f"seed {k}: {_text(known)}" for k, known in one["differences"].items()),
            "agree" if one["agree"] else "**disagree**",
        ]
        for one in sorted(ranked, key=lambda one: one["agree"])  # what disagrees comes first
    ]
    n = sum(one["agree"] for one in ranked)
    return [
        title,
        f"{n} of the {len(ranked)} rankings whose interval lies beside 0 in two seeds or more are "
        "the same in all of these.\n",
        lines_of(["pair", "labels", "differences", "seeds"], listed),
    ]


def _curves(rows: Rows, store: str, folder: Path, overwrite: bool | None) -> list[str]:
    """Tables and pictures of the curves, and the sentences that lead to them."""
    if not rows.cells(store=store, part=CURVE):
        return []
    seeds = ", ".join(map(str, _seeds(rows, store, CURVE)))
    published = any(cell.objective.startswith(PUBLISHED) for cell in rows.probed)
    parts = [
        "## Curves\n",
        f"Of validation subjects, on whom settings and steps are chosen: no claim. Seed(s) {seeds} "
        "pooled; bands and bars are 95 % intervals over subjects, of fewer than 8 those of their "
        "mean, which is then drawn."
        + " Published encoders are among the numbers alone." * published
        + "\n",
    ]
    for axis in AXES:
        points = curve_points(rows, store, axis)
        of_curves = points if axis == "budget" else _with_curves(points)
        drawn = [one for one in of_curves if not one["objective"].startswith(PUBLISHED)]
        if len({one["x"] for one in drawn if one["x"] is not None}) < 2:
            continue  # no curve of one point
        stem = folder / f"{NAME}_{axis}"
        table = [
            {k: v for k, v in one.items() if k not in ("is_control", "tick")} for one in of_curves
        ]
        write_table(stem.with_suffix(".csv"), table, overwrite=overwrite)
        named = [
            one | {"name": _name(one, drawn), "panel": _panel(one, axis), "y": _height(one)}
            for one in drawn
        ]
        n = max(one["subjects"] for one in drawn)
        title = f"Probe against {study_figures.LABELS[axis]}   n = {n} validation subjects"
        picture = study_figures.draw_curves(named, axis, title=title)
        figures.save(picture, stem.with_suffix(".png"), overwrite=overwrite)
        parts.append(
            f"![{study_figures.LABELS[axis]}]({stem.name}.png) "
            f"([numbers]({stem.name}.csv), [PDF]({stem.name}.pdf))\n"
        )
    return parts


def _with_curves(points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Points of the numbers of labels at which some curve has two or more."""
    groups: dict[tuple, set] = {}
    for one in points:
        if not one["is_control"]:
            key = one["budget"], one["objective"], one["setting"], one["encoder"]
            groups.setdefault(key, set()).add(one["x"])
    budgets = {key[0] for key, places in groups.items() if len(places) > 1}
    return [one for one in points if one["budget"] in budgets]


def _name(point: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> str:
    """The name of a curve, with its setting or encoder where there are several."""
    same = [one for one in points if one["objective"] == point["objective"]]
    several = [key for key in ("setting", "encoder") if len({one[key] for one in same}) > 1]
    return ", ".join([point["objective"], *(point[key] for key in several)])


def _height(point: Mapping[str, Any]) -> float | None:
    """What the interval is of: the mean over few subjects, else the pooled figure."""
    return point["mean_of_subjects" if point["interval"] == T else "macro_f1"]


def _panel(point: Mapping[str, Any], axis: str) -> str:
    return "" if axis == "budget" else labels(point["budget"])


def _correlations(rows: Rows, store: str, grid: Grid) -> list[str]:
    known = {budget: correlated(rows, store, budget) for budget in grid.table}
    names = list(dict.fromkeys(one["metric"] for each in known.values() for one in each))
    if not names:
        return []
    listed = []
    for name in names:
        cells = [name]
        for budget in grid.table:
            one = next((row for row in known[budget] if row["metric"] == name), None)
            cells.append(_correlation(one))
        listed.append(cells)
    return [
        "## Label-free metrics against the probe\n",
        "Spearman's correlation over checkpoints of the curves, validation subjects, with its 95 % "
        "interval (Fisher's z) and n. Checkpoints of one run resemble each other: the intervals "
        "are narrower than those of as many trainings.\n",
        lines_of(["metric", *map(labels, grid.table)], listed),
    ]


def _of_bands(rows: Rows, grid: Grid) -> list[str]:
    """Tables of context models of band powers, a store after the other."""
    parts = []
    for store in sorted({cell.store for cell in rows.cells(encoder=band_context.ENCODER)}):
        spaces, seeds = spaces_of(rows, store, band_context.CONTROLS), _seeds(rows, store, TABLE)
        listed = [
            [space.objective]
            + [_text(figure(rows, store, space, budget, seeds)) for budget in grid.table]
            for space in spaces
        ]
        pairs = _pairs(rows, store, band_context.PAIRS, grid.table, spaces, seeds)
        parts += [
            f"## Sequences of band powers: {store}\n",
            "A context model (two recurrent layers over the night) that reads band powers alone, "
            "pretrained to predict hidden stretches of epochs; the same probe of all spaces. "
            "Macro-F1 of held-out subjects, both nights of a subject together; seed(s) "
            f"{', '.join(map(str, seeds))}. A check of embeddings, of no encoder of signals.\n",
            lines_of(["space", *map(labels, grid.table)], listed),
            lines_of(
                _PAIR_HEAD,
                [[row[0].replace(f", {band_context.ENCODER}", ""), *row[1:]] for row in pairs],
            ),
        ]
    return parts


def _correlation(row: Mapping[str, Any] | None) -> str:
    if row is None or row["spearman"] is None:
        return "–"
    if row["low"] is None:
        return f"{row['spearman']:.2f} (n {row['runs']})"
    return f"{row['spearman']:.2f} [{row['low']:.2f}, {row['high']:.2f}] (n {row['runs']})"


def _text(known: Mapping[str, Any] | None) -> str:
    return "–" if known is None else with_interval(known)
