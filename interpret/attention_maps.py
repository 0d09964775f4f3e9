"""The model's own attention as explanations: windows of a night, modalities, epochs, and rollout.

Weights are the softmax weights of the trained layers, never rescaled by a maximum. Attention is a
candidate explanation: it is scored against planted evidence like every other map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

NAMES = ("attention", "rollout")
_WINDOWS_AT_ONCE = 32


@dataclass(frozen=True)
class NightAttention:
    """Attention over a night of n epochs, means over heads and over the windows covering an epoch.

    ``intra`` (n, m, h, 1 + w) and ``cross`` (n, h, 1 + m) keep the heads; ``inter`` (n, 2 l - 1) is
    by offset from -l + 1 to l - 1, NaN where no window reaches, or ``None`` for single epochs.
    """

    intra: Tensor
    cross: Tensor
    inter: Tensor | None

    def shares(self) -> tuple[Tensor, Tensor]:
        """Mean over heads among windows (n, m, w) and modalities (n, m), summing to 1.

        The weights of the CLS tokens on themselves are left out; see :meth:`own`.
        """
        windows = self.intra.mean(dim=2)[..., 1:]
        modalities = self.cross.mean(dim=1)[..., 1:]
        return (
            windows / windows.sum(dim=-1, keepdim=True),
            modalities / modalities.sum(dim=-1, keepdim=True),
        )

    def own(self) -> tuple[Tensor, Tensor]:
        """What CLS tokens give themselves: (n, m) among windows, (n,) among modalities."""
        return self.intra.mean(dim=2)[..., 0], self.cross.mean(dim=1)[..., 0]

    def rollout(self) -> Tensor:
        """Modality share times window share (n, m, w); sums to 1 over both."""
        windows, modalities = self.shares()
        return modalities[..., None] * windows

    def as_samples(self, name: str, n_samples: int) -> Tensor:
        """``attention`` (window shares) or ``rollout`` spread over the samples: (n, m, t)."""
        weights = self.rollout() if name == "rollout" else self.shares()[0]
        width = n_samples // weights.shape[-1]
        return weights.repeat_interleave(width, dim=-1) / width


@torch.no_grad()
def night_attention(model: Any, night: Tensor) -> NightAttention:
    """Attention of all windows of a night (n, m, t), averaged by epoch and by offset."""
    length = min(model.num_seq, len(night))
    starts = torch.arange(len(night) - length + 1)
    intra = cross = inter = None
    covered = torch.zeros(len(night))
    model.eval()
    for part in starts.split(_WINDOWS_AT_ONCE):
        members = part[:, None] + torch.arange(length)
        maps = model.attention(night[members.to(night.device)])
        if intra is None:
            intra = torch.zeros(len(night), *maps.intra.shape[2:])
            cross = torch.zeros(len(night), *maps.cross.shape[2:])
            inter = torch.zeros(len(night), 2 * length - 1), torch.zeros(len(night), 2 * length - 1)
        flat = members.flatten()
        covered.index_add_(0, flat, torch.ones(len(flat)))
        intra.index_add_(0, flat, maps.intra.flatten(0, 1).cpu())
        cross.index_add_(0, flat, maps.cross.flatten(0, 1).cpu())
        if maps.inter is None:
            continue
        weights = maps.inter.mean(dim=1).cpu()
        offsets = torch.arange(length)[None, :] - torch.arange(length)[:, None] + length - 1
        index = (members[:, :, None], offsets[None].expand_as(weights))
        inter[0].index_put_(index, weights, accumulate=True)
        inter[1].index_put_(index, torch.ones_like(weights), accumulate=True)
    return NightAttention(
        intra / covered.view(-1, 1, 1, 1),
        cross / covered.view(-1, 1, 1),
        None if maps.inter is None else inter[0] / inter[1],
    )
