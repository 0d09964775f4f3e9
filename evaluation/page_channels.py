"""Traces of a night's page: channels as they were recorded, in a scorer's filters.

Every epoch is a row of columns, each with its smallest and largest sample, so that no wave is lost
however many samples a column stands for.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import signal

from datasets.readers.any_file import AnyFile
from datasets.readers.channels import role_of
from datasets.readers.incoming import are_numbers, believed_unit, is_waveform, kind_of
from datasets.readers.known_channels import known_names
from datasets.readers.recording import TO_MICROVOLT, FileSignals, Signal
from datasets.readers.wishes import MatchedChannel, named
from interpret.detected import SOURCE, detect
from interpret.explained_night import ExplainedNight
from utils.arguments import nearest
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS

COLUMNS = 1000  # of an epoch, or its samples where it has fewer
# the display filters of the AASM's scoring manual, Hz
_BANDS = {"EEG": (0.3, 35.0), "EOG": (0.3, 35.0), "EMG": (10.0, 100.0), "ECG": (0.3, 70.0)}
_EEG_PER_MM = 7.0  # uV, as scorers usually have it
_CUT_MM = 100.0  # beyond, a trace is cut off: one spike would leave the rest without steps
_ROW_MM = 15.0  # of what has no usual scale, its usual range fills so much
_LEVELS, _NOTHING = 254, (255, 0)  # codes of values; a column without samples: least above largest
_SHORTEST = 100  # samples that can be filtered
_SEARCHED_HZ = 100.0  # at which spindles and slow waves are searched for


@dataclass(frozen=True)
class PageChannel:
    """A channel that the page shows: ``label`` of the file, ``role`` (EEG, …), signal.

    ``is_sized``: its unit is known, not assumed. ``prepared``: it was filtered already, as a
    store's signals are.
    """

    label: str
    role: str
    signal: Signal
    is_sized: bool = True
    prepared: bool = False

    @property
    def kind(self) -> str:
        """EEG, EOG, EMG or ECG, "" for what is no voltage."""
        return kind_of(self.role) if is_waveform(self.signal, self.role) else ""

    @property
    def unit(self) -> str:
        """The unit of its samples: microvolts, or else the file's own; "" where it is unknown."""
        if not self.is_sized:
            return ""
        return "µV" if self.signal.unit.lower() in TO_MICROVOLT else self.signal.unit

    @property
    def band(self) -> tuple[float, float] | None:
        """Limits of the display filter in Hz, ``None`` where there is none."""
        band = None if self.prepared else _BANDS.get(self.kind)
        return band and (band[0], min(band[1], 0.45 * self.signal.fs))

    @cached_property
    def samples(self) -> np.ndarray:
        """All samples in :attr:`unit` as they are displayed, NaN where there is none: float32."""
        x = self.signal.read(0, self.signal.seconds)
        x = np.where(are_numbers(x), x, np.nan) * TO_MICROVOLT.get(self.signal.unit.lower(), 1.0)
        known = np.isfinite(x)
        if self.band and self.band[0] < self.band[1] and len(x) > _SHORTEST and known.any():
            # gaps are bridged for the filter alone
            where = np.arange(len(x))
            bridged = x if known.all() else np.interp(where, where[known], x[known])
            sos = signal.butter(2, self.band, "bandpass", fs=self.signal.fs, output="sos")
            x = np.where(known, signal.sosfiltfilt(sos, bridged), np.nan)
        return x.astype(np.float32)

    def epochs(self, n: int) -> np.ndarray:
        """The first ``n`` epochs (n, t), of as many samples each; 0 where there is none."""
        per_epoch = round(EPOCH_SECONDS * self.signal.fs)
        # at rates of no whole number of samples an epoch begins with the nearest one
        starts = np.round(np.arange(n) * EPOCH_SECONDS * self.signal.fs).astype(int)
        places = starts[:, None] + np.arange(per_epoch)
        padded = np.pad(self.samples, (0, max(0, int(places.max()) + 1 - len(self.samples))))
        return np.nan_to_num(padded[places])


def channels_of(night: ExplainedNight) -> list[PageChannel]:
    """The channels that a model was given of a night of a store, whose files are not at hand."""
    unit = "" if night.unit == "no unit" else night.unit

    def one(k: int) -> PageChannel:
        def read(start: float, stop: float) -> np.ndarray:
            flat = night.channel_epochs(k).reshape(-1)
            return flat[round(start * night.fs) : round(stop * night.fs)]

        seconds = EPOCH_SECONDS * len(night.signals)
        known = Signal(night.fs, unit, seconds, read)
        return PageChannel(night.channels[k], night.roles[k], known, prepared=True)

    return [one(k) for k in range(len(night.channels))]


def matched(one: MatchedChannel, role: str) -> PageChannel:
    """A channel that a stager was given, in the unit that it is believed to have."""
    return PageChannel(one.derivation, role, one.signal, one.is_sized)


def asked_for(file: AnyFile, names: Sequence[str]) -> list[PageChannel]:
    """Further channels of a file, by label or difference.

    Raises:
        UserError: the file has no such channel.
    """
    signals, roles = FileSignals(file), known_names(channel.label for channel in file.channels)
    channels = []
    for name in names:
        one = named(name, signals, file.path)
        if one is None:
            raise UserError(
                f"{file.path}: --page_channels: no channel {name!r}; it has: {', '.join(signals)}"
                f"{nearest(name, list(signals))}"
            )
        role = role_of(one.derivation, roles)
        channel = matched(one, role if kind_of(role) else _kind_named(one.derivation))
        unit, why = believed_unit(one.signal, channel.kind) if channel.kind else ("", "")
        known = replace(one.signal, unit=unit or one.signal.unit)
        channels.append(replace(channel, signal=known, is_sized=not why))
    return channels


def _kind_named(label: str) -> str:
    """The kind of voltage that a label begins with, "" for none."""
    return kind_of(label.upper())


def merged(*channels: Sequence[PageChannel]) -> list[PageChannel]:
    """All channels, each once by its label, in their order."""
    by_label: dict[str, PageChannel] = {}
    for one in (one for some in channels for one in some):
        by_label.setdefault(one.label, one)
    return list(by_label.values())


def with_events(night: ExplainedNight) -> ExplainedNight:
    """The night with the spindles and slow waves that yasa detects in the first EEG as recorded.

    What the model received may lack its unit, by which slow waves are defined.
    """
    eeg = next((one for one in night.recorded if one.kind == "EEG"), None)
    if eeg is None:
        return night
    epochs = eeg.epochs(len(night.signals))
    if eeg.signal.fs > _SEARCHED_HZ:
        epochs = signal.resample(epochs, round(EPOCH_SECONDS * _SEARCHED_HZ), axis=1)
    searched = replace(
        night,
        signals=torch.from_numpy(epochs[:, None]),
        mean=np.zeros(1),
        sd=np.ones(1),
        channels=(eeg.label,),
        roles=("EEG",),
        unit=eeg.unit or "no unit",
    )
    return replace(night, events=detect(searched), evidence=SOURCE)


def traces(channel: PageChannel, n: int) -> dict[str, Any]:
    """One channel of ``n`` epochs for the page's script: columns of codes, and what they mean.

    A column's two codes are steps above the epoch's own offset; one scale (``per_mm``) holds for
    the whole night.
    """
    per_mm = _per_mm(channel)
    low, high = _extremes(channel, n)
    limit = _CUT_MM * per_mm
    is_cut = bool((low < -limit).any() or (high > limit).any()) if channel.kind else False
    if channel.kind:
        low, high = low.clip(-limit, limit), high.clip(-limit, limit)
    known = np.isfinite(low)
    offset = np.where(known, low, np.inf).min(axis=1)
    top = np.where(known, high, -np.inf).max(axis=1)
    offset, top = (np.where(np.isfinite(one), one, 0.0) for one in (offset, top))
    step = np.maximum((top - offset) / _LEVELS, 1e-12)
    pairs = np.stack((low, high), axis=2)
    codes = np.round((np.nan_to_num(pairs) - offset[:, None, None]) / step[:, None, None])
    codes = np.where(known[:, :, None], codes, _NOTHING).astype(np.uint8)
    return {
        "label": channel.label,
        "kind": channel.kind,
        "unit": channel.unit,
        "per_mm": per_mm,
        "band": channel.band,
        "prepared": channel.prepared,
        "lines": channel.kind == "EEG" and has_usual_scale(channel),
        "centre": 0.0 if channel.kind else _middle(channel),
        "cut": limit if is_cut else None,
        "offset": _text(offset.astype(np.float32)),
        "step": _text(step.astype(np.float32)),
        "epochs": [_text(row) for row in codes],
    }


def has_usual_scale(channel: PageChannel) -> bool:
    """Whether it is a brain's or an eye's, in microvolts that are known."""
    return channel.kind in ("EEG", "EOG") and channel.unit == "µV"


def _extremes(channel: PageChannel, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest sample of every column: (n, columns) each, NaN where there is none."""
    fs, samples = channel.signal.fs, channel.samples
    columns = max(1, min(COLUMNS, int(EPOCH_SECONDS * fs)))
    edges = np.floor(np.arange(n * columns) * (EPOCH_SECONDS / columns) * fs + 1e-6).astype(int)
    short = int(np.ceil(n * EPOCH_SECONDS * fs)) - len(samples)
    if short > 0:
        samples = np.pad(samples, (0, short), constant_values=np.nan)
    samples = samples[: int(np.ceil(n * EPOCH_SECONDS * fs))]
    # a column is shown if any of its samples is there
    low, high = np.fmin.reduceat(samples, edges), np.fmax.reduceat(samples, edges)
    return low.reshape(n, columns), high.reshape(n, columns)


def _per_mm(channel: PageChannel) -> float:
    """Units per mm, for the whole night: the scorers' 7 µV for brain and eyes, else what fits."""
    if has_usual_scale(channel):
        return _EEG_PER_MM
    some = _some(channel)
    if not len(some):
        return 1.0
    low, high = np.percentile(some, (1, 99))
    size = max(float(high - low), 1e-9) / _ROW_MM
    power = 10.0 ** np.floor(np.log10(size))
    return float(f"{power * min((1, 2, 5, 10), key=lambda m: abs(np.log(size / power / m))):g}")


def _middle(channel: PageChannel) -> float:
    """What the middle of a row stands for where signals have a level: the night's median."""
    some = _some(channel)
    return float(np.median(some)) if len(some) else 0.0


def _some(channel: PageChannel) -> np.ndarray:
    """Samples all over the night, enough to know its range by."""
    some = channel.samples[:: max(1, len(channel.samples) // 200_000)]
    return some[np.isfinite(some)]


def _text(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
