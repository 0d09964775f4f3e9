"""Published training recipes, one per model: the defaults of ``staging_training.py``.

Sources are in the models' own files; what a recipe leaves out has its default in
``training.flags``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from models import backbone_names, names
from utils.errors import UserError


@dataclass(frozen=True)
class FirstStage:
    """First stage of two: the epoch encoder trained on single epochs, all stages equally often.

    ``settings`` build that smaller model; its ``parts`` are the encoder that the whole one gets.
    """

    settings: dict[str, Any]
    parts: tuple[str, ...]
    batch_size: int


@dataclass(frozen=True)
class Recipe:
    """Defaults of the command line (``flags``) and the scaling of signals (``standardise``)."""

    flags: dict[str, Any] = field(default_factory=dict)
    standardise: str = "recording"
    first: FirstStage | None = None


# gamma 1: papers that name no schedule train at a constant rate
_PLAIN = {"eps": 1e-8, "gamma": 1.0, "channels": ["EEG"]}
RECIPES = {
    "chambon2018": Recipe(
        _PLAIN | {
            "num_seq": 3, "batch_size": 128, "lr": 1e-3, "weight_decay": 0.0, "patience": 5,
            "sampling": "balanced",  # by the middle epoch, the only one that is staged
            "first_epochs": 200, "encoder_lr": 0.0,  # trained first, then frozen
        },
        first=FirstStage({"num_seq": 1}, ("spatial", "layers"), batch_size=128),
    ),
    "tinysleepnet": Recipe(
        _PLAIN | {
            # 15 nights side by side, 20 epochs of each per step, the state carried on
            "num_seq": 20, "batch_size": 15, "lr": 1e-4, "weight_decay": 1e-3, "grad_clip": 5.0,
            "weights": [1.0, 1.5, 1.0, 1.0, 1.0], "patience": 50,  # N1 counts more
            "night_shift": 0.1,
        },
        standardise="none",  # reads µV as recorded
    ),
    "deepsleepnet": Recipe(
        _PLAIN | {
            "num_seq": 25, "batch_size": 10, "lr": 1e-4, "weight_decay": 1e-3, "grad_clip": 10.0,
            "first_epochs": 100, "encoder_lr": 1e-6,  # trained first, then almost frozen
        },
        standardise="none",  # reads µV as recorded
        first=FirstStage({"num_seq": 1, "context": False}, ("small", "large"), batch_size=100),
    ),
    "seqsleepnet": Recipe(
        _PLAIN | {
            "num_seq": 20, "batch_size": 32, "lr": 1e-4, "weight_decay": 1e-3, "n_epochs": 10,
            "val_check_interval": 100, "patience": 0,
        },
        standardise="none",  # its spectrograms are scaled, by statistics of the training nights
    ),
    "sleeptransformer": Recipe(
        _PLAIN | {
            "num_seq": 21, "batch_size": 32, "lr": 1e-4, "weight_decay": 1e-4,
            "val_check_interval": 100, "patience": 200,  # of validations, every 100 steps
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
    "robustsleepnet": Recipe(
        # as its authors' script trains, but Adam without its AMSGrad variant; a batch of theirs
        # has a random subset of the channels, ours drops channels run by run
        _PLAIN | {
            "num_seq": 21, "batch_size": 32, "lr": 1e-3, "weight_decay": 0.0, "n_epochs": 100,
            "patience": 5, "channels": ["EEG", "EOG"], "augment": ["channels"],
        },
        # ours: theirs are scaled by median and quartiles, of which only the clip at 20 is seen
        standardise="recording",
    ),
    "sequence_cmt": Recipe({"num_seq": 15, "weights": [1.0, 2.0, 1.0, 2.0, 2.0]}),
    "epoch_cmt": Recipe({"num_seq": 1, "weights": [1.0, 2.0, 1.0, 2.0, 2.0]}),
}  # fmt: skip
# ours: no recipe was published for image networks
BACKBONE = Recipe(_PLAIN | {"num_seq": 21, "lr": 3e-4, "weight_decay": 1e-4}, standardise="none")


def recipe_of(experiment: str) -> Recipe:
    """The recipe of a model; the plain one for a model of ``models`` that has none of its own.

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
