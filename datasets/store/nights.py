"""Whole nights, or long pieces of them, in batches padded to the longest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import pad

from datasets.store.batches import Batch, Windows, keys_of
from datasets.store.views import View
from utils.stages import UNSCORED


class Piece(NamedTuple):
    """Some epochs of a night, and the key that random changes of it are drawn by.

    It is ``padded`` to so many epochs, the most in its batch, on however many processes.
    A ``stand_in`` is read for a process that would be left without a night.
    """

    night: int
    first: int
    length: int
    key: int = 0
    padded: int = 0
    stand_in: bool = False


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

    @property
    def sizes(self) -> list[int]:
        """Pieces of every batch, without those that stand in."""
        return [sum(not piece.stand_in for piece in part) for part in self.pieces]

    def after(self, step: int) -> NightBatches:
        """The batches that follow the first ``step``; those are not read."""
        return replace(self, pieces=self.pieces[step:])

    def until(self, step: int) -> NightBatches:
        """The first ``step`` batches."""
        return replace(self, pieces=self.pieces[:step])

    def for_process(self, rank: int, processes: int) -> NightBatches:
        """Every batch shared among processes: together they see it whole, once.

        Where a batch has fewer nights than processes, the others get one that stands in: they take
        the same step, and add nothing to loss and gradient.
        """
        shares = (
            part[rank::processes] or (part[0]._replace(stand_in=True),) for part in self.pieces
        )
        return replace(self, pieces=tuple(shares))


def read_padded(view: View, pieces: Sequence[Piece]) -> Batch:
    """Batch of pieces padded to the longest: NaN in the signals, unscored in the stages."""
    longest = max(max(piece.length, piece.padded) for piece in pieces)
    signals, stages = [], []
    for piece in pieces:
        where = Windows(np.array([piece.night]), np.array([piece.first]))
        (one,) = view.read([where], piece.length)
        more = longest - piece.length
        # pairs of the last axis first: t, c and then the epochs
        signals.append(pad(one.signals, (0, 0, 0, 0, 0, more), value=float("nan")))
        stages.append(pad(one.stages, (0, more), value=UNSCORED))
    stages = torch.cat(stages)
    if stand_in := pieces[0].stand_in:
        stages.fill_(UNSCORED)
    nights, firsts, _, keys, *_ = np.array(pieces).T
    return Batch(torch.cat(signals), stages, nights, firsts, keys, stand_in)


def in_batches(
    view: View,
    batch_size: int,
    *,
    longest: int = 0,
    shortest: int = 0,
    seed: Sequence[int] | int | None = None,
) -> NightBatches:
    """Batches of every night once, nights of like length together so that little is padded.

    ``longest`` epochs of a night at most, from a place drawn by ``seed``; 0 takes whole nights.
    With ``shortest`` each night's piece has a length drawn between both, each octave as often.
    ``seed`` also shuffles nights among batches of like length, and the batches.
    """
    rng = np.random.default_rng(0 if seed is None else seed)
    lengths = view.lengths.copy()
    firsts = np.zeros_like(lengths)
    if longest:
        most = longest
        if shortest:
            drawn = rng.uniform(np.log(shortest), np.log(longest), len(lengths))
            most = np.exp(drawn).round().astype(lengths.dtype)
        if seed is not None:
            firsts = rng.integers(0, np.maximum(lengths - most, 0) + 1)
        lengths = np.minimum(lengths, most)
    order = rng.permutation(len(lengths)) if seed is not None else np.arange(len(lengths))
    # stable: nights of one length stay in the order drawn
    order = order[np.argsort(lengths[order], kind="stable")]
    parts = [order[k : k + batch_size] for k in range(0, len(order), batch_size)]
    if seed is not None:
        parts = [parts[k] for k in rng.permutation(len(parts))]
    rows = np.stack([np.arange(len(lengths)), firsts, lengths, keys_of(rng, len(lengths))], axis=1)
    pieces = [Piece(*row) for row in rows.tolist()]
    return NightBatches(
        partial(read_padded, view),
        tuple(
            tuple(pieces[n]._replace(padded=int(lengths[part].max())) for n in part)
            for part in parts
        ),
        ahead=not view.resident,
    )
