"""Staging of whole nights by their band powers: cross-entropy over scored epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from objectives.band_augmentation import BAND_AUGMENTATIONS, changed_nights
from objectives.night_staging import focal_loss
from objectives.objective import Objective
from utils.stages import UNSCORED


class BandStaging(Objective):
    """Loss of a ``models.night_bands.NightBands`` on batches of nights of band powers.

    Args:
        augment: names of the changes, of ``BAND_AUGMENTATIONS``.
        smoothing: share of each label given to all stages.

    Raises:
        ValueError: an unknown name.
    """

    def __init__(self, augment: Sequence[str] = (), *, smoothing: float = 0.0) -> None:
        if unknown := sorted(set(augment) - set(BAND_AUGMENTATIONS)):
            raise ValueError(f"no {', '.join(unknown)}; there are {', '.join(BAND_AUGMENTATIONS)}")
        self.augment, self.smoothing = tuple(augment), smoothing

    def __call__(self, model: Any, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and how many epochs were scored and how many of them right."""
        nights = changed_nights(batch, self.augment)
        logits = model(model.relative(nights.decibels), nights.lengths)
        loss = focal_loss(logits, nights.stages, gamma=0.0, smoothing=self.smoothing)
        scored = nights.stages != UNSCORED
        right = (logits.argmax(dim=-1) == nights.stages) & scored
        return loss, {"right": right.sum(), "scored": scored.sum()}
