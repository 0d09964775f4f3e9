"""The triplet loss on a hand-worked case, and against every triplet written out."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

import models
from objectives.similarity import EPSILON, MARGIN, SimilarityStaging, triplet_loss
from objectives.staging import Staging


def directions(*degrees: float) -> torch.Tensor:
    return torch.tensor([[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees])


def test_stages_apart_cost_nothing_and_mixed_ones_do():
    apart = directions(0, 5, 180, 185)
    stages = torch.tensor([0, 0, 2, 2])
    assert triplet_loss(apart, stages) == 0
    assert triplet_loss(directions(0, 180, 5, 185), stages) > 1


def test_against_triplets_written_out():
    torch.manual_seed(0)
    features, stages = torch.randn(14, 6, dtype=torch.float64), torch.randint(0, 4, (14,))
    unit = features / features.norm(dim=1, keepdim=True)
    alike = (unit @ unit.T).tolist()
    hinges = []
    for a in range(14):
        same = [k for k in range(14) if stages[k] == stages[a] and k != a]
        other = [k for k in range(14) if stages[k] != stages[a]]
        if not same or not other:
            continue
        positives = [p for p in same if alike[a][p] - EPSILON < max(alike[a][n] for n in other)]
        negatives = [n for n in other if alike[a][n] + EPSILON > min(alike[a][p] for p in same)]
        for p in positives:
            hinges += [max(0.0, MARGIN + alike[a][n] - alike[a][p]) for n in negatives]
    positive = [hinge for hinge in hinges if hinge > 0]
    assert triplet_loss(features, stages).item() == pytest.approx(
        sum(positive) / len(positive), rel=1e-5
    )


def test_unscored_epochs_and_single_stages_count_for_nothing():
    torch.manual_seed(0)
    features = torch.randn(6, 4)
    stages = torch.tensor([0, 1, 0, 1, -1, -1])
    changed = features.clone()
    changed[4:] += 9
    assert torch.allclose(triplet_loss(features, stages), triplet_loss(changed, stages))
    assert triplet_loss(features, torch.zeros(6, dtype=torch.long)) == 0
    assert triplet_loss(features, torch.full((6,), -1)) == 0


def test_added_to_the_cross_entropy_and_trained():
    torch.manual_seed(0)
    net = models.build("seqsleepnet", n_channels=1, num_seq=3)
    plain = Staging([1.0] * 5, over_positions="mean")
    both = SimilarityStaging(plain)
    weights = both.attach(net, torch.device("cpu"))
    batch = SimpleNamespace(signals=torch.randn(8, 3, 1, 3000), stages=torch.randint(0, 5, (8, 3)))
    loss, logs = both(net, batch)
    assert loss > plain(net, batch)[0] and logs["scored"] == 24
    loss.backward()
    assert all(w.grad is not None and w.grad.any() for w in weights)
    assert not net.head._forward_pre_hooks
    other = SimilarityStaging(plain)
    other.attach(net, torch.device("cpu"))
    other.load_state_dict(both.state_dict())
    assert torch.equal(other.projection[0].weight, both.projection[0].weight)


def test_a_model_of_many_heads_is_refused():
    net = models.build("sequence_cmt", encoder="per_position", num_seq=2)
    with pytest.raises(ValueError, match="one head for all"):
        SimilarityStaging(Staging()).attach(net, torch.device("cpu"))
