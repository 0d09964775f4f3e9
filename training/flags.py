"""Flags that training scripts share, and what is made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

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

if TYPE_CHECKING:
    from lightning_fabric import Fabric

RESULTS = Path("results")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


@dataclass(frozen=True)
class DataFlags:
    """Store, folds and channels; None is what the store or the other flags decide."""

    data_path: Path
    project_path: Path
    folds: str | None
    train_data_list: list[int] | None
    val_data_list: list[int] | None
    channels: list[str] | None
    val_share: float
    select_on: str
    budget_gb: float | None


@dataclass(frozen=True)
class StepFlags:
    """How long to train and how to step, whatever the optimiser."""

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
    """Adam, its schedule and how it steps."""

    beta_1: float
    beta_2: float
    eps: float
    step_size: int
    gamma: float


@dataclass(frozen=True)
class RunFlags:
    """Devices, precision, seed, resuming and logs."""

    resume: bool
    model_path: Path | None
    save_model_freq: int
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
    """What every training script asks for; each adds groups of its own."""

    data: DataFlags
    optimiser: StepFlags
    run: RunFlags


_Training = TypeVar("_Training", bound=TrainingSettings)


def add_data(group: Any) -> None:
    """Store, folds and channels."""
    group.add_argument("--data_path", type=Path, default=DEMO_STORE, help="folder of the store")
    group.add_argument(
        "--project_path", type=Path, default=RESULTS, help="everything is written below it"
    )
    group.add_argument(
        "--folds", help="fold table of the store (default: cmt5, else kfold:5:0, else the first)"
    )
    add_list(
        group,
        "--train_data_list",
        item=int,
        default=[0, 1, 2, 3],
        help="folds to train on, from 0; a few of their subjects only select the checkpoint",
    )
    add_list(
        group,
        "--val_data_list",
        "--test_data_list",
        item=int,
        help="folds held out to be reported by the evaluate script: never trained on, never "
        "selected on (default: all others)",
    )
    add_list(
        group,
        "--channels",
        default=["EEG", "EOG"],
        help="labels or roles, one modality each: EEG, EEG2, EOG, EMG",
    )
    group.add_argument(
        "--val_share",
        type=not_negative,
        default=0.1,
        help="share of the training subjects that select the checkpoint, where the fold table "
        "names none",
    )
    group.add_argument(
        "--select_on",
        choices=("validation", "test"),
        default="validation",
        help="test repeats the published mistake of selecting on the reported fold; every result "
        "says so",
    )
    group.add_argument(
        "--budget_gb",
        type=not_negative,
        help="memory the signals may take; above it they are streamed from disk",
    )


def add_optimiser(group: Any) -> None:
    """Adam, its schedule and how it steps."""
    group.add_argument("--n_epochs", type=count, default=200, help="passes over the training data")
    group.add_argument("--batch_size", type=positive, default=32, help="windows a step, in total")
    group.add_argument("--lr", type=not_negative, default=1e-3, help="learning rate")
    group.add_argument("--beta_1", type=not_negative, default=0.9, help="Adam's first beta")
    group.add_argument("--beta_2", type=not_negative, default=0.999, help="Adam's second beta")
    group.add_argument("--eps", type=not_negative, default=1e-9, help="Adam's epsilon")
    group.add_argument(
        "--weight_decay", type=not_negative, default=1e-4, help="L2 on every parameter"
    )
    group.add_argument("--step_size", type=positive, default=30, help="passes between decays of lr")
    group.add_argument("--gamma", type=not_negative, default=0.5, help="factor of each decay")
    group.add_argument(
        "--grad_clip", type=not_negative, default=0.0, help="largest gradient norm; 0: no limit"
    )
    group.add_argument(
        "--accumulate", type=positive, default=1, help="batches to sum gradients over before a step"
    )
    group.add_argument(
        "--max_minutes",
        type=not_negative,
        default=0.0,
        help="no further pass after so many minutes of training; 0: no limit",
    )
    group.add_argument(
        "--patience",
        type=count,
        default=20,
        help="passes without a better kappa on the validation subjects before stopping; 0: never",
    )


def add_run(group: Any) -> None:
    """Devices, precision, seed, resuming and logs."""
    add_flag(
        group,
        "--resume",
        "--is_retrain",
        default=True,
        help="go on with the run found in the folder, bit for bit; False: start it over",
    )
    group.add_argument(
        "--model_path",
        type=Path,
        help="checkpoint whose weights a new run starts from",
    )
    group.add_argument(
        "--save_model_freq",
        type=positive,
        default=50,
        help="keep a checkpoint every so many passes",
    )
    group.add_argument("--seed", type=count, default=0, help="of weights, order and dropout")
    group.add_argument("--accelerator", default="auto", help="auto, cpu, cuda or mps")
    group.add_argument("--devices", type=positive, default=1, help="per machine")
    group.add_argument("--num_nodes", type=positive, default=1, help="machines, under torchrun")
    group.add_argument("--strategy", default="auto", help="Fabric's: auto, ddp, …")
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="auto: bf16-mixed on a GPU that has it, 32-true elsewhere",
    )
    add_flag(
        group, "--compile", help="torch.compile the model: slow to start, faster steps on GPUs"
    )
    group.add_argument(
        "--logger",
        choices=LOGGERS,
        default="tensorboard",
        help="beside metrics.jsonl, which is always written; csv: nothing",
    )
    add_flag(group, "--is_neptune", help="the published spelling of --logger neptune")
    group.add_argument(
        "--nep_project", default="sleep-staging", help="project name for neptune and wandb"
    )
    group.add_argument(
        "--nep_api", help="refused: put the token into the environment as NEPTUNE_API_TOKEN"
    )


def resolve_shared(settings: _Training) -> _Training:
    """Settings with their logger, refused where shared flags cannot work.

    Raises:
        UserError: before any file is touched.
    """
    run, optimiser = settings.run, settings.optimiser
    if run.nep_api:
        raise UserError(
            "--nep_api: a token on the command line ends in logs; set NEPTUNE_API_TOKEN in the "
            "environment instead"
        )
    if isinstance(optimiser, OptimiserFlags):
        for name, beta in (("beta_1", optimiser.beta_1), ("beta_2", optimiser.beta_2)):
            if beta >= 1:
                raise UserError(f"--{name} takes a number below 1")
    return changed(settings, logger="neptune") if run.is_neptune else settings


def start_fabric(run: RunFlags) -> Fabric:
    """Fabric on the devices asked for, all processes launched and seeded.

    Raises:
        UserError: devices or a strategy this machine cannot give.
    """
    from lightning_fabric import Fabric

    if "fsdp" in run.strategy:
        raise UserError(
            f"--strategy {run.strategy}: checkpoints of sharded weights are not written here; "
            "--strategy ddp holds every model of this repository"
        )
    precision = run.precision
    if precision == "auto":
        cuda = run.accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available()
        precision = "bf16-mixed" if cuda and torch.cuda.is_bf16_supported() else "32-true"
    try:
        fabric = Fabric(
            accelerator=run.accelerator,
            strategy=run.strategy,
            devices=run.devices,
            num_nodes=run.num_nodes,
            precision=precision,
        )
    except (ValueError, RuntimeError, TypeError) as error:
        raise UserError(
            f"--accelerator {run.accelerator} --devices {run.devices} --strategy "
            f"{run.strategy}: {error}"
        ) from error
    torch.set_float32_matmul_precision("high")
    fabric.launch()
    torch.manual_seed(run.seed)
    return fabric


def adam(optimiser: OptimiserFlags, net: nn.Module) -> tuple[Any, Any]:
    """Adam with L2 on every parameter, and a rate that falls every ``step_size`` passes."""
    optimizer = torch.optim.Adam(
        net.parameters(),
        lr=optimiser.lr,
        betas=(optimiser.beta_1, optimiser.beta_2),
        eps=optimiser.eps,
        weight_decay=optimiser.weight_decay,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, optimiser.step_size, optimiser.gamma)
    return optimizer, schedule
