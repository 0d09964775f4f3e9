"""NightBands: known powers, no trace of gains, gaps and padding, and what the registry promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import models
from models.night_bands import BANDS

FS = 100.0
GAP = float("nan")


def small(**settings):
    torch.manual_seed(0)
    return models.build("night_bands", **{"hidden": 6, "layers": 2} | settings).eval()


def night(n=20, seed=0, fs=FS):
    """Noise whose size changes from epoch to epoch: (n, 1, t)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 1, round(30 * fs))) * rng.uniform(5, 50, size=(n, 1, 1))
    return torch.from_numpy(x).float()


@pytest.mark.parametrize("fs", [64.0, 100.0, 256.0])
def test_a_sine_has_its_power_in_its_band(fs):
    t = torch.arange(round(30 * fs)) / fs
    hertz = {"delta": 2.0, "theta": 6.0, "alpha": 10.0, "sigma": 14.0, "beta": 23.0}
    x = torch.stack([20 * torch.sin(2 * torch.pi * f * t) for f in hertz.values()])[:, None]
    db = small(fs=fs, n_samples=round(30 * fs)).decibels(x + 1000)[:, 0]
    widths = torch.tensor([high - low for low, high in BANDS.values()])
    # half of the squared amplitude, spread over the band
    expected = 10 * torch.log10(20**2 / 2 / widths)
    assert torch.allclose(db.diagonal(), expected, atol=0.3)
    others = db[~torch.eye(5, dtype=torch.bool)]
    assert others.max() < expected.min() - 20


def test_memory_bounds_change_nothing():
    net, x = small(), night()
    assert torch.equal(net.decibels(x, 3), net.decibels(x, 256))
    assert torch.allclose(net.stage_night(x, 3), net.stage_night(x, 256), atol=1e-6)


def test_gains_filters_and_units_change_nothing():
    net, x = small(), night()
    db = net.decibels(x)[:, 0]
    gained = db + torch.tensor([-60.0, 3, 0, 40, 12])
    assert torch.allclose(net.relative(gained), net.relative(db), atol=1e-4)
    assert torch.allclose(net.logits_of(gained), net.logits_of(db), atol=1e-4)
    assert torch.allclose(net.stage_night(x * 1e-6), net.stage_night(x), atol=1e-4)
    # a difference of neighbours is a filter: nearly a gain per band
    filtered = torch.diff(x, dim=-1, prepend=x[..., :1])
    assert (net.stage_night(filtered) - net.stage_night(x)).abs().max() < 0.01


def test_what_is_relative_is_known():
    db = torch.arange(9.0)[:, None] * torch.tensor([1.0, 2, 2, 2, 0])
    features = small().relative(db)
    assert features.shape == (9, 11)
    assert features[:, 0].tolist() == pytest.approx([(k - 4) / 10 for k in range(9)])
    # the first band ranges from 0.4 to 7.6 between its 5th and 95th percentile
    assert features[8, 5].item() == pytest.approx(4 / (7.2 / 3.29))
    assert not features[:, [4, 9, 10]].any()  # a band that never changes, and no gap


def test_what_is_relative_does_not_depend_on_the_shares_of_stages():
    """A night half or a tenth of which is deep sleep: its epochs read the same."""
    torch.manual_seed(0)
    kinds = torch.tensor([[0.0, 2, 4, 4, 8], [10.0, 6, 2, 4, 0]])
    for share in (0.1, 0.3, 0.5, 0.9):
        is_deep = torch.arange(400) < 400 * share
        db = kinds[is_deep.long()] + 0.1 * torch.randn(400, 5)
        features = small().relative(db)
        about = features[:, :5] * 10 - (kinds - kinds.mean(dim=0))[is_deep.long()]
        assert about.abs().max() < 0.6


def test_gaps_are_flagged_and_leave_the_rest_alone():
    net, x = small(), night()
    lost = x.clone()
    lost[3, 0, 700], lost[4], lost[5] = GAP, 0.0, 7.0
    lost[6] = 1e-5 * x[6]  # what a filter leaves of a gap
    db = net.decibels(lost)[:, 0]
    assert db.isnan().all(dim=-1).nonzero().flatten().tolist() == [3, 4, 5, 6]
    features = net.relative(db)
    assert features[3:7, :10].eq(0).all() and features[3:7, 10].eq(1).all()
    kept = torch.cat([db[:3], db[7:]])
    rest = torch.cat([features[:3], features[7:]])
    assert torch.allclose(rest, net.relative(kept), atol=1e-5)


@pytest.mark.parametrize("x", [torch.zeros(4, 1, 3000), torch.full((4, 1, 3000), GAP)])
def test_a_night_without_signal_is_staged_all_the_same(x):
    p = small().stage_night(x)
    assert p.isfinite().all() and torch.allclose(p.sum(dim=1), torch.ones(4))


def test_no_epochs_no_stages():
    assert small().stage_night(torch.zeros(0, 1, 3000)).shape == (0, 5)


def test_padding_changes_no_epoch():
    net = small(layers=3)
    nights = [net.decibels(night(n, seed=n))[:, 0] for n in (7, 12, 1)]
    lengths = torch.tensor([7, 12, 1])
    padded = torch.nn.utils.rnn.pad_sequence(nights, batch_first=True, padding_value=GAP)
    logits = net(net.relative(padded), lengths)
    for k, db in enumerate(nights):
        assert torch.allclose(logits[k, : len(db)], net.logits_of(db), atol=1e-5)


def test_every_epoch_depends_on_both_sides():
    net = small()
    db = net.decibels(night(9))[:, 0].requires_grad_()
    features = net.relative(db).detach().requires_grad_()
    net(features[None])[0, 4].sum().backward()
    assert features.grad.abs().sum(dim=1).gt(0).all()
    net.logits_of(db)[4, 2].backward()
    assert db.grad.isfinite().all() and db.grad.abs().sum() > 0


def test_gradients_pass_gaps():
    db = small().decibels(night(9))[:, 0]
    db[2] = GAP
    db.requires_grad_()
    small().logits_of(db)[4, 2].backward()
    assert db.grad.isfinite().all() and not db.grad[2].any()


def test_registry_and_size():
    net = models.build("night_bands")
    assert net.stages_nights and not net.stages_epochs
    # of an LSTM: 4 h (in + h + 2), two directions, two layers; then the head
    one, two = 4 * 64 * (11 + 64 + 2), 4 * 64 * (128 + 64 + 2)
    assert sum(p.numel() for p in net.parameters()) == 2 * (one + two) + 5 * 129
    assert models.with_defaults("night_bands", {})["n_samples"] == 3000


@pytest.mark.parametrize("wrong", [{"n_channels": 2}, {"fs": 50.0}, {"n_samples": 1500}])
def test_settings_it_cannot_have(wrong):
    with pytest.raises(ValueError, match=r"night_bands|need more|have 3000"):
        models.build("night_bands", **wrong)
