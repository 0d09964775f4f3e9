"""A staged night with everything that is needed to explain and to show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from utils.staged_night import StagedNight
from utils.stages import EPOCH_SECONDS


@dataclass(frozen=True)
class ExplainedNight:
    """A staged night, its signals, their scale and the events that are its evidence.

    ``signals`` (n, m, t) as the model receives them; ``mean`` and ``sd`` (m,) bring them back to
    ``unit``; ``roles`` name the modalities; ``events`` (kind -> (k, 2) in s) are its evidence, and
    ``evidence`` names where they come from; ``distractors`` resemble them in all but one respect.
    ``recorded`` are channels as they lie in a file, if there is one, for the page to show.
    """

    staged: StagedNight
    signals: Tensor
    mean: np.ndarray
    sd: np.ndarray
    channels: tuple[str, ...]
    roles: tuple[str, ...]
    unit: str
    events: Mapping[str, np.ndarray]
    evidence: str = "none"
    distractors: Mapping[str, np.ndarray] = field(default_factory=dict)
    recorded: Sequence[Any] = ()

    @property
    def fs(self) -> float:
        """Samples per second."""
        return self.signals.shape[-1] / EPOCH_SECONDS

    @property
    def scaled_by_night(self) -> bool:
        """Whether mean and SD are this night's own, so that edits of its signals change them."""
        return bool((self.mean != 0).any() or (self.sd != 1).any())

    def channel_epochs(self, channel: int) -> np.ndarray:
        """All epochs of one channel in ``unit``: (n, t)."""
        return self.signals[:, channel].cpu().numpy() * self.sd[channel] + self.mean[channel]

    def physical(self, epoch: int) -> np.ndarray:
        """Signals of one epoch in ``unit``: (m, t)."""
        return self.signals[epoch].cpu().numpy() * self.sd[:, None] + self.mean[:, None]
