"""Objective, model, batches and optimiser of self-supervised pretraining."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from datasets.store.views import View
from models import ENCODERS
from objectives.augmentation import Augmented, clipping
from objectives.contrast_views import views_of
from objectives.contrastive import Contrastive
from objectives.hybrid import Balance, Hybrid
from objectives.latent_prediction import LatentPrediction
from objectives.masked import MaskedPrediction
from objectives.masks import Masks
from objectives.vicreg import VicReg
from probing.latent_metrics import rank_me
from training.fine_tuning import EpochsOf
from training.optimisers import adam, plain_adam, schedule
from training.pretraining_nights import Reading
from training.ssl_flags import TRANSFORMERS, PretrainingSettings, PretrainingStepFlags
from training.validation import mean_figures
from utils.errors import UserError

CLIP = 20.0  # standard deviations
_RANKED = 2048  # validation epochs whose embeddings' rank is logged, of which it takes many


def settings_of(settings: PretrainingSettings, view: View) -> dict[str, Any]:
    """Settings of the model for ``models.build("pretraining", …)``."""
    what = settings.learning
    built = {
        "encoder": what.encoder,
        "n_channels": len(view.columns),
        "fs": view.fs,
        "n_samples": view.n_samples,
        "decoder": bool(predicts := predicted(settings)),
        "predicts": predicts,
        "projection": settings.contrast.projection_hidden or [],
    }
    if "power" in predicts:
        built |= {"patch": settings.masked.patch_samples}
    if what.pool is not None:
        built |= {"pool": what.pool}
    if what.encoder in TRANSFORMERS:
        built |= {"n_patches": what.num_patches, "use_cls": what.use_cls}
        built |= {"decoder_depth": settings.masked.decoder_blocks} if predicts else {}
    return built


def predicted(settings: PretrainingSettings) -> list[str]:
    """What the decoder predicts; nothing without one."""
    if settings.learning.objective == "latent":
        return ["latent"]
    if settings.masked.target is None:
        return []
    of_target = {"both": ["signal", "power"], "log_power": ["power"]}
    return of_target.get(settings.masked.target, ["signal"])


def check_patches(settings: PretrainingSettings, n_samples: int) -> None:
    """Refuse patches that do not fill an epoch of ``n_samples``, or are no tokens where it matters.

    Raises:
        UserError: naming both.
    """
    patch, what = settings.masked.patch_samples, settings.learning
    if patch is None:
        return
    if n_samples % patch:
        raise UserError(
            f"--patch_samples {patch}: epochs of {n_samples} samples do not divide into such "
            "patches; choose a divisor"
        )
    of_tokens = what.objective == "latent" or settings.masked.target in ("both", "log_power")
    if what.encoder in TRANSFORMERS and of_tokens and n_samples != patch * what.num_patches:
        raise UserError(
            f"--patch_samples {patch}: {what.num_patches} tokens have "
            f"{n_samples / what.num_patches:g} samples each, and one is predicted for each patch; "
            "leave the flag out"
        )
    if settings.masked.masking_type == "block":
        try:
            Masks("block", settings.masked.masking_ratio, patch).blocks(n_samples)
        except ValueError as error:
            raise UserError(f"--masking_type block: {error}; choose other ones") from error


def objective_of(settings: PretrainingSettings) -> Any:
    """Build the objective; standardised signals are clipped before it reads them.

    Raises:
        UserError: settings that the objective cannot have.
    """
    try:
        objective = _objective(settings)
    except ValueError as error:
        raise UserError(str(error)) from error
    # the limit is in standard deviations, so it means nothing for signals as they are stored
    if settings.learning.normalization == "none":
        return objective
    return Augmented(objective, clipping(CLIP))


def _objective(settings: PretrainingSettings) -> Any:
    what, hidden = settings.learning, settings.masked
    if what.objective == "latent":
        if what.encoder not in TRANSFORMERS:
            raise ValueError(
                f"--objective latent predicts tokens, which --encoder {what.encoder} has none of; "
                f"choose {' or '.join(TRANSFORMERS)}"
            )
        masks = Masks(hidden.masking_type, hidden.masking_ratio, hidden.patch_samples)
        return LatentPrediction(masks, decay=hidden.teacher_decay)
    if what.objective in ("contrastive", "vicreg"):
        return _contrast(settings)
    masked = MaskedPrediction(
        masking=hidden.masking_type,
        ratio=hidden.masking_ratio,
        patch=hidden.patch_samples,
        loss_on=hidden.loss_on,
        target=hidden.target,
        norm_patches=hidden.norm_patches,
    )
    if what.objective == "masked":
        return masked
    balance = Balance() if settings.contrast.balance else None
    if balance is not None and settings.run.compile:
        raise ValueError("--compile: compiled losses have one gradient; add --balance False")
    return Hybrid(masked, _contrast(settings), alpha=settings.contrast.alpha_crl, balance=balance)


def _contrast(settings: PretrainingSettings) -> Contrastive | VicReg:
    """The objective, or the part of it, that compares two views."""
    contrast = settings.contrast
    views = views_of(contrast.views, microvolt=settings.learning.normalization == "none")
    if settings.learning.objective == "vicreg":
        return VicReg(views, chunk=contrast.chunk)
    return Contrastive(
        views, temperature=contrast.temperature, chunk=contrast.chunk, queue=contrast.queue
    )


def reading_of(settings: PretrainingSettings) -> Reading:
    """How views are read: with neighbours and with the nights' powers where these are asked for."""
    scaled = settings.learning.normalization != "none"
    return Reading(
        settings.optimiser.batch_size,
        reach=settings.contrast.neighbours or 0,
        patch=settings.masked.patch_samples if "power" in predicted(settings) else 0,
        clip=CLIP if scaled else None,
    )


def optimiser(
    objective: Any, steps: int, device: torch.device, flags: PretrainingStepFlags, net: nn.Module
) -> tuple[Any, Any]:
    """Adam with L2, and a rate that falls along a cosine of ``steps`` or in steps of passes."""
    objective.attach(net, device)  # which has no weights of its own to train
    if flags.schedule == "step":
        return adam(flags, net)
    optimizer = plain_adam(flags, net)
    return optimizer, schedule(optimizer, steps, flags.warmup, "cosine")


def validate(
    objective: Any, reading: Reading, net: nn.Module, model: Any, view: View, fabric: Any
) -> dict[str, float]:
    """Mean loss over the validation subjects, and the rank of their embeddings.

    Masks and views are the same every time. The rank is RankMe (``probing.latent_metrics``), from 1
    where all embeddings are one point up to their width, without a label; which encoder stages best
    it does not tell.
    """
    listed = reading.epochs(view).for_process(fabric.global_rank, fabric.world_size)
    figures = mean_figures(objective, model, listed, fabric)
    rows = np.linspace(0, view.n_epochs - 1, min(_RANKED, view.n_epochs)).astype(np.int64)
    signals = EpochsOf(view, reading.clip)
    with torch.no_grad():
        parts = [
            net.encoder.latent(signals[part]).float().cpu()
            for part in torch.from_numpy(rows).split(reading.batch_size)
        ]
    return figures | {"rank_me": rank_me(torch.cat(parts).numpy())}


def initialise_from_training_data(net: nn.Module, view: View) -> None:
    """Fit the statistics that scale spectrograms, for encoders that read those."""
    if net.encoder.spectrogram is not None:
        net.to(view.device)
        net.encoder.spectrogram.fit(batch.signals[:, 0] for batch in view.epochs(256))


def run_name(settings: PretrainingSettings, held_out: list[int]) -> str:
    """Name of the run's folder, such as ``ssl_masked_cnn_fold4_seed0``."""
    folds = "-".join(map(str, held_out))
    what = settings.learning
    return f"ssl_{what.objective}_{what.encoder}_fold{folds}_seed{settings.run.seed}"


def encoder_names() -> str:
    """Names of the encoders for help and errors, separated by commas."""
    return ", ".join(ENCODERS)
