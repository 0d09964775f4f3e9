"""Whole nights through a model: the one path for validation, evaluation and prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.metrics import confusion


def stage_nights(
    model: Any,
    nights: Iterable[tuple[str, Tensor, Tensor]],
    *,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    batch_size: int = 256,
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Recordings (id, signals (n, c, t), stages (n,)) -> (id, probabilities (n, 5), stages).

    ``model`` has ``stage_night`` and stays in evaluation mode; ``batch_size`` bounds memory only.
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
