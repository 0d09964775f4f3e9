"""Short trainings with labels, to compare with probes of frozen encoders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from datasets.store.batches import Windows
from datasets.store.views import View
from probing.probes import Labelled, Probed
from probing.row_files import moments
from training.validation import BestWeights
from utils import metrics
from utils.stages import STAGES

BATCH, _CHECKS = 64, 6  # epochs per step, validations per training
# the pretrained encoder moves slower than the head, which starts from random weights
_ENCODER_LR, _HEAD_LR = 3e-4, 1e-3


class EpochsOf:
    """Signals of a view's epochs by number, cut at ``clip``: read when they are asked for."""

    def __init__(self, view: View, clip: float | None) -> None:
        self._view, self._clip, self.device = view, clip, view.device

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Signals (n, c, t) of the epochs ``rows`` (n,), counted over all recordings."""
        starts = self._view.offsets
        nights = np.searchsorted(starts, rows.numpy(), side="right") - 1
        where = Windows(nights, rows.numpy() - starts[nights])
        (batch,) = self._view.read([where], 1)
        signals = batch.signals[:, 0]
        return signals if self._clip is None else signals.clamp(-self._clip, self._clip)


@dataclass(frozen=True)
class Tuning:
    """Epochs of one split: signals (n, c, t) by row, stages (n,) and subjects (n,) on the CPU."""

    signals: Tensor | EpochsOf
    stages: Tensor
    subjects: np.ndarray

    @property
    def labelled(self) -> Labelled:
        """Stages and subjects without signals, which is all that drawing labels needs."""
        stages = self.stages.numpy()
        return Labelled(np.zeros((len(stages), 1), np.float32), stages, self.subjects)


class _Stager(nn.Module):
    """An encoder with a linear layer that gives one logit per stage."""

    def __init__(self, encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(width, len(STAGES))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder.latent(x))


def tune(
    encoder: nn.Module, splits: Mapping[str, Tuning], rows: np.ndarray | None, steps: int, seed: int
) -> Probed:
    """Fine-tune a copy of ``encoder``; its best weights stage the held-out subjects."""
    net, chosen = fit(encoder, splits, rows, steps, seed)
    probabilities = _stage(net, splits["held_out"])
    return Probed(probabilities.argmax(axis=1), probabilities, chosen)


def fit(
    encoder: nn.Module, splits: Mapping[str, Tuning], rows: np.ndarray | None, steps: int, seed: int
) -> tuple[nn.Module, str]:
    """Train a copy of ``encoder`` with a linear layer on ``rows`` of the training epochs.

    Weights are validated a few times. Returns the network with the best of them, whose
    ``encoder`` is the copy, and which they are.
    """
    train = splits["train"]
    # the caller's random state stays as it is, whatever is trained in between
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        copied = deepcopy(encoder)
        # the latent's width differs by encoder, so two epochs are encoded to learn it
        with torch.no_grad():
            width = copied.eval().latent(train.signals[torch.arange(2)]).shape[1]
        net = _Stager(copied, width).to(train.signals.device)
        groups = [
            {"params": net.encoder.parameters(), "lr": _ENCODER_LR},
            {"params": net.head.parameters(), "lr": _HEAD_LR},
        ]
        return net, _fit(net, groups, (train, splits["validation"]), rows, steps)


def _fit(
    net: nn.Module,
    groups: list,
    splits: tuple[Tuning, Tuning],
    rows: np.ndarray | None,
    steps: int,
) -> str:
    train, validation = splits
    chosen = torch.nonzero(train.stages >= 0)[:, 0]
    # epochs nobody scored have stage -1 and cannot train
    if rows is not None:
        chosen = torch.from_numpy(rows)[train.stages[rows] >= 0]
    optimizer = torch.optim.Adam(groups, weight_decay=1e-4)
    best = BestWeights(net)
    every = max(1, steps // _CHECKS)
    for step in range(1, steps + 1):
        net.train()
        # at least two epochs: batch normalisation has no variance of one
        batch = chosen[torch.randint(len(chosen), (min(BATCH, max(2, len(chosen))),))]
        stages = train.stages[batch].to(train.signals.device)
        loss = nn.functional.cross_entropy(net(train.signals[batch]), stages)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % every and step != steps:
            continue
        predicted = _stage(net, validation).argmax(axis=1)
        best.validated(metrics.confusion(validation.stages.numpy(), predicted), step)
    best.restore()
    return f"step {best.at} of {steps}"


@torch.no_grad()
def _stage(net: nn.Module, epochs: Tuning) -> np.ndarray:
    net.eval()
    rows = torch.arange(len(epochs.stages)).split(512)
    parts = [net(epochs.signals[part]).float().softmax(dim=1) for part in rows]
    return torch.cat(parts).cpu().numpy()


def context_probe(
    splits: Mapping[str, Labelled],
    offsets: Mapping[str, np.ndarray],
    seed: int,
    passes: int = 40,
) -> Probed:
    """Train a bidirectional GRU over whole nights of frozen embeddings; its best pass is tested.

    ``offsets`` (nights + 1,) are rows at which nights of a split begin, and the last one ends.
    """
    train = splits["train"]
    mean, sd = moments(train.z)

    def nights(split: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Read one after the other, in every pass."""
        z, stages = splits[split].z, splits[split].stages.astype(np.int64)
        for first, end in pairwise(offsets[split]):
            standard = torch.from_numpy((z[first:end] - mean) / (sd + 1e-6))
            yield standard, torch.from_numpy(stages[first:end])

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = _Context(train.z.shape[1])
        optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
        best = BestWeights(net)
        for number in range(1, passes + 1):
            net.train()
            for z, stages in nights("train"):
                loss = nn.functional.cross_entropy(net(z), stages, ignore_index=-1)  # unscored
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            net.eval()
            with torch.no_grad():
                predicted = torch.cat([net(z).argmax(dim=1) for z, _ in nights("validation")])
            counts = metrics.confusion(splits["validation"].stages, predicted.numpy())
            best.validated(counts, number)
        best.restore()
        with torch.no_grad():
            each = [net(z).softmax(dim=1) for z, _ in nights("held_out")]
        probabilities = torch.cat(each).numpy()
    return Probed(probabilities.argmax(axis=1), probabilities, f"pass {best.at} of {passes}")


class _Context(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(width, 32, batch_first=True, bidirectional=True)
        self.dropout, self.head = nn.Dropout(0.3), nn.Linear(64, len(STAGES))

    def forward(self, z: Tensor) -> Tensor:
        return self.head(self.dropout(self.rnn(z[None])[0][0]))
