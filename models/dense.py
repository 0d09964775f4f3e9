"""Linear layers that a processor computes as convolutions of one point.

torch gives matrix products of float32 to MKL, which on processors of AMD leaves half of the
instructions unused, and convolutions to oneDNN, which does not: same sums, twice as quick.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_HAS_ONEDNN = torch.backends.mkldnn.is_available()
_FEW_ROWS = 256  # for which the calls take longer than the sums


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, leak: float | None = None) -> Tensor:
    """Transform each row, quicker on many rows of float32 on a processor: (…, i) -> (…, o).

    With ``leak``, the slope of a LeakyReLU, that follows in place: a gradient needs its result
    alone.
    """
    outputs, inputs = weight.shape
    rows = x.reshape(-1, inputs)
    is_image = len(rows) >= _FEW_ROWS and _suits(x)
    if is_image:
        # (1, i, rows, 1) whose channels lie side by side: oneDNN reads the rows as they are
        image = rows[None, :, None].movedim(-1, 1)
        out = nn.functional.conv2d(image, weight[:, :, None, None], bias)
    else:
        out = nn.functional.linear(rows, weight, bias)
    if leak is not None:
        # before any view of it, through which autograd would copy
        out = nn.functional.leaky_relu_(out, leak)
    out = out.movedim(1, -1) if is_image else out
    return out.reshape(*x.shape[:-1], outputs)


class Dense(nn.Linear):
    """``nn.Linear`` by :func:`linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Transform each row: (…, i) -> (…, o)."""
        return linear(x, self.weight, self.bias)


def _suits(x: Tensor) -> bool:
    is_here = x.device.type == "cpu" and x.dtype == torch.float32
    return _HAS_ONEDNN and is_here and not torch.is_autocast_enabled("cpu")
