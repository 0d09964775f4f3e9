"""Explanation of a run's staged nights: chosen epochs, metrics, bands, tables and pages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from interpret.band_report import bands_of, write_bands
from interpret.counterfactual_report import add_counterfactuals
from interpret.detected import SOURCE, detect
from interpret.evidence import DISTRACTORS, read_events
from interpret.explain_nights import draw_epochs, explain_epochs, explain_nights
from interpret.explained_night import ExplainedNight
from interpret.explanation import INCOMPLETE
from interpret.explanation_flags import ExplanationFlags, plan_of
from interpret.index import Entry
from interpret.integrated_gradients import TOLERANCE
from interpret.playing import player_of
from interpret.prototype_report import add_prototypes, write_control
from interpret.prototypes import Prototypes
from interpret.question import Plan
from interpret.report import Gathered, write_report
from interpret.scoreboard import Score
from interpret.second_look_report import write_run
from interpret.selection import select_of_nights
from interpret.stage_means import StageMeans
from utils.files import written_folder
from utils.intervals import with_interval
from utils.staged_night import StagedNight

EXPLANATIONS = "explanations"  # what their folder is called where it may be replaced
# beginnings of the measures that are printed
_PRINTED = ("auroc", "from_wrong", "completeness", "deletion", "insertion", "likeness_to")


@dataclass(frozen=True)
class Additions:
    """What an evaluation adds to explanations.

    ``write_page`` writes a night's page: ``evaluation.night_page.write_page``. ``temperature``
    calibrates the probabilities by which epochs are listed for a second look. ``prototypes`` are of
    the training nights, ``None`` for a model that does not encode epochs on their own. ``scorers``
    (s, n) are the stages that several scorers gave a recording. On ``training_epochs`` (n, m, t) of
    a subject of the training, copies with random weights have their batch norms measured.
    """

    write_page: Callable[..., Any]
    temperature: float = 1.0
    prototypes: Prototypes | None = None
    scorers: Mapping[str, np.ndarray] = field(default_factory=dict)
    training_epochs: torch.Tensor | None = None


def interpret(
    flags: ExplanationFlags,
    model: torch.nn.Module,
    view: Any,
    nights: Sequence[StagedNight],
    about: Mapping[str, Any],
    folder: Path,
    added: Additions,
) -> None:
    """Explain the chosen epochs of the first recordings of a ``datasets.store.views.View``."""
    plan, staged = plan_of(flags), first_staged(flags, view, nights)
    chosen = select_of_nights(flags.interpret_select, staged, seed=plan.seed)
    gathered = Gathered(
        StageMeans([channel.label for channel in view.channels]), added.training_epochs
    )
    run = ExplainedRun(model, plan, chosen, flags.interpret_bands, gathered, added.prototypes)
    about = {**about, "interpretation": asdict(plan)}
    # complete or not at all: an interrupted run leaves the explanations of the one before
    with written_folder(folder, EXPLANATIONS) as temporary:
        with_events = opened_nights(view, staged, flags.truth_path)
        entries = explain_nights(temporary, with_events, run.explain, about)
        if run.bands:
            write_bands(temporary, run.bands)
        rows = write_report(temporary, gathered, about)
        listed = write_run(
            temporary, view, nights, run.events, entries, added.temperature, added.scorers
        )
        if added.prototypes is not None:
            print_same_stage(write_control(temporary, view, model, added.prototypes))
        # pages last, as each shows the metrics of all nights: one night at a time is read again
        for night in opened_nights(view, staged):
            recording = night.staged.recording
            page, again = temporary / f"{recording}.html", listed[recording]
            known = {"events": run.events[recording], "evidence": run.evidence[recording]}
            night = replace(night, **known)
            added.write_page(page, night, entries, rows, about["headline"], second_look=again)
    print_rows(rows)
    print_completeness(entries)
    print(f"explanations: {folder}")
    pages = " ".join(str(folder / f"{night.recording}.html") for night in staged)
    print(f"open in a browser: {pages}")


@dataclass
class ExplainedRun:
    """How a run's nights are explained, and the results of those explained so far.

    ``chosen``: recording -> numbers of its epochs; ``with_bands``: band importance of whole nights,
    too. No night is kept, as they would fill the memory, but its ``events`` and where they come
    from (``evidence``), by recording.
    """

    model: torch.nn.Module
    plan: Plan
    chosen: Mapping[str, np.ndarray]
    with_bands: bool
    gathered: Gathered
    prototypes: Prototypes | None = None
    bands: list[Score] = field(default_factory=list)
    events: dict[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    evidence: dict[str, str] = field(default_factory=dict)

    def explain(self, folder: Path, night: ExplainedNight) -> list[Entry]:
        """Explain, evaluate and draw the chosen epochs of a night; their index entries."""
        plan, recording = self.plan, night.staged.recording
        chosen = self.chosen[recording]
        print(f"explaining {len(chosen)} epochs of {recording} by {', '.join(plan.methods)}")
        explained = explain_epochs(self.model, night, chosen, plan, folder)
        if explained:
            self.gathered.add(explained)
            draw_epochs(folder, explained)
            if self.prototypes is not None:
                add_prototypes(
                    folder, night, self.model, self.prototypes, explained.entries, plan.pictures
                )
            if plan.counterfactuals:
                player = player_of(self.model, night.signals)
                add_counterfactuals(folder, night, explained.entries, player, plan, plan.pictures)
        self.events[recording], self.evidence[recording] = night.events, night.evidence
        if self.with_bands:
            self.bands += bands_of(self.model, night)
        return explained.entries if explained else []


def first_staged(
    flags: ExplanationFlags, view: Any, nights: Sequence[StagedNight]
) -> list[StagedNight]:
    """The view's first nights, as many as the flags ask for."""
    staged = {night.recording: night for night in nights}
    wanted = flags.interpret_recordings or len(nights)  # 0 stands for all
    return [staged[recording] for recording in view.recordings[:wanted]]


def opened_nights(
    view: Any, nights: Sequence[StagedNight], truth_path: Path | None = None
) -> Iterator[ExplainedNight]:
    """Yield the view's first nights with their signals, as many as were staged.

    With the events planted in them, which lie in ``truth_path``, or those detected; without a path
    no event is searched for.
    """
    for staged, (_, signals, _) in zip(nights, view.whole_nights(), strict=False):
        yield night_of(view, staged, signals, truth_path)


def night_of(
    view: Any, staged: StagedNight, signals: torch.Tensor, truth_path: Path | None
) -> ExplainedNight:
    """Prepare a night for explaining: its scale in its own unit, planted or detected events."""
    mean, sd = view.moments(staged.recording)
    about = {
        "staged": staged,
        "signals": signals,
        "mean": mean,
        "sd": sd,
        "channels": tuple(channel.label for channel in view.channels),
        "roles": tuple(channel.role for channel in view.channels),
        "unit": view.channels[0].unit.replace("uV", "µV") or "no unit",
    }
    # detection needs a night, which is frozen: the one with events is another
    bare = ExplainedNight(**about, events={})
    if truth_path is None:
        return bare
    truth = truth_file(truth_path, staged.recording)
    if truth.exists():
        distractors = read_events(truth, DISTRACTORS)
        events = read_events(truth)
        return replace(bare, events=events, evidence="planted", distractors=distractors)
    return replace(bare, events=detect(bare), evidence=SOURCE)


def truth_file(truth_path: Path, recording: str) -> Path:
    """Where the events planted in a recording are listed; simulated nights alone have it."""
    return truth_path / f"{recording}_truth.tsv"


def print_same_stage(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print how often the nearest prototype has the expert's stage, by each space."""
    by_space = {row["space"]: row["mean"] for row in rows if row["stage"] == "all"}
    shown = ", ".join(f"{space} {mean:.3f}" for space, mean in by_space.items())
    if shown:
        print(f"  nearest prototype has the expert's stage: {shown}")


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the main explanation metrics over all stages; ``summary.csv`` has them all."""
    for row in rows:
        if row["stage"] != "all" or not row["measure"].startswith(_PRINTED):
            continue
        figure = with_interval({**row, "value": row["mean"]})
        print(f"  {row['measure']:<36}{row['method']:<26}  {figure}  {row['epochs']} epochs")


def print_completeness(entries: Sequence[Entry]) -> None:
    """Print for how many epochs each method's map misses up to 1 %, and more than 5 %."""
    errors: dict[str, list[float]] = defaultdict(list)
    for entry in entries:
        for method, answer in entry["methods"].items():
            if answer["completeness_error"] is not None:
                errors[method].append(answer["completeness_error"])
    for method, own in errors.items():
        within, beyond = (np.array(own) <= TOLERANCE).mean(), (np.array(own) > INCOMPLETE).sum()
        print(
            f"  {method}: complete to {100 * TOLERANCE:g} % at {100 * within:.0f} % of {len(own)} "
            f"epochs, {beyond} flagged as incomplete"
        )
