"""Batch norm over the batch of all processes: two GPUs train like one with twice the batch.

``torch.nn.SyncBatchNorm`` does so on GPUs alone; this one runs anywhere, with shares of any size.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn


class _SumOverProcesses(torch.autograd.Function):
    """All-reduce forward and backward: what every process did with the sum counts."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.clone()  # all_reduce writes in place, and autograd may still need its input
        distributed.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        distributed.all_reduce(gradient)
        return gradient


class BatchNorm(nn.BatchNorm1d):
    """``nn.BatchNorm1d`` on (…, c) whose training statistics are those of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (…, c) over all leading axes."""
        rows = x.flatten(0, -2)
        alone = not (distributed.is_initialized() and distributed.get_world_size() > 1)
        if alone or not self.training:
            return super().forward(rows).view_as(x)
        # sums of squares overflow float16 and lose digits in bfloat16
        wide = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
        count = wide.new_full((1,), len(wide))  # summed too: shares may differ in size
        sums = torch.cat((wide.sum(dim=0), wide.square().sum(dim=0), count))
        total, squares, count = _SumOverProcesses.apply(sums).split([x.shape[-1], x.shape[-1], 1])
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(0)  # rounding can make it negative
        # torch, too, normalises by the biased variance and keeps the unbiased one
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (wide * scale + (self.bias - mean * scale)).view_as(x).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked.add_(1)


class ChannelBatchNorm(BatchNorm):
    """Batch norm over all processes for (n, c, t), as convolutions make them."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (n, c, t) over epochs and time."""
        if self.training and distributed.is_initialized() and distributed.get_world_size() > 1:
            return super().forward(x.transpose(1, 2)).transpose(1, 2)
        # not super(), which takes the last axis for the channels
        return nn.BatchNorm1d.forward(self, x)
