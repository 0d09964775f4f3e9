"""Staging one EDF with a checkpoint: channels, the checkpoint's own preparation, probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.any_edf import match, recording_of
from datasets.edf import EdfFile
from datasets.preparation import Kept, Settings, channel_moments, prepare
from utils.errors import UserError
from utils.staging import StagedNight

_FLAT_UV, _LARGEST_UV = 0.5, 1000.0  # sd below, or peak to peak above, which an epoch is doubtful
_FLAT = 1e-6


@dataclass(frozen=True)
class Predicted:
    """A staged night, what was read for it, and which epochs are doubtful, (n,) words or ""."""

    night: StagedNight
    channels: dict[str, str]
    absent: list[str]
    doubts: list[str]
    note: str | None


def predict(
    path: Path, model: torch.nn.Module, checkpoint: Mapping[str, Any], chosen: Mapping[str, str],
    device: torch.device,
) -> Predicted:  # fmt: skip
    """Stage one file as the checkpoint's own nights were prepared.

    Raises:
        UserError: a file that cannot be read, or lacks a channel that the model needs.
    """
    file = EdfFile(path, undated=True)
    wanted = [tuple(pair) for pair in checkpoint["channels"]]
    found = match(file, wanted, chosen)
    absent = [label for label, _ in wanted if label not in found]
    if not found or (absent and checkpoint["standardise"] != "present"):
        present = ", ".join(channel.label for channel in file.channels)
        raise UserError(
            f"{path}: no channel for {', '.join(absent)}, which the model needs; it has {present}; "
            "name one with --channels"
        )
    recording = recording_of(file, found)
    signals = prepared(recording, checkpoint, wanted)
    # a size in uV says nothing of a channel whose unit nobody knows
    sized = {label for label, one in found.items() if one.note is None}
    doubts = doubtful(signals, [(label, role if label in sized else "") for label, role in wanted])
    x = torch.from_numpy(standardised(signals, checkpoint["standardise"])).to(device)
    probabilities = model.to(device).eval().stage_night(x, 256).float().cpu().numpy()
    expert = recording.stages[: len(probabilities)]
    start = recording.start.isoformat() if recording.start else None
    night = StagedNight(recording.id, recording.id, probabilities, expert, 0, start)
    return Predicted(night, dict(recording.derivations), absent, doubts, recording.note)


def prepared(
    recording: Any, checkpoint: Mapping[str, Any], wanted: Sequence[tuple[str, str]]
) -> np.ndarray:
    """Epochs (n, c, t) in the checkpoint's channels and rate, filtered as its store was."""
    made = checkpoint["trained"].get("preparation") or {}
    kept = None
    if made.get("kept"):
        kept = {label: Kept(**made["kept"][role] | {"required": False}) for label, role in wanted}
    band = made.get("bandpass")
    settings = Settings(
        cohort="predict", protocol="keep_all", channels=tuple(label for label, _ in wanted),
        bandpass=tuple(band) if band else None, fs=float(checkpoint["fs"]),
        preset=made.get("preset"), kept=kept,
    )  # fmt: skip
    return prepare(recording, settings, {}).signals[float(checkpoint["fs"])]


def standardised(signals: np.ndarray, how: str) -> np.ndarray:
    """By recording and channel, as in training; "present" leaves flat channels out as NaN.

    Raises:
        UserError: the checkpoint was trained on statistics that it does not carry.
    """
    if how == "none":
        return signals
    if how == "train":
        raise UserError("a checkpoint scaled by its training nights cannot stage other files")
    mean, sd = channel_moments(signals, np.zeros(len(signals), np.int8))
    flat = ~(sd > _FLAT)
    mean = np.where(flat & (how == "present"), np.nan, mean)
    scaled = (signals - mean[:, None]) / np.where(flat, 1.0, sd)[:, None]
    return scaled.astype(np.float32)


def doubtful(signals: np.ndarray, channels: Sequence[tuple[str, str]]) -> list[str]:
    """What is wrong with every epoch: EEG or EOG that is flat or larger than brain and eyes are."""
    seen = [k for k, (_, role) in enumerate(channels) if role.startswith(("EEG", "EOG"))]
    labels = [channels[k][0] for k in seen]
    flat = signals[:, seen].std(axis=2) < _FLAT_UV
    large = np.ptp(signals[:, seen], axis=2) > _LARGEST_UV
    words = []
    for epoch in range(len(signals)):
        said = [f"{labels[k]} flat" for k in np.flatnonzero(flat[epoch])]
        said += [f"{labels[k]} artefact" for k in np.flatnonzero(large[epoch])]
        words.append("; ".join(said))
    return words
