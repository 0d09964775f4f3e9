"""Maps on spectrograms, read by time or within a band."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from utils.stages import EPOCH_SECONDS


def spread_frames(course: Tensor, seconds: np.ndarray, n_samples: int) -> Tensor:
    """Values of frames (…, frames) in equal parts over the samples nearest to each: (…, t).

    ``seconds`` (frames,) are the middles of the frames. Sums stay what they are.
    """
    time = (np.arange(n_samples) + 0.5) * EPOCH_SECONDS / n_samples
    nearest = torch.from_numpy(np.abs(time[:, None] - seconds).argmin(axis=1)).to(course.device)
    counts = torch.bincount(nearest, minlength=len(seconds))
    return (course / counts)[..., nearest]


def within(maps: Tensor, hertz: np.ndarray, band: tuple[float, float]) -> Tensor:
    """Sums over the bins of a band of maps (…, frames, bins): (…, frames)."""
    low, high = band
    inside = torch.from_numpy((hertz >= low) & (hertz < high)).to(maps.device)
    return maps[..., inside].sum(dim=-1)
