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
from datasets.readers.channels import MatchedChannel, match
from datasets.readers.dreem_file import DreemFile
from datasets.readers.edf import EdfFile
from datasets.store.preparation import (
    EQUALISED,
    ROBUST,
    UNITLESS,
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

_FLAT = 1e-6  # standard deviation up to which a channel is flat
_UNITS = {EQUALISED: "µV, equalised", ROBUST: "quartile ranges"}
_SHORT = 60  # epochs below which a model of equalised spectra knows little of the recorder


@dataclass(frozen=True)
class Asked:
    """What the user decides: channels by label or role, and the expert's file.

    ``expert`` None takes a file of stages beside the recording if there is one, "none" takes none.
    """

    channels: Mapping[str, str]
    expert: str | None = None


@dataclass(frozen=True)
class StagedFile:
    """The staged night of one file, and the signals, units and notes it was staged with.

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
    matches = match(file, wanted, asked.channels)
    absent = [label for label, _ in wanted if label not in matches]
    # "present": the model stages by any of its roles
    if not matches or (absent and checkpoint.standardise != "present"):
        present = ", ".join(channel.label for channel in file.channels)
        raise UserError(
            f"{path}: no channel for {', '.join(absent)}, which the model needs; it has {present}; "
            "name one with --channels"
        )
    if is_unitless(checkpoint):
        matches = {label: without_assumed_unit(one) for label, one in matches.items()}
    # preparation and quality flags both read the samples: once from the file is enough
    file.hold(part for one in matches.values() for part in one.parts)
    recording = recording_of(file, matches)
    signals = prepared(recording, checkpoint, wanted)
    # only a file that names no unit has a note
    unknown = [one.derivation for one in matches.values() if one.note is not None]
    # the limits of quality flags are those of brain and eyes
    seen = {
        matches[label].derivation: matches[label].signal
        for label, role in wanted
        if label in matches and role.startswith(("EEG", "EOG"))
    }
    flags = quality_flags(seen, set(seen) - set(unknown), file.gaps, len(signals))
    scaled, mean, sd = standardised(signals, checkpoint.standardise)
    x = torch.from_numpy(scaled).to(device)
    probabilities = stage_signals(model.to(device), x).float().cpu().numpy()
    notes = [recording.note] if recording.note else []
    if is_unitless(checkpoint) and len(probabilities) < _SHORT:
        notes.append(f"shorter than {_SHORT * EPOCH_SECONDS // 60} minutes: less reliable")
    expert, stages = expert_of(file, asked.expert, len(probabilities), notes)
    start = recording.start.isoformat() if recording.start else None
    night = StagedNight(recording.id, recording.id, probabilities, stages, 0, start, flags)
    unit = _UNITS.get(preset_of(checkpoint), "no unit" if unknown else "µV")
    recorded = [k for k, (label, _) in enumerate(wanted) if label in matches]
    return StagedFile(
        night,
        x[:, recorded],
        mean[recorded],
        sd[recorded],
        unit,
        dict(recording.derivations),
        absent,
        notes,
        expert,
    )


def without_assumed_unit(channel: MatchedChannel) -> MatchedChannel:
    """The channel without the unit that was assumed for it: equalisation sets its level freely."""
    if channel.note is None:
        return channel
    note = channel.note.replace(", taken as uV", "")
    return replace(channel, signal=replace(channel.signal, unit=""), note=note)


def preset_of(checkpoint: Checkpoint) -> str | None:
    """The preset by which the checkpoint's nights were prepared, and files are too."""
    return preset_named(checkpoint.training.preparation.get("preset"))


def is_unitless(checkpoint: Checkpoint) -> bool:
    """Whether the preparation sets the scale of signals itself, so that no unit is needed."""
    return preset_of(checkpoint) in UNITLESS


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
        # a file beside the recording that nobody named must not keep it from being staged
        notes.append(f"no agreement: {error}")
        return None, nobody
    if stages is None or (stages == UNSCORED).all():
        return None, nobody
    if note:
        notes.append(f"{path.name}: {note}")
    return path, stages


def within(file: EdfFile | DreemFile, n_epochs: int) -> np.ndarray | None:
    """Stages in the recording's own file, if any: a Dreem hypnogram, or EDF+ annotations."""
    if isinstance(file, DreemFile):
        return file.stages[:n_epochs]
    return expert_annotations.of_annotations(file, n_epochs) if file.is_plus else None


def prepared(
    recording: Any, checkpoint: Checkpoint, wanted: Sequence[tuple[str, str]]
) -> np.ndarray:
    """Epochs (n, c, t) in the checkpoint's channels and rate, filtered as its store was."""
    made = checkpoint.training.preparation
    kept = None
    # not required: a role that this file lacks is absent, where a store would refuse the night
    if made.get("kept"):
        kept = {
            label: RolePreprocessing(**made["kept"][role] | {"required": False})
            for label, role in wanted
        }
    band = made.get("bandpass")
    settings = Settings(
        cohort="predict",
        protocol="keep_all",  # every epoch of the file is staged, whatever training kept
        channels=tuple(label for label, _ in wanted),
        bandpass=tuple(band) if band else None,
        fs=float(checkpoint.fs),
        preset=preset_of(checkpoint),
        kept=kept,
    )
    roles = {role: (label,) for label, role in wanted}
    return prepare(recording, settings, roles).signals[float(checkpoint.fs)]


def standardised(signals: np.ndarray, how: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardise signals per recording and channel, as in training; also the mean and sd (c,).

    "present" leaves flat channels out as NaN, "none" changes nothing.

    Raises:
        UserError: the checkpoint was trained on statistics that it does not carry.
    """
    n_channels = signals.shape[1]
    if how == "none":
        return signals, np.zeros(n_channels), np.ones(n_channels)
    if how == "train":
        raise UserError("a checkpoint scaled by its training nights cannot stage other files")
    # every epoch counts: those of a new file are not scored
    mean, sd = channel_moments(signals, np.zeros(len(signals), np.int8))
    flat = ~(sd > _FLAT)  # so written, NaN counts as flat
    taken = np.where(flat & (how == "present"), np.nan, mean)
    scaled = (signals - taken[:, None]) / np.where(flat, 1.0, sd)[:, None]
    return scaled.astype(np.float32), mean, sd
