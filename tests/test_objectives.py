"""The staging loss: hand-worked values, masked epochs, and one window after another."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import models
from objectives.staging import Staging
from objectives.stateful import StatefulStaging

SMALL = {"n_samples": 300, "d_model": 32, "dim_feedforward": 64, "dropout": 0.0}


def test_each_position_has_a_weighted_mean_of_its_own():
    # position 0: W (weight 1) and N1 (2); position 1: N2 (1) and one unscored epoch
    logits = torch.log(
        torch.tensor(
            [
                [[0.5, 0.2, 0.1, 0.1, 0.1], [0.1, 0.1, 0.25, 0.5, 0.05]],
                [[0.5, 0.125, 0.125, 0.125, 0.125], [0.2, 0.2, 0.2, 0.2, 0.2]],
            ]
        )
    )
    stages = torch.tensor([[0, 2], [1, -1]])
    ln2 = torch.log(torch.tensor(2.0))
    first = (1 * ln2 + 2 * 3 * ln2) / 3
    second = 2 * ln2
    assert torch.allclose(Staging().loss(logits, stages), first + second)
    mean = Staging(over_positions="mean").loss(logits, stages)
    assert torch.allclose(mean, (first + second) / 2)
    # not one mean over all epochs, which would be (1 + 6 + 2) / 4 ln 2
    assert not torch.allclose(mean, 9 / 4 * ln2)


def test_a_stateful_loss_is_divided_by_the_number_of_epochs():
    """TinySleepNet's weights make the loss of N1 larger, and not that of the others smaller."""
    logits, stages = torch.randn(3, 4, 5), torch.tensor([[0, 1, 1, 2], [3, -1, 4, 1], [-1] * 4])
    objective = StatefulStaging([1.0, 1.5, 1.0, 1.0, 1.0], length=4)
    each = nn.functional.cross_entropy(
        logits.flatten(0, 1), stages.flatten(), ignore_index=-1, reduction="none"
    )
    weight = torch.where(stages.flatten() == 1, 1.5, 1.0)
    assert torch.allclose(objective.loss(logits, stages), (each * weight).sum() / 7)
    assert objective.loss(logits, torch.full((3, 4), -1)) == 0


def test_it_is_cross_entropy_as_torch_weighs_it():
    logits, stages = torch.randn(8, 3, 5), torch.randint(-1, 5, (8, 3))
    objective = Staging((1, 2, 3, 4, 5))
    expected = sum(
        nn.functional.cross_entropy(
            logits[:, p], stages[:, p], weight=objective.weights, ignore_index=-1
        )
        for p in range(3)
    )
    assert torch.allclose(objective.loss(logits, stages), expected)


def test_a_position_or_batch_without_any_scored_epoch_adds_nothing():
    logits = torch.randn(4, 2, 5, requires_grad=True)
    stages = torch.tensor([[0, -1]] * 4)
    loss = Staging().loss(logits, stages)
    loss.backward()
    assert torch.isfinite(loss) and (logits.grad[:, 1] == 0).all()
    assert Staging().loss(logits, torch.full((4, 2), -1)) == 0


@pytest.mark.parametrize("weights", [(1, 2), (1, 1, 1, 1, -1), (0,) * 5, (1,) * 6])
def test_impossible_weights(weights):
    with pytest.raises(ValueError, match="one per stage"):
        Staging(weights)


def made(encoder="shared"):
    torch.manual_seed(0)
    model = models.build("sequence_cmt", num_seq=5, encoder=encoder, **SMALL).double()
    return model.eval()  # batch norm by its running statistics, as both forms must see the same


@pytest.mark.parametrize("encoder", ["shared", "per_position"])
@pytest.mark.parametrize("stride", [1, 3])
def test_encode_once_trains_as_encoding_every_window(encoder, stride):
    runs = torch.randn(3, 12, 2, 300, dtype=torch.double)
    stages = torch.randint(-1, 5, (3, 12))
    starts = range(0, 12 - 5 + 1, stride)
    windows = torch.stack([run[s : s + 5] for run in runs for s in starts])
    labels = torch.stack([run[s : s + 5] for run in stages for s in starts])
    results = []
    for signals, targets, step in ((runs, stages, stride), (windows, labels, 1)):
        model = made(encoder)
        batch = SimpleNamespace(signals=signals, stages=targets)
        loss, logs = Staging(stride=step)(model, batch)
        loss.backward()
        results.append((loss, logs, [p.grad for p in model.parameters()]))
    (once, logs, fast), (each, their_logs, slow) = results
    assert torch.allclose(once, each, rtol=1e-10)
    assert logs == their_logs
    for a, b in zip(fast, slow, strict=True):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-12)
