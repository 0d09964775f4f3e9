"""Training that begins with the weights of a checkpoint: what has to agree, and what is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

import models
from datasets.store.views import View
from training.flags import RunFlags
from utils.checkpoint import Checkpoint, load_checkpoint
from utils.errors import UserError

_EPOCHS_AT_ONCE = 256  # bounds memory; the statistics do not depend on it


def starting_checkpoint(run: RunFlags) -> Checkpoint | None:
    """The checkpoint of --model_path; ``None`` for new weights."""
    return load_checkpoint(run.model_path) if run.model_path else None


def facts_of_start(start: Checkpoint | None) -> dict[str, Any]:
    """What ``run.json`` and checkpoints hold of the weights, or the encoder, begun with.

    Their checksum, as a run is resumed from the same ones alone: a file may have been trained
    anew since. Their training, so that no later evaluation takes its subjects for new.
    """
    facts: dict[str, Any] = {"starting_weights": start.fingerprint() if start else None}
    if start is not None and start.training is not None:
        facts["pretraining"] = dict(start.training.facts)
    return facts


def check_same_model(checkpoint: Checkpoint, model: str, settings: Mapping[str, Any]) -> None:
    """Refuse to begin with the weights of another model, or of other settings.

    Raises:
        UserError: naming the settings that differ.
    """
    theirs = models.with_defaults(checkpoint.model, checkpoint.settings)
    ours = models.with_defaults(model, settings)
    # what scales spectrograms is no part of the weights: here it is always the training nights
    differing = sorted(
        name
        for name in (theirs.keys() | ours.keys()) - {"scaled_by"}
        if theirs.get(name) != ours.get(name)
    )
    if checkpoint.model != model:
        raise UserError(f"{checkpoint.path}: a {checkpoint.model}; these flags ask for a {model}")
    if differing:
        of_theirs, of_ours = (
            ", ".join(f"{name} {values.get(name)}" for name in differing)
            for values in (theirs, ours)
        )
        raise UserError(f"{checkpoint.path}: has {of_theirs}; these flags ask for {of_ours}")


def lacks_scaling(net: nn.Module) -> bool:
    """Whether it reads spectrograms whose statistics were not published with its weights."""
    return net.spectrogram is not None and bool((net.spectrogram.sd == 1).all())


def fit_scaling(net: nn.Module, view: View) -> None:
    """Take the mean and deviation of spectrograms from the training nights."""
    net.to(view.device)
    net.spectrogram.fit(batch.signals[:, 0] for batch in view.epochs(_EPOCHS_AT_ONCE))
