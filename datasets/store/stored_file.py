"""A stored night with the interface of a recording's file, for stagers that read files."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import numpy as np

from datasets.readers.edf import Annotation, Channel
from datasets.store.preparation import UNITLESS, preset_named
from datasets.store.store import Store
from datasets.store.stored_night import remake
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS


class StoredFile:
    """One night of a store, read as :class:`datasets.readers.edf.EdfFile` is.

    Its samples are those of the store, filtered and resampled as that was prepared; its expert's
    stages are ``stages``.

    Raises:
        UserError: a store whose signals have no unit any more.
    """

    is_plus = False  # no annotations

    def __init__(self, store: Store, recording: str) -> None:
        if (preset := preset_named(store.settings.get("preset"))) in UNITLESS:
            raise UserError(
                f"{store.path}: prepared with preset {preset}, whose signals have no unit; stagers "
                "by name need a store without it"
            )
        self.night, self.notes = store.night(recording), []
        self.path = self.night.folder
        self.start = datetime.fromisoformat(self.night.start) if self.night.start else None
        self.seconds = float(self.night.n_epochs * EPOCH_SECONDS)
        self.stages = np.array(self.night.stages)
        self.gaps = np.zeros((0, 2))
        self.channels = tuple(
            # ranges and columns belong to EDF's integers
            Channel(channel.label, channel.unit, channel.fs, (0.0, 0.0), (0, 0), slice(0))
            for channel, sd in zip(self.night.channels, self.night.sd, strict=True)
            if not np.isnan(sd)  # a role that this night lacks
        )

    def channel(self, label: str) -> Channel:
        """The channel called ``label``.

        Raises:
            UserError: there is none.
        """
        match = next((channel for channel in self.channels if channel.label == label), None)
        if match is None:
            raise UserError(f"{self.path}: no channel {label!r}")
        return match

    def hold(self, labels: Iterable[str]) -> None:
        """Do nothing: stored signals are memory maps."""

    def annotations(self) -> list[Annotation]:
        """None: the stages are :attr:`stages`."""
        return []

    def read(self, label: str, start: float, stop: float) -> np.ndarray:
        """Samples of one channel between two instants in seconds, float64, in its unit."""
        fs = self.channel(label).fs
        alike = [channel.label for channel in self.night.channels if channel.fs == fs]
        signals = self.night.signals(fs)
        first, last = round(start * fs), min(round(stop * fs), round(self.seconds * fs))
        width = signals.shape[2]
        epochs = signals[first // width : -(-last // width), alike.index(label)]
        offset = first - first // width * width
        samples = epochs.reshape(-1)[offset : offset + last - first].astype(float)
        if not np.isfinite(samples).all():
            raise UserError(
                f"{self.path}: {label!r} holds samples that are no numbers; {remake(self.path)}"
            )
        return samples
