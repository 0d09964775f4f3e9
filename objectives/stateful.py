"""Staging of consecutive chunks whose recurrent state is carried from chunk to chunk.

Supratak & Guo 2020, section II-C: chunks of a night follow each other, and the state begins anew
with every night.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from objectives.staging import Staging


class StatefulStaging(Staging):
    """Like :class:`Staging` over all epochs at once, for batches of ``View.parallel_nights``.

    What is carried: number and next epoch of each night, and its state; gradients stop there.
    """

    def __init__(self, weights, *, length: int) -> None:
        super().__init__(weights)
        self.length = length
        self.nights, self.state = torch.zeros(0, 2, dtype=torch.long), None

    def logits(self, model: nn.Module, batch: Any) -> Tensor:
        """Logits (b, l, 5) of chunks that follow those seen before."""
        logits, state = model(batch.signals, state=self._carried(batch), carry=True)
        ends = torch.as_tensor(batch.first) + self.length
        self.nights = torch.stack([torch.as_tensor(batch.nights), ends], dim=1)
        self.state = tuple(part.detach() for part in state)  # or memory grows with the night
        return logits

    def loss(self, logits: Tensor, stages: Tensor) -> Tensor:
        """Weighted entropies of all epochs of the batch over the number that is scored."""
        return super().loss(logits.reshape(-1, 1, logits.shape[-1]), stages.reshape(-1, 1))

    def divisor(self, weight: Tensor, scored: Tensor) -> Tensor:
        """The number of scored epochs: as published, weights make the loss larger."""
        return scored.sum(dim=0).to(weight)

    def _carried(self, batch: Any) -> tuple[Tensor, Tensor] | None:
        """Rows of the state for the chunks of this batch, 0 for a night's first chunk."""
        if self.state is None:
            return None
        wanted = torch.stack([torch.as_tensor(batch.nights), torch.as_tensor(batch.first)], dim=1)
        same = (wanted[:, None] == self.nights[None]).all(dim=2).to(batch.signals.device)
        # where nothing matches argmax is 0, a row of another night: replaced by zeros below
        known, row = same.any(dim=1), same.int().argmax(dim=1)
        carried = (part.to(same.device)[row] for part in self.state)  # a resumed one is on the CPU
        return tuple(torch.where(known[:, None], part, 0.0) for part in carried)

    def state_dict(self) -> dict[str, Tensor]:
        """Carried states and the chunks they belong to, for checkpoints in the middle of a pass."""
        if self.state is None:
            return {}
        return {"nights": self.nights, "h": self.state[0], "c": self.state[1]}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Resume from :meth:`state_dict`."""
        if state:
            self.nights, self.state = state["nights"], (state["h"], state["c"])
