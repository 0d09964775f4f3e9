"""Masked prediction and contrastive learning together, both terms logged."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from objectives.contrastive import Contrastive
from objectives.masked import MaskedPrediction
from objectives.objective import Objective


class Hybrid(Objective):
    """Masked prediction plus ``alpha`` times contrast, on standardised signals of like size."""

    def __init__(
        self, masked: MaskedPrediction, contrastive: Contrastive, *, alpha: float = 1.0
    ) -> None:
        self.masked, self.contrastive, self.alpha = masked, contrastive, alpha

    def __call__(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of both losses on ``batch.signals`` (b, 1, c, t), and each of them."""
        predicted, _ = self.masked(model, batch)
        contrast, _ = self.contrastive(model, batch)
        logs = {"masked": predicted.detach(), "contrastive": contrast.detach()}
        return predicted + self.alpha * contrast, logs
