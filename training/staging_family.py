"""What the models of the zoo need to be trained: settings, batches, objective, optimiser."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from datasets.store import sampling
from datasets.store.views import Batches, View
from models import backbone_names
from objectives.augmentation import Augmented, composed
from objectives.similarity import SimilarityStaging
from objectives.staging import Staging
from objectives.stateful import StatefulStaging
from training.recipes import Recipe
from training.windows import WINDOWS_A_RUN, layout
from utils.checkpoint import load_checkpoint
from utils.errors import UserError
from utils.runs import Run

Passes = Callable[[View, int, int, int], Any]
_EPOCHS_AT_ONCE = 256


@dataclass(frozen=True)
class Encoder:
    """Where the first stage left an epoch encoder: ``parts`` of the best checkpoint of its run."""

    run: Run
    parts: tuple[str, ...]

    def weights(self) -> dict[str, torch.Tensor]:
        """State of those parts alone."""
        state = load_checkpoint(self.run.checkpoint("best")).state
        return {name: value for name, value in state.items() if name.split(".")[0] in self.parts}

    def of(self, net: nn.Module) -> list[nn.Parameter]:
        """Parameters of those parts."""
        return [p for part in self.parts for p in net.get_submodule(part).parameters()]


def settings_of(args: argparse.Namespace, view: View) -> dict[str, Any]:
    """What ``models.build`` is told."""
    settings = {"n_samples": view.n_samples}
    if args.experiment.endswith("_cmt"):
        settings["n_modalities"] = len(view.columns)
    else:
        settings |= {"n_channels": len(view.columns), "fs": view.fs}
    if args.experiment != "epoch_cmt":
        settings["num_seq"] = args.num_seq
    if args.experiment in backbone_names():
        settings["sequence_encoder"] = args.sequence_encoder
    return settings


def objective_of(args: argparse.Namespace, recipe: Recipe, view: View) -> Any:
    """Cross-entropy over windows or carried states, with what the flags add to it."""
    weights = balanced(view) if args.weights == "balanced" else args.weights
    if recipe.stateful:
        objective = StatefulStaging(weights, length=args.num_seq)
    else:
        objective = Staging(weights, over_positions="mean", stride=args.train_stride)
    if args.loss == "scl":
        objective = SimilarityStaging(objective)
    return (
        Augmented(objective, composed(args.augment, args.augment_p)) if args.augment else objective
    )


def balanced(view: View) -> list[float]:
    """One over each stage's share of the training epochs, 1 on average; 0 for an absent stage."""
    counts = torch.from_numpy(view.class_counts()).double()
    weights = torch.where(counts > 0, counts.sum() / counts.clamp_min(1), 0.0)
    return (weights * len(weights) / weights.sum()).tolist()


def batches_of(args: argparse.Namespace, recipe: Recipe, view: View, processes: int) -> Passes:
    """What a pass goes through: nights side by side, stages evenly, or runs encoded once."""
    if recipe.stateful:
        return lanes_of(args)
    if args.sampling == "balanced":
        return evenly_of(args)
    shape = layout(
        view, length=args.num_seq, stride=args.train_stride, windows=WINDOWS_A_RUN,
        batch_size=args.batch_size, processes=processes,
    )  # fmt: skip

    def batches(view: View, number: int, rank: int, processes: int) -> Batches:
        return shape.batches(view, [args.seed, number], rank, processes)

    return batches


def lanes_of(args: argparse.Namespace) -> Passes:
    """--batch_size nights side by side, --num_seq epochs a step."""

    def batches(view: View, number: int, rank: int, processes: int) -> Any:
        seed = [args.seed, number]
        if args.night_shift:
            return sampling.moved_lanes(
                view, args.num_seq, args.batch_size, share=args.night_shift, seed=seed
            )
        return sampling.lanes(view, args.num_seq, args.batch_size, seed=seed)

    return batches


def evenly_of(args: argparse.Namespace) -> Passes:
    """Windows whose middle epoch has each stage equally often."""

    def batches(view: View, number: int, rank: int, processes: int) -> Batches:
        listed = sampling.evenly(
            view, args.num_seq, (args.num_seq - 1) // 2, batch_size=args.batch_size,
            seed=[args.seed, number],
        )  # fmt: skip
        return listed.for_process(rank, processes)

    return batches


def checked_every(steps: int, batches: Passes, view: View, processes: int) -> tuple[int, Passes]:
    """Validations a pass, about ``steps`` apart (0: one), and the parts of passes between them."""
    whole = len(batches(view, 0, 0, processes))
    checks = max(1, round(whole / steps)) if steps else 1

    def part(view: View, number: int, rank: int, processes: int) -> Any:
        listed, k = batches(view, number // checks, rank, processes), number % checks
        return listed.until(len(listed) * (k + 1) // checks).after(len(listed) * k // checks)

    return checks, part


def ready(encoder: Encoder | None, net: nn.Module, view: View) -> None:
    """Statistics of spectrograms, from training nights alone, and the encoder trained first."""
    if net.spectrogram is not None:
        net.to(view.device)
        net.spectrogram.fit(batch.signals[:, 0] for batch in view.epochs(_EPOCHS_AT_ONCE))
    if encoder is not None:
        net.load_state_dict(encoder.weights(), strict=False)


def optimiser(
    objective: Any, device: torch.device, encoder: Encoder | None, args: argparse.Namespace,
    net: nn.Module,
) -> tuple[Any, Any]:  # fmt: skip
    """Adam with L2 on the weights that the model's paper names, or on all.

    An encoder trained first has a learning rate of its own and stays as it is at 0.
    """
    rates, kept = {id(p): args.lr for p in net.parameters()}, set()
    if encoder is not None and args.encoder_lr is not None:
        rates |= {id(p): args.encoder_lr for p in encoder.of(net)}
        kept = {id(p) for p in encoder.of(net) if not args.encoder_lr}
    decayed = {id(p) for p in net.decayed_parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in net.parameters():
        if id(parameter) in kept:
            parameter.requires_grad_(False)
            continue
        decay = args.weight_decay if id(parameter) in decayed else 0.0
        groups.setdefault((rates[id(parameter)], decay), []).append(parameter)
    if args.loss == "scl":
        groups.setdefault((args.lr, 0.0), []).extend(attached(objective, net, device))
    optimizer = torch.optim.Adam(
        [{"params": p, "lr": lr, "weight_decay": d} for (lr, d), p in groups.items()],
        lr=args.lr, betas=(args.beta_1, args.beta_2), eps=args.eps, fused=True,
    )  # fmt: skip
    return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, args.step_size, args.gamma)


def attached(objective: Any, net: nn.Module, device: torch.device) -> list[nn.Parameter]:
    """Weights of the similarity loss's own projection."""
    try:
        return objective.attach(net, device)
    except ValueError as error:
        raise UserError(f"--loss scl: {error}; use --loss cel") from error
