"""A recording that MNE has opened, with the interface of an EDF file."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datasets.readers.edf import Annotation, Channel
from datasets.readers.incoming import typical_deviation
from datasets.readers.recording import Signal
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS, MADE_BY_A_MODEL

# by MNE's type of a channel; nobody knows the unit of misc
_UNITS = {"eeg": "V", "eog": "V", "emg": "V", "ecg": "V", "misc": "", "bio": ""}
# a deviation far wider than any plausible EEG's: muscle and eyes are called EEG as well
_VOLTS = (1e-7, 5e-3)
_OF_PIECES = "Loading an EDF with mixed sampling frequencies"  # MNE's, of what is read whole here
_GAP = "BAD_ACQ_SKIP"  # as MNE annotates what was not recorded


class RawFile:
    """An ``mne.io.Raw`` as :class:`datasets.readers.edf.EdfFile` is read; nothing is written to it.

    MNE holds voltages in V. It takes values whose file named no unit for V as well: where an EEG
    would be larger or smaller than any, its unit counts as unknown.

    Raises:
        UserError: it has no samples.
    """

    stages = None
    is_plus = True  # its annotations may hold stages

    def __init__(self, raw: Any) -> None:
        self._raw, self._fs = raw, float(raw.info["sfreq"])
        self.notes: list[str] = []
        names = [name for name in raw.filenames if name is not None]
        self.path = Path(names[0]) if names else Path("raw")
        start = raw.info["meas_date"]
        if start is not None:  # of the first sample that is left of a cropped one
            start = start.replace(tzinfo=None) + timedelta(seconds=raw.first_time)
        self.start = self.clock = start
        self.seconds = raw.n_times / self._fs
        if not raw.n_times:
            raise UserError(f"{self.path}: has no samples")
        about = zip(raw.ch_names, raw.get_channel_types(), strict=True)
        self.channels = tuple(
            # ranges and columns belong to EDF's integers; MNE holds physical values
            Channel(name, _UNITS.get(kind, "a.u."), self._fs, (0.0, 0.0), (0, 0), slice(0))
            for name, kind in about
        )
        self._checked: dict[str, Channel] = {}
        self._held: dict[str, np.ndarray] = {}
        timed = self._timed()
        self.gaps = np.array([(t, t + d) for t, d, text in timed if text == _GAP]).reshape(-1, 2)

    def channel(self, label: str) -> Channel:
        """The channel called ``label``, without a unit if its values cannot be volts."""
        match = next((channel for channel in self.channels if channel.label == label), None)
        if match is None:
            raise UserError(
                f"{self.path}: no channel {label!r}; it has: {', '.join(self._raw.ch_names)}"
            )
        if label not in self._checked:
            self._checked[label] = self._with_believed_unit(match)
        return self._checked[label]

    def hold(self, labels: Iterable[str]) -> None:
        """Do nothing: whatever is read is kept."""

    def read(self, label: str, start: float, stop: float) -> np.ndarray:
        """Samples of one channel between two instants in seconds, float64, in its unit.

        Raises:
            UserError: the file cannot be read.
        """
        if label not in self._held:
            # the whole of it: MNE resamples a lazily read file of several rates piece by piece,
            # which would leave edges
            self._held[label] = self._whole(label)
        return self._held[label][round(start * self._fs) : round(stop * self._fs)]

    def _whole(self, label: str) -> np.ndarray:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=_OF_PIECES, category=RuntimeWarning)
                return self._raw.get_data(picks=[label])[0].astype(float, copy=False)
        except Exception as error:  # of files that were cut, a dozen kinds
            what = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(f"{self.path}: MNE cannot read {label} ({what})") from error

    def annotations(self, broken: list[str] | None = None) -> list[Annotation]:
        """Its annotations, with onsets from the first sample, but for a model's stages.

        ``broken`` stays as it is: MNE has read them.
        """
        # cropping leaves splinters of the annotations on its edges, less than an epoch long
        edge = 1 / self._fs
        return [
            Annotation(onset, length, text)
            for onset, length, text in self._timed()
            if length >= EPOCH_SECONDS or edge < onset < self.seconds - length - edge
        ]

    def _timed(self) -> list[tuple[float, float, str]]:
        marks = self._raw.annotations
        # once a Raw has a date, onsets count from it and not from the first sample kept
        offset = self._raw.first_time if marks.orig_time is not None else 0.0
        rows = zip(marks.onset, marks.duration, marks.description, marks.extras, strict=True)
        return [
            (float(onset - offset), float(length), str(text))
            for onset, length, text, extras in rows
            if (extras or {}).get("origin") != MADE_BY_A_MODEL
        ]

    def _with_believed_unit(self, channel: Channel) -> Channel:
        if channel.unit != "V":
            return channel
        read = partial(self.read, channel.label)
        deviation = typical_deviation(Signal(self._fs, "V", self.seconds, read))
        low, high = _VOLTS
        is_plausible = deviation is None or low <= deviation <= high
        return channel if is_plausible else replace(channel, unit="")
