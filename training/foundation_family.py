"""What the foundation model's scripts share: settings, objectives, frozen encoders, schedule."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import models
from datasets.store.nights import NightBatches, in_batches
from datasets.store.views import View
from models.foundation import PUBLISHED
from objectives.denoising import Denoising, spoil
from objectives.night_staging import NightStaging
from probing.linear_autoencoder import LinearAutoencoder
from training.staging_family import balanced
from utils.checkpoint import Checkpoint, load_checkpoint, refuse_seen
from utils.errors import UserError
from utils.runs import newest_run
from utils.stages import EPOCH_SECONDS

# flag -> value of a new model; None on the command line is what nobody asked for
OF_MODEL = {
    "patch_seconds": 6.0, "d_model": 128, "n_heads": 4, "dim_feedforward": 512, "local_layers": 2,
    "layers": 4, "merge": True, "mixing": "roles", "positions": "sinusoidal", "tokeniser": "both",
    "dropout": 0.1,
}  # fmt: skip
_OF_STAGING = {
    "head": "linear", "focal_gamma": 0.0, "weights": "none", "label_smoothing": 0.0,
    "trim_wake": -1, "pretrained": None,
}  # fmt: skip
OF_STAGE = {
    "pretrain": {
        "objective": "both", "mask_ratio": 0.5, "target": None, "crop_hours": 0.0,
        "init": "random",
    },
    "probe": _OF_STAGING,
    "finetune": _OF_STAGING | {"crop_hours": 0.0},
}  # fmt: skip
_LOWEST_RATE = 0.01  # of the highest, where the schedule ends
_EPOCHS_AN_HOUR = 120


def settle(args: argparse.Namespace) -> None:
    """Fill in what belongs to the stage; ``None`` is what nobody asked for.

    Raises:
        UserError: a setting that would have no effect.
    """
    wanted = OF_STAGE[args.stage]
    for name in OF_STAGE["pretrain"] | OF_STAGE["finetune"]:
        given = getattr(args, name)
        if name in wanted and given is None:
            setattr(args, name, wanted[name])
        elif name not in wanted and given is not None:
            raise UserError(f"--{name} has no effect with --stage {args.stage}; take it out")


def model_settings(args: argparse.Namespace, view: View) -> dict[str, Any]:
    """What ``models.build`` is told of a new encoder."""
    settings = OF_MODEL | (PUBLISHED if args.published else {}) | asked(args)
    return settings | {
        "roles": [c.role for c in view.channels], "fs": view.fs, "recompute": args.recompute
    }  # fmt: skip


def asked(args: argparse.Namespace) -> dict[str, Any]:
    """Settings of a new model that somebody asked for."""
    every = {
        "patch_seconds": args.patch_seconds, "d_model": args.d_model, "n_heads": args.n_heads,
        "dim_feedforward": args.dim_feedforward, "local_layers": args.local_layers,
        "layers": args.layers, "merge": args.merge, "mixing": args.mixing,
        "positions": args.positions, "tokeniser": args.tokeniser, "dropout": args.dropout,
    }  # fmt: skip
    return {name: value for name, value in every.items() if value is not None}


def find_pretrained(args: argparse.Namespace) -> Checkpoint | None:
    """The checkpoint whose encoder is built on; ``None`` for random weights.

    Raises:
        UserError: there is none, it is not of pretraining, or flags ask for another model.
    """
    if args.stage == "pretrain" or args.pretrained == "none":
        return None
    if args.pretrained is None:
        path = newest_run(args.project_path, "foundation_pretrain_*")
    else:
        path = Path(args.pretrained)
    path = path / "checkpoints" / "best.pt" if path.is_dir() else path
    checkpoint = load_checkpoint(path)
    if checkpoint.model != "foundation_pretraining":
        raise UserError(f"{path}: a {checkpoint.model}, not of --stage pretrain")
    given = [*asked(args), *(["published"] if args.published else [])]
    if given:
        raise UserError(
            f"--{given[0]} has no effect on a pretrained encoder ({path}); take "
            "it out, or say --pretrained none"
        )
    return checkpoint


def refuse_pretrained_on(checkpoint: Checkpoint, cohort: str, held_out: Sequence[str]) -> None:
    """Nobody who was pretrained on may be held out later.

    Raises:
        UserError: naming them.
    """
    refuse_seen(
        checkpoint.training, cohort, held_out, where=f"{checkpoint.path}", kind="pretraining",
        remedy="hold out the folds that pretraining held out",
    )  # fmt: skip


def encoder_of(checkpoint: Checkpoint) -> nn.Module:
    """The pretrained encoder alone, in evaluation mode."""
    try:
        return models.build_from(checkpoint).encoder
    except ValueError as error:
        raise UserError(f"a damaged checkpoint: {error}") from error


def pretraining_objective(args: argparse.Namespace, settings: dict[str, Any]) -> Denoising:
    """What ``--stage pretrain`` minimises.

    Raises:
        UserError: settings that the objective or the model cannot have.
    """
    linear = settings["tokeniser"] == "linear"
    target = args.target or ("signal" if linear else "both")
    if linear and target != "signal":
        raise UserError(f"--target {target}: --tokeniser linear knows no spectra")
    try:
        return Denoising(
            args.objective, ratio=args.mask_ratio, role_p=args.role_dropout, target=target,
            an_epoch=round(EPOCH_SECONDS / settings["patch_seconds"]),
        )  # fmt: skip
    except ValueError as error:
        raise UserError(str(error)) from error


def staging_objective(args: argparse.Namespace, view: View) -> NightStaging:
    """What ``--stage probe`` and ``finetune`` minimise."""
    weights = balanced(view) if args.weights == "balanced" else None
    return NightStaging(
        gamma=args.focal_gamma, weights=weights, smoothing=args.label_smoothing,
        role_p=args.role_dropout, trim=args.trim_wake, reads_encoded=args.stage == "probe",
    )  # fmt: skip


def pieces_of(args: argparse.Namespace) -> Any:
    """Pieces of nights, or whole ones, in an order of their own every pass."""
    longest = round(args.crop_hours * _EPOCHS_AN_HOUR)

    def batches(view: View, number: int, rank: int, processes: int) -> NightBatches:
        listed = in_batches(view, args.batch_size, longest=longest, seed=[args.seed, number])
        return listed.for_process(rank, processes)

    return batches


def ready(state: dict[str, Tensor] | None, init: str, net: nn.Module, view: View) -> None:
    """The pretrained encoder's weights, or what a new one learns from the training nights first:
    statistics of spectra and, with ``init`` "autoencoder", the best linear autoencoder."""
    if state is not None:
        net.encoder.load_state_dict(state)
        return
    if init == "autoencoder":
        begin_linear(net, view)
    encoder = net.encoder
    if encoder.spectrum is not None:
        net.to(view.device)
        encoder.spectrum.fit(
            encoder.patches(x.permute(1, 0, 2).flatten(1)[None]) for _, x, _ in view.whole_nights()
        )


def begin_linear(net: nn.Module, view: View) -> None:
    """Tokeniser and head of pretraining as the best linear autoencoder of the training nights."""
    found = [one.halves() for one in linear_autoencoders(net, view)]
    shape = net.encoder.linear.weight.new_zeros
    parts = [shape(n) for n in (net.encoder.linear.weight.shape, net.head.weight.shape,
                                net.head.bias.shape)]  # fmt: skip
    for k, (inward, outward, mean) in enumerate(found):
        width = inward.shape[1]
        parts[0][k, :, :width] = torch.from_numpy(inward)
        parts[1][k, :width] = torch.from_numpy(outward)
        parts[2][k] = torch.from_numpy(mean)
    net.begin_linear(*parts)


def linear_autoencoders(net: nn.Module, view: View) -> list[LinearAutoencoder]:
    """The best linear autoencoder of every role, as wide as the model, for cleaning ``view``."""
    encoder = net.encoder
    linear = [LinearAutoencoder(encoder.n_samples, encoder.d_model) for _ in encoder.roles]
    for clean, spoilt, valid, _ in spoilt_nights(net, view):
        for k, one in enumerate(linear):
            if valid[k].any():
                one.add(spoilt[k, valid[k]].cpu().numpy(), clean[k, valid[k]].cpu().numpy())
    return [one.solve() for one in linear]


@torch.no_grad()
def spoilt_nights(net: nn.Module, view: View) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Clean and spoilt patches (c, p, s), which are valid (c, p), and the spoilt signals (c, t)."""
    net.to(view.device)
    for _, signals, _ in view.whole_nights():
        x = signals.permute(1, 0, 2).flatten(1)[None]
        dirty = spoil(x)
        clean, valid = net.encoder.patches(x)
        yield clean[0], net.encoder.patches(dirty)[0][0], valid[0], dirty[0]


def freeze_unused(objective: Denoising, net: nn.Module) -> None:
    """What an objective does not reach is not trained, which several processes insist on."""
    if objective.kind == "denoise" and net.hidden is not None:
        net.hidden.requires_grad_(False)
    if objective.target == "signal" and net.spectral_head is not None:
        net.spectral_head.requires_grad_(False)
    if objective.target == "spectrum":
        net.head.requires_grad_(False)


def optimiser(
    steps: int, freeze: Callable[[nn.Module], None], args: argparse.Namespace, net: nn.Module
) -> tuple[Any, Any]:
    """AdamW, and a rate that rises over the first steps and falls along a cosine to the last.

    What ``freeze`` freezes is left out.
    """
    freeze(net)
    chosen = [p for p in net.parameters() if p.requires_grad]
    decayed = [p for p in chosen if p.dim() > 1]
    plain = [p for p in chosen if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": args.weight_decay},
         {"params": plain, "weight_decay": 0.0}], lr=args.lr,
    )  # fmt: skip
    return optimizer, schedule(optimizer, steps, args.warmup, args.schedule)


def schedule(optimizer: Any, steps: int, warmup: float, kind: str) -> Any:
    """Rates of ``steps`` optimiser steps: the last is 1 % of the highest, or the highest itself."""
    rising = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        if kind == "constant":
            return 1.0
        done = min(1.0, (step - rising + 1) / max(1, steps - rising))
        return _LOWEST_RATE + (1 - _LOWEST_RATE) * 0.5 * (1 + math.cos(math.pi * done))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def validate_loss(
    objective: Any, args: argparse.Namespace, net: nn.Module, model: Any, view: View, fabric: Any
) -> dict[str, float]:
    """Mean loss over the validation nights, with the same hidden patches every time."""
    model.eval()
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    total, sums = 0, {}
    with torch.no_grad(), torch.random.fork_rng(devices):
        torch.manual_seed(0)
        for batch in pieces_of(argparse.Namespace(**vars(args) | {"seed": 0}))(view, 0, 0, 1):
            loss, parts = objective(model, batch)
            for name, value in {"loss": loss, **parts}.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(batch.stages)
            total += len(batch.stages)
    return {name: value / total for name, value in sums.items()}


def run_name(args: argparse.Namespace, held_out: Sequence[int]) -> str:
    """``foundation_probe_linear_fold4_seed0``."""
    what = args.objective if args.stage == "pretrain" else args.head
    start = "_scratch" if args.stage != "pretrain" and args.pretrained == "none" else ""
    folds = "-".join(map(str, held_out))
    return f"foundation_{args.stage}_{what}{start}_fold{folds}_seed{args.seed}"
