"""Whole nights through a model: the one path for validation, evaluation and prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.metrics import confusion


@dataclass(frozen=True)
class StagedNight:
    """A recording as a model staged it, beside the expert's stages.

    ``probabilities`` (n, 5) with rows that sum to 1, ``expert`` (n,) codes with -1 where unscored,
    ``first_epoch`` how many epochs of the source lie before the first one here, ``start`` the
    source's first second in ISO 8601, if known, ``quality_flags`` (n,) what is wrong with each
    epoch's signals in words, "" for nothing, or ``()`` where they were not checked.
    """

    recording: str
    subject: str
    probabilities: np.ndarray
    expert: np.ndarray
    first_epoch: int = 0
    start: str | None = None
    quality_flags: Sequence[str] = ()

    @property
    def stages(self) -> np.ndarray:
        """The most probable stage of every epoch, int8 (n,)."""
        return self.probabilities.argmax(axis=1).astype(np.int8)

    @property
    def counts(self) -> np.ndarray:
        """Confusion counts (5, 5) of the scored epochs."""
        return confusion(self.expert, self.stages)


def stage_signals(
    model: Any,
    signals: Tensor,
    *,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    batch_size: int = 256,
) -> Tensor:
    """A night's signals (n, c, t) -> probabilities (n, 5); the one call of ``stage_night``.

    ``batch_size`` bounds memory and does not change the result.
    """
    model.eval()
    with autocast():
        return model.stage_night(signals, batch_size)


def agreement(
    model: Any,
    nights: Iterable[tuple[str, Tensor, Tensor]],
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> np.ndarray:
    """Confusion counts (5, 5) over nights; results stay on the device until the last night."""
    # every copy to the CPU waits for the GPU, so there is one at the end
    staged = [
        (stages, stage_signals(model, signals, autocast=autocast).argmax(dim=-1))
        for _, signals, stages in nights
    ]
    if not staged:
        return confusion(np.zeros(0, np.int64), np.zeros(0, np.int64))
    true, predicted = (torch.cat(part).cpu().numpy() for part in zip(*staged, strict=True))
    return confusion(true, predicted)
