"""Random numbers of the samples of a batch, each drawn by the sample's own key.

A sample's numbers depend on its key alone, so a batch has the same ones however it is shared among
processes.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import Tensor

# of splitmix64 (Steele et al., OOPSLA 2014), whose output depends on nothing but a count
_STEP, _FIRST, _SECOND = (
    np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


class Draws:
    """Numbers for a batch of ``keys`` (b,); every call draws new ones.

    ``purpose`` keeps those of one kind of change apart from those of another.
    """

    def __init__(self, keys: np.ndarray, purpose: str, device: torch.device) -> None:
        # spread first: keys beside each other would otherwise begin beside each other
        self._keys = _mixed(keys.astype(np.uint64) ^ np.uint64(zlib.crc32(purpose.encode())))
        self._n_drawn, self._device = 0, device

    @classmethod
    def anew(cls, x: Tensor) -> Draws:
        """Numbers for a batch without keys: by torch's own random state."""
        return cls(torch.randint(2**62, (len(x),)).numpy(), "", x.device)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers (b, *shape) from 0 to below 1."""
        # 24 bits: all that a float32 below 1 can hold
        numbers = (self._bits(math.prod(shape)) >> np.uint64(40)).astype(np.float32) * 2**-24
        return torch.from_numpy(numbers).to(self._device).view(len(self._keys), *shape)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers (b, *shape) from ``low`` to below ``high``."""
        return low + (self.uniform(*shape) * (high - low)).long()

    def normal(self, *shape: int) -> Tensor:
        """Numbers (b, *shape) of mean 0 and deviation 1; made for whole signals."""
        out = torch.empty(len(self._keys), *shape, device=self._device)
        generator = torch.Generator(self._device)
        # torch is many times faster at whole signals, and on their device
        for row, seed in zip(out, self._bits(1)[:, 0].tolist(), strict=True):
            row.normal_(generator=generator.manual_seed(seed >> 1))  # seeds are signed
        return out

    def _bits(self, n: int) -> np.ndarray:
        """The next ``n`` numbers of 64 bits of every sample, (b, n)."""
        count = np.arange(self._n_drawn + 1, self._n_drawn + n + 1, dtype=np.uint64)
        self._n_drawn += n
        return _mixed(self._keys[:, None] + count * _STEP)


def _mixed(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))
