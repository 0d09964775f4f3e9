"""How the windows of a training step are laid out: runs of epochs, encoded once for all of them."""

from __future__ import annotations

from dataclasses import dataclass

from datasets.store.views import Batches, View
from utils.errors import UserError

WINDOWS_A_RUN = 8  # 22 epochs encoded for 8 windows of 15


@dataclass(frozen=True)
class Layout:
    """A run has ``length`` epochs, runs begin ``stride`` apart, a step takes ``runs`` of them."""

    length: int
    stride: int
    runs: int

    def batches(self, view: View, seed: list[int], rank: int, processes: int) -> Batches:
        """One process's share of a pass, shuffled by ``seed``."""
        listed = view.sequences(
            self.length, stride=self.stride, batch_size=self.runs, seed=seed, jitter=True
        )
        return listed.for_process(rank, processes)


def layout(
    view: View, *, length: int, stride: int, windows: int, batch_size: int, processes: int
) -> Layout:
    """Room for ``batch_size`` windows of ``length`` epochs a step, ``windows`` a run if they fit.

    Fewer go into a run where the shortest recording, the batch or the number of processes ask for
    it, so that a step holds ``batch_size`` windows exactly.

    Raises:
        UserError: no recording is long enough, or a step too small for the processes.
    """
    if batch_size < processes:
        raise UserError(f"--batch_size {batch_size} is too small for {processes} processes")
    if view.lengths.max() < length:
        raise UserError(f"no recording has {length} epochs; choose a smaller --num_seq")
    shortest = min(n for n in view.lengths if n >= length)
    most = min(windows, (shortest - length) // stride + 1, batch_size // processes)
    windows = max(w for w in range(1, most + 1) if batch_size % w == 0)
    if short := view.too_short(length):
        print(f"left out, shorter than {length} epochs: {', '.join(short)}")
    return Layout(length + (windows - 1) * stride, windows * stride, batch_size // windows)
