"""Further channels of a store on its nights' pages: ``--page_channels`` of evaluate scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from datasets.readers.recording import Signal
from datasets.store.preparation import StoredChannel
from datasets.store.store import Store
from datasets.store.stored_channels import night_signals, night_statistics, select_channels
from datasets.store.stored_night import Night
from evaluation.night_page import write_page
from evaluation.page_channels import PageChannel, channels_of, merged
from interpret.explained_night import ExplainedNight
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS


@dataclass(frozen=True)
class PageWriter:
    """Writes pages that show channels ``names`` of the ``store`` below those the model received."""

    store: Store
    names: Sequence[str]

    def __call__(self, path: Path, night: ExplainedNight, *about: Any, **more: Any) -> Path:
        """As :func:`evaluation.night_page.write_page`."""
        stored, others = self.store.night(night.staged.recording), []
        for name in self.names:
            known = channel_of(self.store, stored, name)
            if known is None:
                print(f"  {night.staged.recording}: has no {name}; its page is without it")
            else:
                others.append(known)
        shown = merged(channels_of(night), others)
        return write_page(path, replace(night, recorded=shown), *about, **more)


def page_writer(store: Store, names: Sequence[str]) -> Callable[..., Path]:
    """What writes a night's page, also with the channels ``names`` (labels or roles) of the store.

    Raises:
        UserError: the store has no such channel.
    """
    for name in names:
        try:
            select_channels(store, [name])
        except UserError as error:
            raise UserError(f"--page_channels: {error}") from None
    return PageWriter(store, names) if names else write_page


def channel_of(store: Store, night: Night, name: str) -> PageChannel | None:
    """A channel of a night as the store holds it, ``None`` where the night lacks it."""
    fs, columns = select_channels(store, [name])
    if np.isnan(night_statistics(night, fs, columns).mean).any():
        return None
    channel: StoredChannel = [one for one in store.channels if one.fs == fs][columns[0]]

    def read(start: float, stop: float) -> np.ndarray:
        flat = night_signals(night, fs, columns, fs).reshape(-1)
        return flat[round(start * fs) : round(stop * fs)]

    signal = Signal(fs, channel.unit, EPOCH_SECONDS * night.n_epochs, read)
    return PageChannel(channel.label, channel.role, signal, prepared=True)
