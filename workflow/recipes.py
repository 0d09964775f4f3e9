"""How each model was published to be trained: defaults of ``staging_training.py``.

Sources are in the models' own files; what a recipe leaves out is as ``utils.flags`` has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """``flags`` are defaults of the command line; ``standardise`` is what the model reads.

    ``stateful``: chunks of a night in order, the recurrent state carried from one to the next.
    """

    flags: dict[str, Any]
    standardise: str = "recording"
    stateful: bool = False


_EVEN = [1.0] * 5

RECIPES = {
    "chambon2018": Recipe(
        {
            "num_seq": 3, "batch_size": 128, "lr": 1e-3, "weight_decay": 0.0, "patience": 5,
            "weights": "balanced", "channels": ["EEG"], "eps": 1e-8,
        }
    ),
    "tinysleepnet": Recipe(
        {
            "num_seq": 20, "batch_size": 15, "lr": 1e-4, "weight_decay": 1e-3, "grad_clip": 5.0,
            "weights": [1.0, 1.5, 1.0, 1.0, 1.0], "patience": 50, "channels": ["EEG"], "eps": 1e-8,
        },
        standardise="none",
        stateful=True,
    ),
    "deepsleepnet": Recipe(
        {
            "num_seq": 25, "batch_size": 10, "lr": 1e-4, "weight_decay": 1e-3, "grad_clip": 10.0,
            "weights": _EVEN, "channels": ["EEG"], "eps": 1e-8,
        },
        standardise="none",
    ),
    "seqsleepnet": Recipe(
        {
            "num_seq": 20, "batch_size": 32, "lr": 1e-4, "weight_decay": 1e-3, "weights": _EVEN,
            "n_epochs": 10, "channels": ["EEG"], "eps": 1e-8,
        },
        standardise="none",
    ),
    "sleeptransformer": Recipe(
        {
            "num_seq": 21, "batch_size": 32, "lr": 1e-4, "weight_decay": 1e-4, "weights": _EVEN,
            "channels": ["EEG"], "eps": 1e-8,
        },
        standardise="none",
    ),
    "simplesleepnet": Recipe(
        {
            "num_seq": 21, "batch_size": 32, "lr": 1e-3, "weight_decay": 0.0, "weights": _EVEN,
            "n_epochs": 100, "patience": 15, "channels": ["EEG", "EOG"], "eps": 1e-8,
        },
        standardise="none",
    ),
    "sequence_cmt": Recipe({"num_seq": 15, "weights": [1.0, 2.0, 1.0, 2.0, 2.0]}),
    "epoch_cmt": Recipe({"num_seq": 1, "weights": [1.0, 2.0, 1.0, 2.0, 2.0]}),
}  # fmt: skip
