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

from objectives.draws import Draws
from objectives.objective import Objective, in_full
from utils.collectives import gathered, most, whole_mean


class Contrastive(Objective):
    """Callable on a :class:`~models.pretraining.Pretraining` and a batch of single epochs.

    Args:
        views: random changes of (n, c, t) by draws, a transform of ``objectives.augmentation``;
            called twice on every epoch.
        temperature: of NT-Xent.
        chunk: epochs whose activations are kept at a time, 0: all; the others are computed again
            for their gradients, so that many negatives need little memory. Batch norm normalises
            by chunk, and takes note of each chunk once.
    """

    def __init__(
        self, views: Callable[..., Any], *, temperature: float = 0.1, chunk: int = 0
    ) -> None:
        if temperature <= 0:
            raise ValueError(f"temperature {temperature:g}: a number above 0")
        self.views, self.temperature, self.chunk = views, temperature, chunk

    def __call__(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """NT-Xent of two views of ``batch.signals`` (b, 1, c, t), and no logs."""
        x = batch.signals.flatten(0, 1)
        draws = Draws(batch.keys, "views", x.device)
        both = torch.cat([self.views(x, draws)[0], self.views(x, draws)[0]])
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
                    for part in both.tensor_split(self._n_chunks(both))
                ]
            )
        return nt_xent(*projected.chunk(2), self.temperature), {}

    def _n_chunks(self, both: Tensor) -> int:
        """How often the model is called: as often on every process, whatever its share."""
        n = -(-len(both) // self.chunk)  # rounded up
        return most(n, both.device)


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
    """Normalised temperature-scaled cross-entropy of two views (n, d) each, in float32 or more.

    The epochs of all processes are negatives; their mean loss is that of one large batch.
    """
    both = nn.functional.normalize(in_full(torch.cat([one, other])), dim=1)
    every, first = gathered(both)
    alike = both @ every.T / temperature
    own = first + torch.arange(len(both), device=both.device)
    # an epoch's view is no negative of itself
    itself = own[:, None] == torch.arange(len(every), device=own.device)
    alike = alike.masked_fill(itself, -torch.inf)
    # row i of one view belongs to row n + i of the other, and back
    each = nn.functional.cross_entropy(alike, own.roll(len(one)), reduction="none")
    return whole_mean(each.sum(), each.new_tensor(len(each)))
