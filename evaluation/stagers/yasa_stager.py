"""YASA's classifiers as a stager, through YASA's own interface, with exact reasons.

Vallat and Walker, An open-source, high-performance tool for automated sleep staging, eLife 2021.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np
import torch

from datasets.readers.any_file import AnyFile
from datasets.readers.channels import MatchedChannel
from datasets.readers.recording import TO_MICROVOLT, Recording, Signal
from datasets.store.filters import butterworth_sections, filter_sections
from evaluation.stagers.in_microvolt import in_microvolt
from evaluation.stagers.package import Package
from evaluation.stagers.stager import Asked, ChannelStager, Computed, Stager, without_assumed_unit
from evaluation.stagers.yasa_trees import FS, staged_by_yasa, typical_deviation, warm_up
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS

_SLOWEST_HZ = 80.0  # below which YASA takes no channel
_ROLES = ("EEG", "EOG", "EMG")
# the robust deviation that an EEG of unknown unit is given: of 10 to 40 tried on simulated nights,
# 10 and 15 agreed best with their stages
_TYPICAL_UV = 15.0
_BAND_HZ = (0.4, 30.0)  # that YASA filters to, in which the deviation is taken
_QUARTILES_PER_SD = 1.349  # of a normal distribution
_ENVELOPE_HZ, _ENVELOPE_SHARE = 10.0, 0.01  # a muscle's own activity is faster
_SCALE_SECONDS = 1800.0  # of the middle of the night, by which an envelope is known
_SHORTEST_EPOCHS = 10  # five minutes, below which YASA warns


def about() -> Package:
    """What YASA is, for the list of models."""
    return Package(
        origin="Vallat and Walker, YASA, eLife 2021",
        trained_on="about 3,000 nights of NSRR cohorts",
        reads="1 EEG, with or without EOG, EMG, age and sex",
        licence="BSD-3-Clause",
        n_bytes=sum(
            file.locate().stat().st_size
            for file in metadata.files("yasa")
            if file.suffix == ".joblib"
        ),
        is_here=True,
    )


def open_stager(device: torch.device, **settings: Any) -> Stager:
    """The stager, by its own settings; YASA computes on the CPU whatever the device."""
    warm_up()
    return YasaStager(**settings)


class YasaStager(ChannelStager):
    """An EEG, with EOG and EMG where the file has them and names their unit.

    With ``deviations`` the unit of the EEG does not matter: the answers where its median epoch has
    each of these standard deviations (uV, between 0.4 and 30 Hz) are averaged.
    """

    demographics = True

    def __init__(
        self,
        name: str = "yasa",
        *,
        roles: Sequence[str] = _ROLES,
        deviations: Sequence[float] = (),
        bridges_gaps: bool = False,
    ) -> None:
        version = metadata.version("yasa")
        self.name, self.deviations = name, deviations
        self._roles, self.bridges_gaps = roles, bridges_gaps
        self.headline = f"YASA {version} (Vallat and Walker 2021), trained on NSRR cohorts"
        self.fingerprint = f"yasa {version}"
        if deviations:
            sizes = ", ".join(f"{deviation:g}" for deviation in deviations)
            self.headline += f", mean of {sizes} uV"
            self.fingerprint += f" {'+'.join(roles)} at {sizes}"
        self.fingerprint += " without gaps" * bridges_gaps

    @property
    def roles(self) -> Sequence[str]:
        """EEG, EOG and EMG, or some of them."""
        return self._roles

    def wanted(self, file: AnyFile, asked: Asked) -> list[tuple[str, str]]:
        """One channel of each role; where some are named, only those and the EEG."""
        roles = [r for r in self.roles if not asked.channels or r in asked.channels or r == "EEG"]
        return [(role, role) for role in roles]

    def needs(self, label: str) -> bool:
        """The EEG alone."""
        return label == "EEG"

    def refined(self, matches: dict[str, MatchedChannel]) -> dict[str, MatchedChannel]:
        """Without units that were assumed: a blank one is no microvolt here."""
        return {role: without_assumed_unit(one) for role, one in matches.items()}

    def compute(
        self,
        recording: Recording,
        wanted: Sequence[tuple[str, str]],
        matches: Mapping[str, MatchedChannel],
        asked: Asked,
    ) -> Computed:
        """Stage a recording in microvolts, all channels at YASA's rate."""
        signals, notes = usable(recording, is_sized=not self.deviations)
        n_epochs = len(recording.stages)
        if self.deviations:
            # in far less memory than YASA's own resampling needs
            samples = np.stack([in_microvolt(one, FS, n_epochs) for one in signals.values()])
            samples[0] *= np.median(self.deviations) / typical_deviation(by_epoch(samples[0]))
        else:
            samples = np.stack([at_yasas_rate(one, n_epochs) for one in signals.values()])
        if not (self.deviations or signals["EEG"].unit):
            samples[0] *= scale_of(samples[0])
            notes.append(f"EEG: set to a robust deviation of {_TYPICAL_UV:g} uV")
        if n_epochs < _SHORTEST_EPOCHS:
            notes.append("shorter than five minutes, for which YASA was not made: unreliable")
        roles = list(signals)
        probabilities, reasons = staged_by_yasa(
            roles, samples, demographics_of(asked), self.name, self.deviations
        )
        traces = samples.astype(np.float32)
        return Computed(
            probabilities=probabilities,
            # (c, n * t) -> (n, c, t)
            signals=torch.from_numpy(traces).unflatten(1, (n_epochs, -1)).transpose(0, 1),
            mean=np.zeros(len(roles)),
            sd=np.ones(len(roles)),
            unit="µV" if signals["EEG"].unit else "µV by robust scale",
            labels=roles,
            explainer=reasons,
            notes=notes,
        )


def usable(recording: Recording, *, is_sized: bool) -> tuple[dict[str, Signal], list[str]]:
    """Signals by role that YASA can take, and why others were left out.

    An EEG counts as one without a unit unless it ``is_sized``.

    Raises:
        UserError: the EEG is sampled too slowly.
    """
    signals, notes = {}, []
    for role, signal in recording.signals.items():
        named = f"{role} ({recording.derivations[role]})"
        if signal.fs <= _SLOWEST_HZ:
            reason = f"{named} has {signal.fs:g} Hz, YASA needs more than {_SLOWEST_HZ:g} Hz"
            if role == "EEG":
                raise UserError(f"{recording.id}: {reason}")
            notes.append(f"{reason}: left out")
        elif role == "EEG":
            signals[role] = signal if is_sized else replace(signal, unit="")
        elif not signal.unit:
            notes.append(f"{named} has no unit, and so no size that YASA knows: left out")
        elif role == "EMG" and is_envelope(signal):
            notes.append(f"{named} has nothing above {_ENVELOPE_HZ:g} Hz, so no muscle: left out")
        else:
            signals[role] = signal
    return signals, notes


def is_envelope(emg: Signal) -> bool:
    """Whether a muscle's signal is but its slow size, at whatever rate it is stored."""
    x = middle_of(emg)
    fast = filter_sections(x, butterworth_sections(_ENVELOPE_HZ, None, emg.fs))
    return bool(fast.var() <= _ENVELOPE_SHARE * x.var())


def middle_of(signal: Signal) -> np.ndarray:
    """Half an hour of samples from the middle of the night, in the signal's own unit."""
    start = max(0.0, (signal.seconds - _SCALE_SECONDS) / 2)
    return signal.read(start, min(signal.seconds, start + _SCALE_SECONDS))


def at_yasas_rate(signal: Signal, n_epochs: int) -> np.ndarray:
    """Samples of whole epochs at 100 Hz, in microvolts where the unit is known.

    Resampled as YASA does it, but channel by channel: it takes one rate for all, and would hold
    several copies of a night at its own rate.
    """
    from mne.filter import resample

    samples = signal.read(0, signal.seconds) * TO_MICROVOLT.get(signal.unit.lower(), 1.0)
    if signal.fs != FS:
        samples = resample(samples, up=FS, down=signal.fs, npad="auto", verbose="error")
    n = round(n_epochs * EPOCH_SECONDS * FS)
    # a file may end within a sample of its last whole epoch
    return np.pad(samples[:n], (0, max(0, n - len(samples))), "edge")


def by_epoch(eeg: np.ndarray) -> np.ndarray:
    """Standard deviation of each epoch (n,) of an EEG (t,) at 100 Hz."""
    return eeg.reshape(-1, round(EPOCH_SECONDS * FS)).std(axis=1)


def scale_of(eeg: np.ndarray) -> float:
    """The factor that gives an EEG (t,) at 100 Hz, of no known unit, a usual deviation."""
    filtered = filter_sections(eeg, butterworth_sections(*_BAND_HZ, FS))
    low, high = np.percentile(filtered, (25, 75))
    deviation = (high - low) / _QUARTILES_PER_SD
    return _TYPICAL_UV / deviation if deviation > 0 else 1.0


def demographics_of(asked: Asked) -> dict[str, int]:
    """Age and sex as YASA names them, if both are given."""
    if asked.age is None or asked.sex is None:
        return {}
    return {"age": asked.age, "male": int(asked.sex == "male")}
