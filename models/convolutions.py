"""Convolution and pooling with TensorFlow's SAME padding, which is uneven where torch's is not."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from models.batch_norm import ChannelBatchNorm


def same(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """Samples to pad on the left and on the right so that ceil(length / stride) come out."""
    outputs = -(-length // stride)
    missing = max((outputs - 1) * stride + kernel - length, 0)
    return missing // 2, missing - missing // 2  # TensorFlow puts the odd one on the right


class SameConv(nn.Conv1d):
    """``nn.Conv1d`` with SAME padding for any stride: (n, c, t) -> (n, c', ceil(t / stride))."""

    def forward(self, x: Tensor) -> Tensor:
        """Pad with zeros, then convolve."""
        return super().forward(
            functional.pad(x, same(x.shape[-1], self.kernel_size[0], self.stride[0]))
        )


class SamePool(nn.MaxPool1d):
    """``nn.MaxPool1d`` with SAME padding; what is padded never wins."""

    def forward(self, x: Tensor) -> Tensor:
        """Pad, then take maxima: (n, c, t) -> (n, c, ceil(t / stride))."""
        left, right = same(x.shape[-1], self.kernel_size, self.stride)
        return super().forward(functional.pad(x, (left, right), value=-float("inf")))


def conv_block(
    channels: tuple[int, int], kernel: int, stride: int = 1, *, eps: float, momentum: float
) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU."""
    convolution = SameConv(*channels, kernel, stride, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="linear")  # fan-in, scale 1
    return nn.Sequential(convolution, ChannelBatchNorm(channels[1], eps, momentum), nn.ReLU())
