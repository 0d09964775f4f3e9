"""Events of nights without known truth: spindles, slow waves, eye movements, detected by yasa."""

from __future__ import annotations

import numpy as np

from interpret.explained_night import ExplainedNight
from utils.stages import EPOCH_SECONDS, UNSCORED

SOURCE = "detected by yasa"
# codes of the stages that are searched; without N1, which yasa searches for spindles by default
_SLEEPING = {"spindle": (2, 3), "slow_wave": (2, 3), "rem": (4,)}
_TO_MICROVOLT = {"µV": 1.0, "mV": 1e3, "V": 1e6}


def detect(night: ExplainedNight) -> dict[str, np.ndarray]:
    """Events of the first EEG and EOG channels as onset and duration in s: kind -> (k, 2).

    Spindles are detected relative to the signal; slow waves and eye movements are defined by
    microvolts and left out where the unit is unknown. A bipolar EOG stands for its two electrodes,
    which move against each other. Only the stages an event belongs to are searched, by the expert's
    stages where there are any. Vallat & Walker, eLife 2021.
    """
    import yasa

    events_by_kind = {}
    scale = _TO_MICROVOLT.get(night.unit)
    hypnogram = _stages_of_samples(night)
    detectors = {
        "spindle": ("EEG", lambda x, stages: yasa.spindles_detect(x, night.fs, **stages)),
        "slow_wave": ("EEG", lambda x, stages: yasa.sw_detect(x, night.fs, **stages)),
        "rem": ("EOG", lambda x, stages: yasa.rem_detect(x, -x, night.fs, **stages)),
    }
    for kind, (role, detector) in detectors.items():
        if role not in night.roles or (scale is None and kind != "spindle"):
            continue
        signal = night.channel_epochs(night.roles.index(role)).reshape(-1).astype(float)
        if not np.isin(hypnogram, _SLEEPING[kind]).any():  # yasa fails by an assertion
            continue
        stages = {"hypno": hypnogram, "include": _SLEEPING[kind], "verbose": "error"}
        events = detector(signal * (scale or 1.0), stages)
        # two columns even of a kind that was searched in vain, of which yasa returns None
        events_by_kind[kind] = np.zeros((0, 2))
        if events is not None:
            table = events.summary()
            times = table[["Start", "Duration"]].to_numpy()
            events_by_kind[kind] = _in_recording(times, night.staged.onsets)
    return events_by_kind


def _in_recording(times: np.ndarray, onsets: np.ndarray) -> np.ndarray:
    """Onset and duration in s (k, 2) of the recording, as truth files have them, of events that
    yasa counts along epochs one after the other, each with an onset of its own (n,).
    """
    epoch = (times[:, 0] // EPOCH_SECONDS).astype(int).clip(max=len(onsets) - 1)
    onset = onsets[epoch] + (times[:, 0] - EPOCH_SECONDS * epoch)
    # what epochs with context share is detected in both: the later one has it
    ends = np.append(onsets[1:], np.inf)[epoch]
    return np.column_stack((onset, times[:, 1]))[onset < ends]


def _stages_of_samples(night: ExplainedNight) -> np.ndarray:
    staged = night.staged
    # codes are yasa's, W to REM as 0 to 4 and -1 for what is not scored
    stages = staged.stages if (staged.expert == UNSCORED).all() else staged.expert
    return np.repeat(stages.astype(int), night.signals.shape[-1])
