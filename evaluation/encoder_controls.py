"""What pretrained encoders are compared with: untrained, supervised and published ones, powers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import models
from datasets.store.store import Store
from datasets.store.views import View
from evaluation.stage import load_staging_model, open_view
from interpret.random_weights import with_random_weights
from probing.embeddings import Embed, write_z
from probing.probes import hand_made
from probing.row_files import Rows, scale_of
from training import fine_tuning
from training.fine_tuning import EpochsOf, Tuning
from utils.checkpoint import Checkpoint
from utils.errors import UserError
from utils.files import read_json

Control = Callable[[str, Path], Rows]  # embeds a split into a file
_UNLABELLED = 512  # epochs that batch norms of untrained encoders are measured on


class SingleEpochs(nn.Module):
    """An ``encoder`` as a model of windows of one epoch, which is what can be calibrated."""

    num_seq = 1

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def adapt_to_night(self, x: Tensor) -> None:
        """Nothing: epochs are encoded one by one."""

    def forward(self, windows: Tensor) -> Tensor:
        """Latents of windows: (b, 1, c, t) -> (b, d)."""
        return self.encoder.latent(windows.flatten(0, 1))


def untrained(
    checkpoint: Checkpoint, encoder: nn.Module, seed: int, epochs: Tensor
) -> SingleEpochs:
    """The encoder of a checkpoint before any training, calibrated on unlabelled epochs (n, c, t).

    Batch norms begin with statistics of no data, by which a deep network maps all epochs almost
    alike: they are measured. Layer norms have none, they normalise each token by itself. The scale
    of spectrograms is that of ``encoder``, which is the training nights' too.
    """
    with torch.random.fork_rng():  # the caller's generator stays as it was
        torch.manual_seed(seed)
        fresh = models.build("pretraining", **checkpoint.settings).encoder
    if encoder.spectrogram is not None:
        fresh.spectrogram.load_state_dict(encoder.spectrogram.state_dict())
    model = SingleEpochs(fresh.to(epochs.device))
    norms = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    return with_random_weights(model, seed, norms, training=epochs)


def unlabelled(view: View, clip: float | None) -> Tensor:
    """Epochs (n, c, t) from all nights of a view, equally spaced."""
    rows = np.linspace(0, view.n_epochs - 1, min(_UNLABELLED, view.n_epochs)).astype(np.int64)
    return EpochsOf(view, clip)[torch.from_numpy(rows)]


def supervised(
    start: SingleEpochs, splits: Mapping[str, Tuning], steps: int, seed: int
) -> SingleEpochs:
    """The encoder trained by all labels of the training subjects, in so many steps."""
    net, _ = fine_tuning.fit(start.encoder, splits, None, steps, seed)
    return SingleEpochs(net.encoder).eval()


def budget(run: Path, checkpoint: Checkpoint, view: View) -> int:
    """Steps with labels that see about as many epochs as pretraining saw up to its best pass.

    ``view`` holds the nights of the training subjects, of which pretraining may have had some
    alone. In a run that is validated more often than once per sweep over them, the parts count as
    passes; its last pass may have ended with the last step of the training.

    Raises:
        UserError: the run's ``run.json`` is missing or lacks its flags.
    """
    try:
        flags = read_json(run / "run.json")["settings"]
        every, n_nights = int(flags["val_check_interval"]), flags.get("n_nights")
        batch_size, group = int(flags["batch_size"]), int(flags["accumulate"])
        ends = [flags.get("n_steps"), *(flags.get("keep_steps") or [])[-1:]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{run / 'run.json'}: has no settings of ssl_training.py; add --tuned False"
        ) from error
    n_epochs = view.n_epochs * (1.0 if n_nights is None else n_nights / len(view.nights))
    parts = max(1, round(n_epochs / batch_size / every)) if every else 1
    seen = (checkpoint.passes or 1) * n_epochs / parts
    most = [steps * group * batch_size for steps in ends if steps is not None]
    return max(1, round(min([seen, *most]) / fine_tuning.BATCH))


def embed_powers(view: View, path: Path) -> Rows:
    """Hand-made features of every epoch, centred and scaled by night; of absent channels, 0."""

    def powers(signals: Tensor) -> Tensor:
        features = hand_made(signals.nan_to_num(0.0).cpu().numpy(), view.fs)
        mean, sd = scale_of(features)
        return torch.from_numpy((features - mean) / sd)

    return write_z(path, powers, view)


def published(
    published: Checkpoint, checkpoint: Checkpoint, store: Store, device: torch.device
) -> Control:
    """How somebody else's encoder embeds the splits of ``checkpoint``, of the same recordings.

    Raises:
        UserError: the store lacks its channels, or its epochs cannot be encoded one by one.
    """
    encode, subjects = published_encoder(published, device), checkpoint.training.subjects

    def embed(split: str, path: Path) -> Rows:
        view = open_view(published, store, store.of_subjects(subjects[split]), device)
        return encode(view, path)

    return embed


def published_encoder(published: Checkpoint, device: torch.device) -> Embed:
    """How somebody else's encoder embeds a view that was opened as it reads signals.

    Raises:
        UserError: its epochs cannot be encoded one by one.
    """
    model = load_staging_model(published)
    if not (model.stages_epochs and model.separable):
        raise UserError(f"{published.path}: its epochs cannot be encoded one by one")
    encode = partial(encode_night, model.to(device).eval())
    return lambda view, path: write_z(path, encode, view)


def encode_night(model: nn.Module, signals: Tensor, batch_size: int = 512) -> Tensor:
    """What a staging model makes of each epoch before their sequence: (n, c, t) -> (n, d)."""
    return torch.cat([model.encode_epochs(part).flatten(1) for part in signals.split(batch_size)])
