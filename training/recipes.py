"""How each model was published to be trained: defaults of ``staging_training.py``.

Sources are in the models' own files; what a recipe leaves out is as ``training.flags`` has it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from models import backbone_names, names
from utils.errors import UserError


@dataclass(frozen=True)
class FirstStage:
    """Single epochs, each stage equally often, before the whole model is trained.

    ``settings`` build that smaller model; its ``parts`` go on into the whole one.
    """

    settings: dict[str, Any]
    parts: tuple[str, ...]
    batch_size: int


@dataclass(frozen=True)
class Recipe:
    """``flags`` are defaults of the command line; ``standardise`` is what the model reads."""

    flags: dict[str, Any] = field(default_factory=dict)
    standardise: str = "recording"
    first: FirstStage | None = None


# papers that say nothing of it train at one rate; one EEG channel
_PLAIN = {"eps": 1e-8, "gamma": 1.0, "channels": ["EEG"]}
RECIPES = {
    "chambon2018": Recipe(
        _PLAIN | {
            "num_seq": 3, "batch_size": 128, "lr": 1e-3, "weight_decay": 0.0, "patience": 5,
            "sampling": "balanced",
            "first_epochs": 200, "encoder_lr": 0.0,
        },
        first=FirstStage({"num_seq": 1}, ("spatial", "layers"), batch_size=128),
    ),
    "tinysleepnet": Recipe(
        _PLAIN | {
            "num_seq": 20, "batch_size": 15, "lr": 1e-4, "weight_decay": 1e-3, "grad_clip": 5.0,
            "weights": [1.0, 1.5, 1.0, 1.0, 1.0], "patience": 50,
            "night_shift": 0.1,
        },
        standardise="none",
    ),
    "deepsleepnet": Recipe(
        _PLAIN | {
            "num_seq": 25, "batch_size": 10, "lr": 1e-4, "weight_decay": 1e-3, "grad_clip": 10.0,
            "first_epochs": 100, "encoder_lr": 1e-6,
        },
        standardise="none",
        first=FirstStage({"num_seq": 1, "context": False}, ("small", "large"), batch_size=100),
    ),
    "seqsleepnet": Recipe(
        _PLAIN | {
            "num_seq": 20, "batch_size": 32, "lr": 1e-4, "weight_decay": 1e-3, "n_epochs": 10,
            "val_check_interval": 100, "patience": 0,
        },
        standardise="none",
    ),
    "sleeptransformer": Recipe(
        _PLAIN | {
            "num_seq": 21, "batch_size": 32, "lr": 1e-4, "weight_decay": 1e-4,
            "val_check_interval": 100, "patience": 200,
        },
        standardise="none",
    ),
    "simplesleepnet": Recipe(
        _PLAIN | {
            "num_seq": 21, "batch_size": 32, "lr": 1e-3, "weight_decay": 0.0, "n_epochs": 100,
            "patience": 15, "channels": ["EEG", "EOG"], "augment": ["channels"],
        },
        standardise="none",
    ),
    "sequence_cmt": Recipe({"num_seq": 15, "weights": [1.0, 2.0, 1.0, 2.0, 2.0]}),
    "epoch_cmt": Recipe({"num_seq": 1, "weights": [1.0, 2.0, 1.0, 2.0, 2.0]}),
}  # fmt: skip
# ours: nobody published one for image networks, and a new model has none yet
BACKBONE = Recipe(_PLAIN | {"num_seq": 21, "lr": 3e-4, "weight_decay": 1e-4}, standardise="none")


def recipe_of(experiment: str) -> Recipe:
    """The recipe of a model; one that is new in ``models`` has the plain one until it gets its own.

    Raises:
        UserError: an unknown model, with those there are.
    """
    if experiment in RECIPES:
        return RECIPES[experiment]
    if experiment in backbone_names():
        return BACKBONE
    if experiment in names():
        return Recipe(_PLAIN)
    raise UserError(
        f"--experiment {experiment}: there are {', '.join(sorted(RECIPES))} and torchvision's "
        "image networks, such as resnet18 and efficientnet_b0"
    )
