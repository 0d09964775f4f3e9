"""Flags of explanations: what is explained, by which methods, how far it is evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interpret import registry
from interpret.baselines import AUTO
from interpret.baselines import NAMES as BASELINES
from interpret.question import MOST_STEPS, SPACES, SPECTROGRAM, Plan
from interpret.selection import SPELLINGS
from utils.arguments import add_flag, add_list, count, not_negative, positive
from utils.errors import UserError
from utils.stages import STAGES


@dataclass(frozen=True)
class ExplanationFlags:
    """Which epochs are explained, by which methods, and how far those are evaluated."""

    is_interpret: bool
    interpret_methods: list[str]
    interpret_select: str
    interpret_recordings: int
    interpret_span: str
    interpret_space: str
    interpret_baseline: str
    interpret_other_baselines: list[str]
    interpret_replacements: list[str]
    target_output: str
    target_class: str
    ig_steps: int
    ig_most_steps: int
    specgrad_hz: float
    interpret_bands: bool
    interpret_pictures: int
    page_channels: list[str]
    n_random: int
    n_untrained: int
    counterfactuals: int
    counterfactual_to: str
    interpret_seed: int
    truth_path: Path
    concepts: bool
    concept_recordings: int
    without_path: Path | None


def add_flags(group: Any) -> None:
    """Add ``--is_interpret`` and every flag of :class:`ExplanationFlags` to an argument group."""
    add_flag(group, "--is_interpret", help="explain epochs, into <run>/interpretations")
    add_list(
        group,
        "--interpret_methods",
        default=["ig", "eg", "specgrad", "gradcam", "attention", "rollout"],
        help=f"any of {', '.join(registry.names())}, as far as the model allows them; "
        f"{registry.control().name} is always added as the control",
    )
    group.add_argument("--interpret_select", default="per_stage:20", help=f"epochs: {SPELLINGS}")
    group.add_argument(
        "--interpret_recordings", type=count, default=0, help="recordings to explain; 0: all"
    )
    group.add_argument(
        "--interpret_span",
        choices=("epoch", "window"),
        default="epoch",
        help="attribute to the epoch alone, or to every epoch the model sees around it",
    )
    group.add_argument(
        "--interpret_space",
        choices=SPACES,
        default=SPECTROGRAM,
        help="what gradients are taken by in models that read spectrograms; others have samples",
    )
    group.add_argument(
        "--interpret_baseline",
        choices=BASELINES,
        default=AUTO,
        help="what an epoch is compared with; auto: the training mean of spectrograms, for signals "
        "zero, the recording's mean",
    )
    add_list(
        group,
        "--interpret_other_baselines",
        "--interpret_other_baseline",
        default=["mean_epoch", "other_stage"],
        help="more baselines of ig among the explanation metrics",
    )
    add_list(
        group,
        "--interpret_replacements",
        default=["same_stage"],
        help="baselines that take the place of what is deleted, beside --interpret_baseline; "
        "same_stage is another epoch of the stage",
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
        help="steps of integrated gradients to begin with; paths are halved until they sum up to "
        "1 %%",
    )
    group.add_argument(
        "--ig_most_steps", type=positive, default=MOST_STEPS, help="gradients per epoch at most"
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
        "--interpret_pictures", type=count, default=20, help="epochs drawn per recording"
    )
    add_list(
        group,
        "--page_channels",
        default=[],
        help="labels or roles of the store that a night's page shows beside the channels that the "
        "model reads",
    )
    group.add_argument(
        "--n_random", type=positive, default=20, help="random orders to compare with"
    )
    group.add_argument(
        "--n_untrained", type=positive, default=3, help="copies with random weights to compare with"
    )
    group.add_argument(
        "--counterfactuals",
        type=count,
        default=0,
        help="explained epochs of a recording for which the least edit in a scorer's words is "
        "sought that changes the stage, such as 18 %% more slow-wave time",
    )
    group.add_argument(
        "--counterfactual_to",
        choices=("any", *STAGES),
        default="any",
        help="the stage that such an edit has to lead to",
    )
    group.add_argument("--interpret_seed", type=count, default=0, help="of every random choice")
    group.add_argument(
        "--truth_path",
        type=Path,
        default=Path("data/demo/sleepedf"),
        help="folder with *_truth.tsv of synthetic nights, whose events score the explanations; "
        "other nights are scored by what yasa detects",
    )
    add_flag(
        group,
        "--concepts",
        help="which concepts of the scoring manual the model uses (TCAV), into <run>/concepts",
    )
    group.add_argument(
        "--concept_recordings",
        type=count,
        default=20,
        help="recordings that concepts are learned from, and as many to test them on; 0: all",
    )
    group.add_argument(
        "--without_path",
        type=Path,
        help="folder of stores of the same simulated nights, each made with --omit and named after "
        "the kind of events it lacks: concepts are learned from epochs with and without them",
    )


def check(flags: ExplanationFlags) -> None:
    """Refuse explanation methods that are not registered, and baselines that there are not.

    Raises:
        UserError: naming them.
    """
    names = registry.names()
    if unknown := sorted(set(flags.interpret_methods) - set(names)):
        raise UserError(
            f"--interpret_methods: no {', '.join(unknown)}; there are {', '.join(names)}"
        )
    for flag, chosen in (
        ("--interpret_other_baselines", flags.interpret_other_baselines),
        ("--interpret_replacements", flags.interpret_replacements),
    ):
        if unknown := sorted(set(chosen) - set(BASELINES)):
            raise UserError(f"{flag}: no {', '.join(unknown)}; there are {', '.join(BASELINES)}")


def plan_of(flags: ExplanationFlags) -> Plan:
    """The plan of explanation that the flags describe."""
    return Plan(
        methods=tuple(flags.interpret_methods),
        baseline=flags.interpret_baseline,
        other_baselines=tuple(flags.interpret_other_baselines),
        output=flags.target_output,
        target_class=flags.target_class,
        span=flags.interpret_span,
        space=flags.interpret_space,
        seed=flags.interpret_seed,
        steps=flags.ig_steps,
        most_steps=flags.ig_most_steps,
        band_hz=flags.specgrad_hz,
        orders=flags.n_random,
        untrained=flags.n_untrained,
        replacements=tuple(flags.interpret_replacements),
        pictures=flags.interpret_pictures,
        counterfactuals=flags.counterfactuals,
        counterfactual_to=flags.counterfactual_to,
    )
