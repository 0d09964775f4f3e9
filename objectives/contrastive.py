"""Contrastive learning: two views of an epoch shall be alike, and unlike all other epochs.

NT-Xent: Chen et al., ICML 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from objectives.objective import Objective


class Contrastive(Objective):
    """Callable on a :class:`~models.pretraining.Pretraining` and a batch of single epochs.

    Args:
        views: random changes of (n, c, t); called twice on every epoch.
        temperature: of NT-Xent.
        chunk: epochs whose activations are kept at a time, 0: all; the others are computed again
            for their gradients, so that many negatives need little memory. Batch norm normalises
            by chunk, and takes note of each chunk once.
    """

    def __init__(
        self, views: Callable[[Tensor], Tensor], *, temperature: float = 0.1, chunk: int = 0
    ) -> None:
        if temperature <= 0:
            raise ValueError(f"temperature {temperature:g}: a number above 0")
        self.views, self.temperature, self.chunk = views, temperature, chunk

    def __call__(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """NT-Xent of two views of ``batch.signals`` (b, 1, c, t), and no logs."""
        x = batch.signals.flatten(0, 1)
        both = torch.cat([self.views(x), self.views(x)])
        if not self.chunk:
            projected = model(both)[0]
        else:
            # reentrant checkpoints give no gradient where the input, here signals, needs none
            projected = torch.cat(
                [
                    checkpoint(
                        lambda part: model(part)[0],
                        part,
                        use_reentrant=False,
                        context_fn=lambda: (nullcontext(), statistics_kept(model)),
                    )
                    for part in both.split(self.chunk)
                ]
            )
        return nt_xent(*projected.chunk(2), self.temperature), {}


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Show batch norms copies of their statistics: what is computed again was counted before."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    own = [(norm, name, b) for norm in norms for name, b in norm.named_buffers(recurse=False)]
    try:
        for norm, name, buffer in own:
            setattr(norm, name, buffer.clone())
        yield
    finally:
        for norm, name, buffer in own:
            setattr(norm, name, buffer)


def nt_xent(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross-entropy of two views (n, d) each, in float32 or more."""
    both = torch.cat([one, other])
    if both.dtype in (torch.float16, torch.bfloat16):
        both = both.float()
    both = nn.functional.normalize(both, dim=1)
    alike = both @ both.T / temperature
    # an epoch's view is no negative of itself
    alike = alike.masked_fill(
        torch.eye(len(both), dtype=torch.bool, device=both.device), -torch.inf
    )
    # row i of one view belongs to row n + i of the other, and back
    partner = torch.arange(len(both), device=both.device).roll(len(one))
    return nn.functional.cross_entropy(alike, partner)
