"""Band importance and spectral gradients: signals and models whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch

import models
from interpret.bands import BANDS, band_importance, components, components_of
from interpret.spectral_gradients import linear_edges, spectral_gradients
from interpret.target import EpochTarget
from models.base import StagingModel
from tests.test_attribution import Linear

FS = 100.0
EDGES = ((0.5, 4.0), (4.0, 8.0), (8.0, 15.5), (15.5, 30.0))


class SigmaDetector(StagingModel):
    """Logit of N2 grows with the energy between 12 and 14 Hz of the first channel."""

    low, high = 12.0, 14.0

    def encode_epochs(self, x):
        spectrum = torch.fft.rfft(x[:, 0])
        frequencies = torch.fft.rfftfreq(x.shape[-1], 1 / FS)
        inside = (frequencies >= self.low) & (frequencies <= self.high)
        energy = (spectrum[:, inside].abs() ** 2).sum(-1, keepdim=True) / x.shape[-1] ** 2
        return torch.nn.functional.pad(20 * energy, (2, 2))

    def classify(self, z):
        return z


def night_of(n=6, samples=3000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    night = torch.randn(n, 2, samples, generator=generator)
    t = torch.arange(samples) / FS
    night[::2, 0] += torch.sin(2 * math.pi * 13 * t)
    return night


def test_bands_and_the_rest_add_up_to_the_night():
    night = night_of()
    parts = components(night, FS, [(0, 0.5), *BANDS.values(), (49.5, 51)])
    assert torch.allclose(parts.sum(0), night, atol=1e-4)
    # away from its edges, which are no brick walls, a band taken twice is the band
    inner = components(night, FS, [(12.5, 14.5)])[0]
    assert torch.allclose(components(inner, FS, [BANDS["sigma"]])[0], inner, atol=1e-5)


def test_a_sine_is_in_its_band_alone_and_without_phase_shift():
    t = torch.arange(6 * 3000) / FS
    night = torch.sin(2 * math.pi * 10 * t).view(6, 1, 3000)
    parts = components(night, FS, list(BANDS.values()))
    assert torch.allclose(parts[2], night, atol=1e-3)
    assert parts[[0, 1, 3, 4, 5]].abs().max() < 1e-3


def test_borders_of_epochs_filter_nothing():
    # a wave that runs on across a border keeps its shape there
    t = torch.arange(2 * 3000) / FS
    night = torch.sin(2 * math.pi * 1.01 * t + 1).view(2, 1, 3000)
    part = components(night, FS, [(0.5, 4.0)])[0]
    assert (part - night)[0, 0, -100:].abs().max() < 0.05


def test_a_sigma_detector_lives_on_sigma():
    model, night = SigmaDetector(), night_of()
    importance = band_importance(model, night, FS, torch.full((6,), 2))
    sigma = list(BANDS).index("sigma")
    share = importance.shapley[::2, sigma] / importance.total[::2]
    assert (share > 0.9).all()
    assert torch.allclose(importance.single[:, sigma], importance.total, atol=5e-3)  # cut at epochs


def test_shapley_values_sum_to_the_change_and_means_do_not():
    torch.manual_seed(0)
    model = models.build("sequence_cmt", n_samples=300, d_model=16, dim_feedforward=16, num_seq=3)
    for parameter in model.parameters():
        parameter.data *= 3  # far from linear
    night = torch.randn(8, 2, 300)
    classes = torch.arange(8) % 5
    model.eval()
    importance = band_importance(
        model, night, 10.0, classes, {"a": (0.5, 1), "b": (1, 2), "c": (2, 6)}
    )
    assert torch.allclose(importance.shapley.sum(1), importance.total, atol=1e-6)
    assert importance.gap("mean").abs().max() > 1e-3
    whole = model.stage_night(night)[torch.arange(8), classes]
    without = night - components(night, 10.0, [(0.5, 1), (1, 2), (2, 6)]).sum(0)
    left = model.stage_night(without)[torch.arange(8), classes]
    assert torch.allclose(importance.total, whole - left, atol=1e-6)


def test_means_over_subsets_by_hand():
    class Counting(StagingModel):
        """Its probability of W falls by .1 for each band gone and .2 more for both."""

        def stage_night(self, x, batch_size=256):
            low = (x[:, 0].abs().mean(-1) > 0.1).float()
            high = (x[:, 1].abs().mean(-1) > 0.1).float()
            p = 0.4 + 0.1 * low + 0.1 * high + 0.2 * torch.maximum(low, high)
            return p[:, None].expand(-1, 5)

        def encode_epochs(self, x): ...

        def classify(self, z): ...

    t = torch.arange(4 * 300) / 10
    night = torch.stack([torch.sin(2 * math.pi * f * t) for f in (0.75, 3)]).view(2, 4, 300)
    bands = {"low": (0.5, 1), "high": (2, 4)}
    importance = band_importance(
        Counting(), night.transpose(0, 1), 10.0, torch.zeros(4).long(), bands
    )
    assert torch.allclose(importance.single, torch.full((4, 2), 0.1), atol=1e-5)
    assert torch.allclose(importance.mean, torch.full((4, 2), (0.1 + 0.4) / 2), atol=1e-5)
    assert torch.allclose(importance.weighted, torch.full((4, 2), (0.1 + 0.4 / 2) / 1.5), atol=1e-5)
    assert torch.allclose(importance.shapley, torch.full((4, 2), 0.2), atol=1e-5)


def test_a_band_the_preprocessing_took_away_has_no_importance():
    night = night_of()
    night = night - components(night, FS, [(30.0, 51.0)])[0]
    importance = band_importance(SigmaDetector(), night, FS, torch.full((6,), 2))
    assert importance.shapley[:, list(BANDS).index("gamma")].abs().max() < 1e-5


def test_edges():
    edges = linear_edges()
    assert len(edges) == 30 and edges[0] == (0.5, 1.5) and edges[-1] == (29.5, 30.0)


EPOCHS, CLASSES = torch.tensor([0, 2, 3]), torch.tensor([2, 2, 0])


SLOW = ((0.1, 0.4), (0.4, 1.0))  # at two samples per second


def test_spectral_gradients_of_a_linear_model_are_exact_in_any_order():
    torch.manual_seed(0)
    night = night_of(4, 60)
    target = EpochTarget(Linear(), night)
    parts = components(night, 2.0, SLOW)[:, EPOCHS].transpose(0, 1)
    weights = target.model.weights.weight[CLASSES].view(3, 1, 2, 60).detach()
    for order in ("high_to_low", "low_to_high", "both"):
        gradients = spectral_gradients(target, EPOCHS, CLASSES, edges=SLOW, order=order)
        assert torch.allclose(gradients.bands, weights * parts, atol=1e-5)
        assert (gradients.error < 1e-3).all()


def test_spectral_gradients_are_complete_on_the_cmt():
    torch.manual_seed(0)
    model = models.build("sequence_cmt", d_model=16, dim_feedforward=16, num_seq=3).eval()
    target = EpochTarget(model, night_of())
    gradients = spectral_gradients(target, EPOCHS, CLASSES, edges=EDGES, steps=10)
    assert gradients.bands.shape == (3, 4, 2, 3000)
    assert (gradients.error <= 0.01).all()
    about = {"edges": EDGES, "steps": 100}  # enough for all, so that nothing is doubled
    gradients = spectral_gradients(target, EPOCHS, CLASSES, **about)
    turned = spectral_gradients(target, EPOCHS, CLASSES, order="low_to_high", **about)
    forth = spectral_gradients(target, EPOCHS, CLASSES, order="high_to_low", **about)
    mean = (turned.bands + forth.bands) / 2
    assert torch.allclose(gradients.bands, mean, atol=1e-6)


def test_a_model_that_reads_12_to_14_hz_has_its_gradients_at_those_frequencies():
    target = EpochTarget(SigmaDetector(), night_of())
    gradients = spectral_gradients(target, torch.tensor([0, 2]), torch.tensor([2, 2]))
    spectrum = gradients.bands.sum((2, 3))
    inside = torch.tensor([12 <= low + 0.5 <= 14 for low, _ in gradients.edges])
    assert (spectrum[:, inside].sum(1) / spectrum.sum(1) > 0.95).all()


@pytest.mark.parametrize("kind", ["shared", "per_position"])
def test_importance_works_for_every_encoder(kind):
    torch.manual_seed(0)
    settings = {"n_samples": 300, "d_model": 16, "dim_feedforward": 16, "num_seq": 3}
    model = models.build("sequence_cmt", encoder=kind, **settings).eval()
    importance = band_importance(model, torch.randn(5, 2, 300), 10.0, torch.zeros(5).long())
    assert torch.allclose(importance.shapley.sum(1), importance.total, atol=1e-6)


def test_components_of_some_epochs_are_those_of_the_night():
    """Ten minutes on either side give what the whole night gives, away from its ends."""
    torch.manual_seed(0)
    night, epochs = torch.randn(90, 2, 300), torch.tensor([30, 44, 60])
    edges = [(0.5, 1.5), (1.5, 3.0)]
    whole = components(night, 10.0, edges)[:, epochs]
    some = components_of(night, 10.0, edges, epochs)
    assert some.shape == whole.shape
    assert (some - whole).std() < 0.02 * whole.std()
    short, first = night[:30], torch.tensor([0, 29])
    own = components_of(short, 10.0, edges, first)
    torch.testing.assert_close(own, components(short, 10.0, edges)[:, first])
