"""A Dreem record with the interface of an EDF file, so that channels are matched in both alike."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from datasets.readers import dreem
from datasets.readers.edf import Channel
from utils.errors import UserError


class DreemFile:
    """A record as :class:`datasets.readers.edf.EdfFile` is read; ``stages`` are its hypnogram.

    Raises:
        UserError: as :func:`datasets.readers.dreem.read`.
    """

    is_plus = False  # no annotations

    def __init__(self, path: Path) -> None:
        # staging needs the signals alone
        recording = dreem.read(dreem.Record(path, needed=False))
        self.notes = [recording.note] if recording.note else []
        self.path, self.stages = path, recording.stages
        self.start = self.clock = recording.start
        self.seconds = min(signal.seconds for signal in recording.signals.values())
        self.gaps = np.zeros((0, 2))
        self.channels = tuple(
            # ranges and columns belong to EDF's integers; HDF5 holds physical values
            Channel(label, signal.unit, signal.fs, (0.0, 0.0), (0, 0), slice(0))
            for label, signal in recording.signals.items()
        )
        self._signals = recording.signals

    def channel(self, label: str) -> Channel:
        """The channel called ``label``."""
        match = next((channel for channel in self.channels if channel.label == label), None)
        if match is None:
            raise UserError(
                f"{self.path}: no channel {label!r}; it has: {', '.join(self._signals)}"
            )
        return match

    def hold(self, labels: Iterable[str]) -> None:
        """Do nothing: HDF5 reads the channels asked for alone."""

    def read(self, label: str, start: float, stop: float) -> np.ndarray:
        """Samples of one channel between two instants in seconds, float64, in the file's unit."""
        return self._signals[label].read(start, stop)
