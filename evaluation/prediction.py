"""Staging one EDF with a checkpoint: channels, the checkpoint's own preparation, probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.quality import quality_flags
from datasets.readers import expert_annotations
from datasets.readers.any_file import opened, recording_of
from datasets.readers.channels import Found, match
from datasets.readers.dreem_file import DreemFile
from datasets.readers.edf import EdfFile
from datasets.store.preparation import (
    EQUALISED,
    RolePreprocessing,
    Settings,
    channel_moments,
    prepare,
    preset_named,
)
from utils.checkpoint import Checkpoint
from utils.errors import UserError
from utils.staged_night import StagedNight, stage_signals
from utils.stages import EPOCH_SECONDS, UNSCORED

_FLAT = 1e-6
_SHORT = 60  # epochs below which a model of equalised spectra knows little of the recorder


@dataclass(frozen=True)
class Asked:
    """What the user decides: channels by label or role, and the expert's file.

    ``expert`` None looks beside the recording, "none" does not look at all.
    """

    channels: Mapping[str, str]
    expert: str | None = None


@dataclass(frozen=True)
class StagedFile:
    """A file's staged night, and what was read for it.

    ``signals`` (n, c, t) as the model received them, without channels that are ``absent``; ``mean``
    and ``sd`` (c,) bring them back to ``unit``; ``expert`` is the file of the expert's stages.
    """

    night: StagedNight
    signals: torch.Tensor
    mean: np.ndarray
    sd: np.ndarray
    unit: str
    channels: dict[str, str]
    absent: list[str]
    notes: list[str]
    expert: Path | None


def predict(
    path: Path,
    model: torch.nn.Module,
    checkpoint: Checkpoint,
    asked: Asked,
    device: torch.device,
) -> StagedFile:
    """Stage one file as the checkpoint's own nights were prepared.

    Raises:
        UserError: a file that cannot be read, or lacks a channel that the model needs.
    """
    file = opened(path)
    wanted = list(checkpoint.channels)
    found = match(file, wanted, asked.channels)
    absent = [label for label, _ in wanted if label not in found]
    if not found or (absent and checkpoint.standardise != "present"):
        present = ", ".join(channel.label for channel in file.channels)
        raise UserError(
            f"{path}: no channel for {', '.join(absent)}, which the model needs; it has {present}; "
            "name one with --channels"
        )
    if is_equalised(checkpoint):
        found = {label: without_assumed_unit(one) for label, one in found.items()}
    file.hold(part for one in found.values() for part in one.parts)
    recording = recording_of(file, found)
    signals = prepared(recording, checkpoint, wanted)
    unknown = [one.derivation for one in found.values() if one.note is not None]
    seen = {
        found[label].derivation: found[label].signal
        for label, role in wanted
        if label in found and role.startswith(("EEG", "EOG"))
    }
    flags = quality_flags(seen, set(seen) - set(unknown), file.gaps, len(signals))
    scaled, mean, sd = standardised(signals, checkpoint.standardise)
    x = torch.from_numpy(scaled).to(device)
    probabilities = stage_signals(model.to(device), x).float().cpu().numpy()
    notes = [recording.note] if recording.note else []
    if is_equalised(checkpoint) and len(probabilities) < _SHORT:
        notes.append(f"shorter than {_SHORT * EPOCH_SECONDS // 60} minutes: less reliable")
    expert, stages = expert_of(file, asked.expert, len(probabilities), notes)
    start = recording.start.isoformat() if recording.start else None
    night = StagedNight(recording.id, recording.id, probabilities, stages, 0, start, flags)
    unit = "µV, equalised" if is_equalised(checkpoint) else "no unit" if unknown else "µV"
    there = [k for k, (label, _) in enumerate(wanted) if label in found]
    return StagedFile(
        night,
        x[:, there],
        mean[there],
        sd[there],
        unit,
        dict(recording.derivations),
        absent,
        notes,
        expert,
    )


def without_assumed_unit(found: Found) -> Found:
    """Spectral equalisation needs no unit, and sets the scale freely where nobody named one."""
    if found.note is None:
        return found
    note = found.note.replace(", taken as uV", "")
    return replace(found, signal=replace(found.signal, unit=""), note=note)


def is_equalised(checkpoint: Checkpoint) -> bool:
    """Whether recordings are brought to the common spectrum for it."""
    return preset_named(checkpoint.training.preparation.get("preset")) == EQUALISED


def expert_of(
    file: EdfFile | DreemFile, named: str | None, n_epochs: int, notes: list[str]
) -> tuple[Path | None, np.ndarray]:
    """The expert's file and stages; one that was not asked for and is broken becomes a note.

    Raises:
        UserError: the file that was named cannot be read, or scores nothing of this recording.
    """
    nobody = np.full(n_epochs, UNSCORED, np.int8)
    if named == "none":
        return None, nobody
    path = expert_annotations.find(file.path) if named is None else Path(named)
    note = ""
    try:
        if path is None:
            path, stages = file.path, within(file, n_epochs)
        else:
            stages, note = expert_annotations.read(path, file, n_epochs)
    except UserError as error:
        if named is not None:
            raise
        notes.append(f"no agreement: {error}")
        return None, nobody
    if stages is None or (stages == UNSCORED).all():
        return None, nobody
    if note:
        notes.append(f"{path.name}: {note}")
    return path, stages


def within(file: EdfFile | DreemFile, n_epochs: int) -> np.ndarray | None:
    """Stages inside the recording: a Dreem hypnogram, or EDF+ annotations, if there are any."""
    if isinstance(file, DreemFile):
        return file.stages[:n_epochs]
    return expert_annotations.of_annotations(file, n_epochs) if file.is_plus else None


def prepared(
    recording: Any, checkpoint: Checkpoint, wanted: Sequence[tuple[str, str]]
) -> np.ndarray:
    """Epochs (n, c, t) in the checkpoint's channels and rate, filtered as its store was."""
    made = checkpoint.training.preparation
    kept = None
    if made.get("kept"):
        kept = {
            label: RolePreprocessing(**made["kept"][role] | {"required": False})
            for label, role in wanted
        }
    band = made.get("bandpass")
    settings = Settings(
        cohort="predict",
        protocol="keep_all",
        channels=tuple(label for label, _ in wanted),
        bandpass=tuple(band) if band else None,
        fs=float(checkpoint.fs),
        preset=preset_named(made.get("preset")),
        kept=kept,
    )
    roles = {role: (label,) for label, role in wanted}
    return prepare(recording, settings, roles).signals[float(checkpoint.fs)]


def standardised(signals: np.ndarray, how: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By recording and channel, as in training, with the mean and sd (c,) taken out.

    "present" leaves flat channels out as NaN, "none" changes nothing.

    Raises:
        UserError: the checkpoint was trained on statistics that it does not carry.
    """
    n_channels = signals.shape[1]
    if how == "none":
        return signals, np.zeros(n_channels), np.ones(n_channels)
    if how == "train":
        raise UserError("a checkpoint scaled by its training nights cannot stage other files")
    mean, sd = channel_moments(signals, np.zeros(len(signals), np.int8))
    flat = ~(sd > _FLAT)
    taken = np.where(flat & (how == "present"), np.nan, mean)
    scaled = (signals - taken[:, None]) / np.where(flat, 1.0, sd)[:, None]
    return scaled.astype(np.float32), mean, sd
