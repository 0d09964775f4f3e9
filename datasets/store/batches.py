"""Batches of one pass: windows listed before any is read, shared among processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from utils.errors import UserError

_FEW = 4  # fewer windows make no batch of their own


@dataclass(frozen=True)
class Batch:
    """Windows of one length: ``signals`` (b, l, c, t) float32, ``stages`` (b, l) int64.

    ``nights`` (b,) numbers the view's recordings, ``first`` (b,) is each window's first epoch,
    ``keys`` (b,) are what random changes of each window are drawn by. A ``stand_in`` keeps a
    process in step for which the batch has no window: it adds nothing to loss and gradient.
    ``night_power`` (b, c, k) is what objectives that ask for it are given of each window's night.
    """

    signals: Tensor
    stages: Tensor
    nights: np.ndarray
    first: np.ndarray
    keys: np.ndarray | None = None
    stand_in: bool = False
    night_power: Tensor | None = None


class Windows(NamedTuple):
    """Night numbers, first epochs and keys of the windows of a batch, (b,) each."""

    nights: np.ndarray
    first: np.ndarray
    keys: np.ndarray | None = None


def keys_of(rng: np.random.Generator, n: int) -> np.ndarray:
    """Keys of the ``n`` samples of a pass, by which everything random in them is drawn."""
    return rng.integers(2**63, size=n)


@dataclass(frozen=True)
class Batches:
    """Batches of one pass: windows listed beforehand, read when iterated over."""

    view: Any  # a datasets.store.views.View
    length: int
    windows: tuple[Windows, ...]

    def __len__(self) -> int:
        return len(self.windows)

    def __iter__(self) -> Iterator[Batch]:
        return self.view.read(self.windows, self.length)

    @property
    def sizes(self) -> list[int]:
        """Windows of every batch."""
        return [len(each.nights) for each in self.windows]

    def after(self, step: int) -> Batches:
        """The batches that follow the first ``step``; those are not read."""
        return replace(self, windows=self.windows[step:])

    def until(self, step: int) -> Batches:
        """The first ``step`` batches."""
        return replace(self, windows=self.windows[:step])

    def for_process(self, rank: int, processes: int) -> Batches:
        """Every batch shared among processes: together they see it whole, once.

        A last batch of a few windows joins the one before it.

        Raises:
            UserError: batches with fewer windows than processes.
        """
        windows = list(self.windows)
        # the same on one process as on four, so that they see the same batches; two at least, as
        # batch normalisation has no variance of one
        least = max(2, processes, min(_FEW, len(windows[0].nights) if windows else 0))
        if len(windows) > 1 and len(windows[-1].nights) < least:
            last, before = windows.pop(), windows.pop()
            windows.append(Windows(*map(np.concatenate, zip(before, last, strict=True))))
        if (fewest := min((len(each.nights) for each in windows), default=processes)) < processes:
            raise UserError(
                f"a batch of {fewest} windows is too small for {processes} processes; choose a "
                "larger --batch_size or fewer --devices"
            )
        shares = (Windows(*(part[rank::processes] for part in each)) for each in windows)
        return replace(self, windows=tuple(shares))


def listed_windows(
    view: Any, length: int, batch_size: int, windows: Windows, rng: np.random.Generator
) -> Batches:
    """Windows of ``length`` in their order, ``batch_size`` at a time, each with a key."""
    whole = windows._replace(keys=keys_of(rng, len(windows.nights)))
    parts = [slice(k, k + batch_size) for k in range(0, len(whole.nights), batch_size)]
    return Batches(view, length, tuple(Windows(*(each[p] for each in whole)) for p in parts))
