"""Contrastive learning: two views of an epoch shall be alike, and unlike all other epochs.

NT-Xent: Chen et al., ICML 2020. Where batches hold a neighbour of every epoch, the second view is
one of the neighbour. A queue keeps what earlier batches were projected to as further negatives, by
the encoder itself, which moves slowly enough (Wang et al., CVPR 2020).
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


class TwoViews(Objective):
    """What objectives of two views share: the projections of both.

    Args:
        views: random changes of (n, c, t) by draws, a transform of ``objectives.augmentation``;
            called twice.
        chunk: epochs whose activations are kept at a time, 0: all; the others are computed again
            for their gradients, so that many negatives need little memory. Batch norm normalises
            by chunk, and takes note of each chunk once.
    """

    def __init__(self, views: Callable[..., Any], *, chunk: int = 0) -> None:
        self.views, self.chunk = views, chunk

    def projected(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """Projections (b, d) of a view of each epoch, and of one of its neighbour.

        ``batch.signals`` (b, 2, c, t) are epoch and neighbour; of (b, 1, c, t) both views are of
        the epoch.
        """
        draws = Draws(batch.keys, "views", batch.signals.device)
        both = torch.cat([self.views(batch.signals[:, k], draws)[0] for k in (0, -1)])
        if not self.chunk:
            return model(both)[0].chunk(2)
        # reentrant checkpoints give no gradient where the input, here signals, needs none
        parts = [
            checkpoint(
                lambda part: model(part)[0],
                part,
                use_reentrant=False,
                context_fn=lambda: (nullcontext(), statistics_kept(model)),
            )
            for part in both.tensor_split(self._n_chunks(both))
        ]
        return torch.cat(parts).chunk(2)

    def _n_chunks(self, both: Tensor) -> int:
        """How often the model is called: as often on every process, whatever its share."""
        n = -(-len(both) // self.chunk)  # rounded up
        return most(n, both.device)


class Contrastive(TwoViews):
    """Callable on a :class:`~models.pretraining.Pretraining` and a batch of single epochs.

    Args:
        views, chunk: as of :class:`TwoViews`.
        temperature: of NT-Xent.
        queue: projections of earlier batches that are kept as negatives, two of each epoch; at
            least so many, as whole batches leave, or else their order would matter.
    """

    def __init__(
        self,
        views: Callable[..., Any],
        *,
        temperature: float = 0.1,
        chunk: int = 0,
        queue: int = 0,
    ) -> None:
        super().__init__(views, chunk=chunk)
        if temperature <= 0:
            raise ValueError(f"temperature {temperature:g}: a number above 0")
        self.temperature, self.queue = temperature, queue
        self.queued: list[Tensor] = []  # (n, d) of each batch, the oldest first

    def __call__(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """NT-Xent of two views of ``batch.signals`` (b, l, c, t), and no logs.

        In validation without the queue, whose negatives change from pass to pass.
        """
        one, other = self.projected(model, batch)
        if not (self.queue and model.training):
            return nt_xent(one, other, self.temperature), {}
        unit = nn.functional.normalize(in_full(torch.cat([one, other]).detach()), dim=1)
        before = [rows.to(unit) for rows in self.queued]  # resumed ones lie on the CPU
        loss = nt_xent(one, other, self.temperature, torch.cat([unit[:0], *before]))
        self.queued = [*before, gathered(unit)[0]]
        while sum(map(len, self.queued[1:])) >= self.queue:
            del self.queued[0]
        return loss, {}

    def state_dict(self) -> dict[str, Any]:
        """The queue."""
        return {"queued": self.queued} if self.queued else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from :meth:`state_dict`."""
        self.queued = state.get("queued", [])


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


def nt_xent(
    one: Tensor, other: Tensor, temperature: float, further: Tensor | None = None
) -> Tensor:
    """Normalised temperature-scaled cross-entropy of two views (n, d) each, in float32 or more.

    The epochs of all processes are negatives, and ``further`` unit vectors (m, d); the processes'
    mean loss is that of one large batch.
    """
    both = nn.functional.normalize(in_full(torch.cat([one, other])), dim=1)
    every, first = gathered(both)
    alike = both @ every.T / temperature
    own = first + torch.arange(len(both), device=both.device)
    # an epoch's view is no negative of itself
    itself = own[:, None] == torch.arange(len(every), device=own.device)
    alike = alike.masked_fill(itself, -torch.inf)
    if further is not None:
        alike = torch.cat([alike, both @ further.T / temperature], dim=1)
    # row i of one view belongs to row n + i of the other, and back
    each = nn.functional.cross_entropy(alike, own.roll(len(one)), reduction="none")
    return whole_mean(each.sum(), each.new_tensor(len(each)))
