"""Windows of nights read straight from their files, in flat memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from datasets.store import stored_arrays
from datasets.store.filters import resample_epochs
from datasets.store.integers import INTEGERS, to_values
from datasets.store.stored_night import Night, remake
from utils.errors import UserError

_OPEN_FILES = 128  # far below what a process may have open: 1024, or 256 on macOS


class NightFiles:
    """Windows read straight into a batch's buffer.

    A memory map would do, but its pages count as the process's memory until the kernel takes them
    back; plain reads keep the resident size flat and are as fast.

    Channels stored at ``fs`` Hz are brought to ``new_fs``.
    """

    def __init__(self, nights: Sequence[Night], fs: float, new_fs: float) -> None:
        self._nights, self._fs, self._new_fs = nights, fs, new_fs
        self._paths = [night.signals_path(fs) for night in nights]
        first = nights[0].stored(fs)
        self._scales = [night.scales_at(fs) for night in nights]
        self._dtype, self._epoch_shape = first.dtype, first.shape[1:]
        self._epoch_bytes = first.dtype.itemsize * int(np.prod(self._epoch_shape))
        self._starts: dict[int, int] = {}
        self._open: OrderedDict[Path, BinaryIO] = OrderedDict()

    def read(self, nights: np.ndarray, first: np.ndarray, length: int) -> np.ndarray:
        """Windows of ``length`` epochs, (b, length, channels, t): values, also of integers."""
        if self._fs == self._new_fs:
            return self._read_values(nights, first, length)
        windows = []
        for night, epoch in zip(nights.tolist(), first.tolist(), strict=True):
            # an epoch more on either side: the filter reaches into it
            start, stop = max(0, epoch - 1), min(self._nights[night].n_epochs, epoch + length + 1)
            (wider,) = self._read_values(np.array([night]), np.array([start]), stop - start)
            resampled = resample_epochs(wider, self._fs, self._new_fs)
            windows.append(resampled[epoch - start :][:length])
        return np.stack(windows)

    def _read_values(self, nights: np.ndarray, first: np.ndarray, length: int) -> np.ndarray:
        out = np.empty((len(nights), length, *self._epoch_shape), self._dtype)
        # the same memory as bytes, one row per window
        rows = out.reshape(len(nights), -1).view(np.uint8)
        for row, (night, epoch) in enumerate(zip(nights.tolist(), first.tolist(), strict=True)):
            file = self._file(night)
            file.seek(self._starts[night] + epoch * self._epoch_bytes)
            if file.readinto(rows[row]) != rows.shape[1]:
                path = self._paths[night]
                raise UserError(f"{path}: shorter than it was; {remake(path.parent)}")
        if self._dtype != INTEGERS:
            return out
        values = np.empty(out.shape, np.float32)
        for row, night in enumerate(nights.tolist()):
            values[row] = to_values(out[row], self._scales[night])
        return values

    def __del__(self) -> None:
        for file in self._open.values():
            file.close()

    def _file(self, night: int) -> BinaryIO:
        path = self._paths[night]
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        try:
            file = self._opened(night)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: {error}; {remake(path.parent)}") from error
        self._open[path] = file
        if len(self._open) > _OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return file

    def _opened(self, night: int) -> BinaryIO:
        """The file of a night, whose header is checked when it is opened first."""
        file = self._paths[night].open("rb", buffering=0)  # a window is read at once
        if night not in self._starts:
            shape = (self._nights[night].n_epochs, *self._epoch_shape)
            try:
                _, self._starts[night] = stored_arrays.start_of(file, shape, (self._dtype.name,))
            except ValueError:
                file.close()
                raise
        return file
