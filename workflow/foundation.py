"""What the foundation model's scripts share: settings, objectives, frozen encoders, schedule."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

import models
from datasets.nights import NightBatches, Piece, in_batches
from datasets.views import View
from models.foundation import PUBLISHED, Encoded
from objectives.denoising import Denoising
from objectives.probing import NightStaging
from utils import metrics
from utils.errors import UserError
from utils.files import written_whole
from utils.runs import load_checkpoint, newest_run
from utils.stages import UNSCORED
from workflow.embedding import fingerprint
from workflow.training import VALIDATED
from workflow.zoo import balanced

# flag -> value of a new model; None on the command line is what nobody asked for
OF_MODEL = {
    "patch_seconds": 6.0, "d_model": 128, "n_heads": 4, "dim_feedforward": 512, "local_layers": 2,
    "layers": 4, "merge": True, "mixing": "roles", "positions": "sinusoidal", "tokeniser": "both",
    "dropout": 0.1,
}  # fmt: skip
_LOWEST_RATE = 0.01  # of the highest, where the schedule ends
_EPOCHS_AN_HOUR = 120


@dataclass(frozen=True)
class EncodedBatch:
    """Nights as a frozen encoder sees them, and their stages (b, n)."""

    encoded: Encoded
    stages: Tensor


class EncodedNights:
    """A view's nights through a frozen encoder, each once, kept in float16 files."""

    def __init__(self, view: View, encoder: nn.Module, folder: Path) -> None:
        self.view, self.folder = view, folder
        self.encoder = encoder.to(view.device).eval()

    def read(self, pieces: Sequence[Piece]) -> EncodedBatch:
        """Whole nights padded to the longest."""
        nights = [self.night(number) for number, _, _ in pieces]
        most = max(tokens.shape[1] for tokens, _, _ in nights)
        longest = max(len(stages) for _, _, stages in nights)
        tokens = torch.stack([pad(t, (0, 0, 0, most - t.shape[1])) for t, _, _ in nights])
        valid = torch.stack([pad(v, (0, most - v.shape[1])) for _, v, _ in nights])
        stages = [pad(s, (0, longest - len(s)), value=UNSCORED) for _, _, s in nights]
        return EncodedBatch(Encoded(tokens, valid), torch.stack(stages))

    def night(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (c, q, d), valid (c, q) and stages (n,) of one night, on the device."""
        length = int(self.view.lengths[number])
        path = self.folder / f"{self.view.recordings[number]}.npz"
        if not path.exists():
            with torch.no_grad():
                where = np.array([number]), np.array([0])
                (batch,) = self.view.read([where], length)
                found = self.encoder(batch.signals[0].permute(1, 0, 2).flatten(1)[None])
            with written_whole(path) as temporary, temporary.open("wb") as file:
                np.savez(file, tokens=found.tokens[0].half().cpu().numpy(),
                         valid=found.valid[0].cpu().numpy())  # fmt: skip
        with np.load(path, allow_pickle=False) as file:
            tokens, valid = (torch.from_numpy(file[name]) for name in ("tokens", "valid"))
        first = int(self.view.offsets[number])
        stages = torch.from_numpy(self.view.stages[first : first + length].astype(np.int64))
        device = self.view.device
        return tokens.to(device).float(), valid.to(device), stages.to(device)

    def __len__(self) -> int:
        return len(self.view.recordings)


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


def find_pretrained(args: argparse.Namespace) -> dict[str, Any] | None:
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
    if checkpoint["model"] != "foundation_pretraining":
        raise UserError(f"{path}: a {checkpoint['model']}, not of --stage pretrain")
    given = [*asked(args), *(["published"] if args.published else [])]
    if given:
        raise UserError(
            f"--{given[0]} has no effect on a pretrained encoder ({path}); take "
            "it out, or say --pretrained none"
        )
    return checkpoint


def refuse_seen(checkpoint: dict[str, Any], cohort: str, held_out: Sequence[str]) -> None:
    """Nobody who was pretrained on may be held out later.

    Raises:
        UserError: naming them.
    """
    trained = checkpoint["trained"]
    both = sorted(set(trained["subjects"]["train"]) & set(held_out))
    invented = [name.startswith("synthetic-") for name in (cohort, trained["cohort"])]
    if both and invented[0] == invented[1]:
        raise UserError(
            f"pretraining has seen {', '.join(both[:5])}{' …' if len(both) > 5 else ''}, who would "
            "be held out here; hold out the folds that pretraining held out"
        )


def encoder_of(checkpoint: dict[str, Any]) -> nn.Module:
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
    target = args.target
    if settings["tokeniser"] == "linear":
        if target != "signal" and args.target_given:
            raise UserError(f"--target {target}: --tokeniser linear knows no spectra")
        target = "signal"
    try:
        return Denoising(
            args.objective, ratio=args.mask_ratio, role_p=args.role_dropout, target=target,
            an_epoch=round(30 / settings["patch_seconds"]),
        )  # fmt: skip
    except ValueError as error:
        raise UserError(str(error)) from error


def staging_objective(args: argparse.Namespace, view: View) -> NightStaging:
    """What ``--stage probe`` and ``finetune`` minimise."""
    weights = balanced(view) if args.weights == "balanced" else None
    return NightStaging(
        gamma=args.focal_gamma, weights=weights, smoothing=args.label_smoothing,
        role_p=args.role_dropout, trim=args.trim_wake,
    )  # fmt: skip


def pieces_of(args: argparse.Namespace) -> Any:
    """Pieces of nights, or whole ones, in an order of their own every pass."""
    longest = round(args.crop_hours * _EPOCHS_AN_HOUR)

    def batches(view: View, number: int, rank: int, processes: int) -> NightBatches:
        listed = in_batches(view, args.batch_size, longest=longest, seed=[args.seed, number])
        return listed.for_process(rank, processes)

    return batches


def encoded_pieces(args: argparse.Namespace, nights: EncodedNights) -> Any:
    """Whole nights of a frozen encoder, in an order of their own every pass."""

    def batches(view: View, number: int, rank: int, processes: int) -> NightBatches:
        listed = in_batches(view, args.batch_size, seed=[args.seed, number])
        return replace(listed, read=nights.read, ahead=False).for_process(rank, processes)

    return batches


def cache_folder(run: Path, encoder: nn.Module, store: Path) -> Path:
    """Where nights of this encoder are kept: other weights or another store, another folder."""
    holder = nn.Module()
    holder.encoder = encoder
    return run / "encoded" / f"{store.resolve().name}-{fingerprint(holder)[:12]}"


def ready(state: dict[str, Tensor] | None, net: nn.Module, view: View) -> None:
    """The pretrained encoder's weights, or statistics of spectra from the training nights."""
    if state is not None:
        net.encoder.load_state_dict(state)
        return
    encoder = net.encoder
    if encoder.spectrum is not None:
        net.to(view.device)
        encoder.spectrum.fit(
            encoder.patches(x.permute(1, 0, 2).flatten(1)[None]) for _, x, _ in view.whole_nights()
        )


def optimiser(
    steps: int, frozen: bool, args: argparse.Namespace, net: nn.Module
) -> tuple[Any, Any]:
    """AdamW, and a rate that rises over the first steps and falls along a cosine to the last.

    A frozen encoder, and what pretraining's last layers do not reach, is left out.
    """
    if frozen:
        net.encoder.requires_grad_(False)
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


def validate_encoded(
    cache: Any, net: nn.Module, model: Any, view: View, fabric: Any
) -> dict[str, float]:
    """Agreement of a head with the expert on whole, untrimmed nights of a frozen encoder."""
    nights, counts = cache(view), 0
    net.eval()
    with torch.no_grad():
        for number in range(fabric.global_rank, len(nights), fabric.world_size):
            batch = nights.read([(number, 0, 0)])
            found = net(None, batch.encoded).argmax(dim=-1)
            counts = counts + metrics.confusion(batch.stages[0].cpu().numpy(),
                                                found[0].cpu().numpy())  # fmt: skip
    counts = np.zeros((5, 5), np.int64) if isinstance(counts, int) else counts
    total = fabric.all_reduce(torch.from_numpy(counts).to(fabric.device), reduce_op="sum")
    return {name: float(metrics.SUMMARIES[name](total.cpu().numpy())) for name in VALIDATED}


def run_name(args: argparse.Namespace, held_out: Sequence[int]) -> str:
    """``foundation_probe_linear_fold4_seed0``."""
    what = args.objective if args.stage == "pretrain" else args.head
    start = "_scratch" if args.stage != "pretrain" and args.pretrained == "none" else ""
    folds = "-".join(map(str, held_out))
    return f"foundation_{args.stage}_{what}{start}_fold{folds}_seed{args.seed}"


def cached(args: argparse.Namespace, run: Path, encoder: nn.Module) -> Any:
    """``view -> EncodedNights`` of one encoder, kept in the run's folder."""
    folder = cache_folder(run, encoder, args.data_path)
    return partial(EncodedNights, encoder=encoder, folder=folder)
