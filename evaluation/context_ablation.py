"""How much of the night around it an epoch is staged by: agreement by windows of ± k epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.store.views import View
from evaluation import context_figures
from models.foundation import Foundation
from models.night_windows import NightWindows, staged
from utils import metrics
from utils.errors import UserError
from utils.figures import save
from utils.files import write_json, write_table
from utils.intervals import (
    Figure,
    columns,
    difference,
    of_columns,
    over_subjects,
    with_interval,
)
from utils.metrics import confusion
from utils.stages import STAGES

WHOLE = "whole"
REFERENCE = 10  # epochs to either side, which all contexts are compared with
_ENDLESS = 1 << 30  # epochs: more than a night has


def _of_stage(name: str) -> Figure:
    return lambda counts: metrics.f1(counts)[..., STAGES.index(name)]


FIGURES: dict[str, Figure] = {
    "kappa": metrics.kappa,
    "macro_f1": metrics.macro_f1,
    "f1_N1": _of_stage("N1"),
    "f1_REM": _of_stage("REM"),
}


def reaches(contexts: Sequence[str]) -> dict[str, int]:
    """Epochs to either side by name, the shortest first; the reference is among them.

    Raises:
        UserError: a context that is neither a number of epochs nor ``whole``.
    """
    wanted = {str(REFERENCE): REFERENCE}
    for word in contexts:
        if word != WHOLE and not word.isdecimal():
            raise UserError(f"--contexts {word}: give epochs to either side, or {WHOLE}")
        reach = _ENDLESS if word == WHOLE else int(word)
        wanted[WHOLE if word == WHOLE else str(reach)] = reach
    return dict(sorted(wanted.items(), key=lambda item: item[1]))


def centrings(model: Foundation) -> dict[str, bool]:
    """What spectra are centred by, and whether that is the night; without spectra it is nothing."""
    return {"window": False, "night": True} if model.encoder.spectrum is not None else {"–": True}


def ablate(
    model: Foundation, view: View, wanted: Mapping[str, int]
) -> dict[tuple[str, str], np.ndarray]:
    """Confusion counts (nights, 5, 5) by centring and context, of every night of a view."""
    model.to(view.device).eval()
    counts: dict[tuple[str, str], list[np.ndarray]] = {}
    for _, signals, expert in view.whole_nights():
        true = expert.cpu().numpy()
        for centred, by_night in centrings(model).items():
            windows = NightWindows(model, signals, by_night=by_night)
            for name, reach in wanted.items():
                of = counts.setdefault((centred, name), [])
                of.append(confusion(true, staged(windows, len(true), reach)))
    return {key: np.stack(some) for key, some in counts.items()}


def rows_of(
    counts: Mapping[tuple[str, str], np.ndarray],
    subjects: Sequence[str],
    by_another: Mapping[str, np.ndarray] | None = None,
) -> list[dict[str, Any]]:
    """Figures by context, and what they have more than the reference, with intervals by subject.

    ``subjects`` (nights,); the differences are of the same subjects, in pairs. The reference is the
    model's own, centred alike, or ``by_another`` model, counts (nights, 5, 5) by centring; where
    that one is not centred alike, it is centred by the night, as ``--context`` trains it.
    """
    rows = []
    if by_another is None:
        by_another = {c: some for (c, name), some in counts.items() if name == str(REFERENCE)}
    for (centred, name), some in counts.items():
        # one of the two may have no spectra, and so one answer however the other is centred
        reference = next(by_another[c] for c in (centred, "night", "–") if c in by_another)
        scored = some.sum(axis=(1, 2)) > 0  # an unscored night has no say
        kept = [who for who, has in zip(subjects, scored, strict=True) if has]
        row: dict[str, Any] = {"context": name, "centred_by": centred, "nights": len(kept)}
        own = over_subjects(some[scored], kept, FIGURES)
        pairs = np.stack([some[scored], reference[scored]], axis=1)
        more = over_subjects(pairs, kept, {f: difference(FIGURES[f]) for f in FIGURES})
        for figure in FIGURES:
            row |= columns(figure, own[figure].plain())
        for figure in FIGURES:
            row |= columns(f"{figure}_more", more[figure].plain())
        rows.append(row)
    return rows


@dataclass(frozen=True)
class Reference:
    """A model that was trained at the reference's length, and the same nights as it reads them."""

    name: str
    model: Foundation
    view: View

    def counts(self) -> dict[str, np.ndarray]:
        """Confusion counts (nights, 5, 5) by what spectra are centred by."""
        by = ablate(self.model, self.view, {str(REFERENCE): REFERENCE})
        return {centred: some for (centred, _), some in by.items()}


def write_contexts(
    folder: Path,
    model: Foundation,
    view: View,
    wanted: Mapping[str, int],
    headline: str,
    reference: Reference | None = None,
) -> None:
    """Write ``context.csv``, ``.json`` and their picture, and print the rows.

    Without a ``reference`` that is the model itself.
    """
    subjects, other = [night.subject for night in view.nights], None
    if reference is not None:
        other = reference.counts()
    rows = rows_of(ablate(model, view, wanted), subjects, other)
    by = "the model itself" if reference is None else reference.name
    about = {"headline": headline, "reference": f"±{REFERENCE} epochs by {by}"}
    write_json(folder / "context.json", about | {"rows": rows})
    save(context_figures.draw_contexts(rows, title=headline), folder / "context.png")
    write_table(folder / "context.csv", rows)
    report(rows, about["reference"])


def report(rows: Sequence[Mapping[str, Any]], reference: str) -> None:
    """Print what each context has more than the reference, and which comparison is fair."""
    print(f"context: figures less those of {reference}, paired by subject")
    for row in rows:
        more = "   ".join(
            f"{figure} {with_interval(of_columns(f'{figure}_more', row))}"
            for figure in ("f1_N1", "f1_REM", "kappa")
        )
        name = row["context"] if row["context"] == WHOLE else f"±{row['context']}"
        print(f"  {name:<7}centred by {row['centred_by']:<8}{more}")
    print(
        "  one model at lengths that training did not show it is not itself there: "
        "a fair comparison has a model trained at each length (--context), or at all of them"
    )
