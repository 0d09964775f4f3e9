"""``--is_interpret`` of every evaluate script: its flags, and the run of nights behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from evaluation.night_page import write_page
from interpret import registry
from interpret.band_report import bands_of, write_bands
from interpret.baselines import NAMES as BASELINES
from interpret.detected import SOURCE, detect
from interpret.evidence import read_events
from interpret.explain_nights import draw_epochs, explain_epochs, explain_nights
from interpret.explained_night import ExplainedNight
from interpret.index import Entry
from interpret.question import Plan
from interpret.report import Gathered, write_report
from interpret.scoreboard import Score
from interpret.selection import SPELLINGS, select
from interpret.stage_means import StageMeans
from utils.arguments import add_flag, add_list, count, not_negative, positive
from utils.errors import UserError
from utils.files import written_folder
from utils.staged_night import StagedNight
from utils.stages import STAGES

EXPLANATIONS = "explanations"  # what their folder is called where it may be replaced
_PRINTED = ("auroc_net", "completeness", "deletion", "insertion", "likeness_to")


@dataclass(frozen=True)
class ExplanationFlags:
    """What is explained, how, and how far it is checked."""

    is_interpret: bool
    interpret_methods: list[str]
    interpret_select: str
    interpret_recordings: int
    interpret_span: str
    interpret_baseline: str
    interpret_other_baseline: str
    target_output: str
    target_class: str
    ig_steps: int
    specgrad_hz: float
    interpret_bands: bool
    interpret_pictures: int
    n_random: int
    n_untrained: int
    interpret_seed: int
    truth_path: Path


def add_flags(group: Any) -> None:
    """What is explained, how, and how far it is checked."""
    add_flag(group, "--is_interpret", help="explain epochs, into <run>/interpretations")
    add_list(
        group,
        "--interpret_methods",
        default=["ig", "specgrad", "gradcam", "attention", "rollout"],
        help=f"any of {', '.join(registry.names())}, as far as the model allows them; "
        f"{registry.control().name} is always added as the control",
    )
    group.add_argument("--interpret_select", default="per_stage:2", help=f"epochs: {SPELLINGS}")
    group.add_argument(
        "--interpret_recordings", type=count, default=1, help="recordings to explain; 0: all"
    )
    group.add_argument(
        "--interpret_span",
        choices=("epoch", "window"),
        default="epoch",
        help="attribute to the epoch alone, or to every epoch the model sees around it",
    )
    group.add_argument(
        "--interpret_baseline",
        choices=BASELINES,
        default="zero",
        help="what an epoch is compared with; zero is the recording's mean",
    )
    group.add_argument(
        "--interpret_other_baseline",
        choices=BASELINES,
        default="shuffled",
        help="the second baseline of ig among the explanation metrics",
    )
    group.add_argument(
        "--target_output",
        choices=("logit", "prob", "logodds"),
        default="logit",
        help="what of the class is explained",
    )
    group.add_argument(
        "--target_class",
        choices=("predicted", "true", *STAGES),
        default="predicted",
        help="the class explained",
    )
    group.add_argument(
        "--ig_steps",
        type=positive,
        default=20,
        help="steps of integrated gradients to begin with; doubled until they sum up to 1 %%",
    )
    group.add_argument(
        "--specgrad_hz",
        type=not_negative,
        default=0.0,
        help="width of the bands of spectral gradients in Hz; 0: delta, theta, … gamma",
    )
    add_flag(
        group,
        "--interpret_bands",
        default=True,
        help="what each frequency band adds to the probabilities, over whole nights",
    )
    group.add_argument(
        "--interpret_pictures", type=count, default=20, help="epochs a recording to draw"
    )
    group.add_argument(
        "--n_random", type=positive, default=20, help="random orders to compare with"
    )
    group.add_argument(
        "--n_untrained", type=positive, default=3, help="copies with random weights to compare with"
    )
    group.add_argument("--interpret_seed", type=count, default=0, help="of every random choice")
    group.add_argument(
        "--truth_path",
        type=Path,
        default=Path("data/demo/sleepedf"),
        help="folder with *_truth.tsv of synthetic nights, whose events score the explanations; "
        "other nights are scored by what yasa finds",
    )


def check(flags: ExplanationFlags) -> None:
    """Refuse methods that do not exist.

    Raises:
        UserError: naming them.
    """
    names = registry.names()
    if unknown := sorted(set(flags.interpret_methods) - set(names)):
        raise UserError(
            f"--interpret_methods: no {', '.join(unknown)}; there are {', '.join(names)}"
        )


def plan_of(flags: ExplanationFlags) -> Plan:
    """The plan that the flags describe; the second baseline is never the first one."""
    other = flags.interpret_other_baseline
    return Plan(
        methods=tuple(flags.interpret_methods),
        baseline=flags.interpret_baseline,
        other_baseline=other if other != flags.interpret_baseline else "zero",
        output=flags.target_output,
        target_class=flags.target_class,
        span=flags.interpret_span,
        seed=flags.interpret_seed,
        steps=flags.ig_steps,
        band_hz=flags.specgrad_hz,
        orders=flags.n_random,
        untrained=flags.n_untrained,
        pictures=flags.interpret_pictures,
    )


def interpret(
    flags: ExplanationFlags,
    model: torch.nn.Module,
    view: Any,
    nights: Sequence[StagedNight],
    about: Mapping[str, Any],
    folder: Path,
) -> None:
    """Explain the chosen epochs of the first recordings of a ``datasets.store.views.View``."""
    gathered = Gathered(StageMeans([channel.label for channel in view.channels]))
    run = ExplainedRun(
        model, plan_of(flags), flags.interpret_select, flags.interpret_bands, gathered
    )
    about = {**about, "interpretation": asdict(run.plan)}
    with written_folder(folder, EXPLANATIONS) as temporary:
        entries = explain_nights(temporary, first_nights(flags, view, nights), run.explain, about)
        if run.bands:
            write_bands(temporary, run.bands)
        rows = write_report(temporary, gathered, about)
        for night in run.nights:
            page = temporary / f"{night.staged.recording}.html"
            write_page(page, night, entries, rows, about["headline"])
    print_rows(rows)
    print(f"explanations: {folder}")
    pages = " ".join(str(folder / f"{night.staged.recording}.html") for night in run.nights)
    print(f"open in a browser: {pages}")


@dataclass
class ExplainedRun:
    """How a run's nights are explained, and what they have added up to so far.

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
        found = explain_epochs(self.model, night, chosen, plan, folder)
        if found:
            self.gathered.add(found)
            draw_epochs(folder, found)
        self.nights.append(night)
        if self.with_bands:
            self.bands += bands_of(self.model, night)
        return found.entries if found else []


def first_nights(
    flags: ExplanationFlags, view: Any, nights: Sequence[StagedNight]
) -> Iterator[ExplainedNight]:
    """As many of the view's nights as the flags ask for, with all that explaining needs."""
    staged = {night.recording: night for night in nights}
    wanted = flags.interpret_recordings or len(nights)
    for recording, signals, _ in islice(view.whole_nights(), wanted):
        yield night_of(flags, view, staged[recording], signals)


def night_of(
    flags: ExplanationFlags, view: Any, staged: StagedNight, signals: torch.Tensor
) -> ExplainedNight:
    """A night with its scale in the unit it was recorded in, and its planted or found events."""
    mean, sd = view.moments(staged.recording)
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
        return ExplainedNight(**about, events=read_events(truth), evidence="planted")
    bare = ExplainedNight(**about, events={})
    return ExplainedNight(**about, events=detect(bare), evidence=SOURCE)


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """The main measures over all stages; ``summary.csv`` has them all."""
    for row in rows:
        if row["stage"] != "all" or not row["measure"].startswith(_PRINTED):
            continue
        low, high = row["low"], row["high"]
        interval = "" if low is None else f"  [{low:.3f}, {high:.3f}]"
        print(
            f"  {row['measure']:<28}{row['method']:<26}{row['mean']:>8.3f}{interval}"
            f"  {row['epochs']} epochs"
        )
