"""Agreement with evidence, deletion and insertion, attention of whole nights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import models
from interpret.attention_maps import night_attention, spread
from interpret.evidence import (
    agreement,
    auroc,
    epochs_at,
    event_mask,
    pointing,
    read_events,
    values_at,
)
from interpret.faithfulness import (
    curves,
    random_scores,
    rank_correlation,
    sensitivity,
    unit_scores,
)
from interpret.random_weights import with_random_weights
from interpret.registry import explain
from interpret.target import EpochTarget
from tests.test_attribution import CLASSES, FIRST, Linear, night_of
from tests.test_bands import SigmaDetector
from utils.errors import UserError

NOTHING = torch.zeros(4, 2, 60)  # what takes the place of what is deleted


def test_auroc_is_scikit_learns():
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((6, 200)).round(1)  # ties
    mask = rng.random((6, 200)) < 0.2
    mask[4], mask[5] = False, True
    expected = [roc_auc_score(m, a) for m, a in zip(mask[:4], maps[:4], strict=True)]
    areas = auroc(maps, mask)
    assert areas[:4] == pytest.approx(expected)
    assert np.isnan(areas[4:]).all()


def test_events_land_on_their_samples():
    events = np.array([[60.5, 1.0], [89.5, 1.0], [10.0, 1.0]])
    mask = event_mask(events, np.array([60, 90]), fs=10)
    assert np.flatnonzero(mask[0]).tolist() == [*range(5, 15), *range(295, 300)]
    assert np.flatnonzero(mask[1]).tolist() == list(range(5))
    wide = event_mask(events[:1], np.array([60, 90]), fs=10, widen=0.5)
    assert np.flatnonzero(wide[0]).tolist() == list(range(20))


def test_events_land_in_epochs_on_onsets_of_their_own():
    """A clock that drifts by 0.5 s per epoch, then windows that share 10 s."""
    events = np.array([[31.0, 1.0], [61.5, 1.0], [30.2, 0.2]])
    drifting = event_mask(events, np.array([0.0, 30.5, 61.0]), fs=10)
    assert [np.flatnonzero(row).tolist() for row in drifting] == [
        [], [*range(5, 15)], [*range(5, 15)],
    ]  # fmt: skip
    shared = event_mask(np.array([[25.0, 1.0]]), np.array([0.0, 20.0]), fs=10)
    assert [np.flatnonzero(row).tolist() for row in shared] == [
        [*range(250, 260)], [*range(50, 60)],
    ]  # fmt: skip
    maps = np.arange(900.0).reshape(3, 300)
    values = values_at(maps, events[1:2], np.arange(3), fs=10, onsets=np.array([0, 30.5, 61.0]))
    assert values.tolist() == [maps[2, 2:18].mean()]
    assert epochs_at(np.array([-1, 30.2, 30.6, 91.5]), np.array([0, 30.5, 61.0])).tolist() == [
        -1, -1, 1, -1,
    ]  # fmt: skip


def test_pointing():
    maps = np.array([[0.0, 3, 1], [5, 0, 0]])
    near = np.array([[False, True, False], [False, True, True]])
    assert pointing(maps, near).tolist() == [True, False]


def test_random_maps_are_at_chance():
    rng = np.random.default_rng(1)
    n = 1500
    events = np.stack([np.arange(n) * 30 + rng.uniform(0, 28, n), np.full(n, 1.0)], axis=1)
    maps = rng.standard_normal((n, 3000))
    scores = agreement(maps, events, np.arange(n), fs=100, onsets=30 * np.arange(n))
    assert np.nanmean(scores["auroc"]) == pytest.approx(0.5, abs=0.02)


def test_a_spindle_detector_points_at_spindles():
    # sigma bursts of 1 s planted in noise: attributions of a sigma-energy model must find them
    torch.manual_seed(0)
    night = 0.5 * torch.randn(8, 2, 3000)
    t = torch.arange(100) / 100
    events = []
    for epoch in range(8):
        start = 300 + 250 * epoch
        night[epoch, 0, start : start + 100] += 3 * torch.sin(2 * torch.pi * 13 * t)
        events.append((30 * epoch + start / 100, 1.0))
    target = EpochTarget(SigmaDetector(), night)
    rows = torch.arange(8)
    explanation = explain(target, rows, torch.full((8,), 2), method="ig")
    scores = agreement(
        explanation.attributions[:, 0].numpy(),
        np.array(events),
        rows.numpy(),
        fs=100,
        onsets=30 * np.arange(8),
    )
    for name in ("auroc", "pointing"):
        assert np.mean(scores[name]) > 0.9, name
    assert (explanation.attributions[:, 1] == 0).all()  # the EOG is not read


def test_truth_files_are_read(raw):
    events = read_events(raw / "SC4001E0_truth.tsv")
    assert set(events) == {"spindle", "k_complex", "slow_wave", "rem", "alpha"}
    assert len(events["spindle"]) and events["spindle"].shape[1] == 2
    with pytest.raises(UserError, match="not a list of events"):
        read_events(raw / "absent.tsv")
    with pytest.raises(UserError, match="not a list of events"):
        read_events(raw / "SC4001E0_epochs.tsv")


def test_deletion_of_a_linear_model_by_hand():
    torch.manual_seed(0)
    target = EpochTarget(Linear(), night_of())
    products = explain(target, FIRST, CLASSES, method="ig").attributions
    scores = unit_scores(products, 30)  # two samples a unit
    faithfulness = curves(target, FIRST, CLASSES, scores, compared=NOTHING)
    gained = scores.sort(dim=1, descending=True).values.cumsum(1)
    gained = torch.cat([torch.zeros(4, 1), gained], dim=1)
    with torch.no_grad():
        whole = target(target.night[FIRST], FIRST, CLASSES)[:, None]
        empty = target(torch.zeros(4, 2, 60), FIRST, CLASSES)[:, None]
    steps = (faithfulness.share * 60).round().astype(int)
    assert np.allclose(faithfulness.insertion, empty + gained[:, steps], atol=1e-4)
    assert np.allclose(faithfulness.deletion, whole - gained[:, steps], atol=1e-4)


def test_the_right_order_beats_random_and_reversed_ones():
    torch.manual_seed(0)
    target = EpochTarget(Linear(), night_of())
    scores = unit_scores(explain(target, FIRST, CLASSES, method="ig").attributions, 30)

    def areas(order):
        return curves(target, FIRST, CLASSES, order, compared=NOTHING).areas()

    (deletion, insertion), turned = areas(scores), areas(-scores)
    by_chance = [areas(random_scores(scores, seed)) for seed in range(20)]
    mean = np.mean([areas[0] for areas in by_chance], axis=0)
    assert (deletion < mean).all() and (mean < turned[0]).all()
    assert (insertion > np.mean([areas[1] for areas in by_chance], axis=0)).all()


def test_a_modality_that_is_not_read_has_flat_curves():
    torch.manual_seed(0)
    model = Linear()
    with torch.no_grad():
        model.weights.weight.view(5, 2, 60)[:, 1] = 0
    target = EpochTarget(model, night_of())
    only_second = torch.tensor([0.0] * 30 + [1.0] * 30).expand(4, 60)
    faithfulness = curves(target, FIRST, CLASSES, only_second, compared=NOTHING)
    flat = faithfulness.deletion[:, faithfulness.share <= 0.5]
    assert np.allclose(flat, flat[:, :1], atol=1e-5)


@pytest.mark.parametrize("encoder", ["shared", "per_position"])
@pytest.mark.parametrize("n_epochs", [3, 5, 9])
def test_attention_of_a_night_is_the_mean_over_its_windows(encoder, n_epochs):
    torch.manual_seed(0)
    settings = {"n_samples": 300, "d_model": 16, "dim_feedforward": 16, "num_seq": 5}
    model = models.build("sequence_cmt", encoder=encoder, **settings).eval()
    night = torch.randn(n_epochs, 2, 300)
    attention = night_attention(model, night)
    length = min(5, n_epochs)
    with torch.no_grad():
        each = [model.attention(night[None, s : s + length]) for s in range(n_epochs - length + 1)]
    for epoch in range(n_epochs):
        seen = [(s, epoch - s) for s in range(len(each)) if 0 <= epoch - s < length]
        intra = torch.stack([each[s].intra[0, p] for s, p in seen]).mean(0)
        assert torch.allclose(attention.intra[epoch], intra, atol=1e-5)
        one_on = [each[s].inter[0, :, p, p + 1].mean() for s, p in seen if p + 1 < length]
        expected = torch.stack(one_on).mean() if one_on else torch.tensor(torch.nan)
        ahead = attention.inter[epoch, length]  # offset +1
        assert torch.allclose(ahead, expected, atol=1e-5, equal_nan=True)
    windows, modalities = attention.shares()
    assert torch.allclose(windows.sum(-1), torch.ones(n_epochs, 2), atol=1e-5)
    assert torch.allclose(modalities.sum(-1), torch.ones(n_epochs), atol=1e-5)
    assert torch.allclose(attention.rollout().sum((1, 2)), torch.ones(n_epochs), atol=1e-5)
    own_windows, own = attention.own()
    assert torch.allclose(own, attention.cross.mean(1)[:, 0]) and (own_windows > 0).all()
    samples = spread(attention.rollout(), 300)
    assert samples.shape == (n_epochs, 2, 300)
    assert torch.allclose(samples.sum((1, 2)), torch.ones(n_epochs), atol=1e-5)


def test_attention_of_single_epochs():
    torch.manual_seed(0)
    model = models.build("epoch_cmt", n_samples=300, d_model=16, dim_feedforward=16).eval()
    attention = night_attention(model, torch.randn(4, 2, 300))
    assert attention.inter is None and attention.intra.shape == (4, 2, 8, 7)


def test_random_weights_are_new_and_the_model_stays():
    torch.manual_seed(0)
    settings = {"n_samples": 300, "d_model": 16, "dim_feedforward": 16, "num_seq": 5}
    model = models.build("sequence_cmt", **settings).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copy = with_random_weights(model, 1)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    for name, parameter in copy.named_parameters():
        if name.endswith("weight") and "norm" not in name and parameter.dim() > 1:
            assert not torch.equal(parameter, before[name]), name
    assert not torch.equal(copy.encoders[0].cls, model.encoders[0].cls)
    again = with_random_weights(model, 1)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in copy.state_dict().items())


def test_rank_correlation_is_scipys():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3, 4, 50))
    expected = [spearmanr(x.ravel(), y.ravel())[0] for x, y in zip(a, b, strict=True)]
    assert rank_correlation(a, b) == pytest.approx(expected)
    assert np.isnan(rank_correlation(np.zeros((1, 5)), np.ones((1, 5)))).all()


def test_sensitivity_of_known_maps():
    x = torch.ones(3, 2, 50)
    assert (sensitivity(lambda x: torch.ones_like(x), x) == 0).all()  # a map that never changes
    values = sensitivity(lambda x: x, x)
    assert ((values > 0.012) & (values < 0.03)).all()  # uniform noise of 3 % has an rms of 1.7 %
    assert np.allclose(values, sensitivity(lambda x: x, x))
