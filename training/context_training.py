"""Short trainings of a context model of band powers: without labels, and with those of a few."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import models
from datasets.band_batches import BandSource, balanced_batches
from datasets.band_tables import BandNight
from models.night_bands import N_FEATURES
from objectives.band_staging import BandStaging
from objectives.masked_bands import MaskedBands
from training.bands_family import MODEL, probabilities_of
from training.optimisers import schedule
from training.validation import BestWeights
from utils import metrics

_CHECKS = 6  # validations of a training with labels
_WARM_UP = 0.1  # share of the steps in which the rate rises


@dataclass(frozen=True)
class ContextTraining:
    """Size of the model, and of its trainings by AdamW, gradients of a norm up to 1."""

    hidden: int = 32
    layers: int = 2
    steps: int = 400
    batch_size: int = 4
    lr: float = 1e-2


class Predictor(nn.Module):
    """A context model whose features of hidden epochs are predicted by a linear layer."""

    def __init__(self, net: nn.Module, hidden: int) -> None:
        super().__init__()
        self.net, self.decoder = net, nn.Linear(2 * hidden, N_FEATURES - 1)

    def relative(self, db: Tensor) -> Tensor:
        """As the context model reads nights."""
        return self.net.relative(db)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Features (b, n, 11), some of them hidden, to what they are without gaps: (b, n, 10)."""
        return self.decoder(self.net.context(features, lengths))


def untrained(how: ContextTraining, seed: int) -> nn.Module:
    """A context model with random weights; its layers have no statistics to be calibrated."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return models.build(MODEL, hidden=how.hidden, layers=how.layers)


def pretrained(how: ContextTraining, source: BandSource, seed: int) -> nn.Module:
    """The model after masked prediction on all nights of ``source``; no label is read."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        predictor = Predictor(untrained(how, seed), how.hidden)
        fit(predictor, MaskedBands(), source, how, seed, lambda step: None)
    return predictor.net.eval()


def supervised(
    how: ContextTraining, source: BandSource, validation: Sequence[BandNight], seed: int
) -> nn.Module:
    """The model trained to stage the nights of ``source``; the best of six on ``validation``."""
    net = untrained(how, seed)
    best = BestWeights(net)
    every = max(1, how.steps // _CHECKS)

    def check(step: int) -> None:
        if step % every == 0 or step == how.steps:
            counts = sum(metrics.confusion(one.stages, stages_of(net, one)) for one in validation)
            best.validated(counts, step)

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fit(net, BandStaging(), source, how, seed, check)
    best.restore()
    return net.eval()


def fit(
    net: nn.Module,
    objective: Callable[..., Any],
    source: BandSource,
    how: ContextTraining,
    seed: int,
    check: Callable[[int], None],
) -> None:
    """Take the steps of ``how`` on nights of ``source``; ``check`` is called after each."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=how.lr)
    rates = schedule(optimizer, how.steps, _WARM_UP, "cosine")
    step = 0
    while step < how.steps:
        for batch in balanced_batches([source], how.batch_size, [seed, step], torch.device("cpu")):
            net.train()
            objective(net, batch)[0].backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            rates.step()
            step += 1
            check(step)
            if step == how.steps:
                return


def stages_of(net: nn.Module, night: BandNight) -> np.ndarray:
    """Stages (n,) of a night in its first derivation."""
    return probabilities_of(net, night).argmax(axis=1)


@torch.no_grad()
def context_of(net: nn.Module, night: BandNight) -> np.ndarray:
    """What the model makes of every epoch in its night: float32 (n, 2 hidden)."""
    return net.eval().context(_features(net, night)[None])[0].numpy()


@torch.no_grad()
def powers_of(net: nn.Module, night: BandNight) -> np.ndarray:
    """What the model reads of every epoch, relative to its night: float32 (n, 11)."""
    return _features(net, night).numpy()


def _features(net: nn.Module, night: BandNight) -> Tensor:
    return net.relative(torch.from_numpy(night.decibels[:, 0]))
