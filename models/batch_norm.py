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
        x = x.clone()
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
        """(…, c) -> (…, c), normalised over all leading axes."""
        rows = x.flatten(0, -2)
        alone = not (distributed.is_initialized() and distributed.get_world_size() > 1)
        if alone or not self.training:
            return super().forward(rows).view_as(x)
        wide = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
        count = wide.new_full((1,), len(wide))
        sums = torch.cat((wide.sum(dim=0), wide.square().sum(dim=0), count))
        total, squares, count = _SumOverProcesses.apply(sums).split([x.shape[-1], x.shape[-1], 1])
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(0)
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (wide * scale + (self.bias - mean * scale)).view_as(x).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked.add_(1)


class ChannelBatchNorm(BatchNorm):
    """The same for (n, c, t), as convolutions make them."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, t) -> (n, c, t), normalised over epochs and time."""
        if self.training and distributed.is_initialized() and distributed.get_world_size() > 1:
            return super().forward(x.transpose(1, 2)).transpose(1, 2)
        return nn.BatchNorm1d.forward(self, x)
