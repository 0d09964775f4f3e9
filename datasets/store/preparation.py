"""From a recording to the arrays of the store: trim, choose channels, filter, resample, cut.

Filters see the night around the kept range, never an epoch on its own, so no transient marks the
epoch borders; only as much of the file is read as the filters reach.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from datasets.readers.channels import assessed, choose, role_of
from datasets.readers.incoming import kind_of
from datasets.readers.known_channels import Alternatives
from datasets.readers.missing import mended
from datasets.readers.recording import TO_MICROVOLT, UNKNOWN_UNIT, Recording, Signal
from datasets.store.equalisation import equalise
from datasets.store.filters import (
    bandpass_taps,
    butterworth_sections,
    filter_as_dreem,
    filter_sections,
    filter_zero_phase,
    resample,
    resample_reach_seconds,
)
from datasets.store.integers import INTEGERS
from datasets.store.own_windows import cut_out, touched
from datasets.store.protocols import PROTOCOLS
from datasets.store.robust_scaling import FS, prepare_robustly
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS, UNSCORED

DTYPES = ("float32", "float16", INTEGERS)  # of stored samples
EQUALISED, ROBUST = "equalised", "robust"
UNITLESS = (EQUALISED, ROBUST)  # presets that set the scale of a signal themselves
_OLD_PRESETS = {"levelled": EQUALISED}  # as stores and checkpoints from before call them
# what equalisation brings to the common spectrum; until 2026-11-29 it was a night's median epoch
_ABOUT = "midrange"
SLOWEST_WAVEFORM_HZ = 10.0  # below, voltages are sensors and envelopes (Sleep-EDF: EMG at 1 Hz)


def preset_named(name: str | None) -> str | None:
    """The current name of a preset; stores and checkpoints may hold a former one."""
    return _OLD_PRESETS.get(name, name)


def formerly_equalised(preparation: Mapping[str, Any]) -> bool:
    """Whether signals were equalised by an earlier version, as no file is any more."""
    is_equalised = preset_named(preparation.get("preset")) == EQUALISED
    return is_equalised and preparation.get("equalised_about") != _ABOUT


@dataclass(frozen=True)
class RolePreprocessing:
    """How channels of a role are stored: unit, and zero-phase Butterworth band of order 2 in Hz."""

    unit: str
    low: float | None = None
    high: float | None = None
    required: bool = False


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a store holds; equal settings, equal bytes.

    ``bandpass`` (low, high) in Hz applies to voltages sampled at 10 Hz or more, not to slow sensors
    and envelopes; ``fs`` None keeps every channel's own rate. ``preset`` "dreem" prepares as the
    Dreem papers do: their causal filter, linear interpolation, ``pad_epochs`` of zeros, unscored,
    at both ends of a night; "equalised" is the spectral equalisation of EEG; "robust" prepares for
    RobustSleepNet, whose signals have no unit and 60 Hz. ``kept`` describes by
    role how channels are kept that are named by role: each has a filter of its own and, unless it
    is required, may be absent. ``profile`` is a hash of what a cohort's profile declares,
    and the scoring that was asked for.
    """

    cohort: str
    protocol: str
    channels: tuple[str, ...]
    bandpass: tuple[float, float] | None = None
    fs: float | None = None
    dtype: str = "float32"
    preset: str | None = None
    pad_epochs: int = 0
    kept: Mapping[str, RolePreprocessing] | None = None
    profile: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values, tuples as lists; a preset is named where there is one."""
        # stores from before these settings lack the keys, and count as prepared alike
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        if self.preset is None:
            del values["preset"], values["pad_epochs"]
        if self.preset == EQUALISED:
            values["equalised_about"] = _ABOUT
        for name in ("kept", "profile"):
            if values[name] is None:
                del values[name]
        return values


@dataclass(frozen=True)
class StoredChannel:
    """One channel of a store: its label and role, unit ("" if nobody knows), rate, band in Hz."""

    label: str
    role: str
    unit: str
    fs: float
    bandpass: tuple[float | None, float | None] | None


@dataclass(frozen=True)
class PreparedNight:
    """Arrays of one night: ``signals`` by rate [n_epochs, n_channels, fs*30], ``stages`` int8."""

    recording: Recording
    channels: tuple[StoredChannel, ...]
    signals: dict[float, np.ndarray]
    stages: np.ndarray
    first_epoch: int


def prepare(recording: Recording, settings: Settings, roles: Alternatives) -> PreparedNight:
    """Cut ``recording`` to its protocol's range and bring its channels into epochs.

    Raises:
        UserError: a channel is missing, a rate does not divide into 30 s epochs, or the filter
            does not fit the rate.
    """
    start, stop = PROTOCOLS[settings.protocol](recording)
    if settings.kept is not None:
        channels = _by_role(recording, settings)
    else:
        chosen = choose(settings.channels, recording.signals, roles, recording.id)
        if not recording.derivations:  # else they were assessed when they were matched
            chosen = {k: assessed(o, role_of(k, roles), recording.id) for k, o in chosen.items()}
        notes = [recording.note, *(one.note for one in chosen.values())]
        recording = replace(
            recording,
            signals={k: one.signal for k, one in chosen.items()},
            note="; ".join(filter(None, notes)) or None,
        )
        channels = tuple(_describe(k, role_of(k, roles), recording, settings) for k in chosen)
    signals, lost = {}, set()
    recording = mended(recording, lost)
    for fs in dict.fromkeys(channel.fs for channel in channels):
        group = [channel for channel in channels if channel.fs == fs]
        shape = (stop - start, len(group), round(fs * EPOCH_SECONDS))
        # integers are made of values when these are written
        dtype = np.float32 if settings.dtype == INTEGERS else settings.dtype
        signals[fs] = np.empty(shape, dtype)
        for index, channel in enumerate(group):
            if channel.label not in recording.signals:
                signals[fs][:, index] = np.nan  # absent, and not flat
                continue
            samples = _samples(channel, recording, start, stop, settings)
            signals[fs][:, index] = samples.reshape(shape[0], shape[2])
            if not np.isfinite(signals[fs][:, index]).all():
                raise UserError(
                    f"{recording.id}: {channel.label} has values beyond {settings.dtype}; leave it "
                    "out, or store another type"
                )
    lost = lost if recording.onsets is None else touched(recording.onsets, lost)
    recording = _without(recording, {k for k in lost if start <= k < stop})
    stages, pad = recording.stages[start:stop], settings.pad_epochs
    if pad:
        around = ((pad, pad), (0, 0), (0, 0))
        signals = {fs: np.pad(epochs, around) for fs, epochs in signals.items()}
        stages = np.pad(stages, pad, constant_values=UNSCORED)
    return PreparedNight(recording, channels, signals, stages, start - pad)


def _without(recording: Recording, lost: set[int]) -> Recording:
    """The recording with the epochs unscored that lack samples, and a note on them."""
    if not lost:
        return recording
    stages = recording.stages.copy()
    stages[sorted(lost)] = UNSCORED
    notes = [recording.note, f"{len(lost)} epochs lack samples: filled, and unscored"]
    return replace(recording, stages=stages, note="; ".join(filter(None, notes)))


def _by_role(recording: Recording, settings: Settings) -> tuple[StoredChannel, ...]:
    """Channels named by their roles, those included that the recording lacks and may lack."""
    channels = []
    for role in settings.channels:
        kept = settings.kept[role]
        if role not in recording.signals and kept.required:
            among = f" among {', '.join(recording.labels)}" if recording.labels else ""
            where = "with --channel_map" if settings.profile is None else "in the profile's roles"
            raise UserError(
                f"{recording.id}: no channel for the required {role}{among}; take it out of "
                f"--required, or name what stands for it {where}"
            )
        edges = (kept.low, kept.high)
        band = None if edges == (None, None) else edges
        is_known = role not in recording.signals or recording.signals[role].unit != UNKNOWN_UNIT
        unit = kept.unit if is_known else ""
        channels.append(StoredChannel(role, role, unit, settings.fs, band))
    if not recording.signals:
        raise UserError(f"{recording.id}: none of {', '.join(settings.channels)} is there")
    return tuple(channels)


def _describe(label: str, role: str, recording: Recording, settings: Settings) -> StoredChannel:
    signal = recording.signals[label]
    fs = settings.fs or _whole_rate(signal.fs)
    if not math.isclose(fs * EPOCH_SECONDS, round(fs * EPOCH_SECONDS), rel_tol=1e-9):
        raise UserError(
            f"{recording.id}: {fs:g} Hz does not divide into 30 s epochs; choose another rate with "
            "--resample"
        )
    unit = "uV" if signal.unit.lower() in TO_MICROVOLT else signal.unit
    unit = "" if unit == UNKNOWN_UNIT else unit
    band = settings.bandpass if _is_filtered(role, signal, settings) else None
    return StoredChannel(label, role, unit, fs, band)


def _whole_rate(fs: float) -> float:
    """A recorder's own rate, or the nearest that fills epochs: 200 Hz for 199.99."""
    samples = fs * EPOCH_SECONDS
    if math.isclose(samples, round(samples), rel_tol=1e-9):
        return fs
    return float(max(1, round(fs)))


def _is_filtered(role: str, signal: Signal, settings: Settings) -> bool:
    is_voltage = signal.unit.lower() in TO_MICROVOLT or kind_of(role)
    return bool(settings.bandpass and is_voltage and signal.fs >= SLOWEST_WAVEFORM_HZ)


def _samples(
    channel: StoredChannel, recording: Recording, start: int, stop: int, settings: Settings
) -> np.ndarray:
    """Samples of epochs ``[start, stop)``, one epoch after the other, wherever they lie."""
    signal = recording.signals[channel.label]
    if recording.onsets is None:
        return _continuous(channel, signal, start, stop, settings)
    whole = _continuous(channel, signal, 0, math.ceil(signal.seconds / EPOCH_SECONDS), settings)
    return cut_out(whole, recording.onsets[start:stop], channel.fs)


def _continuous(
    channel: StoredChannel, signal: Signal, start: int, stop: int, settings: Settings
) -> np.ndarray:
    """Samples of epochs ``[start, stop)`` in the store's unit, as if the whole night were done."""
    if settings.preset == "dreem":
        return _as_dreem(signal, start, stop, settings)
    if settings.preset == ROBUST:
        samples = prepare_robustly(signal.read(0, signal.seconds), signal.fs)
        return _cut(samples, start * EPOCH_SECONDS * FS, stop - start, FS)
    if settings.preset == EQUALISED and channel.role.startswith("EEG"):
        samples = _equalised(signal, start, stop, settings)
        return _cut(samples, 0, stop - start, channel.fs)
    if channel.label in (settings.kept or {}):
        samples = _as_role(signal, settings.kept[channel.label], settings.fs)
        return _cut(samples, start * EPOCH_SECONDS * settings.fs, stop - start, settings.fs)
    taps = _taps(channel, signal, settings)
    new_fs = channel.fs
    reach = resample_reach_seconds(signal.fs, new_fs)
    reach += 0.0 if taps is None else len(taps) / 2 / signal.fs
    # whole epochs of margin: at their borders samples of both rates coincide
    margin = math.ceil(reach / EPOCH_SECONDS)
    # of odd rates no border coincides, so the night is read from its first sample
    is_whole = _whole_rate(signal.fs) == signal.fs
    before = max(0, start - margin) * EPOCH_SECONDS if is_whole else 0
    after = min(signal.seconds, (stop + margin) * EPOCH_SECONDS)
    samples = signal.read(before, after)
    if (scale := TO_MICROVOLT.get(signal.unit.lower(), 1.0)) != 1.0:
        samples = samples * scale
    if taps is not None:
        samples = filter_zero_phase(samples, taps)
    samples = resample(samples, signal.fs, new_fs)
    return _cut(samples, (start * EPOCH_SECONDS - before) * new_fs, stop - start, new_fs)


def _cut(samples: np.ndarray, first: float, n_epochs: int, fs: float) -> np.ndarray:
    """Epochs from the sample ``first`` on; a file may end within a sample of its last epoch."""
    first, n = round(first), round(n_epochs * EPOCH_SECONDS * fs)
    kept = samples[first : first + n]
    return np.pad(kept, (0, n - len(kept)), "edge")


def _as_role(signal: Signal, kept: RolePreprocessing, fs: float) -> np.ndarray:
    """The night's samples, filtered at their own rate and then resampled."""
    # the whole of it, since a Butterworth filter has no end to its reach
    samples = signal.read(0, signal.seconds)
    if kept.unit == "uV" and signal.unit != UNKNOWN_UNIT:
        samples = samples * TO_MICROVOLT[signal.unit.lower()]
    try:
        sections = butterworth_sections(kept.low, kept.high, signal.fs)
    except ValueError as error:
        raise UserError(f"{error}; leave the channel out") from error
    if sections is not None:
        samples = filter_sections(samples, sections)
    return resample(samples, signal.fs, fs)


def _equalised(signal: Signal, start: int, stop: int, settings: Settings) -> np.ndarray:
    """Samples of the kept range, resampled, then brought to the common spectrum."""
    fs, unit = settings.fs or _whole_rate(signal.fs), signal.unit.lower()
    samples = signal.read(start * EPOCH_SECONDS, min(signal.seconds, stop * EPOCH_SECONDS))
    samples = samples * TO_MICROVOLT.get(unit, 1.0)
    # resampling takes zeros beyond the ends, where an offset would leave a step
    samples = resample(samples - np.median(samples), signal.fs, fs)
    return equalise(samples, fs, unit_known=unit in TO_MICROVOLT)


def _as_dreem(signal: Signal, start: int, stop: int, settings: Settings) -> np.ndarray:
    """Samples as the Dreem papers prepare them; a causal filter needs the night from its start."""
    fs = settings.fs or _whole_rate(signal.fs)
    samples = signal.read(0, min(signal.seconds, stop * EPOCH_SECONDS))
    try:
        prepared = filter_as_dreem(
            samples * TO_MICROVOLT.get(signal.unit.lower(), 1.0), signal.fs, fs
        )
    except ValueError as error:
        raise UserError(f"--preset dreem: {error}") from error
    return _cut(prepared, start * EPOCH_SECONDS * fs, stop - start, fs)


def _taps(channel: StoredChannel, signal: Signal, settings: Settings) -> np.ndarray | None:
    """Taps of the band-pass of one channel, ``None`` where it is not filtered."""
    if channel.bandpass is None:
        return None
    try:
        return bandpass_taps(*settings.bandpass, signal.fs)
    except ValueError as error:
        raise UserError(f"--bandpass: {error}") from error
