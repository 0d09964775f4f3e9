"""Whole nights, or long pieces of them, in batches padded to the longest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad

from datasets.store.views import Batch, View
from utils.stages import UNSCORED

Piece = tuple[int, int, int]  # number of the night in the view, first epoch, epochs


@dataclass(frozen=True)
class NightBatches:
    """Batches of one pass: pieces of nights listed beforehand, read when iterated over.

    ``read`` makes a batch of some pieces; ``ahead``: the next one while this one is used.
    """

    read: Callable[[Sequence[Piece]], Any]
    pieces: tuple[tuple[Piece, ...], ...]
    ahead: bool = False

    def __len__(self) -> int:
        return len(self.pieces)

    def __iter__(self) -> Iterator[Any]:
        if not self.ahead:
            yield from map(self.read, self.pieces)
            return
        # one thread: at most one batch waits in memory
        with ThreadPoolExecutor(1) as reader:
            coming = None
            for pieces in self.pieces:
                current, coming = coming, reader.submit(self.read, pieces)
                if current is not None:
                    yield current.result()
            if coming is not None:
                yield coming.result()

    def after(self, step: int) -> NightBatches:
        """The batches that follow the first ``step``; those are not read."""
        return replace(self, pieces=self.pieces[step:])

    def until(self, step: int) -> NightBatches:
        """The first ``step`` batches."""
        return replace(self, pieces=self.pieces[:step])

    def for_process(self, rank: int, processes: int) -> NightBatches:
        """Every batch shared among processes: together they see it whole, once.

        A last batch too small for all of them joins the one before it.
        """
        pieces = list(self.pieces)
        # an empty share would leave a process without a step that the others take
        if len(pieces) > 1 and len(pieces[-1]) < processes:
            last = pieces.pop()
            pieces[-1] = pieces[-1] + last
        return replace(self, pieces=tuple(part[rank::processes] for part in pieces))


def read_padded(view: View, pieces: Sequence[Piece]) -> Batch:
    """Batch of pieces padded to the longest: NaN in the signals, unscored in the stages."""
    longest = max(length for _, _, length in pieces)
    signals, stages = [], []
    for night, first, length in pieces:
        (one,) = view.read([(np.array([night]), np.array([first]))], length)
        more = longest - length
        # pairs of the last axis first: t, c and then the epochs
        signals.append(pad(one.signals, (0, 0, 0, 0, 0, more), value=float("nan")))
        stages.append(pad(one.stages, (0, more), value=UNSCORED))
    where = np.array(pieces)
    return Batch(torch.cat(signals), torch.cat(stages), where[:, 0], where[:, 1])


def in_batches(
    view: View, batch_size: int, *, longest: int = 0, seed: Sequence[int] | int | None = None
) -> NightBatches:
    """Batches of every night once, nights of like length together so that little is padded.

    ``longest`` epochs of a night at most, from a place drawn by ``seed``; 0 takes whole nights.
    ``seed`` also shuffles nights among batches of like length, and the batches.
    """
    rng = np.random.default_rng(seed)
    lengths = view.lengths.copy()
    firsts = np.zeros_like(lengths)
    if longest:
        if seed is not None:
            firsts = rng.integers(0, np.maximum(lengths - longest, 0) + 1)
        lengths = np.minimum(lengths, longest)
    order = rng.permutation(len(lengths)) if seed is not None else np.arange(len(lengths))
    # stable: nights of one length stay in the order drawn
    order = order[np.argsort(lengths[order], kind="stable")]
    parts = [order[k : k + batch_size] for k in range(0, len(order), batch_size)]
    if seed is not None:
        parts = [parts[k] for k in rng.permutation(len(parts))]
    return NightBatches(
        partial(read_padded, view),
        tuple(tuple((int(n), int(firsts[n]), int(lengths[n])) for n in part) for part in parts),
        ahead=not view.resident,
    )
