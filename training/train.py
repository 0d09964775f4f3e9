"""The steps that every training shares: split by subject, build the model, fit, draw the curve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import models
from datasets.store import splits
from datasets.store.splits import Split
from datasets.store.store import Store
from datasets.store.stored_channels import resampled_line
from datasets.store.views import Batches, View
from training import flags
from training.fabric import start_fabric
from training.flags import DataFlags, OptimiserFlags, RunFlags, StepFlags, TrainingSettings
from training.loggers import open_logger
from training.loop import SELECTIONS, Plan, fit, seed_dropout
from training.optimisers import adam
from training.resume import Learner, Outputs
from training.run_report import report
from training.starting_weights import (
    check_same_model,
    facts_of_start,
    fit_scaling,
    lacks_scaling,
    starting_checkpoint,
)
from training.validation import agreement_figures
from utils.arguments import by_flag, changed
from utils.checkpoint import Checkpoint
from utils.checkpoint_fields import KEPT
from utils.errors import UserError
from utils.files import refuse_inputs
from utils.locks import locked_alone
from utils.runs import Run, command
from utils.staged_night import agreement

# flags that change no result, or whose effect the other flags hold: a resumed run may change them
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
class TrainingSpec:
    """The parts of a training that differ from model to model; the rest is the same for all.

    ``batches(view, number, rank, processes)`` gives the batches of pass ``number``.
    ``initialise_from_training_data(net, view)`` takes what a model needs from the training nights
    before the first step. ``optimiser(flags, net)`` makes optimiser and schedule from the flags of
    that group; ``next`` is the command to type afterwards.
    A pass is validated ``checks`` times, and each of these parts counts as a pass of its own.
    ``validate(net, model, view, fabric)`` computes the figures that ``selections`` choose by.
    ``per_step``: the schedule counts optimiser steps, not passes. ``n_passes`` where flags do not
    say it. ``built_on`` is the checkpoint whose encoder the model has, if it has one: its subjects
    count as seen.
    """

    model: str
    settings: Mapping[str, Any]
    run: str
    objective: Callable[..., Any]
    batches: Callable[[View, int, int, int], Batches]
    next: str
    checks: int = 1
    per_step: bool = False
    n_passes: int | None = None
    built_on: Checkpoint | None = None
    validate: Callable[..., dict[str, float]] | None = None
    selections: Mapping[str, str] = field(default_factory=lambda: SELECTIONS)
    initialise_from_training_data: Callable[[nn.Module, View], None] = lambda net, view: None
    optimiser: Callable[..., Any] = adam


@dataclass(frozen=True)
class TrainingData:
    """A store, its split by subject, and the nights that train and those that validate.

    ``standardise`` is the scaling of signals, in training and wherever the model is used.
    """

    store: Store
    split: Split
    training: View
    validation: View
    standardise: str


def train(
    settings: TrainingSettings,
    standardise: str,
    spec_of: Callable[[View, list[int], int], TrainingSpec],
    fs: float | None = None,
) -> Run:
    """Train the model that ``spec_of(training view, held-out folds, processes)`` describes.

    Signals are brought to ``fs`` Hz when they are read; ``None`` takes them as stored.
    """
    data = settings.data
    store = Store(data.data_path)
    table = splits.find_table(store, data.folds)
    held_out = splits.held_out_folds(table, data.train_data_list, data.val_data_list)
    split = splits.split(
        table, data.train_data_list, held_out, share=data.val_share, seed=settings.run.seed
    )
    # run.json lists the folds that were used, also those that the flags left to the store
    settings = changed(settings, folds=table.name, val_data_list=held_out)
    fabric = start_fabric(settings.run)
    nights = splits.drawn_nights(store, split.train, settings.data.n_nights, settings.run.seed)
    views = views_of(settings.data, store, split, nights, fabric.device, standardise, fs)
    spec = spec_of(views[0], held_out, fabric.world_size)
    run = Run(data.project_path / spec.run)
    built_on = spec.built_on.path if spec.built_on else None
    refuse_inputs([run.path / "checkpoints"], [settings.run.model_path, built_on])
    # a second training of the same run stops; further processes of this one need no lock, they
    # wait for the first in begin()
    with locked_alone(run.path, "training") if fabric.is_global_zero else nullcontext():
        fit_run(settings, spec, run, fabric, TrainingData(store, split, *views, standardise))
    return run


def fit_run(
    settings: TrainingSettings, spec: TrainingSpec, run: Run, fabric: Any, data: TrainingData
) -> None:
    """Train in the run's folder from its last checkpoint, or from new weights; draw the curve."""
    net = build(settings.run, spec)
    outputs = begin(settings, spec, run, fabric, data, net)
    # weights from a checkpoint bring with them what was taken from their own training nights
    is_new = not run.checkpoint("last").exists()
    if is_new and settings.run.model_path is None:
        spec.initialise_from_training_data(net, data.training)
    elif is_new and lacks_scaling(net):
        fit_scaling(net, data.training)
    seed_dropout(settings.run.seed, fabric.global_rank)
    learner = learner_of(settings, spec, fabric, net)

    def batches(number: int) -> Batches:
        return spec.batches(data.training, number, fabric.global_rank, fabric.world_size)

    def validate() -> dict[str, float]:
        return (spec.validate or staged)(net, learner.model, data.validation, fabric)

    position = fit(fabric, learner, batches, validate, plan_of(settings, spec), outputs)
    if fabric.is_global_zero:
        report(settings.data, run, position.best_pass, spec.selections["best"], spec.next)


def learner_of(settings: TrainingSettings, spec: TrainingSpec, fabric: Any, net: nn.Module):
    """Model and optimiser set up by Fabric on this process's device."""
    is_divided = settings.run.strategy == flags.SHARDED
    # the bare net stays at hand: compiled and distributed modules rename their parameters
    model = torch.compile(net) if settings.run.compile else net
    # weights are divided before the optimiser gets their parts
    model = fabric.setup_module(model) if is_divided else model
    optimizer, schedule = spec.optimiser(stepping(settings, spec), net)
    if is_divided:
        optimizer = fabric.setup_optimizers(optimizer)
    else:
        model, optimizer = fabric.setup(model, optimizer)
    return Learner(net, model, optimizer, schedule, spec.objective)


def begin(
    settings: TrainingSettings,
    spec: TrainingSpec,
    run: Run,
    fabric: Any,
    data: TrainingData,
    net: nn.Module,
) -> Outputs:
    """Open the run's folder, write ``run.json`` and print the plan, once for all processes."""
    facts = facts_of(settings.data, data.store, data.split)
    facts |= facts_of_start(spec.built_on or starting_checkpoint(settings.run))
    # only the first process logs, the others keep this logger that does nothing
    outputs = Outputs(run, lambda figures, step: None, describe(spec, data, facts))
    if fabric.is_global_zero:
        kept = recorded(settings)
        run.begin(kept, facts, fresh=not settings.run.resume)
        outputs.log = open_logger(settings.run.logger, run.path, kept, settings.run.nep_project)
        announce(settings.data, data, spec.model, net, run)
        if spec.checks > 1:
            print(f"  {spec.checks} validations per pass; each part counts as a pass from here on")
    # nobody reads the folder before the first process has cleared it of a former run
    fabric.barrier()
    return outputs


def recorded(settings: TrainingSettings) -> dict[str, Any]:
    """Flags that decide the result, as ``run.json`` lists them; resuming needs the same ones."""
    return {k: plain(v) for k, v in by_flag(settings).items() if k not in NOT_SETTINGS}


def stepping(settings: TrainingSettings, spec: TrainingSpec) -> StepFlags:
    """Flags of the optimiser, ``step_size`` counted in parts of passes between validations."""
    steps = settings.optimiser
    if isinstance(steps, OptimiserFlags) and not spec.per_step:
        return replace(steps, step_size=steps.step_size * spec.checks)
    return steps


def plan_of(settings: TrainingSettings, spec: TrainingSpec) -> Plan:
    """Length of the training and size of its steps; each part between validations is a pass."""
    steps = settings.optimiser
    return Plan(
        n_passes=steps.n_epochs * spec.checks if spec.n_passes is None else spec.n_passes,
        patience=steps.patience,
        save_every=settings.run.save_model_freq,
        accumulate=steps.accumulate,
        grad_clip=steps.grad_clip,
        minutes=steps.max_minutes,
        per_step=spec.per_step,
        selections=spec.selections,
        keep_steps=settings.run.keep_steps or (),
    )


def staged(net: nn.Module, model: Any, view: View, fabric: Any) -> dict[str, float]:
    """Agreement of a staging model with the expert, over the nights of all processes."""
    nights = view.whole_nights(fabric.global_rank, fabric.world_size)
    return agreement_figures(agreement(net, nights, fabric.autocast), fabric)


def views_of(
    data: DataFlags,
    store: Store,
    split: Split,
    nights: list[str],
    device: torch.device,
    standardise: str,
    fs: float | None,
) -> tuple[View, View]:
    """The nights that train and those that validate; --select_on test takes the held-out ones."""
    selecting = split.held_out if data.select_on == "test" else split.validation
    return tuple(
        View(
            store,
            recordings,
            channels=data.channels,
            fs=fs,
            standardise=standardise,
            device=device,
            budget_gb=data.budget_gb,
        )
        for recordings in (nights, store.of_subjects(selecting))
    )


def build(run: RunFlags, spec: TrainingSpec) -> nn.Module:
    """Build the model, with the weights of --model_path if one is given."""
    # random weights depend on the seed alone, not on what was drawn before
    torch.manual_seed(run.seed)
    settings = dict(spec.settings)
    try:
        net = models.build(spec.model, **settings)
    except ValueError as error:
        raise UserError(str(error)) from error
    if (checkpoint := starting_checkpoint(run)) is not None:
        check_same_model(checkpoint, spec.model, settings)
        net.load_state_dict(checkpoint.state)
    return net


def facts_of(data: DataFlags, store: Store, split: Split) -> dict[str, object]:
    """Facts that decide or explain the result beside the flags; every checkpoint holds them."""
    return {
        "command": command(),
        "cohort": store.cohort,
        "protocol": store.settings["protocol"],
        "preparation": store.settings,  # predict.py prepares other recordings in the same way
        "store": splits.fingerprint(store),  # resuming on other nights is refused
        "folds": data.folds,
        "train_folds": data.train_data_list,
        "held_out_folds": data.val_data_list,
        "subjects": {
            "train": split.train,
            "validation": split.validation,
            "held_out": split.held_out,
        },
        "select_on": data.select_on,
    }


def describe(spec: TrainingSpec, data: TrainingData, facts: dict[str, Any]) -> dict[str, Any]:
    """Everything but weights that a checkpoint holds, so that evaluation needs nothing else."""
    return {
        "model": spec.model,
        "settings": dict(spec.settings),
        "channels": [[channel.label, channel.role] for channel in data.training.channels],
        "fs": data.training.fs,
        "standardise": data.standardise,
        "scaled_over": KEPT,  # stored moments are of the range that the protocol keeps
        "trained": facts,
    }


def plain(value: object) -> object:
    """A value as JSON can hold it."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def announce(
    flags_of_data: DataFlags, data: TrainingData, name: str, net: nn.Module, run: Run
) -> None:
    """Print model, run folder and sizes of the split."""
    n_parameters = sum(p.numel() for p in net.parameters())
    n_frozen = sum(p.numel() for p in net.parameters() if not p.requires_grad)
    share = f", {n_parameters - n_frozen:,} of them trained" if n_frozen else ""
    print(f"{name}, {n_parameters:,} parameters{share} -> {run.path}")
    for part, subjects in asdict(data.split).items():
        print(f"  {part.replace('_', ' '):<11}{splits.sizes(data.store, subjects)}")
    if (view := data.training).fs != view.stored_fs:
        print(f"  {resampled_line(view.stored_fs, view.fs, name)}")
    if flags_of_data.select_on == "test":
        print("  selecting on the held-out subjects: the figures will be too good")
