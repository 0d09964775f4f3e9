"""Spaces of the pretraining study and their probes, the same for controls and pretrained encoders.

Of every space the embeddings are centred and scaled by night, as band powers are; the penalty of
the probe, and the best weights of what labels train, are chosen on validation subjects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from datasets.store.store import Store
from datasets.store.views import View
from evaluation import embed, encoder_controls
from evaluation.probe_pretrained import by_night, drawn, tuning_data
from evaluation.stage import open_view
from experiments.study_rows import ALL, CURVE, Probed
from probing import probes
from probing.embeddings import Embed, epochs_of
from probing.latent_report import LABEL_FREE, Space
from probing.probes import Labelled
from training import fine_tuning
from utils import metrics
from utils.checkpoint import Checkpoint, refuse_seen
from utils.files import scratch_beside

_MOST = 5_000  # epochs that label-free metrics are computed on
Splits = Mapping[str, Labelled]


@dataclass(frozen=True)
class Labels:
    """How labels of training subjects are drawn, the same for every space of a seed."""

    n_train: int
    target: str
    seed: int

    def rows_of(self, train: Labelled, budget: str, draw: int) -> np.ndarray:
        """Rows of the training epochs that have a label."""
        share = 1.0 if budget == ALL else int(budget) / self.n_train
        return drawn(train, "subject", share, 1000 * self.seed + draw)


@dataclass(frozen=True)
class Nights:
    """Views of one seed's subjects: those that train, that validate and that are probed.

    ``target`` names the probed ones: "validation" for curves, "held_out" for the final table. In
    curves held-out nights are not even opened.
    """

    views: Mapping[str, View]
    target: str
    seed: int

    @property
    def labels(self) -> Labels:
        """How labels are drawn, and whom probes stage."""
        subjects = {night.subject for night in self.views["train"].nights}
        return Labels(len(subjects), self.target, self.seed)


def open_nights(
    checkpoint: Checkpoint,
    store: Store,
    device: torch.device,
    part: str,
    seed: int,
    *,
    read_by: Checkpoint,
) -> Nights:
    """The nights of a run of this seed that curves or the final table are about.

    Signals are prepared as ``read_by`` has them, which may be somebody else's encoder.

    Raises:
        UserError: the weights that it began with had seen held-out subjects.
    """
    subjects = checkpoint.training.subjects
    target = "validation" if part == CURVE else "held_out"
    refuse_seen(
        checkpoint.training,
        store.cohort,
        subjects["held_out"],
        where=f"{checkpoint.path}",
        remedy="begin with weights that have not",
    )
    views = {
        split: open_view(read_by, store, store.of_subjects(subjects[split]), device)
        for split in dict.fromkeys(("train", "validation", target))
    }
    return Nights(views, target, seed)


@contextmanager
def embedded(nights: Nights, encode: Embed, target: Path) -> Iterator[Splits]:
    """The splits of a space, in files beside ``target`` that are gone when the block ends."""
    with scratch_beside(target) as scratch:
        splits = {}
        for name, view in nights.views.items():
            about = epochs_of(view)
            z = encode(view, scratch / f"{name}.npy")
            splits[name] = Labelled(z, about["stage"], about["subject"])
        yield splits


def scaled(splits: Splits, nights: Nights) -> Splits:
    """The same space, every night centred and scaled by its own epochs."""
    return by_night(dict(splits), nights.views)


def probe(spaces: list[Splits], labels: Labels, budget: str, draws: int) -> dict[str, Any]:
    """Linear probes of a space, or of several networks in turn, by labels of ``budget`` subjects.

    Returns subjects, counts and draws of :class:`Probed`. All labels are drawn once; then several
    networks have a probe each.
    """
    n = len(spaces) if budget == ALL else max(draws, len(spaces))
    probed = []
    for k in range(n):
        space = spaces[k % len(spaces)]
        train = space["train"].some(labels.rows_of(space["train"], budget, k))
        probed.append(probes.linear_probe(train, space["validation"], space[labels.target]))
    return counted(spaces[0][labels.target], [one.stages for one in probed])


def counted(target: Labelled, staged: list[np.ndarray]) -> dict[str, Any]:
    """Subjects and their counts, all draws together."""
    names, of = np.unique(target.subjects, return_inverse=True)
    counts = sum(metrics.confusions(target.stages, stages, of, len(names)) for stages in staged)
    return {"subjects": tuple(map(str, names)), "counts": counts, "draws": len(staged)}


def pretrained_space(net: torch.nn.Module, checkpoint: Checkpoint) -> Embed:
    """How an encoder embeds a view."""
    return partial(embed.embed, net, clip=_clips(checkpoint))


def _clips(checkpoint: Checkpoint) -> bool:
    return checkpoint.standardise != "none"  # the limit is in standard deviations


def untrained_of(
    checkpoint: Checkpoint, nights: Nights
) -> Callable[[int], encoder_controls.SingleEpochs]:
    """Encoders like a run's before any training by seed, calibrated on its training nights."""
    net = embed.encoder_of(checkpoint)
    clip = embed.CLIP if _clips(checkpoint) else None
    epochs = encoder_controls.unlabelled(nights.views["train"], clip)
    return lambda seed: encoder_controls.untrained(checkpoint, net.encoder, seed, epochs)


def supervised(
    checkpoint: Checkpoint, nights: Nights, budget: str, steps: int, draws: int
) -> Probed:
    """The encoder trained end to end by the labels that a probe of the same draw learns from."""
    untrained, begun = untrained_of(checkpoint, nights), perf_counter()
    of_views = {name: tuning_data(view, checkpoint) for name, view in nights.views.items()}
    data = of_views | {"held_out": of_views[nights.target]}  # what tune() stages
    train = data["train"].labelled
    staged = []
    for k in range(draws):
        rows = nights.labels.rows_of(train, budget, k)
        start = untrained(1000 * nights.seed + k).encoder
        tuned = fine_tuning.tune(start, data, rows, steps, 1000 * nights.seed + k)
        staged.append(tuned.stages)
    made = counted(data["held_out"].labelled, staged)
    seconds = (perf_counter() - begun) / draws
    return Probed(**made, seconds=seconds, samples=fine_tuning.BATCH * steps)


def label_free(
    net: torch.nn.Module, checkpoint: Checkpoint, nights: Nights, space: Splits
) -> dict[str, float]:
    """Label-free metrics of the validation subjects' embeddings, of equally spaced epochs."""
    view, z = nights.views["validation"], space["validation"].z
    about = epochs_of(view)
    rows, views = embed.embed_views(net, view, clip=_clips(checkpoint))
    some = np.unique(np.linspace(0, len(z) - 1, min(_MOST, len(z))).astype(np.int64))
    names = ("stage", "subject", "recording", "epoch")
    y, subject, recording, epoch = (about[name][some] for name in names)
    part = Space(
        "validation", np.asarray(z[some]), y, subject, recording, epoch, views,
        about["subject"][rows],
    )  # fmt: skip
    return {name: value for metric in LABEL_FREE for name, value in metric(part).items()}
