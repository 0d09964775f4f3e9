"""Embeddings of a pretrained run's subjects: its encoder, its nights, its untrained control."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import models
from datasets.store.store import Store
from datasets.store.views import View
from evaluation.stage import load_model, open_view
from objectives.contrast_views import views_of
from probing.embeddings import (
    CONTROLS,
    N_VIEWS,
    SPLITS,
    Embed,
    seen_again,
    write_embeddings,
    write_z,
)
from probing.probes import Labelled, hand_made
from probing.row_files import Rows, parts_of, write_rows
from training.ssl_family import CLIP
from utils.checkpoint import Checkpoint, refuse_seen
from utils.errors import UserError
from utils.files import scratch_beside, write_arrays


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


def embed(
    net: torch.nn.Module, view: View, path: Path, *, clip: bool, batch_size: int = 512
) -> Rows:
    """Embed every epoch of a view into a file.

    What projection heads make is never kept: z is the encoder's own latent, not normalised.
    """
    net.to(view.device).eval()

    def latent(signals: Tensor) -> Tensor:
        if clip:  # as in pretraining
            signals = signals.clamp(-CLIP, CLIP)
        return torch.cat([net.encoder.latent(part) for part in signals.split(batch_size)])

    return write_z(path, latent, view)


def embed_powers(view: View, path: Path) -> Rows:
    """Hand-made features of every epoch in the place of embeddings; zeros are absent channels'."""

    def powers(signals: Tensor) -> Tensor:
        return torch.from_numpy(hand_made(signals.nan_to_num(0.0).cpu().numpy(), view.fs))

    return write_z(path, powers, view)


def embed_views(
    net: torch.nn.Module, view: View, *, clip: bool, n_views: int = N_VIEWS
) -> tuple[np.ndarray, np.ndarray]:
    """Embed ``n_views`` augmented views of some scored epochs: row numbers (m,) and z (q, m, d)."""
    change = views_of("benchmark", microvolt=not clip)

    def latent(signals: Tensor, inside: Tensor) -> list[Tensor]:
        x = signals[inside].clamp(-CLIP, CLIP) if clip else signals[inside]
        return [net.encoder.latent(change(x)) for _ in range(n_views)]

    return seen_again(latent, view)


@dataclass(frozen=True)
class Encoders:
    """A network with an ``encoder``, and how it, random ones by seed and its views embed nights."""

    net: torch.nn.Module
    pretrained: Embed
    random: Callable[[int], Embed]
    views: Callable[[View], tuple[np.ndarray, np.ndarray]]


@contextmanager
def embedded_spaces(
    run: Path,
    checkpoint: Checkpoint,
    views: Mapping[str, View],
    encoders: Encoders,
    seeds: Sequence[int],
) -> Iterator[dict[str, list[dict[str, Labelled]]]]:
    """The spaces that probes compare, by name; writes what ``latent_space_evaluator.py`` reads.

    All z are in files, those of the controls in a folder that is gone when the block ends.
    """
    folder = run / "embeddings"
    like = write_embeddings(run, views, encoders.pretrained, checkpoint, encoders.net)
    with scratch_beside(folder) as scratch:

        def control(embed: Embed, name: str) -> dict[str, Labelled]:
            return {
                split: replace(like[split], z=embed(view, scratch / f"{name}_{split}.npy"))
                for split, view in views.items()
            }

        spaces = {
            "pretrained": [like],
            "random encoder": [control(encoders.random(seed), f"random_{seed}") for seed in seeds],
            "band powers": [control(embed_powers, "powers")],
        }
        for name in CONTROLS:
            z = spaces[name.replace("_", " ")][0]["held_out"].z
            write_rows(folder / f"{name}.npy", parts_of(z), len(z))
        rows, z_view = encoders.views(views["held_out"])
        about = {name: np.array(value) for name, value in checkpoint.stamp().items()}
        write_arrays(folder / "controls.npz", {"z_view": z_view, "view_rows": rows, **about})
        yield spaces
