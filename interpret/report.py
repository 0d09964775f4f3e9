"""Report on a run's explanations: tables and figures of the metrics over all its nights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from interpret import registry, report_figures
from interpret.explain_nights import ExplainedEpochs
from interpret.explanation_metrics import Evaluated
from interpret.faithfulness import Curves
from interpret.method_comparison import evaluate_methods
from interpret.scoreboard import Score, by_subject, compare, differences, leading, summarise
from interpret.stage_means import StageMeans
from utils import figures
from utils.files import write_json, write_table
from utils.metrics import plain

Row = Mapping[str, Any]
# the measures of the figure, and how to read them
_METRICS = {
    "deletion_below_random": "probability lost earlier than by random orders",
    "insertion_above_random": "probability won earlier than by random orders",
}
_EVIDENCE = ("auroc_", "pointing_", "from_wrong_")


@dataclass
class Gathered:
    """Scores, curves and means of the nights explained so far; ``training`` as in Evaluated."""

    means: StageMeans
    training: Tensor | None = None
    scores: list[Score] = field(default_factory=list)
    curves: list[dict[str, Curves]] = field(default_factory=list)
    planted: bool = False  # events are known, not detected

    def add(self, explained: ExplainedEpochs) -> None:
        """Evaluate a night's explanations and add them to the scores, curves and means."""
        night, question = explained.night, explained.question
        # metrics vary the epoch alone, also where whole windows were attributed
        evaluated = Evaluated(night, replace(question, target=question.alone), self.training)
        scores, curves = evaluate_methods(evaluated, explained.explanations)
        self.scores += scores
        self.curves.append(curves)
        self.planted |= night.evidence == "planted"
        for method, explanation in explained.shown():
            method.add_to(self.means, night, question, explanation)


def write_report(
    folder: Path, gathered: Gathered, about: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Write tables and figures of the explanation metrics; returns the rows of ``summary.csv``.

    ``summary.csv`` and the same by subject, ``differences.csv`` from the control and
    ``against_model_free.csv``, paired by subject, ``faithfulness.json``, ``planted_events.csv`` (or
    ``detected_events.csv``), ``explanation_metrics.csv`` (five rows a measure, the best model-free
    one first), ``deletion_insertion.csv``, ``randomisation.csv``, each beside its figure, and
    ``stage_means.*``.
    """
    rows = summarise(gathered.scores)
    write_json(folder / "faithfulness.json", {"about": about, "rows": rows})
    if not rows:  # no epoch was explained, so there is nothing to draw
        return rows
    write_table(folder / "summary.csv", rows)
    write_table(folder / "summary_by_subject.csv", by_subject(gathered.scores))
    control = registry.control().name
    if compared := differences(gathered.scores, control):
        write_table(folder / "differences.csv", compared)
    free = {method.name for method in registry.model_free()}
    if compared := compare(gathered.scores, free):
        write_table(folder / "against_model_free.csv", compared)
    if evidence := [row for row in rows if row["measure"].startswith(_EVIDENCE)]:
        name = "planted" if gathered.planted else "detected"
        write_table(folder / f"{name}_events.csv", evidence)
    _write_metrics(folder, leading(rows, free, list(_METRICS)), str(about["headline"]))
    _write_curves(folder, mean_curves(gathered.curves), str(about["headline"]))
    _draw_randomisation(folder, rows)
    gathered.means.write(folder)
    return rows


def _write_metrics(folder: Path, rows: Sequence[Row], headline: str) -> None:
    """Write and draw the leading methods beside the best that knows no model."""
    readings = {
        name: text for name, text in _METRICS.items() if name in {r["measure"] for r in rows}
    }
    if not readings:
        return
    write_table(folder / "explanation_metrics.csv", rows)
    n_epochs = max(row["epochs"] for row in rows)
    title = f"{headline}; {n_epochs} epochs; all methods: summary.csv"
    picture = report_figures.draw_metrics(rows, readings, title=title)
    figures.save(picture, folder / "explanation_metrics.png")


def mean_curves(parts: Sequence[Mapping[str, Curves]]) -> dict[str, Curves]:
    """Curves of all nights together, epochs one after the other."""
    return {
        name: Curves(
            parts[0][name].share,
            np.concatenate([part[name].deletion for part in parts]),
            np.concatenate([part[name].insertion for part in parts]),
        )
        for name in (parts[0] if parts else ())
    }


def _write_curves(folder: Path, curves: Mapping[str, Curves], headline: str) -> None:
    table = [
        {
            "method": name,
            "share": share,
            "deletion": removed,
            "insertion": added,
            "epochs": len(curve.deletion),
        }
        for name, curve in curves.items()
        for share, removed, added in zip(
            curve.share.tolist(),
            curve.deletion.mean(axis=0).tolist(),
            curve.insertion.mean(axis=0).tolist(),
            strict=True,
        )
    ]
    write_table(folder / "deletion_insertion.csv", table)
    n_epochs = len(next(iter(curves.values())).deletion)
    picture = report_figures.draw_curves(
        curves, title=f"{headline}; {n_epochs} epochs", control=registry.control().name
    )
    figures.save(picture, folder / "deletion_insertion.png")


def _draw_randomisation(folder: Path, rows: Sequence[Row]) -> None:
    """Write and draw the rows ``likeness_<depth>_<layer>``, ``likeness_to_random_weights``."""
    overall = {(r["method"], r["measure"]): r["mean"] for r in rows if r["stage"] == "all"}
    names = {measure for _, measure in overall if measure.startswith("likeness_")}
    # by number, because layer 10 as text would come before layer 2
    layers = sorted(
        (n for n in names if n.split("_")[1].isdigit()), key=lambda n: int(n.split("_")[1])
    )
    layers.append("likeness_to_random_weights")
    methods = [m for m, measure in overall if measure == layers[-1]]
    if not methods:  # none that asks the model
        return
    # the trained model's map equals itself: every line begins at 1
    lines = {
        m: [1.0, *(overall.get((m, layer), np.nan) for layer in layers)] for m in sorted(methods)
    }
    labels = ["none", *(layer.split("_", 2)[2] for layer in layers[:-1]), "all"]
    table = [
        {"method": m, "random_up_to": label, "rank_correlation": plain(value)}
        for m, values in lines.items()
        for label, value in zip(labels, values, strict=True)
    ]
    write_table(folder / "randomisation.csv", table)
    n_epochs = max(r["epochs"] for r in rows if r["measure"] == layers[-1])
    picture = report_figures.draw_randomisation(lines, labels, f"n = {n_epochs} epochs")
    figures.save(picture, folder / "randomisation.png")
