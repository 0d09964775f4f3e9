"""Explanation of a run's staged nights: chosen epochs, metrics, bands, tables and pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from interpret.band_report import bands_of, write_bands
from interpret.detected import SOURCE, detect
from interpret.evidence import DISTRACTORS, read_events
from interpret.explain_nights import draw_epochs, explain_epochs, explain_nights
from interpret.explained_night import ExplainedNight
from interpret.explanation_flags import ExplanationFlags, plan_of
from interpret.index import Entry
from interpret.question import Plan
from interpret.report import Gathered, write_report
from interpret.scoreboard import Score
from interpret.selection import select
from interpret.stage_means import StageMeans
from utils.files import written_folder
from utils.staged_night import StagedNight

EXPLANATIONS = "explanations"  # what their folder is called where it may be replaced
# beginnings of the measures that are printed
_PRINTED = ("auroc", "from_wrong", "completeness", "deletion", "insertion", "likeness_to")


class Trained(NamedTuple):
    """A trained model, and epochs (n, m, t) of its training subjects if any are at hand.

    Copies with random weights have their batch norms measured on them.
    """

    model: torch.nn.Module
    epochs: torch.Tensor | None = None


def interpret(
    flags: ExplanationFlags,
    trained: Trained,
    view: Any,
    nights: Sequence[StagedNight],
    about: Mapping[str, Any],
    folder: Path,
    write_page: Callable[..., Any],
) -> None:
    """Explain the chosen epochs of the first recordings of a ``datasets.store.views.View``.

    ``write_page`` writes a night's page: ``evaluation.night_page.write_page``.
    """
    gathered = Gathered(StageMeans([channel.label for channel in view.channels]), trained.epochs)
    run = ExplainedRun(
        trained.model, plan_of(flags), flags.interpret_select, flags.interpret_bands, gathered
    )
    about = {**about, "interpretation": asdict(run.plan)}
    # complete or not at all: an interrupted run leaves the explanations of the one before
    with written_folder(folder, EXPLANATIONS) as temporary:
        entries = explain_nights(temporary, first_nights(flags, view, nights), run.explain, about)
        if run.bands:
            write_bands(temporary, run.bands)
        rows = write_report(temporary, gathered, about)
        # pages last: each shows the metrics of all nights
        for night in run.nights:
            page = temporary / f"{night.staged.recording}.html"
            write_page(page, night, entries, rows, about["headline"])
    print_rows(rows)
    print(f"explanations: {folder}")
    pages = " ".join(str(folder / f"{night.staged.recording}.html") for night in run.nights)
    print(f"open in a browser: {pages}")


@dataclass
class ExplainedRun:
    """How a run's nights are explained, and the results of those explained so far.

    ``select`` as in ``interpret.selection``; ``with_bands``: band importance of whole nights, too.
    """

    model: torch.nn.Module
    plan: Plan
    select: str
    with_bands: bool
    gathered: Gathered
    bands: list[Score] = field(default_factory=list)
    nights: list[ExplainedNight] = field(default_factory=list)

    def explain(self, folder: Path, night: ExplainedNight) -> list[Entry]:
        """Explain, evaluate and draw the chosen epochs of a night; their index entries."""
        staged, plan = night.staged, self.plan
        chosen = select(self.select, staged.probabilities, staged.expert, seed=plan.seed)
        print(f"explaining {len(chosen)} epochs of {staged.recording} by {', '.join(plan.methods)}")
        explained = explain_epochs(self.model, night, chosen, plan, folder)
        if explained:
            self.gathered.add(explained)
            draw_epochs(folder, explained)
        self.nights.append(night)  # for its page, with or without epochs to explain
        if self.with_bands:
            self.bands += bands_of(self.model, night)
        return explained.entries if explained else []


def first_nights(
    flags: ExplanationFlags, view: Any, nights: Sequence[StagedNight]
) -> Iterator[ExplainedNight]:
    """Yield the view's first nights, as many as the flags ask for, prepared for explaining."""
    staged = {night.recording: night for night in nights}
    wanted = flags.interpret_recordings or len(nights)  # 0 stands for all
    for recording, signals, _ in islice(view.whole_nights(), wanted):
        yield night_of(flags, view, staged[recording], signals)


def night_of(
    flags: ExplanationFlags, view: Any, staged: StagedNight, signals: torch.Tensor
) -> ExplainedNight:
    """Prepare a night for explaining: its scale in its own unit, planted or detected events."""
    mean, sd = view.moments(staged.recording)
    # only simulated nights have such a file beside them
    truth = flags.truth_path / f"{staged.recording}_truth.tsv"
    about = {
        "staged": staged,
        "signals": signals,
        "mean": mean,
        "sd": sd,
        "channels": tuple(channel.label for channel in view.channels),
        "roles": tuple(channel.role for channel in view.channels),
        "unit": view.channels[0].unit.replace("uV", "µV") or "no unit",
    }
    if truth.exists():
        return ExplainedNight(
            **about,
            events=read_events(truth),
            evidence="planted",
            distractors=read_events(truth, DISTRACTORS),
        )
    # detection needs a night, which is frozen: the one with events is another
    bare = ExplainedNight(**about, events={})
    return ExplainedNight(**about, events=detect(bare), evidence=SOURCE)


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the main explanation metrics over all stages; ``summary.csv`` has them all."""
    for row in rows:
        if row["stage"] != "all" or not row["measure"].startswith(_PRINTED):
            continue
        low, high = row["low"], row["high"]
        interval = "" if low is None else f"  [{low:.3f}, {high:.3f}]"
        print(
            f"  {row['measure']:<36}{row['method']:<26}{row['mean']:>8.3f}{interval}"
            f"  {row['epochs']} epochs"
        )
