"""Augmented views of an epoch for contrast: six changes of the latent-representation benchmark.

Each with probability 0.5, in a fixed order, drawn for every epoch (n, c, t) of a batch at once on
its device. Lengths are shares of an epoch, so any rate will do.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import v2

from objectives.augmentation import BandStop, Mask, OnSome
from objectives.draws import Draws

_SEGMENTS = 4
_SHIFT = 0.1  # 300 of 3,000 samples
# standard deviation of EEG by which SleePyCo's ranges in µV become those of standardised signals
_TYPICAL_UV = 25.0


class ShiftOut(OnSome):
    """An epoch moved by up to ``share`` of itself, zeros filling in."""

    def __init__(self, p: float = 0.5, share: float = _SHIFT) -> None:
        super().__init__(p)
        self.share = share

    def draw(self, x: Tensor, draws: Draws) -> Tensor:
        reach = int(self.share * x.shape[-1])
        return draws.integers(-reach, reach + 1, 1)

    def change(self, x: Tensor, how: Tensor) -> Tensor:
        source = torch.arange(x.shape[-1], device=x.device) - how
        inside = (source >= 0) & (source < x.shape[-1])
        moved = x.gather(2, source.clamp(0, x.shape[-1] - 1)[:, None].expand_as(x))
        return moved * inside[:, None]


class Warp(OnSome):
    """Four segments, each stretched by 0.5 to 2, brought back to the length of an epoch."""

    def draw(self, x: Tensor, draws: Draws) -> Tensor:
        return 0.5 + 1.5 * draws.uniform(_SEGMENTS)

    def change(self, x: Tensor, how: Tensor) -> Tensor:
        ends = how.cumsum(dim=1) / how.sum(dim=1, keepdim=True)
        # 0.5: a sample is the middle of its interval, so that both ends are treated alike
        place = (torch.arange(x.shape[-1], device=x.device) + 0.5) / x.shape[-1]
        # contiguous: searchsorted warns of, and copies, the broadcast rows
        segment = torch.searchsorted(ends, place.expand(len(x), -1).contiguous())
        segment = segment.clamp_max(_SEGMENTS - 1)  # rounding can leave the last end below 1
        starts = torch.cat([torch.zeros_like(ends[:, :1]), ends[:, :-1]], dim=1)
        width = (ends - starts).gather(1, segment)
        within = (place - starts.gather(1, segment)) / width
        return read_at(x, (segment + within) / _SEGMENTS * x.shape[-1] - 0.5)


class Permute(OnSome):
    """Four segments of one length in another order."""

    def draw(self, x: Tensor, draws: Draws) -> Tensor:
        return draws.uniform(_SEGMENTS).argsort(dim=1)

    def change(self, x: Tensor, how: Tensor) -> Tensor:
        segments = x.unflatten(2, (_SEGMENTS, -1))
        return segments.gather(2, how[:, None, :, None].expand_as(segments)).flatten(2)


class CutOut(OnSome):
    """One quarter taken out, the rest stretched to the length of an epoch."""

    def draw(self, x: Tensor, draws: Draws) -> Tensor:
        return draws.integers(0, _SEGMENTS, 1)

    def change(self, x: Tensor, how: Tensor) -> Tensor:
        quarter = x.shape[-1] / _SEGMENTS
        place = (torch.arange(x.shape[-1], device=x.device) + 0.5) * (1 - 1 / _SEGMENTS)
        return read_at(x, place + quarter * (place >= how * quarter) - 0.5)


class Scale(OnSome):
    """Scales an epoch by one gain from ``low`` to ``high``."""

    def __init__(self, p: float = 0.5, low: float = 0.5, high: float = 2.0) -> None:
        super().__init__(p)
        self.low, self.high = low, high

    def draw(self, x: Tensor, draws: Draws) -> Tensor:
        return self.low + (self.high - self.low) * draws.uniform(1, 1)

    def change(self, x: Tensor, how: Tensor) -> Tensor:
        return x * how


class Offset(OnSome):
    """A constant of up to ``most`` added to an epoch."""

    def __init__(self, p: float = 0.5, most: float = 10.0) -> None:
        super().__init__(p)
        self.most = most

    def draw(self, x: Tensor, draws: Draws) -> Tensor:
        return self.most * (2 * draws.uniform(1, 1) - 1)

    def change(self, x: Tensor, how: Tensor) -> Tensor:
        return x + how


class WhiteNoise(OnSome):
    """White noise of a deviation of up to ``most`` added to an epoch."""

    def __init__(self, p: float = 0.5, most: float = 0.2) -> None:
        super().__init__(p)
        self.most = most

    def draw(self, x: Tensor, draws: Draws) -> Tensor:
        return self.most * draws.uniform(1, 1) * draws.normal(*x.shape[1:])

    def change(self, x: Tensor, how: Tensor) -> Tensor:
        return x + how


def read_at(x: Tensor, place: Tensor) -> Tensor:
    """Signals (n, c, t) at sample numbers ``place`` (n, t), by linear interpolation."""
    place = place.clamp(0, x.shape[-1] - 1)
    before = place.floor().long()
    after = (before + 1).clamp_max(x.shape[-1] - 1)
    share = (place - before)[:, None]
    left, right = (x.gather(2, k[:, None].expand_as(x)) for k in (before, after))
    return left + share * (right - left)


def views_of(preset: str, *, microvolt: bool = False) -> v2.Transform:
    """Random changes of a preset, ``benchmark`` or ``sleepyco``; ``microvolt``: not standardised.

    Raises:
        ValueError: another name.
    """
    if preset == "benchmark":
        return v2.Compose(
            [
                BandStop(width=2.0, lowest=0.5, highest=32.0),
                ShiftOut(),
                Warp(),
                Permute(),
                Mask(share=_SHIFT),
                CutOut(),
            ]
        )
    if preset == "sleepyco":
        unit = 1.0 if microvolt else _TYPICAL_UV
        return v2.Compose(
            [
                Scale(),
                ShiftOut(),
                Offset(most=10.0 / unit),
                Mask(share=_SHIFT),
                WhiteNoise(most=0.2 / unit),
                BandStop(width=2.0, lowest=0.5, highest=30.0),
            ]
        )
    raise ValueError(f"unknown views {preset!r}; there are benchmark and sleepyco")


VIEWS = ("benchmark", "sleepyco")
