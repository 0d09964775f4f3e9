"""Contributions of band powers: known answers, completeness, gaps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import models
from evaluation.stagers import bundled
from interpret.band_contributions import REST, band_contributions

BANDS = ["delta", "theta", "alpha", "sigma", "beta"]


class Linear(nn.Module):
    """Stands for a network: W is the epoch's own delta, N2 the sigma of the epoch before it."""

    def middle(self, db: Tensor) -> Tensor:
        return db.nanmedian(dim=-2, keepdim=True).values

    def relative(self, db: Tensor) -> Tensor:
        about = (db - self.middle(db)).nan_to_num()
        return torch.cat([about, about, torch.zeros_like(about[..., :1])], dim=-1)

    def forward(self, features: Tensor) -> Tensor:
        logits = torch.zeros(*features.shape[:2], 5)
        logits[..., 0] = features[..., 0] + features[..., 5]
        logits[:, 1:, 2] = 3 * features[:, :-1, 3]
        return logits

    def logits_of(self, db: Tensor) -> Tensor:
        return self(self.relative(db)[None])[0]


def a_night(n: int = 201) -> Tensor:
    return 6 * torch.from_numpy(np.random.default_rng(0).normal(size=(n, 5))).float()


def test_a_linear_answer_is_split_into_its_terms():
    db = a_night()
    epochs, stages = np.array([0, 70, 200]), np.array([0, 0, 0])
    reasons = band_contributions([Linear()], db, epochs, stages, np.full(3, 2), BANDS)
    about = db - db.median(dim=0).values
    expected = np.zeros((3, 6))
    expected[:, 0] = 2 * about[epochs, 0]
    expected[1:, 5] = -3 * about[epochs[1:] - 1, 3]
    np.testing.assert_allclose(reasons.contributions, expected, atol=1e-4)
    np.testing.assert_allclose(reasons.expected, 0, atol=1e-5)
    assert reasons.names == [*BANDS, REST] and reasons.error.max() < 1e-4
    np.testing.assert_allclose(reasons.values[:, :5], about[epochs], atol=1e-5)
    np.testing.assert_allclose(reasons.grouped()[..., 0], reasons.contributions)


@pytest.mark.parametrize("n", [30, 300])
def test_a_network_is_explained_completely(n):
    nets = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        nets.append(models.build("night_bands", hidden=16).eval())
        nets[-1].head.weight.data *= 20
    db = a_night(n)
    db[7] = float("nan")
    epochs = np.array([0, 7, 12, n - 1])
    reasons = band_contributions(nets, db, epochs, np.full(4, 2), np.full(4, 1), BANDS)
    logits = np.mean([net.logits_of(db).detach().numpy() for net in nets], axis=0)
    np.testing.assert_allclose(reasons.margin, logits[epochs, 2] - logits[epochs, 1], atol=1e-5)
    # trained networks bent the path of a whole night so often that no epoch's map was complete
    assert reasons.error.max() <= 0.01
    # known answer: the bands lead from the epoch at the middle of the range to the epoch as it is
    moved = torch.stack([nets[0].relative(db)] * 4)
    moved[range(4), epochs, :-1] = 0
    without = np.mean([net(moved)[range(4), epochs].detach().numpy() for net in nets], axis=0)
    own = reasons.margin - (without[:, 2] - without[:, 1])
    np.testing.assert_allclose(reasons.contributions[:, :5].sum(axis=1), own, atol=0.02)
    assert (reasons.contributions[1, :5] == 0).all() and np.isnan(reasons.values[1]).all()


def test_the_bundled_networks_are_explained_completely():
    """Was: 4 to over 100 % missing at every epoch, on a path that moved the whole night at once."""
    nets = list(bundled.load("default-bands", torch.device("cpu")).nets.values())
    rng = np.random.default_rng(0)
    stages = np.repeat(rng.permutation(np.tile(np.arange(5), 6)), 12)  # six minutes each
    means = 4 * rng.normal(size=(5, 5))
    db = torch.from_numpy(means[stages] + 1.5 * rng.normal(size=(len(stages), 5))).float()
    probabilities = np.mean([net.logits_of(db).softmax(dim=-1).detach() for net in nets], axis=0)
    epochs = np.arange(7, len(stages), 37)
    order = np.argsort(-probabilities[epochs], axis=1)
    explained = band_contributions(nets, db, epochs, order[:, 0], order[:, 1], BANDS)
    assert explained.error.max() <= 0.01
