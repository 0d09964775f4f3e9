"""Batches of whole nights of band powers, in equal numbers from every table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from datasets.band_tables import BandNight
from utils.stages import UNSCORED


@dataclass(frozen=True)
class BandSource:
    """Nights of one table, and which of its derivations are of the eyes."""

    nights: tuple[BandNight, ...]
    is_eog: tuple[bool, ...]


@dataclass(frozen=True)
class BandBatch:
    """Nights padded to the longest, and to the most derivations.

    ``decibels`` float32 (b, n, d, 5), NaN in gaps and padding; ``stages`` int64 (b, n), -1 there;
    ``lengths`` (b,) epochs of each night; ``is_eog`` (b, d); ``seed`` of all that is random in it.
    """

    decibels: Tensor
    stages: Tensor
    lengths: Tensor
    is_eog: Tensor
    seed: int


@dataclass(frozen=True)
class BandBatches:
    """The batches of one pass: which nights of which source, listed before any is read."""

    sources: tuple[BandSource, ...]
    groups: tuple[tuple[tuple[int, int], ...], ...]  # (source, night) of each batch
    seeds: tuple[int, ...]
    device: torch.device

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[BandBatch]:
        for group, seed in zip(self.groups, self.seeds, strict=True):
            yield padded([(self.sources[s], n) for s, n in group], seed, self.device)

    def after(self, step: int) -> BandBatches:
        """The batches that follow the first ``step`` ones."""
        return replace(self, groups=self.groups[step:], seeds=self.seeds[step:])


def balanced_batches(
    sources: Sequence[BandSource],
    batch_size: int,
    seed: Sequence[int],
    device: torch.device,
) -> BandBatches:
    """Batches of about ``batch_size`` nights, as many from each source, in an order by ``seed``.

    The largest source is read once, smaller ones as often as it takes, shuffled anew each time.
    """
    rng = np.random.default_rng(seed)
    share = max(1, batch_size // len(sources))
    steps = -(-max(len(source.nights) for source in sources) // share)  # rounded up
    orders = [_order(rng, len(source.nights), steps * share) for source in sources]
    groups = []
    for k in range(steps):
        of_sources = [order[k * share : (k + 1) * share] for order in orders]
        groups.append(tuple((s, n) for s, part in enumerate(of_sources) for n in part))
    seeds = rng.integers(2**31, size=steps).tolist()
    return BandBatches(tuple(sources), tuple(groups), tuple(seeds), device)


def _order(rng: np.random.Generator, n: int, most: int) -> list[int]:
    """Numbers below ``n``, shuffled, again and again until there are ``most``."""
    return np.concatenate([rng.permutation(n) for _ in range(-(-most // n))])[:most].tolist()


def padded(nights: Sequence[tuple[BandSource, int]], seed: int, device: torch.device) -> BandBatch:
    """The batch of these nights, by source and number."""
    chosen = [source.nights[number] for source, number in nights]
    lengths = [len(night.stages) for night in chosen]
    most = max(night.decibels.shape[1] for night in chosen)
    shape = len(chosen), max(lengths), most
    decibels = np.full((*shape, chosen[0].decibels.shape[2]), np.nan, np.float32)
    stages = np.full(shape[:2], UNSCORED, np.int64)
    is_eog = np.zeros((len(chosen), most), bool)
    for k, (night, (source, _)) in enumerate(zip(chosen, nights, strict=True)):
        n, d, _ = night.decibels.shape
        decibels[k, :n, :d], stages[k, :n] = night.decibels, night.stages
        is_eog[k, :d] = source.is_eog
    arrays = (decibels, stages, np.array(lengths), is_eog)
    return BandBatch(*(torch.from_numpy(array).to(device) for array in arrays), seed)
