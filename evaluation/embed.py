"""Embeddings of a pretrained run's subjects by its encoder, and by those it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.store.store import Store
from datasets.store.views import View
from evaluation.encoder_controls import Control, embed_powers
from evaluation.stage import load_model, open_view
from objectives.contrast_views import views_of
from probing.embeddings import (
    CONTROLS,
    N_TRAIN,
    N_VIEWS,
    SPLITS,
    Embed,
    seen_again,
    write_embeddings,
    write_z,
)
from probing.latent_metrics import stratified
from probing.probes import Labelled
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
    others: Mapping[str, Control] | None = None,
) -> Iterator[dict[str, list[dict[str, Labelled]]]]:
    """The spaces that probes compare, by name; writes what ``latent_space_evaluator.py`` reads.

    The controls come first, ``others`` after band powers and random encoders. All z are in files,
    those of the controls in a folder that is gone when the block ends.
    """
    folder = run / "embeddings"
    like = write_embeddings(run, views, encoders.pretrained, checkpoint, encoders.net)
    with scratch_beside(folder) as scratch:

        def control(embed: Control, number: int) -> dict[str, Labelled]:
            return {
                split: replace(like[split], z=embed(split, scratch / f"{number}_{split}.npy"))
                for split in views
            }

        def by_view(embed: Embed) -> Control:
            return lambda split, path: embed(views[split], path)

        wanted = {
            "band powers": [by_view(embed_powers)],
            "random encoder": [by_view(encoders.random(seed)) for seed in seeds],
            **{name: [embed] for name, embed in (others or {}).items()},
        }
        number = count()
        spaces = {
            name: [control(one, next(number)) for one in each] for name, each in wanted.items()
        }
        spaces["pretrained"] = [like]
        write_controls(folder, checkpoint, spaces, encoders.views(views["held_out"]))
        yield spaces


def write_controls(
    folder: Path,
    checkpoint: Checkpoint,
    spaces: Mapping[str, list[dict[str, Labelled]]],
    views: tuple[np.ndarray, np.ndarray],
) -> None:
    """Write the first space of each of the controls, and some training epochs, for their maps."""
    for name in CONTROLS:
        z = spaces[name.replace("_", " ")][0]["held_out"].z
        write_rows(folder / f"{name}.npy", parts_of(z), len(z))
    train = spaces["pretrained"][0]["train"]
    chosen = stratified(train.stages, train.subjects, N_TRAIN)
    arrays = {"view_rows": views[0], "z_view": views[1]}
    for name in ("pretrained", *CONTROLS):
        z = spaces[name.replace("_", " ")][0]["train"].z
        arrays[f"{name}_train"] = np.asarray(z[chosen])
    about = {name: np.array(value) for name, value in checkpoint.stamp().items()}
    write_arrays(folder / "controls.npz", arrays | about)
