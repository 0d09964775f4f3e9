"""Parts that the foundation model's scripts share: settings, objectives, encoders, schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import models
from datasets.store.nights import NightBatches, in_batches
from datasets.store.views import View
from models import low_rank
from models.foundation import PUBLISHED
from objectives.denoising import Denoising, corrupt
from objectives.draws import Draws
from objectives.night_staging import NightStaging
from probing.linear_autoencoder import LinearAutoencoder
from training.flags import ScheduleFlags
from training.foundation_flags import (
    DEFAULTS,
    OF_MODEL,
    FoundationModelFlags,
    FoundationObjectiveFlags,
    FoundationSettings,
    asked,
)
from training.optimisers import schedule
from training.staging_family import balanced
from training.validation import mean_figures
from utils.checkpoint import Checkpoint, load_checkpoint, refuse_seen
from utils.errors import UserError
from utils.runs import newest_run
from utils.stages import EPOCH_SECONDS

_EPOCHS_PER_HOUR = 120


def model_settings(flags: FoundationModelFlags, view: View) -> dict[str, Any]:
    """Settings of a new encoder for ``models.build``; roles and rate are those of the view."""
    # single sizes that were given win over --published, which wins over the lighter defaults
    settings = OF_MODEL | (PUBLISHED if flags.published else {}) | asked(flags)
    return settings | {
        "roles": [c.role for c in view.channels],
        "fs": view.fs,
        "recompute": flags.recompute,
    }


def find_pretrained(settings: FoundationSettings) -> Checkpoint | None:
    """The checkpoint whose encoder is used; ``None`` for random weights.

    It is of pretraining or, with --model_path, of the model that is trained on, head and all.

    Raises:
        UserError: there is none, it is not of that stage, or flags ask for another encoder.
    """
    learning, model, path = settings.learning, settings.model, settings.run.model_path
    if learning.stage == "pretrain":
        return None
    if path is not None and learning.pretrained is not None:
        raise UserError(
            f"--pretrained has no effect on the encoder of --model_path ({path}); take one out"
        )
    if learning.pretrained == "none":
        return None
    stages = {"foundation_pretraining": "pretrain"}
    if path is not None:
        stages = {"foundation": "probe or finetune"}
    elif learning.pretrained is not None:
        path = Path(learning.pretrained)
    else:
        path = newest_run(settings.data.project_path, "foundation_pretrain_*")
    # a run's folder stands for its best checkpoint
    path = path / "checkpoints" / "best.pt" if path.is_dir() else path
    checkpoint = load_checkpoint(path)
    if checkpoint.model not in stages:
        (stage,) = stages.values()
        raise UserError(f"{path}: a {checkpoint.model}, not of --stage {stage}")
    if checkpoint.training is None:
        raise UserError(f"{path}: does not name its training, so nobody knows whom it has seen")
    given = [*asked(model), *(["published"] if model.published else [])]
    if given:
        raise UserError(
            f"--{given[0]} has no effect on a pretrained encoder ({path}); take "
            "it out, or add --pretrained none"
        )
    return checkpoint


def refuse_pretrained_on(checkpoint: Checkpoint, cohort: str, held_out: Sequence[str]) -> None:
    """Refuse to hold out subjects whom the pretraining has seen.

    Raises:
        UserError: naming them.
    """
    refuse_seen(
        checkpoint.training,
        cohort,
        held_out,
        where=f"{checkpoint.path}",
        kind="pretraining",
        remedy="hold out the folds that pretraining held out",
    )


def encoder_of(checkpoint: Checkpoint) -> nn.Module:
    """The pretrained encoder alone, in evaluation mode."""
    try:
        return models.build_from(checkpoint).encoder
    except ValueError as error:
        raise UserError(f"a damaged checkpoint: {error}") from error


def pretraining_objective(flags: FoundationObjectiveFlags, settings: dict[str, Any]) -> Denoising:
    """The objective of ``--stage pretrain``.

    Raises:
        UserError: settings that the objective or the model cannot have.
    """
    linear = settings["tokeniser"] == "linear"
    target = flags.target or ("signal" if linear else DEFAULTS["target"])
    if linear and target != "signal":
        raise UserError(f"--target {target}: --tokeniser linear computes no spectra")
    try:
        return Denoising(
            flags.objective,
            ratio=flags.mask_ratio,
            role_p=flags.role_dropout,
            target=target,
            patches_per_epoch=round(EPOCH_SECONDS / settings["patch_seconds"]),
        )
    except ValueError as error:
        raise UserError(str(error)) from error


def staging_objective(
    flags: FoundationObjectiveFlags, view: View, *, encoded: bool
) -> NightStaging:
    """The objective of ``--stage finetune``, and of ``probe``, which reads encoded nights."""
    weights = balanced(view) if flags.weights == "balanced" else None
    return NightStaging(
        gamma=flags.focal_gamma,
        weights=weights,
        smoothing=flags.label_smoothing,
        role_p=flags.role_dropout,
        trim=flags.trim_wake,
        reads_encoded=encoded,
        piece=0 if flags.context is None else 2 * flags.context + 1,
    )


def pieces_of(crop_hours: Sequence[float], batch_size: int, seed: int) -> Any:
    """Batches of whole nights or of pieces of them, shuffled anew in every pass.

    ``crop_hours`` are the pieces' length, 0 for whole nights, or two lengths to draw between.
    """
    # at least an epoch, but 0 takes whole nights
    lengths = [max(1, round(hours * _EPOCHS_PER_HOUR)) if hours else 0 for hours in crop_hours]
    shortest, longest = lengths if len(lengths) == 2 else (0, *lengths)

    def batches(view: View, number: int, rank: int, processes: int) -> NightBatches:
        listed = in_batches(
            view, batch_size, longest=longest, shortest=shortest, seed=[seed, number]
        )
        return listed.for_process(rank, processes)

    return batches


def initialise_from_training_data(
    state: dict[str, Tensor] | None, init: str, net: nn.Module, view: View
) -> None:
    """Load the pretrained encoder's weights, or prepare a new encoder from the training nights.

    A new one takes the statistics of their spectra and, with ``init`` "autoencoder", begins as
    their best linear autoencoder.
    """
    if state is not None:
        low_rank.load_updated(net.encoder, state)
        return
    if init == "autoencoder":
        begin_linear(net, view)
    encoder = net.encoder
    if encoder.spectrum is not None:
        net.to(view.device)
        # (n, c, t) epochs of a night -> (1, c, n * t), the whole night as a batch of one
        encoder.spectrum.fit(
            encoder.patches(x.permute(1, 0, 2).flatten(1)[None]) for _, x, _ in view.whole_nights()
        )


def begin_linear(net: nn.Module, view: View) -> None:
    """Set tokeniser and pretraining head to the best linear autoencoder of the training nights."""
    autoencoders = [one.halves() for one in linear_autoencoders(net, view)]
    shape = net.encoder.linear.weight.new_zeros
    parts = [
        shape(n)
        for n in (net.encoder.linear.weight.shape, net.head.weight.shape, net.head.bias.shape)
    ]
    # one autoencoder per role; where a patch has fewer samples than the model's width, the
    # dimensions left over stay 0
    for k, (inward, outward, mean) in enumerate(autoencoders):
        width = inward.shape[1]
        parts[0][k, :, :width] = torch.from_numpy(inward)
        parts[1][k, :width] = torch.from_numpy(outward)
        parts[2][k] = torch.from_numpy(mean)
    net.begin_linear(*parts)


def linear_autoencoders(net: nn.Module, view: View) -> list[LinearAutoencoder]:
    """Fit, for every role, the best linear autoencoder that cleans corrupted nights of ``view``."""
    encoder = net.encoder
    linear = [LinearAutoencoder(encoder.n_samples, encoder.d_model) for _ in encoder.roles]
    for clean, corrupted, valid, _ in corrupted_nights(net, view):
        for k, one in enumerate(linear):
            if valid[k].any():  # a role may be absent in this night
                one.add(corrupted[k, valid[k]].cpu().numpy(), clean[k, valid[k]].cpu().numpy())
    return [one.solve() for one in linear]


@torch.no_grad()
def corrupted_nights(net: nn.Module, view: View) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Per night: clean and corrupted patches (c, p, s), valid (c, p), corrupted signals (c, t)."""
    net.to(view.device)
    for _, signals, _ in view.whole_nights():
        x = signals.permute(1, 0, 2).flatten(1)[None]
        given = corrupt(x, Draws.anew(x))
        clean, valid = net.encoder.patches(x)
        yield clean[0], net.encoder.patches(given)[0][0], valid[0], given[0]


def freeze_unused(objective: Denoising, net: nn.Module) -> None:
    """Freeze the token for what is hidden where an objective hides nothing.

    Training on several processes fails if a trainable parameter gets no gradient.
    """
    if objective.kind == "denoise" and net.hidden is not None:
        net.hidden.requires_grad_(False)


def optimiser(
    steps: int, freeze: Callable[[nn.Module], None], flags: ScheduleFlags, net: nn.Module
) -> tuple[Any, Any]:
    """AdamW, and a rate that rises over the first steps and falls along a cosine to the last.

    Parameters that ``freeze`` freezes are left out.
    """
    freeze(net)
    chosen = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    decayed = [p for name, p in chosen if _decays(name, p)]
    plain = [p for name, p in chosen if not _decays(name, p)]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": flags.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=flags.lr,
    )
    return optimizer, schedule(optimizer, steps, flags.warmup, flags.schedule)


def _decays(name: str, parameter: Tensor) -> bool:
    """Matrices decay; biases, gains and offsets do not, also where every role has its own."""
    own = name.split(".")[-1]
    return parameter.dim() > 1 and not own.startswith(("bias", "gain", "offset"))


def validate_loss(
    objective: Any, batches: Any, net: nn.Module, model: Any, view: View, fabric: Any
) -> dict[str, float]:
    """Mean loss over the validation nights, with the same batches and hidden patches every time."""
    listed = batches(view, 0, fabric.global_rank, fabric.world_size)
    return mean_figures(objective, model, listed, fabric)
