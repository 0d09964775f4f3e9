"""Batches of single epochs with their neighbours and what is known of their nights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datasets.store.batches import Batch, Batches, Windows
from datasets.store.views import View
from objectives.draws import Draws
from objectives.masked import log_power
from training.ssl_flags import PretrainingStepFlags

_AT_ONCE = 256  # epochs whose spectra are in memory


@dataclass(frozen=True)
class Reading:
    """How pretraining reads a view.

    ``reach``: the farthest neighbour, in epochs, that a batch holds beside each epoch; 0: none.
    ``patch``: samples of the patches whose mean log power over each night a batch holds; 0: none.
    ``clip`` is the limit of signals in training, if they have one.
    """

    batch_size: int
    reach: int = 0
    patch: int = 0
    clip: float | None = None
    _powers: dict[View, Tensor] = field(default_factory=dict)

    def epochs(self, view: View, seed: Sequence[int] | None = None) -> Batches:
        """Batches of scored epochs, in order or shuffled by ``seed``."""
        listed = view.epochs(self.batch_size, seed=seed)
        if not (self.reach or self.patch):
            return listed
        if self.patch and view not in self._powers:  # once a training, not in every pass
            self._powers[view] = night_power(view, self.patch, self.clip)
        return replace(listed, view=_Nights(view, self.reach, self._powers.get(view)))


@dataclass(frozen=True)
class _Nights:
    """A view whose batches hold more than epochs."""

    view: View
    reach: int
    powers: Tensor | None

    def read(self, windows: Sequence[Windows], length: int) -> Iterator[Batch]:
        """Batches of epochs; signals (b, 2, c, t) where each has a neighbour."""
        wanted = [self._with_neighbours(each) for each in windows] if self.reach else windows
        for each, batch in zip(windows, self.view.read(wanted, length), strict=True):
            n = len(each.nights)
            yield replace(
                batch,
                signals=torch.cat(batch.signals.split(n), dim=1),
                stages=batch.stages[:n],
                nights=each.nights,
                first=each.first,
                night_power=None if self.powers is None else self.powers[each.nights],
            )

    def _with_neighbours(self, windows: Windows) -> Windows:
        """The epochs of a batch, then a neighbour of each, all in one reading."""
        nights, first, keys = windows
        other = neighbours(first, self.view.lengths[nights], self.reach, keys)
        return Windows(np.concatenate([nights, nights]), np.concatenate([first, other]), keys)


def neighbours(first: np.ndarray, lengths: np.ndarray, reach: int, keys: np.ndarray) -> np.ndarray:
    """An epoch at most ``reach`` from each of ``first`` (b,), in nights of ``lengths`` (b,) epochs.

    Drawn by key, from the epoch itself and those of both sides; beyond an end of the night it is
    the one as far away on the other side, or where there is none the night's first or last.
    """
    device = torch.device("cpu")
    away = Draws(keys, "neighbours", device).integers(-reach, reach + 1).numpy()
    other = first + away
    other = np.where((other < 0) | (other >= lengths), first - away, other)
    return other.clip(0, lengths - 1)


@torch.no_grad()
def night_power(view: View, patch: int, clip: float | None) -> Tensor:
    """Mean log power of every night of a view, channel and frequency: (nights, c, patch + 1)."""
    means = []
    for _, signals, _ in view.whole_nights():
        if clip is not None:
            signals = signals.clamp(-clip, clip)
        sums = [log_power(x, patch).mean(dim=2).sum(dim=0) for x in signals.split(_AT_ONCE)]
        means.append(torch.stack(sums).sum(dim=0) / len(signals))
    return torch.stack(means)


class Length(NamedTuple):
    """How long a training is: parts of passes, and optimiser steps of all of them."""

    passes: int
    steps: int


def limited(
    batches: Any, checks: int, flags: PretrainingStepFlags, view: View, processes: int
) -> tuple[Length, Any]:
    """How long ``flags`` make a training, and batches that end with its last step.

    A part, of ``checks`` in a pass, ends with a step, whose group of batches may be smaller.
    """
    parts = [
        -(-len(batches(view, number, 0, processes)) // flags.accumulate) for number in range(checks)
    ]
    before = np.concatenate(([0], np.cumsum(parts)))

    def begun(number: int) -> int:
        """Steps before a part."""
        return int(number // checks * before[-1] + before[number % checks])

    if flags.n_steps is None:
        n_parts = flags.n_epochs * checks
        return Length(n_parts, begun(n_parts)), batches
    n_parts = flags.n_steps // int(before[-1]) * checks
    while begun(n_parts) < flags.n_steps:
        n_parts += 1
    if flags.n_epochs is not None:
        n_parts = min(n_parts, flags.n_epochs * checks)
    n_steps = min(flags.n_steps, begun(n_parts))

    def until_last(view: View, number: int, rank: int, processes: int) -> Any:
        left = (n_steps - begun(number)) * flags.accumulate
        return batches(view, number, rank, processes).until(left)

    return Length(n_parts, n_steps), until_last
