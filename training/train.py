"""What every training of a staging model does: split by subject, build, fit, draw the curve."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import models
from datasets.store import splits
from datasets.store.splits import Split
from datasets.store.store import Store
from datasets.store.views import Batches, View
from training import flags
from training.loggers import open_logger
from training.loop import SELECTIONS, fit
from training.resume import Learner, Outputs
from utils import metrics
from utils.arguments import DEMO_STORE
from utils.checkpoint import load_checkpoint
from utils.errors import UserError
from utils.files import locked, refuse_inputs, write_table
from utils.runs import Run, command
from utils.staged_night import agreement

VALIDATED = ("kappa", "accuracy", "macro_f1")
NOT_SETTINGS = {
    "config",
    "preset",
    "project_path",
    "resume",
    "is_neptune",
    "nep_project",
    "nep_api",
}


@dataclass(frozen=True)
class Family:
    """What sets the training of one model apart; the rest is the same for all.

    ``batches(view, number, rank, processes)`` is what pass ``number`` goes through.
    ``ready(net, view)`` takes what a model needs from the training nights before the first step.
    ``optimiser(args, net)`` makes optimiser and schedule; ``next`` is what to type afterwards.
    ``checks`` parts of a pass are counted as passes, each with its validation.
    ``validate(net, model, view, fabric)`` makes the figures that ``selections`` choose by.
    ``per_step``: the schedule counts optimiser steps, not passes.
    """

    model: str
    settings: Mapping[str, Any]
    run: str
    objective: Callable[..., Any]
    batches: Callable[[View, int, int, int], Batches]
    next: str
    standardise: str = "recording"
    checks: int = 1
    per_step: bool = False
    validate: Callable[..., dict[str, float]] | None = None
    selections: Mapping[str, str] = field(default_factory=lambda: SELECTIONS)
    ready: Callable[[nn.Module, View], None] = field(default=lambda net, view: None)
    optimiser: Callable[..., Any] = flags.adam


def train(
    args: argparse.Namespace,
    standardise: str,
    family_of: Callable[[View, list[int], int], Family],
) -> Run:
    """Train what ``family_of(training view, held-out folds, processes)`` describes."""
    store = Store(args.data_path)
    table = splits.find_table(store, args.folds)
    held_out = splits.held_out_folds(table, args.train_data_list, args.val_data_list)
    split = splits.split(
        table, args.train_data_list, held_out, share=args.val_share, seed=args.seed
    )
    args.folds, args.val_data_list = table.name, held_out  # what was asked for, spelled out
    fabric = flags.start_fabric(args)
    training, validation = views_of(args, store, split, fabric.device, standardise)
    family = family_of(training, held_out, fabric.world_size)
    run = Run(args.project_path / family.run)
    refuse_inputs([run.path / "checkpoints"], [args.model_path])
    # a second training of the same run waits, then goes on from what the first has left
    with locked(run.path) if fabric.is_global_zero else nullcontext():
        fit_run(args, family, run, fabric, (store, split, training, validation))
    return run


def fit_run(
    args: argparse.Namespace, family: Family, run: Run, fabric: Any,
    data: tuple[Store, Split, View, View],
) -> None:  # fmt: skip
    """Open the run's folder, train in it, draw the curve; ``data`` are training and selection."""
    store, split, training, validation = data
    net = build(args, family)
    facts = facts_of(args, store, split)
    outputs = Outputs(run, lambda figures, step: None, describe(family, training, facts))
    if fabric.is_global_zero:
        settings = {k: plain(v) for k, v in vars(args).items() if k not in NOT_SETTINGS}
        run.begin(settings, facts, fresh=not args.resume)
        outputs.log = open_logger(args.logger, run.path, settings, args.nep_project)
        announce(args, store, split, family.model, net, run)
        if family.checks > 1:
            print(f"  {family.checks} validations a pass, each counted as one from here on")
    fabric.barrier()
    if not run.checkpoint("last").exists() and args.model_path is None:
        family.ready(net, training)
    stepping = copy(args)
    if not family.per_step:
        stepping.step_size = args.step_size * family.checks
    optimizer, schedule = family.optimiser(stepping, net)
    compiled = torch.compile(net) if args.compile else net
    model, optimizer = fabric.setup(compiled, optimizer)
    learner = Learner(net, model, optimizer, schedule, family.objective)

    def batches(number: int) -> Batches:
        return family.batches(training, number, fabric.global_rank, fabric.world_size)

    def validate() -> dict[str, float]:
        return (family.validate or staged)(net, model, validation, fabric)

    plan = flags.plan_of(args)
    n_passes = plan.n_passes * family.checks
    plan = replace(plan, n_passes=n_passes, selections=family.selections, per_step=family.per_step)
    position = fit(fabric, learner, batches, validate, plan, outputs)
    if fabric.is_global_zero:
        finish(args, run, position.best_pass, family)


def staged(net: nn.Module, model: Any, view: View, fabric: Any) -> dict[str, float]:
    """Agreement of a staging model with the expert, over all processes' nights."""
    nights = view.whole_nights(fabric.global_rank, fabric.world_size)
    counts = torch.from_numpy(agreement(net, nights, fabric.autocast)).to(fabric.device)
    counts = fabric.all_reduce(counts, reduce_op="sum").cpu().numpy()
    return {name: float(metrics.SUMMARIES[name](counts)) for name in VALIDATED}


def views_of(
    args: argparse.Namespace, store: Store, split: Split, device: torch.device, standardise: str
) -> tuple[View, View]:
    """Training and selecting nights; --select_on test selects on the held-out ones."""
    selecting = split.held_out if args.select_on == "test" else split.validation
    return tuple(
        View(
            store,
            store.of_subjects(subjects),
            channels=args.channels,
            standardise=standardise,
            device=device,
            budget_gb=args.budget_gb,
        )
        for subjects in (split.train, selecting)
    )


def build(args: argparse.Namespace, family: Family) -> nn.Module:
    """The model, on the weights of --model_path if one is named."""
    torch.manual_seed(args.seed)
    settings = dict(family.settings)
    try:
        net = models.build(family.model, **settings)
    except ValueError as error:
        raise UserError(str(error)) from error
    if args.model_path is None:
        return net
    checkpoint = load_checkpoint(args.model_path)
    if checkpoint.model != family.model or checkpoint.settings != settings:
        raise UserError(
            f"{args.model_path}: a {checkpoint.model} with {checkpoint.settings}; these "
            f"flags ask for a {family.model} with {settings}"
        )
    net.load_state_dict(checkpoint.state)
    return net


def facts_of(args: argparse.Namespace, store: Store, split: Split) -> dict[str, object]:
    """What decides or explains the result beside the flags."""
    return {
        "command": command(),
        "cohort": store.cohort,
        "protocol": store.settings["protocol"],
        "preparation": store.settings,
        "store": splits.fingerprint(store),
        "folds": args.folds,
        "train_folds": args.train_data_list,
        "held_out_folds": args.val_data_list,
        "subjects": {
            "train": split.train, "validation": split.validation, "held_out": split.held_out
        },
        "select_on": args.select_on,
    }  # fmt: skip


def describe(family: Family, view: View, facts: dict[str, object]) -> dict[str, object]:
    """What a checkpoint says about its model, so that evaluation needs nothing else."""
    return {
        "model": family.model,
        "settings": dict(family.settings),
        "channels": [[channel.label, channel.role] for channel in view.channels],
        "fs": view.fs,
        "standardise": family.standardise,
        "trained": facts,
    }


def plain(value: object) -> object:
    """As JSON keeps it."""
    return str(value) if isinstance(value, Path) else value


def announce(
    args: argparse.Namespace, store: Store, split: Split, name: str, net: nn.Module, run: Run
) -> None:
    """What is about to happen, in a few lines."""
    n_parameters = sum(p.numel() for p in net.parameters())
    print(f"{name}, {n_parameters:,} parameters -> {run.path}")
    for part, subjects in vars(split).items():
        print(f"  {part.replace('_', ' '):<11}{splits.sizes(store, subjects)}")
    if args.select_on == "test":
        print("  selecting on the held-out subjects: the figures will be too good")


def finish(args: argparse.Namespace, run: Run, best_pass: int, family: Family) -> None:
    """The curve as a table and a picture, and what to do next."""
    from utils.figures import draw_curve, save

    rows = run.rows()
    if not rows:
        print("nothing trained: --n_epochs 0")
        return
    write_table(run.path / "metrics.csv", rows)
    figure = family.selections["best"].removeprefix("-")
    picture = save(draw_curve(rows, title=run.path.name), run.path / "curve.png")
    best = next(row for row in rows if row["pass"] == best_pass)
    print(f"best pass {best_pass} of {len(rows)}: {figure} {best[f'val_{figure}']:.3f}")
    print(f"curve: {picture}")
    if not family.next:
        return
    where = "" if args.project_path == Path("results") else f" --project_path {args.project_path}"
    data = "" if args.data_path == DEMO_STORE else f" --data_path {args.data_path}"
    print(f"next: {family.next}{where}{data}")
