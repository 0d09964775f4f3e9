"""The one shape every reader returns: a night's signals, still in the file, and its stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from utils.stages import EPOCH_SECONDS, UNSCORED


@dataclass(frozen=True)
class Signal:
    """One channel at its own rate; ``read(start_s, stop_s)`` returns float64 in ``unit``."""

    fs: float
    unit: str
    seconds: float
    read: Callable[[float, float], np.ndarray] = field(repr=False)


@dataclass(frozen=True)
class Bout:
    """A run of epochs as the scorer wrote it: first epoch, length, stage code."""

    first: int
    length: int
    stage: int


@dataclass(frozen=True)
class Recording:
    """One night of one subject, as its files have it.

    ``bouts`` keep the source's own order and grouping, which one published protocol needs;
    ``stages`` (int8, one per whole epoch of signal) is what everything else uses. ``note`` says
    what a reader had to change; ``derivations`` which channels of the file a signal is made of,
    where signals are named by role.
    """

    id: str
    subject: str
    night: int
    signals: dict[str, Signal]
    bouts: tuple[Bout, ...]
    stages: np.ndarray
    start: datetime | None
    note: str | None = None
    derivations: Mapping[str, str] = field(default_factory=dict)


def stages_from_bouts(bouts: tuple[Bout, ...], n_epochs: int) -> np.ndarray:
    """Codes per epoch (int8, ``n_epochs``), cut to the signal; epochs nobody scored are -1."""
    stages = np.full(n_epochs, UNSCORED, dtype=np.int8)
    for bout in bouts:
        stages[bout.first : bout.first + bout.length] = bout.stage
    return stages


def whole_epochs(seconds: float) -> int:
    """Epochs that ``seconds`` of signal hold completely; forgiving float noise in the rate."""
    return int(seconds / EPOCH_SECONDS + 1e-9)
