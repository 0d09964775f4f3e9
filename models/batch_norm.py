"""Batch norm over the batch of all processes: two GPUs train like one with twice the batch.

``torch.nn.SyncBatchNorm`` does so on GPUs alone; these run anywhere, with shares of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.dense import Dense, linear
from utils.collectives import n_processes, summed

_EPS = 1e-5


class _OverProcesses(nn.modules.batchnorm._BatchNorm):
    """Batch norm with the channels at ``axis``, whose training statistics are of all processes."""

    axis = 1

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over all axes but that of the channels."""
        if not self.training or n_processes() == 1:
            return self.alone(x)
        wide = _wide(x).movedim(self.axis, -1)
        scale, shift = _scale_and_shift([self], wide.flatten(0, -2))
        return (wide * scale + shift).movedim(-1, self.axis).to(x.dtype)

    def alone(self, x: Tensor) -> Tensor:
        """Normalise as torch does."""
        return super().forward(x)


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


def normed_linear(
    norms: Sequence[BatchNorm], x: Tensor, layer: Dense, leak: float | None = None
) -> Tensor:
    """``layer`` of x (…, c) after ``norms``, each of its own columns: (…, o); ``leak`` as there.

    The norms are scales and shifts, which the layer's weights take over: one product, and no
    normalised copy of ``x``.
    """
    scale, shift = _scale_and_shift(norms, x.flatten(0, -2))
    bias = torch.addmv(layer.bias, layer.weight, shift)
    return linear(x, layer.weight * scale, bias, leak)


def _scale_and_shift(norms: Sequence[_OverProcesses], rows: Tensor) -> tuple[Tensor, Tensor]:
    """What norms of the columns of (n, c) multiply by and add, (c,) each; they remember them."""
    sizes = [norm.num_features for norm in norms]
    if norms[0].training:
        mean, variance, count = _statistics(rows)
        parts = (each.detach().split(sizes) for each in (mean, variance * count / (count - 1)))
        for norm, *seen in zip(norms, *parts, strict=True):
            # torch, too, keeps the unbiased variance, and divides by the other
            _remember(norm, *seen)
    else:
        mean = torch.cat([norm.running_mean for norm in norms])
        variance = torch.cat([norm.running_var for norm in norms])
    scale = torch.cat([norm.weight for norm in norms]) * torch.rsqrt(variance + norms[0].eps)
    return scale, torch.cat([norm.bias for norm in norms]) - mean * scale


def _statistics(rows: Tensor) -> tuple[Tensor, Tensor, Any]:
    """Mean and variance (c,) of the rows (n, c) of all processes, and their number."""
    rows = _wide(rows)
    if n_processes() == 1:
        return *_Moments.apply(rows), len(rows)
    count = rows.new_full((1,), len(rows))  # summed too: shares may differ in size
    sums = torch.cat((rows.sum(dim=0), rows.square().sum(dim=0), count))
    total, squares, count = summed(sums).split([rows.shape[1], rows.shape[1], 1])
    mean = total / count
    # rounding can make it negative
    return mean, (squares / count - mean.square()).clamp_min(0), count


class _Moments(torch.autograd.Function):
    """Mean and variance of columns, with a gradient of one pass over them."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Of (n, c): (c,) each."""
        # of all that torch has, batch norm is quickest at it; without _EPS it calls a constant
        # column's inverse 0
        _, mean, inverse = torch.native_batch_norm(rows, None, None, None, None, True, 0.0, _EPS)
        ctx.save_for_backward(rows, mean)
        return mean, (inverse.square().reciprocal_() - _EPS).clamp_min_(0)

    @staticmethod
    def backward(ctx: Any, to_mean: Tensor, to_variance: Tensor) -> Tensor:
        """2 / n times the distance from the mean, for the variance, and 1 / n for the mean."""
        rows, mean = ctx.saved_tensors
        slope = to_variance * (2 / len(rows))
        return torch.addcmul(to_mean / len(rows) - slope * mean, rows, slope)


@torch.no_grad()
def _remember(norm: _OverProcesses, mean: Tensor, variance: Tensor) -> None:
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance, norm.momentum)
    norm.num_batches_tracked.add_(1)


def _wide(x: Tensor) -> Tensor:
    """Sums of squares overflow float16 and lose digits in bfloat16."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
