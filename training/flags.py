"""Flags that the training scripts share, and the optimiser made from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from training.loggers import NAMES as LOGGERS
from utils.arguments import (
    DEMO_STORE,
    add_flag,
    add_list,
    changed,
    count,
    not_negative,
    positive,
)
from utils.errors import UserError

RESULTS = Path("results")
SHARDED = "fsdp"  # --strategy
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


@dataclass(frozen=True)
class DataFlags:
    """Store, folds and channels; None leaves a value to the store or to the other flags."""

    data_path: Path
    project_path: Path
    folds: str | None
    train_data_list: list[int] | None
    val_data_list: list[int] | None
    channels: list[str] | None
    val_share: float
    n_nights: int | None
    select_on: str
    budget_gb: float | None


@dataclass(frozen=True)
class StepFlags:
    """Length of the training and size of its steps, for any optimiser."""

    n_epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    grad_clip: float
    accumulate: int
    max_minutes: float
    patience: int


@dataclass(frozen=True)
class OptimiserFlags(StepFlags):
    """Adam with a rate that falls in steps."""

    beta_1: float
    beta_2: float
    eps: float
    step_size: int
    gamma: float


@dataclass(frozen=True)
class ScheduleFlags(StepFlags):
    """AdamW, its schedule by optimiser steps, and when to stop."""

    schedule: str
    warmup: float


@dataclass(frozen=True)
class RunFlags:
    """Devices, precision, seed, resuming and logs."""

    resume: bool
    model_path: Path | None
    save_model_freq: int
    keep_steps: list[int] | None
    seed: int
    accelerator: str
    devices: int
    num_nodes: int
    strategy: str
    precision: str
    compile: bool
    logger: str
    is_neptune: bool
    nep_project: str
    nep_api: str | None


@dataclass(frozen=True)
class TrainingSettings:
    """Groups of flags that every training script has; each script adds groups of its own."""

    data: DataFlags
    optimiser: StepFlags
    run: RunFlags


_Training = TypeVar("_Training", bound=TrainingSettings)


def add_data(group: Any) -> None:
    """Add the flags of store, folds and channels."""
    group.add_argument("--data_path", type=Path, default=DEMO_STORE, help="store to train on")
    group.add_argument(
        "--project_path", type=Path, default=RESULTS, help="folder for the folders of the runs"
    )
    group.add_argument(
        "--folds",
        help="fold table of the store: the subjects of each fold (default: cmt5, else kfold:5:0, "
        "else the first by name)",
    )
    add_list(
        group,
        "--train_data_list",
        item=int,
        default=[0, 1, 2, 3],
        help="numbers of the folds to train on, from 0; some of their subjects only validate",
    )
    # the first spelling is the Cross-Modal Transformer's, whose validation fold is the reported one
    add_list(
        group,
        "--val_data_list",
        "--test_data_list",
        item=int,
        help="numbers of the folds held out for the evaluation script: their subjects neither "
        "train nor validate (default: all others)",
    )
    add_list(
        group,
        "--channels",
        default=["EEG", "EOG"],
        help="channels that the model reads, by label or by role (EEG, EEG2, EOG, EMG)",
    )
    group.add_argument(
        "--val_share",
        type=not_negative,
        default=0.1,
        help="share of the training subjects who only validate, if the fold table names none",
    )
    group.add_argument(
        "--n_nights",
        type=positive,
        help="train on so many nights of the training subjects, drawn by the seed: those of a "
        "smaller number are among those of a larger one (default: all)",
    )
    group.add_argument(
        "--select_on",
        choices=("validation", "test"),
        default="validation",
        help="subjects on whom the best checkpoint is selected; test: the held-out ones, a mistake "
        "of published code that makes results too good, which every result then states",
    )
    group.add_argument(
        "--budget_gb",
        type=not_negative,
        help="memory in GB that the signals may take; above it they are streamed from disk "
        "(default: 60 %% of a GPU's free memory; without a GPU 4, shared by all processes)",
    )


def add_optimiser(group: Any) -> None:
    """Add the flags of Adam, its schedule and its steps."""
    # passes, batch size, rate and schedule by default: the Cross-Modal Transformer's published ones
    group.add_argument("--n_epochs", type=count, default=200, help="passes over the training data")
    group.add_argument(
        "--batch_size", type=positive, default=32, help="windows, or parallel nights, per batch"
    )
    group.add_argument("--lr", type=not_negative, default=1e-3, help="learning rate at the start")
    group.add_argument("--beta_1", type=not_negative, default=0.9, help="Adam's first beta")
    group.add_argument("--beta_2", type=not_negative, default=0.999, help="Adam's second beta")
    group.add_argument("--eps", type=not_negative, default=1e-9, help="Adam's epsilon")
    group.add_argument(
        "--weight_decay", type=not_negative, default=1e-4, help="L2 penalty, within the gradient"
    )
    group.add_argument("--step_size", type=positive, default=30, help="passes between lr's decays")
    group.add_argument("--gamma", type=not_negative, default=0.5, help="factor of a decay; 1: none")
    group.add_argument(
        "--grad_clip", type=not_negative, default=0.0, help="largest gradient norm; 0: no limit"
    )
    group.add_argument(
        "--accumulate", type=positive, default=1, help="batches per step, gradients averaged"
    )
    group.add_argument(
        "--max_minutes",
        type=not_negative,
        default=0.0,
        help="begin no further pass after so many minutes of training; 0: no limit",
    )
    group.add_argument(
        "--patience",
        type=count,
        default=20,
        help="passes without a better validation figure (kappa; in pretraining the loss) before "
        "training stops; 0: never",
    )


def add_adamw(group: Any, *, lr: float, over: str) -> None:
    """Add the flags of AdamW, its schedule by optimiser steps, and the end of training.

    ``lr`` is the default; ``over`` is what one pass goes through.
    """
    group.add_argument("--n_epochs", type=count, default=50, help=f"passes over {over}")
    group.add_argument("--batch_size", type=positive, default=4, help="nights per batch")
    group.add_argument("--lr", type=not_negative, default=lr, help="highest learning rate")
    group.add_argument("--weight_decay", type=not_negative, default=0.01, help="decay of matrices")
    group.add_argument(
        "--schedule", choices=("cosine", "constant"), default="cosine", help="rate after warm-up"
    )
    group.add_argument(
        "--warmup", type=not_negative, default=0.1, help="share of the steps in which lr rises"
    )
    group.add_argument(
        "--grad_clip", type=not_negative, default=1.0, help="largest gradient norm; 0: no limit"
    )
    group.add_argument(
        "--accumulate", type=positive, default=1, help="batches per step, gradients averaged"
    )
    group.add_argument(
        "--max_minutes", type=not_negative, default=0.0, help="begin no pass after it; 0: no limit"
    )
    group.add_argument(
        "--patience", type=count, default=0, help="stop after so many passes without gain; 0: never"
    )


def add_run(group: Any) -> None:
    """Add the flags of devices, precision, seed, resuming and logs."""
    # --is_retrain and --is_neptune are the Cross-Modal Transformer's names
    add_flag(
        group,
        "--resume",
        "--is_retrain",
        default=True,
        help="resume the run that the folder holds, bit for bit; False: delete it and its results, "
        "start again",
    )
    group.add_argument(
        "--model_path",
        type=Path,
        help="checkpoint whose weights a new run starts from (default: random weights)",
    )
    group.add_argument(
        "--save_model_freq",
        type=positive,
        default=50,
        help="passes between checkpoints that are kept beside the best and the last one",
    )
    add_list(
        group,
        "--keep_steps",
        item=positive,
        help="optimiser steps after which weights are kept as checkpoints/step_000030.pt, …; "
        "training ends with the last of them",
    )
    group.add_argument("--seed", type=count, default=0, help="seed of weights, order and dropout")
    group.add_argument(
        "--accelerator", default="auto", help="kind of device to train on: auto, cpu, cuda or mps"
    )
    group.add_argument("--devices", type=positive, default=1, help="devices per machine")
    group.add_argument(
        "--num_nodes", type=positive, default=1, help="machines, the script started by torchrun"
    )
    group.add_argument(
        "--strategy",
        default="auto",
        help="how Lightning Fabric uses several devices: auto, ddp, …; fsdp (FSDP2, of "
        "foundation_training.py --stage pretrain) divides the weights among them",
    )
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="number format; auto: bf16-mixed on a GPU that has it, 16-mixed on one that has that "
        "alone, 32-true elsewhere",
    )
    add_flag(
        group, "--compile", help="use torch.compile: slow to start, then faster steps on a GPU"
    )
    group.add_argument(
        "--logger",
        choices=LOGGERS,
        default="tensorboard",
        help="where metrics go beside metrics.jsonl, which is always written; csv: nowhere",
    )
    add_flag(group, "--is_neptune", help="the same as --logger neptune")
    group.add_argument(
        "--nep_project", default="sleep-staging", help="project of neptune or wandb to log into"
    )
    group.add_argument(
        "--nep_api", help="refused; put the token into the environment as NEPTUNE_API_TOKEN"
    )


def resolve_shared(settings: _Training, *, divides: bool = False) -> _Training:
    """Check the shared flags, and let --is_neptune choose the logger.

    ``divides``: the model's weights can be divided among processes.

    Raises:
        UserError: before any file is touched.
    """
    run, optimiser = settings.run, settings.optimiser
    if run.nep_api:
        raise UserError(
            "--nep_api: a token on the command line ends in logs; set NEPTUNE_API_TOKEN in the "
            "environment instead"
        )
    if "fsdp" in run.strategy and not divides:
        raise UserError(
            f"--strategy {run.strategy}: only foundation_training.py --stage pretrain divides its "
            "weights; --strategy ddp holds every other model"
        )
    if "fsdp" in run.strategy and (
        run.strategy != SHARDED or run.compile or run.devices * run.num_nodes < 2
    ):
        raise UserError(
            f"--strategy {run.strategy}: written fsdp, it divides the weights among several "
            "--devices, without --compile"
        )
    # Adam divides by 1 - beta ** step
    if isinstance(optimiser, OptimiserFlags):
        for name, beta in (("beta_1", optimiser.beta_1), ("beta_2", optimiser.beta_2)):
            if beta >= 1:
                raise UserError(f"--{name} takes a number below 1")
    if run.keep_steps is not None and run.keep_steps != sorted(set(run.keep_steps)):
        raise UserError("--keep_steps takes numbers in ascending order, such as 30,100,300")
    return changed(settings, logger="neptune") if run.is_neptune else settings
