"""Mean and deviation of a night's channels, by which signals are scaled."""

from __future__ import annotations

import numpy as np

from utils.stages import UNSCORED


def channel_moments(epochs: np.ndarray, stages: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel over the scored epochs (all, if none is scored).

    ``epochs`` (n, channels, T) -> two float64 arrays (channels,).
    """
    scored = stages != UNSCORED
    # the mask copies the whole night, so it is applied only where it changes something
    used = epochs if scored.all() or not scored.any() else epochs[scored]
    n_samples = used.shape[0] * used.shape[2]
    mean = used.sum(axis=(0, 2), dtype=np.float64) / n_samples
    squares = np.empty_like(mean)
    # centred first: the mean of squares loses its digits to a large offset; by channel, in single
    # precision, as a copy of the night in double would be twice to four times its size
    for channel in range(used.shape[1]):
        centred = used[:, channel].astype(np.float32) - np.float32(mean[channel])
        squares[channel] = np.square(centred, out=centred).sum(dtype=np.float64)
    return mean, np.sqrt(squares / n_samples)
