"""Batch norm over the batch of all processes: two GPUs train like one with twice the batch.

``torch.nn.SyncBatchNorm`` does so on GPUs alone; these run anywhere, with shares of any size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from utils.collectives import n_processes, summed


class _OverProcesses(nn.modules.batchnorm._BatchNorm):
    """Batch norm with the channels at ``axis``, whose training statistics are of all processes."""

    axis = 1

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over all axes but that of the channels."""
        if not self.training or n_processes() == 1:
            return self.alone(x)
        # sums of squares overflow float16 and lose digits in bfloat16
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        wide = wide.movedim(self.axis, -1)
        rows = wide.flatten(0, -2)
        count = rows.new_full((1,), len(rows))  # summed too: shares may differ in size
        sums = torch.cat((rows.sum(dim=0), rows.square().sum(dim=0), count))
        total, squares, count = summed(sums).split([rows.shape[1], rows.shape[1], 1])
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(0)  # rounding can make it negative
        # torch, too, normalises by the biased variance and keeps the unbiased one
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        out = wide * scale + (self.bias - mean * scale)
        return out.movedim(-1, self.axis).to(x.dtype)

    def alone(self, x: Tensor) -> Tensor:
        """Normalise as torch does."""
        return super().forward(x)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked.add_(1)


class BatchNorm(_OverProcesses, nn.BatchNorm1d):
    """Batch norm over all processes for (…, c)."""

    axis = -1

    def alone(self, x: Tensor) -> Tensor:
        """Normalise (…, c) over all leading axes."""
        return super().alone(x.flatten(0, -2)).view_as(x)


class ChannelBatchNorm(_OverProcesses, nn.BatchNorm1d):
    """Batch norm over all processes for (n, c, t), as convolutions make them."""


class ImageBatchNorm(_OverProcesses, nn.BatchNorm2d):
    """Batch norm over all processes for images (n, c, h, w)."""


def share_batch_norm(network: nn.Module, momentum: float) -> None:
    """Replace the batch norms of an image network by those over all processes."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                norm = ImageBatchNorm(child.num_features, child.eps, momentum)
                norm.load_state_dict(child.state_dict())  # some networks begin some gains at 0
                setattr(module, name, norm)
