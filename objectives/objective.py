"""Interface of objectives: a loss, and weights that are trained along with the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn


def in_full(x: Tensor) -> Tensor:
    """``x`` in float32 where it has half of it: sums lose digits there; doubles stay doubles."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class Objective(ABC):
    """Callable on a model and a batch; most have no weights of their own."""

    @abstractmethod
    def __call__(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and sums over the batch to be logged."""

    def attach(self, net: nn.Module, device: torch.device) -> list[nn.Parameter]:
        """Make the layers that are trained along with ``net``; returns their weights.

        Raises:
            ValueError: it cannot be had with this model.
        """
        return []

    def state_dict(self) -> dict[str, Any]:
        """The objective's own weights, to resume from; empty where there are none."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from :meth:`state_dict`."""
        if state:
            raise ValueError("this objective has no weights to resume")
