"""Whole nights through a model: the one path for validation, evaluation and prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.metrics import confusion


@dataclass(frozen=True)
class StagedNight:
    """A recording as a model staged it, beside the expert.

    ``probabilities`` (n, 5) with rows that sum to 1, ``expert`` (n,) codes with -1 where unscored,
    ``first_epoch`` how many epochs of the source lie before the first one here, ``start`` the
    source's first second in ISO 8601, if known.
    """

    recording: str
    subject: str
    probabilities: np.ndarray
    expert: np.ndarray
    first_epoch: int = 0
    start: str | None = None

    @property
    def stages(self) -> np.ndarray:
        """The most probable stage of every epoch, int8 (n,)."""
        return self.probabilities.argmax(axis=1).astype(np.int8)

    @property
    def counts(self) -> np.ndarray:
        """Confusion counts (5, 5) of the scored epochs."""
        return confusion(self.expert, self.stages)


def stage_nights(
    model: Any,
    nights: Iterable[tuple[str, Tensor, Tensor]],
    *,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    batch_size: int = 256,
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Recordings (id, signals (n, c, t), stages (n,)) -> (id, probabilities (n, 5), stages).

    ``model`` has ``stage_night`` and is put in evaluation mode; ``batch_size`` bounds memory only.
    """
    model.eval()
    for recording, signals, stages in nights:
        with autocast():
            probabilities = model.stage_night(signals, batch_size)
        yield recording, probabilities.float(), stages


def agreement(
    model: Any,
    nights: Iterable[tuple[str, Tensor, Tensor]],
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> np.ndarray:
    """Confusion counts (5, 5) over nights; results stay on the device until the last night."""
    staged = [
        (stages, probabilities.argmax(dim=-1))
        for _, probabilities, stages in stage_nights(model, nights, autocast=autocast)
    ]
    if not staged:
        return confusion(np.zeros(0, np.int64), np.zeros(0, np.int64))
    true, predicted = (torch.cat(part).cpu().numpy() for part in zip(*staged, strict=True))
    return confusion(true, predicted)
