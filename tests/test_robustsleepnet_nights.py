"""RobustSleepNet on nights: windows, both ways to standardise, gaps, absent channels, training."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import models
import staging_evaluate
import staging_training
from datasets.store.store import Store
from models.robustsleepnet import _heard, _statistics
from objectives.staging import Staging
from tests.conftest import prepare
from training.recipes import RECIPES
from utils.checkpoint import load_checkpoint

WAYS = ("window", "night")


def built(way: str, num_seq: int = 5) -> torch.nn.Module:
    """Both ways have the same random weights, larger than torch's own so that inputs matter."""
    torch.manual_seed(0)
    net = models.build("robustsleepnet", num_seq=num_seq, standardise_over=way)
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(0.2 * torch.randn_like(weight))
    return net.eval()


@pytest.fixture(scope="module")
def night() -> torch.Tensor:
    """40 epochs of three channels whose level and spectrum vary."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(40, 3, 1800, generator=generator).cumsum(dim=-1) / 10
    x = x - x.mean(dim=-1, keepdim=True)
    level = 1 + torch.rand(40, 1, 1, generator=generator)
    return level * (x + torch.randn(40, 3, 1800, generator=generator))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("n_epochs", [0, 1, 4, 5, 40])
def test_any_night_in_any_batches(way, n_epochs, night):
    net = built(way)
    whole = net.stage_night(night[:n_epochs])
    assert whole.shape == (n_epochs, 5) and torch.isfinite(whole).all()
    assert torch.allclose(whole.sum(dim=1), torch.ones(n_epochs), atol=1e-5)
    for size in (1, 7, 1000):
        assert torch.allclose(net.stage_night(night[:n_epochs], size), whole, atol=1e-6)


def test_a_night_is_the_mean_over_windows_staged_one_by_one(night):
    net = built("window")
    total, count = torch.zeros(12, 5), torch.zeros(12, 1)
    for first in range(8):
        with torch.no_grad():
            total[first : first + 5] += net(night[None, first : first + 5])[0].softmax(dim=-1)
        count[first : first + 5] += 1
    assert torch.allclose(net.stage_night(night[:12]), total / count, atol=1e-6)


def test_both_ways_agree_where_statistics_do_not_change(night):
    window, by_night = built("window"), built("night")
    once = night[:5]
    assert torch.equal(window.stage_night(once), by_night.stage_night(once))
    # any five epochs of a repeated five have the same mean; the deviation differs by n / (n - 1)
    again = once.repeat(8, 1, 1)
    assert torch.allclose(window.stage_night(again), by_night.stage_night(again), atol=5e-3)
    difference = window.stage_night(night) - by_night.stage_night(night)
    assert difference.abs().max() > 0.05


@pytest.mark.parametrize("way", WAYS)
def test_an_absent_channel_is_left_out(way, night):
    net = built(way)
    absent = night.clone()
    absent[:, 1] = torch.nan
    expected = net.stage_night(night[:, [0, 2]])
    assert torch.equal(net.stage_night(absent), expected)
    absent[:, 1] = 0  # a channel of zeros throughout is none either
    assert torch.equal(net.stage_night(absent), expected)
    assert not torch.allclose(net.stage_night(night), expected, atol=1e-3)
    order = net.stage_night(night[:, [2, 0, 1]])
    assert torch.allclose(order, net.stage_night(night), atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_at_all_is_still_finite(way, night):
    net = built(way)
    for value in (torch.nan, 0.0, 3.0):
        assert torch.isfinite(net.stage_night(torch.full_like(night, value))).all()
    x = torch.randn(2, 3, 32)
    present = torch.tensor([[True, False, False], [False, False, False]])
    mean, weights = net.virtual[0](x, present)
    assert torch.equal(mean, torch.stack([x[0, 0], torch.zeros(32)]))
    assert torch.equal(weights, present.float())


def test_gaps_are_no_part_of_a_night(night):
    net = built("night")
    complete = net.stage_night(night.repeat(2, 1, 1))
    gaps = night.repeat(2, 1, 1)
    gaps[40:] = torch.nan
    with_gap = net.stage_night(gaps)
    assert torch.isfinite(with_gap).all()
    # beyond the windows that reach into the gap: same epochs, and statistics all but the same
    assert torch.allclose(with_gap[:36], complete[:36], atol=2e-3)
    assert torch.equal(with_gap[:36].argmax(dim=1), complete[:36].argmax(dim=1))
    gaps[40:] = 0
    assert torch.equal(net.stage_night(gaps), with_gap)
    # what a filter leaves of the last sample before a gap, slow and smaller than any signal
    gaps[40] = torch.exp(-torch.arange(1800) / 60.0) * torch.cos(torch.arange(1800) / 100.0)
    assert torch.allclose(net.stage_night(gaps)[:36], with_gap[:36], atol=2e-3)


def test_a_gap_leaves_the_windows_around_it(night):
    """Was: zeros counted as signal, so that every window that saw some was scaled by them."""
    net = built("window")
    gaps = night.clone()
    gaps[20:23] = 0
    power, heard = _heard(net.log_power(gaps[None]))
    assert heard.all(dim=-1).all(dim=-1)[0].tolist() == [not 20 <= k < 23 for k in range(40)]
    # every channel and bin of a window is standardised over the epochs that have a signal
    mean, sd = _statistics(power[:, 16:21], heard[:, 16:21])
    own = net.log_power(night[16:20])
    assert torch.allclose(mean[0, 0, :, 0], own.mean(dim=(0, 2)), atol=1e-5)
    assert torch.allclose(sd[0, 0, :, 0], own.transpose(1, 2).flatten(0, 1).std(dim=0), atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_a_gap_in_one_channel_leaves_the_others(way, night):
    net = built(way)
    gap = night.clone()
    gap[10:12, 1] = torch.nan
    gap[20, 0, :300] = torch.nan  # a part of an epoch is filled with the median
    filled = gap.clone()
    filled[20, 0, :300] = 0
    assert torch.equal(net.stage_night(gap), net.stage_night(filled))
    power = net.log_power(gap[None])
    heard = _heard(power)[1][0]
    assert (~heard.any(dim=-1)).nonzero().tolist() == [[10, 1], [11, 1]]
    assert (~heard[20, 0]).nonzero().flatten().tolist() == [0, 1, 2, 3]  # in its first five seconds
    z = net.encode(power)[0]
    assert torch.isfinite(z).all()
    if way == "night":
        # as if these two epochs had two channels, given the same statistics of the night
        without = net.encode(power[:, :, [0, 2]])[0]
        assert torch.allclose(z[10:12], without[10:12], atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_gradients_know_no_gaps(way, night):
    net = built(way)
    x = night[None, :7].clone()
    x[0, 2, 1] = torch.nan
    x.requires_grad_()
    net(x).square().sum().backward()
    assert torch.isfinite(x.grad).all() and x.grad.any()
    assert all(torch.isfinite(p.grad).all() and p.grad.any() for p in net.parameters())


def test_a_pass_of_training_reduces_the_loss(night):
    torch.manual_seed(0)
    net = models.build("robustsleepnet", num_seq=5, dropout=0.0)
    stages = (torch.arange(40) // 2 % 5).view(8, 5)
    # stages that differ by their spectrum: slower waves from one to the next
    x = night.clone()
    for k in range(1, 1800):
        x[:, :, k] += (0.24 * stages.flatten())[:, None] * x[:, :, k - 1]
    batch = SimpleNamespace(signals=x.view(8, 5, 3, 1800), stages=stages)
    objective = Staging([1.0] * 5, over_positions="mean")
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    losses = []
    for _ in range(15):
        loss, _ = objective(net, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0] and np.isfinite(losses).all()


@pytest.fixture(scope="module")
def store60(raw, tmp_path_factory) -> Store:
    path = tmp_path_factory.mktemp("store60")
    prepare(raw, path, "--channels", "EEG", "EOG", "--resample", "60")
    return Store(path)


QUICK = [
    "-e", "robustsleepnet", "--n_epochs", "1", "--train_data_list", "0,1", "--logger", "csv",
    "--accelerator", "cpu", "--num_seq", "5", "--batch_size", "8",
]  # fmt: skip


def test_trained_and_evaluated_by_its_recipe(store60, tmp_path):
    paths = ["--data_path", str(store60.path), "--project_path", str(tmp_path)]
    staging_training.main([*paths, *QUICK])
    run = next(tmp_path.glob("robustsleepnet_*"))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite(rows[0]["train_loss"])
    checkpoint = load_checkpoint(run / "checkpoints" / "best.pt")
    assert checkpoint.fs == 60.0 and len(checkpoint.channels) == 2
    assert checkpoint.standardise == RECIPES["robustsleepnet"].standardise
    words = ["--device", "cpu", "--pictures", "0", "-e", "robustsleepnet"]
    staging_evaluate.main([*paths, *words])
    assert json.loads((run / "evaluation" / "metrics.json").read_text())["subjects"] == 1


def test_a_store_of_another_rate_is_brought_to_60_hz(store, tmp_path, capsys):
    paths = ["--data_path", str(store.path), "--project_path", str(tmp_path)]
    staging_training.main([*paths, *QUICK, "--n_epochs", "0"])
    line = "signals of 100 Hz are brought to the 60 Hz of robustsleepnet"
    assert capsys.readouterr().out.count(line) == 1
