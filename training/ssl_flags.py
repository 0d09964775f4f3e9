"""Flags of self-supervised pretraining: their groups, their defaults, and published settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import ENCODERS
from training.flags import OptimiserFlags, TrainingSettings
from utils.arguments import by_flag, changed
from utils.errors import UserError
from utils.json_values import value_in
from utils.stages import EPOCH_SECONDS

FS = 100.0  # Hz
STEPS = 10_000  # of a training whose length no flag tells
TRANSFORMERS = ("transformer", "transformer_small")
# Defaults live here, not in the parser, where every flag of these tables is None unless it was
# given: so a flag that was given in vain can be refused.
_MASKS = {"masking_type": "block", "masking_ratio": 0.6, "patch_samples": 50}
_MASKED = _MASKS | {"loss_on": "masked", "target": "both", "norm_patches": False}
_VIEWS = {"views": "benchmark", "neighbours": 2, "projection_hidden": [512, 128], "chunk": 0}
_CONTRASTIVE = _VIEWS | {"temperature": 0.1, "queue": 0}
OF_OBJECTIVE = {
    "masked": _MASKED,
    "latent": _MASKS | {"teacher_decay": 0.996},
    "contrastive": _CONTRASTIVE,
    "vicreg": _VIEWS | {"projection_hidden": [512, 512]},
    "hybrid": _MASKED | _CONTRASTIVE | {"alpha_crl": 1.0, "balance": True},
}
OBJECTIVES = tuple(OF_OBJECTIVE)
OF_TRANSFORMER = {"num_patches": 60, "use_cls": True}
OF_DECODER = {"decoder_blocks": 2}  # of a Transformer under masks
OF_SCHEDULE = {
    "cosine": {"warmup": 0.05, "patience": 0},  # a cosine that ends early has never been low
    "step": {"step_size": 30, "gamma": 1.0, "patience": 10},  # gamma 1: a constant rate
}
DEFAULTS = (
    OF_OBJECTIVE["latent"] | OF_OBJECTIVE["hybrid"] | OF_TRANSFORMER | OF_DECODER
    | OF_SCHEDULE["step"] | OF_SCHEDULE["cosine"] | {"pool": "mean_sd"}
)  # fmt: skip
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


# what the published files mean where they have no key
_PUBLISHED_STEPS = {"schedule": "step", "grad_clip": 0.0}
_PUBLISHED_MASKS = {
    "masking_type": "patch", "masking_ratio": 0.5, "patch_samples": 50, "target": "signal",
}  # fmt: skip
_PUBLISHED_VIEWS = {"neighbours": 0}


@dataclass(frozen=True)
class PretrainingLearningFlags:
    """Objective, encoder and held-out fold: a number, "all", or None for the last."""

    objective: str
    encoder: str
    fold: str | None
    normalization: str
    num_patches: int | None
    use_cls: bool | None
    pool: str | None
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
    decoder_blocks: int | None
    teacher_decay: float | None


@dataclass(frozen=True)
class ContrastFlags:
    """Views, projection and temperature; None where the objective has no use for them."""

    temperature: float | None
    views: str | None
    projection_hidden: list[int] | None
    chunk: int | None
    neighbours: int | None
    queue: int | None
    alpha_crl: float | None
    balance: bool | None


@dataclass(frozen=True)
class PretrainingStepFlags(OptimiserFlags):
    """Adam, its schedule, and the length of the training in steps or in passes."""

    schedule: str | None
    warmup: float | None
    n_steps: int | None


@dataclass(frozen=True)
class PretrainingSettings(TrainingSettings):
    """All settings of ``ssl_training.py``."""

    optimiser: PretrainingStepFlags
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
    return as_published(flags) | flags


def _flat(value: Mapping[str, Any], before: str = ""):
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{before}{key}.")
        else:
            yield f"{before}{key}", inner


def as_published(flags: Mapping[str, Any]) -> dict[str, Any]:
    """What a published configuration with these ``flags`` means where it has no key."""
    objective, encoder = flags.get("objective", "contrastive"), flags.get("encoder", "cnn")
    meant: dict[str, Any] = dict(_PUBLISHED_STEPS)
    if objective != "masked":
        meant |= _PUBLISHED_VIEWS
    if objective == "hybrid":
        meant |= {"balance": False}
    if objective != "contrastive":
        meant |= _PUBLISHED_MASKS
    if encoder in TRANSFORMERS:
        meant |= {"pool": "cls" if flags.get("use_cls", True) else "mean"}
        meant |= {"decoder_blocks": 8} if objective != "contrastive" else {}
    elif encoder in ENCODERS:
        meant |= {"pool": "mean"}
    return meant


def resolve_defaults(settings: PretrainingSettings) -> PretrainingSettings:
    """Fill in the defaults that belong to objective, encoder and schedule, where none were given.

    Raises:
        UserError: a setting that would have no effect.
    """
    what, given = settings.learning, by_flag(settings)
    steps = settings.optimiser
    # who names how the rate falls in steps wants it to
    falls = steps.step_size is not None or steps.gamma is not None
    schedule = steps.schedule or ("step" if falls else "cosine")
    wanted = {"schedule": schedule} | OF_SCHEDULE[schedule] | _of_learning(settings)
    for name in DEFAULTS:
        if name not in wanted and given[name] is not None:
            raise UserError(
                f"--{name} has no effect with --objective {what.objective}, --encoder "
                f"{what.encoder} and --schedule {schedule}; take it out"
            )
    if steps.n_epochs is None and steps.n_steps is None:
        wanted |= {"n_steps": STEPS}
    return changed(settings, **{k: v for k, v in wanted.items() if given[k] is None})


def _of_learning(settings: PretrainingSettings) -> dict[str, Any]:
    """Defaults of the flags that objective and encoder have a use for."""
    what = settings.learning
    wanted = dict(OF_OBJECTIVE[what.objective])
    is_masked = "masking_type" in wanted
    if what.encoder in ENCODERS:
        wanted |= {"pool": "mean_sd" if is_masked else "mean"}
    if what.encoder in TRANSFORMERS:
        wanted |= OF_TRANSFORMER | (OF_DECODER if is_masked else {})
        if not is_masked:
            wanted |= {"pool": "mean" if what.use_cls is False else "cls"}
        # a token each, so that a hidden patch is a token the encoder does not get
        if is_masked and not round(FS * EPOCH_SECONDS) % (n := what.num_patches or 60):
            wanted |= {"patch_samples": round(FS * EPOCH_SECONDS) // n}
    return wanted
