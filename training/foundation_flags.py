"""Settings of ``foundation_training.py``, and which of them belong to which of its stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training.flags import ScheduleFlags, TrainingSettings
from utils.arguments import by_flag, changed
from utils.errors import UserError

# Defaults live here, not in the parser, where every flag of these tables is None unless it was
# given: so a flag that was given in vain can be refused.
OF_MODEL = {
    "patch_seconds": 6.0, "d_model": 128, "n_heads": 4, "dim_feedforward": 512, "local_layers": 2,
    "layers": 4, "merge": True, "mixing": "roles", "positions": "sinusoidal",
    "tokeniser": "spectrum", "dropout": 0.1,
}  # fmt: skip
_OF_STAGING = {
    "head": "linear", "focal_gamma": 0.0, "weights": "none", "label_smoothing": 0.0,
    "trim_wake": -1, "pretrained": None,
}  # fmt: skip
_UPDATES = {"lora_rank": 0, "context": None}
_PIECES = {"crop_hours": [0.0]}
_OF_PRETRAINING = {
    "objective": "both", "mask_ratio": 0.5, "target": None, "init": "random",
    "probe": False,
}  # fmt: skip
OF_STAGE = {
    "pretrain": _OF_PRETRAINING | _PIECES,
    "probe": _OF_STAGING,
    "finetune": _OF_STAGING | _PIECES | _UPDATES,
}
# for --help; target is "signal" where the tokeniser computes no spectra
DEFAULTS = OF_MODEL | _OF_STAGING | _OF_PRETRAINING | _PIECES | _UPDATES | {"target": "both"}


@dataclass(frozen=True)
class FoundationLearningFlags:
    """Stage of the training, staging head, and pretrained encoder: a path, or "none".

    ``lora_rank`` of its low-rank updates; 0 fine-tunes all of it. ``probe``: also probe a
    pretraining after every pass.
    """

    stage: str
    head: str | None
    lora_rank: int | None
    probe: bool | None
    pretrained: str | None


@dataclass(frozen=True)
class FoundationModelFlags:
    """Sizes of a new model; None where a flag was not given."""

    published: bool
    patch_seconds: float | None
    d_model: int | None
    n_heads: int | None
    dim_feedforward: int | None
    local_layers: int | None
    layers: int | None
    merge: bool | None
    mixing: str | None
    positions: str | None
    tokeniser: str | None
    dropout: float | None
    init: str | None
    recompute: str


@dataclass(frozen=True)
class FoundationObjectiveFlags:
    """Corruption of the signals and weights of the stages; None where --stage has no use for it."""

    objective: str | None
    mask_ratio: float | None
    target: str | None
    role_dropout: float
    crop_hours: list[float] | None
    focal_gamma: float | None
    weights: str | None
    label_smoothing: float | None
    context: int | None
    trim_wake: int | None


@dataclass(frozen=True)
class FoundationSettings(TrainingSettings):
    """All settings of ``foundation_training.py``."""

    optimiser: ScheduleFlags
    learning: FoundationLearningFlags
    model: FoundationModelFlags
    objective: FoundationObjectiveFlags


def resolve_defaults(settings: FoundationSettings) -> FoundationSettings:
    """Fill in the defaults of the flags that belong to --stage, where they were not given.

    Raises:
        UserError: a setting that would have no effect.
    """
    stage, given = settings.learning.stage, by_flag(settings)
    wanted = OF_STAGE[stage]
    # together these are all flags of a stage: finetune has those of probe too
    for name in OF_STAGE["pretrain"] | OF_STAGE["finetune"]:
        if name not in wanted and given[name] is not None:
            raise UserError(f"--{name} has no effect with --stage {stage}; take it out")
    return changed(settings, **{k: v for k, v in wanted.items() if given[k] is None})


def asked(model: FoundationModelFlags) -> dict[str, Any]:
    """Settings of a new model that were given on the command line."""
    every = {
        "patch_seconds": model.patch_seconds,
        "d_model": model.d_model,
        "n_heads": model.n_heads,
        "dim_feedforward": model.dim_feedforward,
        "local_layers": model.local_layers,
        "layers": model.layers,
        "merge": model.merge,
        "mixing": model.mixing,
        "positions": model.positions,
        "tokeniser": model.tokeniser,
        "dropout": model.dropout,
    }
    return {name: value for name, value in every.items() if value is not None}


def run_name(settings: FoundationSettings, held_out: Sequence[int]) -> str:
    """Name of the run's folder, such as ``foundation_probe_linear_fold4_seed0``."""
    what, folds = settings.learning, "-".join(map(str, held_out))
    kind = settings.objective.objective if what.stage == "pretrain" else what.head
    # the control on random weights has a folder of its own
    start = "_scratch" if what.stage != "pretrain" and what.pretrained == "none" else ""
    start += f"_lora{what.lora_rank}" if what.lora_rank else ""
    context = settings.objective.context
    start += f"_context{context}" if context is not None else ""
    return f"foundation_{what.stage}_{kind}{start}_fold{folds}_seed{settings.run.seed}"
