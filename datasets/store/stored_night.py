"""One night of a store: its description, and its arrays, opened when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from datasets.readers.recording import Scale
from datasets.store import descriptions, stored_arrays
from datasets.store.integers import INTEGERS, ScaledSignals
from datasets.store.preparation import StoredChannel
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS, STAGES, UNSCORED


@dataclass(frozen=True)
class Night:
    """One stored night; signals are memory maps, opened when asked for.

    A channel that the recording lacks is NaN throughout, as are its ``mean`` and ``sd``;
    ``derivations`` name what channels named by role are made of; ``scales`` are those of signals
    stored as integers. ``onsets`` (n_epochs,) in s of the source are those of epochs that do not
    follow each other from its start, and empty for all others.
    """

    folder: Path
    subject: str
    night: int
    n_epochs: int
    first_epoch: int
    start: str | None
    channels: tuple[StoredChannel, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    derivations: tuple[str | None, ...]
    scales: tuple[Scale | None, ...]
    onsets: tuple[float, ...] = ()

    @property
    def id(self) -> str:
        """Recording id: the folder's name."""
        return self.folder.name

    @cached_property
    def stages(self) -> np.ndarray:
        """Codes per epoch, int8 (n_epochs,)."""
        stages = self._load(
            stored_arrays.whole, "stages.npy", (self.n_epochs,), stored_arrays.STAGES
        )
        if ((stages < UNSCORED) | (stages >= len(STAGES))).any():
            raise UserError(
                f"{self.folder / 'stages.npy'}: holds codes that are no stages; "
                f"{remake(self.folder)}"
            )
        return stages

    def signals(self, fs: float | None = None) -> np.ndarray | ScaledSignals:
        """Values [n_epochs, n_channels, fs*30] of the channels at ``fs`` (default: first's).

        A memory map; where integers are stored, what is cut from it is computed from them.
        """
        fs = fs or self.channels[0].fs
        stored = self.stored(fs)
        return ScaledSignals(stored, self.scales_at(fs)) if stored.dtype == INTEGERS else stored

    def stored(self, fs: float) -> np.ndarray:
        """Memory map of the numbers on disk, [n_epochs, n_channels, fs*30]."""
        n_channels = sum(channel.fs == fs for channel in self.channels)
        shape = (self.n_epochs, n_channels, round(fs * EPOCH_SECONDS))
        name = signals_name(fs, self.channels)
        return self._load(stored_arrays.mapped, name, shape, stored_arrays.SIGNALS)

    def scales_at(self, fs: float) -> list[Scale | None]:
        """Scales of the channels at ``fs``."""
        return [s for c, s in zip(self.channels, self.scales, strict=True) if c.fs == fs]

    def signals_path(self, fs: float) -> Path:
        """Path of the file that :meth:`stored` maps."""
        return self.folder / signals_name(fs, self.channels)

    def _load(
        self,
        read: Callable[..., np.ndarray],
        name: str,
        shape: tuple[int, ...],
        types: tuple[str, ...],
    ) -> np.ndarray:
        path = self.folder / name
        try:
            return read(path, shape, types)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: {error}; {remake(self.folder)}") from error


def signals_name(fs: float, channels: Iterable[StoredChannel]) -> str:
    """File of the channels at ``fs``; those at the first channel's rate are ``signals.npy``."""
    main = next(iter(channels)).fs
    return "signals.npy" if fs == main else f"signals_{fs:g}hz.npy"


def read_night(folder: Path) -> Night:
    """Open a stored night by its folder.

    Raises:
        UserError: the folder is missing or its ``night.json`` cannot be read.
    """
    try:
        facts = descriptions.night_facts(folder / "night.json")
        channels = [dict(channel) for channel in facts["channels"]]
        # absent channels: JSON has null, as it has no NaN
        mean, sd = (
            tuple(np.nan if (v := channel.pop(name)) is None else v for channel in channels)
            for name in ("mean", "sd")
        )
        derivations = tuple(channel.pop("derivation", None) for channel in channels)
        scales = tuple(channel.pop("scale", None) for channel in channels)
        onsets = tuple(facts.get("onsets", ()))
        if len(onsets) not in (0, facts["n_epochs"]):
            raise ValueError(f"onsets: {len(onsets)} for {facts['n_epochs']} epochs")
        return Night(
            folder=folder,
            subject=facts["subject"],
            night=facts["night"],
            n_epochs=facts["n_epochs"],
            first_epoch=facts["first_epoch"],
            start=facts["start"],
            channels=tuple(channel_of(fields) for fields in channels),
            mean=mean,
            sd=sd,
            derivations=derivations,
            scales=scales,
            onsets=onsets,
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: not a stored night ({error}); {remake(folder)}") from error


def channel_of(fields: dict[str, Any]) -> StoredChannel:
    """A channel from its fields in a description."""
    band = fields["bandpass"]
    return StoredChannel(**fields | {"bandpass": tuple(band) if band else None})


def remake(folder: Path) -> str:
    """What to do about a damaged night."""
    return f"delete {folder} and run the preprocess script again"
