"""Embeddings of a pretrained run's subjects: its encoder, its nights, its untrained control."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

import models
from datasets.store.store import Store
from datasets.store.views import View
from evaluation.stage import load_model, open_view
from objectives.contrast_views import views_of
from probing.embeddings import N_VIEWS, SPLITS, arrays_of, seen_again
from training.ssl_family import CLIP
from utils.checkpoint import Checkpoint, refuse_seen
from utils.errors import UserError


def encoder_of(checkpoint: Checkpoint) -> torch.nn.Module:
    """The pretrained encoder with what pretraining added to it, in evaluation mode.

    Raises:
        UserError: the checkpoint is not of ssl_training.py, or its weights do not fit.
    """
    if checkpoint.model != "pretraining":
        raise UserError(f"{checkpoint.path}: a {checkpoint.model}, not of ssl_training.py")
    return load_model(checkpoint)


def untrained(checkpoint: Checkpoint, seed: int) -> torch.nn.Module:
    """The same network with random weights: a control that has learned nothing."""
    with torch.random.fork_rng():  # the caller's generator stays as it was
        torch.manual_seed(seed)
        return models.build("pretraining", **checkpoint.settings).eval()


def split_views(checkpoint: Checkpoint, store: Store, device: torch.device) -> dict[str, View]:
    """The training, validation and held-out nights of a run, as its encoder reads them.

    Raises:
        UserError: the weights that it began with had seen held-out subjects.
    """
    subjects = checkpoint.training.subjects
    refuse_seen(
        checkpoint.training,
        store.cohort,
        subjects["held_out"],
        where=f"{checkpoint.path}",
        remedy="begin with weights that have not",
    )
    return {
        split: open_view(checkpoint, store, store.of_subjects(subjects[split]), device)
        for split in SPLITS
    }


def embed(net: torch.nn.Module, view: View, *, clip: bool, batch_size: int = 512) -> dict:
    """Embed every epoch of a view: arrays as those of :func:`arrays_of`.

    What projection heads make is never kept: z is the encoder's own latent, not normalised.
    """
    net.to(view.device).eval()

    def latent(signals: Tensor) -> Tensor:
        if clip:  # as in pretraining
            signals = signals.clamp(-CLIP, CLIP)
        return torch.cat([net.encoder.latent(part) for part in signals.split(batch_size)])

    return arrays_of(latent, view)


def embed_views(
    net: torch.nn.Module, view: View, *, clip: bool, n_views: int = N_VIEWS
) -> tuple[np.ndarray, np.ndarray]:
    """Embed ``n_views`` augmented views of some scored epochs: row numbers (m,) and z (q, m, d)."""
    change = views_of("benchmark", microvolt=not clip)

    def latent(signals: Tensor, inside: Tensor) -> list[Tensor]:
        x = signals[inside].clamp(-CLIP, CLIP) if clip else signals[inside]
        return [net.encoder.latent(change(x)) for _ in range(n_views)]

    return seen_again(latent, view)
