"""Channels of a store: chosen by label or role, and their statistics over training nights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from datasets.readers.wishes import parts_of
from datasets.store.filters import resample_epochs
from datasets.store.moments import channel_moments
from datasets.store.preparation import StoredChannel
from datasets.store.store import Store
from datasets.store.stored_night import Night, remake
from utils.errors import UserError

_FLAT = 1e-6  # sd below which a channel is only centred


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation per channel, float32 (C,)."""

    mean: np.ndarray
    sd: np.ndarray


Standardise = Literal["recording", "present", "none"] | Statistics


def refuse_not_finite(night: Night, sums: np.ndarray, is_present: np.ndarray) -> None:
    """Refuse a night whose sums over all samples of a channel that it has, (c,), are no numbers.

    NaN and infinity survive a sum, and a mask of every sample would be slower.

    Raises:
        UserError: naming the night.
    """
    if not np.isfinite(sums[is_present]).all():
        raise UserError(
            f"{night.folder}: its signals hold samples that are no numbers; {remake(night.folder)}"
        )


def known_channels(store: Store, wanted: Sequence[str] | None) -> list[str] | None:
    """Names among ``wanted`` that the store has as a label or a role.

    Raises:
        UserError: it has none of them.
    """
    if wanted is None:
        return None
    if not (known := [name for name in wanted if stored_channel(store, name) is not None]):
        raise UserError(
            f"{store.path}: none of {', '.join(wanted)}; it has "
            f"{', '.join(channel.label for channel in store.channels)}"
        )
    return known


def stored_channel(store: Store, name: str) -> StoredChannel | None:
    """The store's channel of this label or role, however spelt: ``A - B`` is ``A-B``, too."""
    for channel in store.channels:
        if name in (channel.label, channel.role):
            return channel
    parts = parts_of(name, [channel.label for channel in store.channels])
    if len(parts) != 1:
        return None
    return next(channel for channel in store.channels if channel.label == parts[0])


def select_channels(store: Store, wanted: Sequence[str] | None) -> tuple[float, list[int]]:
    """Rate and columns (in the file of that rate) of channels given by label or role.

    Raises:
        UserError: a channel the store lacks, or channels of different rates.
    """
    if wanted is None:
        fs = store.channels[0].fs
        return fs, list(range(sum(channel.fs == fs for channel in store.channels)))
    chosen = []
    for name in wanted:
        if (channel := stored_channel(store, name)) is None:
            present = ", ".join(f"{c.label} ({c.role})" for c in store.channels)
            raise UserError(f"{store.path}: no channel {name!r}; it has {present}")
        chosen.append(channel)
    rates = sorted({channel.fs for channel in chosen})
    if len(rates) > 1:
        raise UserError(
            f"{store.path}: channels of {' and '.join(f'{r:g}' for r in rates)} Hz cannot share a "
            "batch; prepare the store with --resample"
        )
    # each rate has a file of its own, in which columns are counted
    of_rate = [channel for channel in store.channels if channel.fs == rates[0]]
    return rates[0], [of_rate.index(channel) for channel in chosen]


def train_statistics(
    store: Store, recordings: Sequence[str], channels: Sequence[str] | None = None
) -> Statistics:
    """Mean and sd per channel over the scored epochs of ``recordings``: training ones, only."""
    fs, columns = select_channels(store, channels)
    nights = [store.night(recording) for recording in recordings]
    # a night without scores has the moments of all its epochs; it counts as little as one
    weights = np.array([max(1, int((night.stages >= 0).sum())) for night in nights], dtype=float)
    each = [night_statistics(night, fs, columns) for night in nights]
    weights /= weights.sum()
    mean = sum(w * s.mean for w, s in zip(weights, each, strict=True))
    # mean squares can be pooled, deviations cannot: nights differ in their means, too
    square = sum(w * (s.sd**2 + s.mean**2) for w, s in zip(weights, each, strict=True))
    # rounding can leave the variance of a flat channel below zero
    return Statistics(mean, np.sqrt(np.maximum(square - mean**2, 0)))


def resampled_line(fs: float, new_fs: float, reader: str) -> str:
    """What is printed, once, where signals of ``fs`` Hz are brought to ``new_fs`` for a reader."""
    lacking = f"; above {fs / 2:g} Hz there is nothing in them" if fs < new_fs else ""
    return f"signals of {fs:g} Hz are brought to the {new_fs:g} Hz of {reader}{lacking}"


def night_signals(night: Night, fs: float, columns: Sequence[int], new_fs: float) -> np.ndarray:
    """Columns of a night's file of ``fs`` Hz, brought to ``new_fs``: (n, c, t)."""
    return resample_epochs(np.array(night.signals(fs)[:, columns]), fs, new_fs)


def night_statistics(
    night: Night, fs: float, columns: Sequence[int], new_fs: float | None = None
) -> Statistics:
    """The moments stored with a night, in the order of ``columns``; at another rate new ones."""
    if new_fs not in (None, fs):  # what the new rate does not hold is no part of them
        signals = night_signals(night, fs, columns, new_fs)
        return Statistics(*channel_moments(signals, night.stages))
    # moments are stored for all channels, columns count those of one rate
    of_rate = [k for k, channel in enumerate(night.channels) if channel.fs == fs]
    index = [of_rate[column] for column in columns]
    return Statistics(np.array(night.mean)[index], np.array(night.sd)[index])


def night_scaling(
    night: Night, fs: float, columns: Sequence[int], standardise: Standardise, new_fs: float
) -> tuple[np.ndarray, np.ndarray]:
    """What to subtract and divide by for one night brought to ``new_fs``, float32 (c,) each."""
    if standardise == "none":
        ones = np.ones(len(columns), np.float32)
        return np.zeros_like(ones), ones
    statistics = standardise
    if not isinstance(statistics, Statistics):
        statistics = night_statistics(night, fs, columns, new_fs)
    flat = ~(statistics.sd > _FLAT)  # true of NaN, too: a channel that is absent
    # a mean of NaN makes the whole channel NaN, which models take for absent
    mean = np.where(flat & (standardise == "present"), np.nan, statistics.mean)
    return mean.astype(np.float32), np.where(flat, 1.0, statistics.sd).astype(np.float32)


def refuse_absent(
    store: Store,
    nights: Sequence[Night],
    channels: Sequence[StoredChannel],
    fs: float,
    columns: Sequence[int],
) -> None:
    """Refuse nights that lack one of these channels, ``columns`` of the file of ``fs`` Hz.

    Raises:
        UserError: naming the first such night and what it lacks.
    """
    for night in nights:
        absent = np.isnan(night_statistics(night, fs, columns).mean)
        if absent.any():
            lacking = ", ".join(channels[k].label for k in np.flatnonzero(absent))
            raise UserError(
                f"{store.path}: {night.id} has no {lacking}; choose other --channels, or "
                "prepare the store with them as --required"
            )
