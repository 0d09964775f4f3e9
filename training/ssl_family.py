"""Settings of self-supervised pretraining, and the objective and model that are made from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from datasets.store.views import View
from models import ENCODERS
from objectives.augmentation import Augmented, clipping
from objectives.contrast_views import views_of
from objectives.contrastive import Contrastive
from objectives.hybrid import Hybrid
from objectives.masked import MaskedPrediction
from training.flags import OptimiserFlags, TrainingSettings
from training.validation import mean_figures
from utils.arguments import by_flag, changed
from utils.errors import UserError
from utils.json_values import value_in

CLIP = 20.0  # standard deviations
FS = 100.0  # Hz
OBJECTIVES = ("masked", "contrastive", "hybrid")
# Defaults live here, not in the parser, where every flag of these tables is None unless it was
# given: so a flag that was given in vain can be refused.
_MASKED = {
    "masking_type": "patch", "masking_ratio": 0.5, "patch_samples": 50, "loss_on": "masked",
    "target": "signal", "norm_patches": False,
}  # fmt: skip
_CONTRASTIVE = {
    "temperature": 0.1, "views": "benchmark", "projection_hidden": [512, 128], "chunk": 0,
}  # fmt: skip
OF_OBJECTIVE = {
    "masked": _MASKED,
    "contrastive": _CONTRASTIVE,
    "hybrid": _MASKED | _CONTRASTIVE | {"alpha_crl": 1.0},
}
OF_TRANSFORMER = {"num_patches": 60, "use_cls": True}
DEFAULTS = OF_OBJECTIVE["hybrid"] | OF_TRANSFORMER  # the hybrid has the flags of both others
# keys of the published configuration files, as section.key -> our flag
KEYS = {
    "dataset.eeg_channel": "channels", "dataset.fold": "fold", "dataset.seed": "seed",
    "dataset.normalization": "normalization", "dataset.masking_type": "masking_type",
    "dataset.masking_ratio": "masking_ratio", "dataset.patch_samples": "patch_samples",
    "dataset.loss_on": "loss_on", "dataset.views": "views",
    "backbone.name": "encoder", "backbone.num_patches": "num_patches",
    "backbone.use_cls": "use_cls", "backbone.projection_hidden": "projection_hidden",
    "training_params.mode": "objective", "training_params.temperature": "temperature",
    "training_params.alpha_crl": "alpha_crl", "training_params.max_epochs": "n_epochs",
    "training_params.batch_size": "batch_size", "training_params.lr": "lr",
    "training_params.weight_decay": "weight_decay",
    "training_params.val_period": "val_check_interval",
    "training_params.early_stopping.patience": "patience",
}  # fmt: skip
# keys of those files that no flag sets -> the values that what is built here has
FIXED = {
    "dataset.name": ("Sleep-EDF-2018",), "dataset.seq_len": (1,), "dataset.target_idx": (0,),
    "dataset.num_splits": (10,), "dataset.masking": (True, False),
    "backbone.encoder_embed_dim": (128,), "backbone.encoder_heads": (8,),
    "backbone.encoder_depths": (6,), "backbone.decoder_embed_dim": (128,),
    "backbone.decoder_heads": (8,), "backbone.decoder_depths": (8,),
    "backbone.input_size": (3000,), "backbone.use_sig_backbone": (False,),
    "training_params.loss": ("l2", "NTXent"), "training_params.loss_mp": ("l2",),
    "training_params.loss_crl": ("NTXent",), "training_params.early_stopping.mode": ("min",),
}  # fmt: skip
# words of those files -> ours
NAMES = {
    "CnnOnly": "cnn", "Cnn+Attention": "cnn_attention", "Transformer": "transformer",
    "pretrain_mp": "masked", "pretrain": "contrastive", "pretrain-hybrid": "hybrid",
}  # fmt: skip


@dataclass(frozen=True)
class PretrainingLearningFlags:
    """Objective, encoder and held-out fold: a number, "all", or None for the last."""

    objective: str
    encoder: str
    fold: str | None
    normalization: str
    num_patches: int | None
    use_cls: bool | None
    val_check_interval: int


@dataclass(frozen=True)
class MaskedFlags:
    """Masks and targets of masked prediction; None where the objective has no use for them."""

    masking_type: str | None
    masking_ratio: float | None
    patch_samples: int | None
    loss_on: str | None
    target: str | None
    norm_patches: bool | None


@dataclass(frozen=True)
class ContrastFlags:
    """Views, projection and temperature; None where the objective has no use for them."""

    temperature: float | None
    views: str | None
    projection_hidden: list[int] | None
    chunk: int | None
    alpha_crl: float | None


@dataclass(frozen=True)
class PretrainingSettings(TrainingSettings):
    """All settings of ``ssl_training.py``."""

    optimiser: OptimiserFlags
    learning: PretrainingLearningFlags
    masked: MaskedFlags
    contrast: ContrastFlags


def read_config(path: Path) -> dict[str, Any]:
    """Translate a configuration file with the published sections into flags.

    Raises:
        UserError: no JSON, a key that is not read, or a value that is not available here.
    """
    try:
        sections = value_in(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot read this --config file: {error}") from error
    if not isinstance(sections, dict):
        raise UserError(f"{path}: cannot read this --config file: it holds no JSON object")
    entries = dict(_flat(sections))
    if unknown := sorted(set(entries) - set(KEYS) - set(FIXED)):
        raise UserError(f"{path}: nothing reads {', '.join(unknown)}; take it out")
    for key, allowed in FIXED.items():
        if key in entries and entries[key] not in allowed:
            given = repr(entries[key])[:60]
            raise UserError(f"{path}: {key} is {given}; built here: {allowed[0]!r}")
    # str() because a list cannot be looked up
    flags = {KEYS[key]: NAMES.get(str(v), v) for key, v in entries.items() if key in KEYS}
    if flags.get("val_check_interval") == "1 epoch":  # their epoch is a pass
        flags["val_check_interval"] = 0
    # by its role, Sleep-EDF's first EEG is also known in stores that label it otherwise
    if isinstance(channels := flags.get("channels"), str):
        flags["channels"] = ["EEG" if channels == "Fpz-Cz" else channels]
    if "projection_hidden" in flags:  # null there: no hidden layer
        flags["projection_hidden"] = flags["projection_hidden"] or []
    return flags


def _flat(value: Mapping[str, Any], before: str = ""):
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{before}{key}.")
        else:
            yield f"{before}{key}", inner


def resolve_defaults(settings: PretrainingSettings) -> PretrainingSettings:
    """Fill in the defaults that belong to objective and encoder, where flags were not given.

    Raises:
        UserError: a setting that would have no effect.
    """
    what, given = settings.learning, by_flag(settings)
    wanted = OF_OBJECTIVE[what.objective] | (
        OF_TRANSFORMER if what.encoder == "transformer" else {}
    )
    for name in DEFAULTS:
        if name not in wanted and given[name] is not None:
            raise UserError(
                f"--{name} has no effect with --objective {what.objective} and --encoder "
                f"{what.encoder}; take it out"
            )
    return changed(settings, **{k: v for k, v in wanted.items() if given[k] is None})


def settings_of(settings: PretrainingSettings, view: View) -> dict[str, Any]:
    """Settings of the model for ``models.build("pretraining", …)``."""
    what = settings.learning
    built = {
        "encoder": what.encoder,
        "n_channels": len(view.columns),
        "fs": view.fs,
        "n_samples": view.n_samples,
        "decoder": what.objective != "contrastive",
        "projection": settings.contrast.projection_hidden or [],
    }
    if what.encoder == "transformer":
        built |= {"n_patches": what.num_patches, "use_cls": what.use_cls}
    return built


def check_patches(settings: PretrainingSettings, n_samples: int) -> None:
    """Refuse patches that do not fill an epoch of ``n_samples``.

    Raises:
        UserError: naming both.
    """
    patch = settings.masked.patch_samples
    if patch is not None and n_samples % patch:
        raise UserError(
            f"--patch_samples {patch}: epochs of {n_samples} samples do not divide into such "
            "patches; choose a divisor"
        )


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
    what, contrast = settings.learning, settings.contrast
    if what.objective in ("masked", "hybrid"):
        hidden = settings.masked
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
    views = views_of(contrast.views, microvolt=what.normalization == "none")
    contrastive = Contrastive(views, temperature=contrast.temperature, chunk=contrast.chunk)
    if what.objective == "contrastive":
        return contrastive
    return Hybrid(masked, contrastive, alpha=contrast.alpha_crl)


def validate(
    objective: Any, batch_size: int, net: nn.Module, model: Any, view: View, fabric: Any
) -> dict[str, float]:
    """Mean loss over the validation subjects, with the same masks and views every time."""
    listed = view.epochs(batch_size).for_process(fabric.global_rank, fabric.world_size)
    return mean_figures(objective, model, listed, fabric)


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
