"""Layout of training windows: runs of epochs that are encoded once for all their windows."""

from __future__ import annotations

from dataclasses import dataclass

from datasets.store.views import Batches, View
from utils.errors import UserError

WINDOWS_PER_RUN = 8  # 22 epochs encoded for 8 windows of 15


@dataclass(frozen=True)
class Layout:
    """Runs of ``length`` epochs that begin ``stride`` epochs apart, ``runs`` of them per step."""

    length: int
    stride: int
    runs: int

    def batches(self, view: View, seed: list[int], rank: int, processes: int) -> Batches:
        """One process's share of a pass, shuffled by ``seed``."""
        # jitter: the borders between runs lie elsewhere in every pass
        listed = view.sequences(
            self.length, stride=self.stride, batch_size=self.runs, seed=seed, jitter=True
        )
        return listed.for_process(rank, processes)


def layout(
    view: View, *, length: int, stride: int, windows: int, batch_size: int, processes: int
) -> Layout:
    """Lay out a step of ``batch_size`` windows of ``length`` epochs, ``windows`` in each run.

    A run gets fewer windows if the shortest recording, the batch or the number of processes needs
    it, so that a step holds exactly ``batch_size`` windows.

    Raises:
        UserError: no recording is long enough, or a step too small for the processes.
    """
    if batch_size < processes:
        raise UserError(f"--batch_size {batch_size} is too small for {processes} processes")
    if view.lengths.max() < length:
        raise UserError(f"no recording has {length} epochs; choose a smaller --num_seq")
    # recordings shorter than a window are left out, so they do not limit the length of runs
    shortest = min(n for n in view.lengths if n >= length)
    most = min(windows, (shortest - length) // stride + 1, batch_size // processes)
    windows = max(w for w in range(1, most + 1) if batch_size % w == 0)
    if short := view.too_short(length):
        print(f"left out, shorter than {length} epochs: {', '.join(short)}")
    # w windows that begin ``stride`` apart cover length + (w - 1) * stride epochs
    return Layout(length + (windows - 1) * stride, windows * stride, batch_size // windows)
