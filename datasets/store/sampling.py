"""Orders of training batches other than shuffled windows: parallel nights, balanced stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from datasets.store.batches import Batch, Batches, Windows, keys_of, listed_windows
from datasets.store.views import View
from utils.errors import UserError
from utils.stages import STAGES

MOST_SKIPPED = 4  # epochs left out at the start of a night that is moved


def parallel_nights(
    view: View, length: int, n_parallel: int, *, seed: int | Sequence[int]
) -> Batches:
    """Batches of ``n_parallel`` nights side by side, in consecutive chunks of ``length`` epochs.

    A batch holds the next chunk of every night that has one left, so that a recurrent state can go
    on from batch to batch. Where chunks begin is drawn by ``seed``, as is the order of nights;
    what does not fill a chunk is left out this time.

    Raises:
        UserError: no recording is long enough.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(view.lengths))
    # within what fills no chunk, so that no night loses a whole one
    begin = {n: int(rng.integers(0, view.lengths[n] % length + 1)) for n in order}
    return _side_by_side(view, length, n_parallel, begin, dict(enumerate(view.lengths)), rng)


def moved_parallel_nights(
    view: View, length: int, n_parallel: int, *, share: float, seed: int | Sequence[int]
) -> MovedNights:
    """:func:`parallel_nights` with TinySleepNet's augmentation of whole nights, drawn every pass.

    Every night is moved in time by up to ``share`` of an epoch, its stages staying where they are;
    the epoch that would hold the other end of the night is left out, then up to four at the start
    (Supratak & Guo 2020, section II-D). Epochs on disk are read one more than a chunk has.

    Raises:
        UserError: no recording is long enough.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(view.lengths))
    shifts = (rng.uniform(-share, share, len(order)) * view.n_samples).astype(int)
    skipped = rng.integers(0, MOST_SKIPPED + 1, len(order))
    begin = {n: int(skipped[n] + (shifts[n] > 0)) for n in order}
    end = {n: int(view.lengths[n] - (shifts[n] <= 0)) for n in order}
    return MovedNights(_side_by_side(view, length, n_parallel, begin, end, rng), shifts)


def _side_by_side(
    view: View,
    length: int,
    n_parallel: int,
    begin: dict[int, int],
    end: dict[int, int],
    rng: np.random.Generator,
) -> Batches:
    # in the order drawn: dictionaries keep it
    fitting = np.array([n for n in begin if end[n] - begin[n] >= length])
    if not len(fitting):
        raise UserError(f"no recording has {length} epochs; choose a smaller --num_seq")
    windows = []
    for start in range(0, len(fitting), n_parallel):
        nights = fitting[start : start + n_parallel]
        first = np.array([begin[n] for n in nights])
        chunks = np.array([(end[n] - begin[n]) // length for n in nights])
        for step in range(chunks.max()):
            left = chunks > step  # nights of a batch end at different steps
            keys = keys_of(rng, int(left.sum()))
            windows.append(Windows(nights[left], first[left] + step * length, keys))
    return Batches(view, length, tuple(windows))


@dataclass(frozen=True)
class MovedNights:
    """Chunks whose signals are moved by ``shifts`` samples of their night, later if positive."""

    parallel_nights: Batches
    shifts: np.ndarray

    def __len__(self) -> int:
        return len(self.parallel_nights)

    def after(self, step: int) -> MovedNights:
        """All but the first ``step`` batches."""
        return replace(self, parallel_nights=self.parallel_nights.after(step))

    def until(self, step: int) -> MovedNights:
        """The first ``step`` batches."""
        return replace(self, parallel_nights=self.parallel_nights.until(step))

    def __iter__(self) -> Iterator[Batch]:
        view, length = self.parallel_nights.view, self.parallel_nights.length
        later = self.shifts > 0
        # an epoch more, on the side from which the shift brings samples in
        wider = [
            each._replace(first=each.first - later[each.nights])
            for each in self.parallel_nights.windows
        ]
        for batch in view.read(wider, length + 1):
            before = later[batch.nights].astype(int)  # epochs read before the chunk
            yield _cut(batch, before, before * view.n_samples - self.shifts[batch.nights])


def _cut(batch: Batch, epochs: np.ndarray, samples: np.ndarray) -> Batch:
    """Drop an epoch per row: stages start at epoch ``epochs``, signals at sample ``samples``."""
    # (b, c, epochs * t): continuous, as shifts do not respect the borders of epochs
    runs, n_samples = batch.signals.transpose(1, 2).flatten(2), batch.signals.shape[-1]
    length = batch.stages.shape[1] - 1
    signals = [
        run[:, start : start + length * n_samples].unflatten(1, (length, n_samples))
        for run, start in zip(runs, samples.tolist(), strict=True)
    ]
    stages = [s[e : e + length] for s, e in zip(batch.stages, epochs.tolist(), strict=True)]
    signals = torch.stack(signals).transpose(1, 2)
    return replace(batch, signals=signals, stages=torch.stack(stages), first=batch.first + epochs)


def class_balanced_windows(
    view: View, length: int, position: int, *, batch_size: int, seed: int | Sequence[int]
) -> Batches:
    """Batches of windows of ``length`` whose epoch at ``position`` has each stage equally often.

    As many as there are scored epochs, drawn with replacement: those of rare stages come several
    times in a pass. Stages that never occur are left out.

    Raises:
        UserError: no window has a scored epoch there.
    """
    rng = np.random.default_rng(seed)
    nights = np.repeat(np.arange(len(view.lengths)), view.lengths)
    first = np.arange(view.n_epochs) - view.offsets[nights] - position
    fits = (view.stages >= 0) & (first >= 0) & (first + length <= view.lengths[nights])
    of_stage = [np.flatnonzero(fits & (view.stages == code)) for code in range(len(STAGES))]
    of_stage = [epochs for epochs in of_stage if len(epochs)]
    if not of_stage:
        raise UserError(f"no window of {length} epochs has a scored one; choose other recordings")
    stage = rng.integers(len(of_stage), size=int(fits.sum()))
    # an epoch of the stage that was drawn; with replacement, as rare stages have too few
    drawn = np.empty(len(stage), int)
    for code, epochs in enumerate(of_stage):
        here = stage == code
        drawn[here] = rng.choice(epochs, int(here.sum()))
    return listed_windows(view, length, batch_size, Windows(nights[drawn], first[drawn]), rng)
