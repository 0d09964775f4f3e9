"""Pretrained encoders in one file that runs no code, with a card; recordings in, embeddings out.

encoder = load_encoder("encoders/ssl_contrastive_cnn_fold4_seed0")
z = encoder.encode("night.edf")  # (epochs, d)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from datasets.readers.any_file import opened, recording_of
from datasets.readers.channels import match
from datasets.readers.missing import mended
from datasets.readers.raw_file import RawFile
from evaluation.embed import CLIP, encoder_of
from evaluation.stage import pick_device
from evaluation.stagers.network_stager import at_rate, is_unitless, prepared
from evaluation.stagers.scaling import standardised
from evaluation.stagers.stager import without_assumed_unit
from utils.checkpoint import FORMAT_VERSION, Checkpoint, checkpoint_from, without_paths
from utils.errors import UserError
from utils.files import written_whole
from utils.json_values import parsed

WEIGHTS = "encoder.safetensors"
_ABOUT = "sleep_staging"  # one key of the file's metadata: several have no fixed order
_AT_ONCE = 256  # epochs


class PortableEncoder:
    """A pretrained encoder of single epochs, with the preparation of its nights."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.checkpoint, self.device = checkpoint, device
        self._encoder = encoder_of(checkpoint).encoder.to(device)

    @torch.no_grad()
    def encode(
        self,
        raw: Path | str | Any,
        *,
        channels: Mapping[str, str] | None = None,
        night: tuple[int, int] | None = None,
    ) -> np.ndarray:
        """Embeddings (epochs, d), float32, of a recording's epochs of 30 s, from its beginning.

        Args:
            raw: path of an EDF, BDF or Dreem file, or an ``mne.io.Raw``, which stays unchanged.
            channels: the recording's channel for each role, ``{"EEG": "C4-M1"}``; else by name.
            night: first epoch, and the one after the last, of the part whose mean and deviation
                scale the signals, as its training nights were cut; all by default. In training
                those were of scored epochs, which leave out movements.

        Raises:
            UserError: the recording cannot be read, or lacks a channel.
        """
        signals = self._signals(raw, channels or {})
        first, end = night or (0, len(signals))
        if not 0 <= first < end <= len(signals):
            raise UserError(f"night {first} to {end}: the recording has {len(signals)} epochs")
        how = self.checkpoint.standardise
        x = torch.from_numpy(standardised(signals, how, (first, end))[0])
        if how != "none":  # as in pretraining
            x = x.clamp(-CLIP, CLIP)
        parts = [self._encoder.latent(part.to(self.device)) for part in x.split(_AT_ONCE)]
        return torch.cat(parts).float().cpu().numpy()

    def _signals(self, raw: Any, channels: Mapping[str, str]) -> np.ndarray:
        """Epochs (n, c, t) of the channels, filtered and resampled as the training nights."""
        made, wanted = self.checkpoint, list(self.checkpoint.channels)
        file = opened(Path(raw)) if isinstance(raw, (str, Path)) else RawFile(raw)
        matches = match(file, wanted, channels)
        if absent := [label for label, _ in wanted if label not in matches]:
            present = ", ".join(channel.label for channel in file.channels)
            raise UserError(
                f"{file.path}: no channel for {', '.join(absent)}, which the encoder reads; it has "
                f"{present or 'none'}; name those that stand for them with channels="
            )
        if is_unitless(made):
            matches = {label: without_assumed_unit(one) for label, one in matches.items()}
        _, high = made.training.preparation.get("bandpass") or (None, 0.0)
        matches = {label: at_rate(one, made.fs, high or 0.0) for label, one in matches.items()}
        return prepared(mended(recording_of(file, matches)), made, wanted)


def load_encoder(folder: Path | str, device: str = "auto") -> PortableEncoder:
    """The encoder that ``export_encoder.py`` wrote into a folder; nothing in its file is run.

    Raises:
        UserError: it is missing, damaged, or another program's.
    """
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise UserError(f"{path}: no such file; export_encoder.py writes it")
    try:
        with safetensors.safe_open(path, "pt") as file:
            about = parsed((file.metadata() or {})[_ABOUT])
        content = {**about, "state": safetensors.torch.load_file(path)}
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: no encoder of export_encoder.py, or damaged ({error}); fetch it again"
        ) from error
    return PortableEncoder(checkpoint_from(content, path), pick_device(device))


def save_encoder(checkpoint: Checkpoint, path: Path) -> None:
    """Write the encoder of a checkpoint of ``ssl_training.py``, without what pretraining added.

    The same weights give the same bytes.
    """
    encoder = encoder_of(checkpoint).encoder
    state = {f"encoder.{name}": value.contiguous() for name, value in encoder.state_dict().items()}
    about = {
        "format": FORMAT_VERSION,
        "model": checkpoint.model,
        "settings": {**checkpoint.settings, "decoder": False, "projection": []},
        "channels": checkpoint.channels,
        "fs": checkpoint.fs,
        "standardise": checkpoint.standardise,
        "scaled_over": checkpoint.scaled_over,
        "trained": without_paths(dict(checkpoint.training.facts)),
        "pass": checkpoint.passes,
    }
    metadata = {_ABOUT: json.dumps(about, sort_keys=True, allow_nan=False)}
    with written_whole(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(state, metadata))
