"""Flags that training scripts share, and what is made of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from training.loggers import NAMES as LOGGERS
from utils.arguments import DEMO_STORE, add_flag, add_list, count, not_negative, positive
from utils.errors import UserError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from training.loop import Plan

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


def add_data(group: Any) -> None:
    """Store, folds and channels."""
    group.add_argument("--data_path", type=Path, default=DEMO_STORE, help="folder of the store")
    group.add_argument(
        "--project_path", type=Path, default=Path("results"), help="everything is written below it"
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


def check_shared(args: argparse.Namespace) -> None:
    """Refuse shared flags that cannot work, before any file is touched."""
    if args.nep_api:
        raise UserError(
            "--nep_api: a token on the command line ends in logs; set NEPTUNE_API_TOKEN in the "
            "environment instead"
        )
    if args.is_neptune:
        args.logger = "neptune"
    for name in ("beta_1", "beta_2"):
        if getattr(args, name, 0.0) >= 1:
            raise UserError(f"--{name} takes a number below 1")


def start_fabric(args: argparse.Namespace) -> Fabric:
    """Fabric on the devices asked for, all processes launched and seeded.

    Raises:
        UserError: devices or a strategy this machine cannot give.
    """
    from lightning_fabric import Fabric

    if "fsdp" in args.strategy:
        raise UserError(
            f"--strategy {args.strategy}: checkpoints of sharded weights are not written here; "
            "--strategy ddp holds every model of this repository"
        )
    precision = args.precision
    if precision == "auto":
        cuda = args.accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available()
        precision = "bf16-mixed" if cuda and torch.cuda.is_bf16_supported() else "32-true"
    try:
        fabric = Fabric(
            accelerator=args.accelerator,
            strategy=args.strategy,
            devices=args.devices,
            num_nodes=args.num_nodes,
            precision=precision,
        )
    except (ValueError, RuntimeError, TypeError) as error:
        raise UserError(
            f"--accelerator {args.accelerator} --devices {args.devices} --strategy "
            f"{args.strategy}: {error}"
        ) from error
    torch.set_float32_matmul_precision("high")
    fabric.launch()
    torch.manual_seed(args.seed)
    return fabric


def adam(args: argparse.Namespace, net: nn.Module) -> tuple[Any, Any]:
    """Adam with L2 on every parameter, and a rate that falls every ``step_size`` passes."""
    optimizer = torch.optim.Adam(
        net.parameters(),
        lr=args.lr,
        betas=(args.beta_1, args.beta_2),
        eps=args.eps,
        weight_decay=args.weight_decay,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, args.step_size, args.gamma)
    return optimizer, schedule


def plan_of(args: argparse.Namespace) -> Plan:
    """How long to train and how to step."""
    from training.loop import Plan

    return Plan(
        n_passes=args.n_epochs,
        patience=args.patience,
        save_every=args.save_model_freq,
        accumulate=args.accumulate,
        grad_clip=args.grad_clip,
        minutes=args.max_minutes,
    )
