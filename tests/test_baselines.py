"""Baselines and completeness: spectrograms, real epochs, paths with kinks, what is flagged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import models
from interpret.baselines import Deviations, baselines_of
from interpret.expected_gradients import ExpectedGradients
from interpret.explanation import Explanation, in_words
from interpret.integrated_gradients import MOST_STEPS, integrated_gradients
from interpret.registry import explain
from interpret.spectral_gradients import spectral_gradients
from interpret.target import EpochTarget, WindowTarget
from models.base import StagingModel
from models.spectrogram import Spectrogram
from tests.test_attribution import CLASSES, FIRST, Linear
from utils.errors import UserError

READERS = ("seqsleepnet", "sleeptransformer", "simplesleepnet", "robustsleepnet", "squeezenet1_1")


class LinearInCells(StagingModel):
    """Logits are weighted sums of a standardised spectrogram's cells."""

    reads_spectrograms = True

    def __init__(self, bin_: int | None = None) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(2, 100.0, 3000)
        weights = torch.randn(5, 2, 29, 129)
        if bin_ is not None:
            weights *= torch.arange(129) == bin_
        self.register_buffer("weights", weights)

    def encode_epochs(self, x):
        return self.encode_spectrogram(self.spectrograms(x))

    def encode_spectrogram(self, x):
        return torch.einsum("ncft,kcft->nk", x, self.weights)

    def classify(self, z):
        return z


def signals(n: int = 12, channels: int = 2, samples: int = 3000) -> torch.Tensor:
    torch.manual_seed(3)
    loud = 10 * torch.rand(n, channels, 1) + 5
    return loud * torch.randn(n, channels, samples)


def linear(bin_: int | None = None) -> EpochTarget:
    torch.manual_seed(0)
    model = LinearInCells(bin_).eval()
    model.spectrogram.fit([signals()])
    return EpochTarget(model, signals())


def reader(name: str, n: int = 12) -> EpochTarget:
    torch.manual_seed(0)
    samples = 1800 if name == "robustsleepnet" else 3000
    model = models.build(name, n_channels=1, num_seq=5).eval()
    night = signals(n, 1, samples)
    if model.spectrogram is not None:
        model.spectrogram.fit([night])
    return EpochTarget(model, night)


# ---------------------------------------------------------------- spectrograms


def test_a_linear_model_of_spectrograms_is_explained_cell_by_cell():
    target = linear()
    z = target.model.spectrograms(target.night)[FIRST]
    for method in ("ig", "ixg"):
        explanation = explain(target, FIRST, CLASSES, method=method)
        assert torch.allclose(explanation.spectrogram, target.model.weights[CLASSES] * z, atol=1e-4)
        # by time they are the same sums, frames over the samples nearest to them
        cells, samples = explanation.spectrogram.sum((2, 3)), explanation.attributions.sum(2)
        assert torch.allclose(cells, samples, atol=1e-3)
        assert explanation.attributions.shape == (4, 2, 3000)
    saliency = explain(target, FIRST, CLASSES, method="saliency").spectrogram
    assert torch.allclose(saliency, target.model.weights[CLASSES], atol=1e-5)
    explanation = explain(target, FIRST, CLASSES, method="ig")
    assert (explanation.error < 1e-4).all() and (explanation.baseline_distance == 0).all()
    assert explanation.settings["baseline"] == "training_mean"
    assert explanation.deviates_from == "the training nights"


def test_a_model_of_one_bin_is_explained_by_that_bin_alone():
    target = linear(33)
    for method in ("ig", "eg"):
        maps = explain(target, FIRST, CLASSES, method=method).spectrogram
        assert (maps.abs().sum((0, 1, 2)) > 0).nonzero().flatten().tolist() == [33]
    bands = spectral_gradients(
        target.on_spectrogram, FIRST, CLASSES, edges=((8, 11), (11.5, 15.5), (15.5, 30))
    )
    assert (bands.bands[:, [0, 2]] == 0).all() and (bands.bands[:, 1] != 0).any()
    assert (bands.error < 1e-4).all()  # 33 x 100 / 256 is 12.9 Hz


def test_samples_are_attributed_to_on_request():
    target = linear()
    explanation = explain(target, FIRST, CLASSES, method="ig", space="samples")
    assert explanation.spectrogram is None and explanation.attributions.shape == (4, 2, 3000)
    assert explanation.settings["baseline"] == "other_stage"  # a flat line is no night's
    with pytest.raises(UserError, match="training_mean: there are no samples"):
        explain(target, FIRST, CLASSES, space="samples", baseline="training_mean")


@pytest.mark.parametrize("name", READERS)
def test_every_reader_of_spectrograms_is_the_same_function_of_them(name):
    target = reader(name)
    for one in (target, WindowTarget(target.model, target.night)):
        other = one.on_spectrogram
        values = [t(t.inputs(FIRST), FIRST, CLASSES) for t in (one, other)]
        assert torch.allclose(*values, atol=1e-4)
    frames, bins = (len(axis) for axis in other.grid)
    assert target.on_spectrogram.inputs(FIRST).shape == (4, 1, frames, bins)
    mean = target.on_spectrogram.baseline(FIRST, "auto")
    assert (mean == 0).all()


@pytest.mark.parametrize("name", READERS)
def test_readers_of_spectrograms_are_explained_completely(name):
    some, classes = torch.tensor([0, 6]), torch.tensor([2, 1])
    explanation = explain(reader(name), some, classes, method="ig")
    assert (explanation.error <= 0.01).all()
    assert explanation.spectrogram.abs().sum() > 0


def test_seconds_that_robustsleepnet_does_not_hear_get_nothing():
    target = reader("robustsleepnet")
    night = target.night.clone()
    night[6, :, :900] = 0
    target = EpochTarget(target.model, night)
    maps = explain(target, torch.tensor([6]), torch.tensor([2]), method="ig").spectrogram
    assert (maps[0, 0, :13] == 0).all() and (maps[0, 0, 16:] != 0).any()


def test_windows_of_spectrograms_are_attributed_too():
    target = WindowTarget(reader("seqsleepnet").model, signals(12, 1))
    explanation = explain(target, FIRST, CLASSES, method="ig")
    assert explanation.window.shape == (4, 5, 1, 3000)
    assert explanation.spectrogram.shape == (4, 1, 29, 129)
    assert (explanation.error <= 0.01).all()


# ---------------------------------------------------------------- real epochs


def test_an_epoch_of_another_stage_is_compared_with_whoever_else_is_explained():
    target = EpochTarget(Linear(), torch.randn(40, 2, 60))
    stages = target.probabilities.argmax(dim=1)
    assert len(stages.unique()) > 1
    every = torch.arange(40)
    drawn = target.baseline(every, "other_stage", seed=1)
    numbers = [int((target.night == one).flatten(1).all(dim=1).nonzero()) for one in drawn]
    assert (stages[numbers] != stages).all()
    for row in (3, 17):
        assert torch.equal(target.baseline(every[[row]], "other_stage", seed=1)[0], drawn[row])
    shuffled = target.baseline(every, "shuffled")
    assert not (shuffled == target.night).flatten(1).all(dim=1).any()  # never itself


def test_a_night_of_one_stage_is_compared_with_any_other_epoch():
    night = torch.randn(5, 2, 60)
    one = torch.eye(5)[[2] * 5]
    drawn = baselines_of(night, torch.arange(5), "other_stage", staged=lambda: one)
    assert not (drawn == night).flatten(1).all(dim=1).any()
    assert torch.allclose(baselines_of(night, torch.tensor([1]), "mean_epoch")[0], night.mean(0))


def test_expected_gradients_of_a_linear_model_are_exact():
    target = EpochTarget(Linear(), torch.randn(12, 2, 60))
    explanation = explain(target, FIRST, CLASSES, method="eg", seed=4)
    compared = ExpectedGradients().compared(target, FIRST, "shuffled", 4)
    assert compared.shape == (10, 4, 2, 60)
    weights = target.model.weights.weight[CLASSES].view(4, 2, 60)
    expected = weights * (target.night[FIRST] - compared.mean(dim=0))
    assert torch.allclose(explanation.attributions, expected, atol=1e-5)
    logits = target.model.encode_epochs(compared.flatten(0, 1)).unflatten(0, (10, 4))
    assert torch.allclose(explanation.baseline_probabilities, logits.softmax(-1).mean(0), atol=1e-6)
    assert (explanation.error < 1e-4).all()


def test_a_flat_line_is_far_from_every_epoch_and_a_real_one_is_not():
    night = signals(60)
    target, some = EpochTarget(Linear(3000), night), torch.arange(0, 60, 5)
    far = target.distance(target.baseline(some, "zero"), some)
    near = target.distance(target.baseline(some, "other_stage"), some)
    assert far.min() > 10 and 0.2 < near.mean() < 2
    assert Deviations(night).distance(night).square().mean().sqrt() == pytest.approx(1, abs=0.01)
    # 22 deviations, which the spectrogram of zeros was in the default's networks
    silent = linear()
    zeros = silent.on_spectrogram.baseline(FIRST, "zero")
    assert silent.on_spectrogram.distance(zeros, FIRST).min() > 10


# ---------------------------------------------------------------- paths


class OfOne(nn.Module):
    """A target of one number for each epoch: any function of the sum of its samples."""

    at_once = 64

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x, epochs, classes):
        return self.function(x.sum(dim=(1, 2)))


@pytest.mark.parametrize(
    "function",
    [
        lambda s: (s - 0.123).relu() + 3 * (s - 0.877).relu(),
        lambda s: (s.square() + 1e-12).log(),  # decibels on the way from silence
        lambda s: 1000 * (s - 0.4).clamp(0, 0.001),
        lambda s: s.sin(),
    ],
)
def test_the_path_is_integrated_where_it_bends(function):
    x = torch.tensor([1.0, 0.7])[:, None, None] * torch.tensor([[0.25, 0.75]])
    extra = torch.zeros(2), torch.zeros(2)
    maps = integrated_gradients(OfOne(function), x, torch.zeros_like(x), extra)
    change = function(x.sum((1, 2))) - function(torch.zeros(2))
    assert torch.allclose(maps.sum((1, 2)), change, rtol=0.01)
    assert torch.allclose(maps[:, 0, 1], 3 * maps[:, 0, 0])  # by the parts of the sum


def test_a_path_that_jumps_ends_and_is_flagged():
    calls = []

    def step(s):
        calls.append(len(s))
        return (s > 0.3).float() + 0 * s

    x, extra = torch.ones(1, 1, 1), (torch.zeros(1), torch.zeros(1))
    maps = integrated_gradients(OfOne(step), x, torch.zeros_like(x), extra)
    assert maps.abs().sum() == 0 and sum(calls) < 1.5 * MOST_STEPS
    nan = torch.tensor([np.nan])
    answer = Explanation(
        "ig", maps, torch.ones(1), torch.zeros(1), torch.ones(1), nan[:, None], {"baseline": "zero"}
    ).answer(0)
    assert answer["incomplete"] is True and answer["completeness_error"] == 1
    words = in_words(answer | {"settings": {"baseline": "zero"}}, "N2")
    assert "at the baseline (zero) 0.00" in words and "INCOMPLETE: the map misses more" in words


def test_what_is_known_of_a_baseline_in_words():
    target = linear()
    explanation = explain(target, FIRST, CLASSES, method="ig", baseline="other_stage")
    answer = explanation.answer(1)
    assert sum(answer["baseline_probabilities"]) == pytest.approx(1, abs=1e-5)
    assert answer["incomplete"] is False
    words = in_words(answer | {"settings": explanation.settings}, "N2")
    assert words.startswith("F(N2) ") and "(other stage)" in words and "INCOMPLETE" not in words
    assert "SD from the mean of the training nights; completeness error 0.0 %" in words
    bare = explain(target, FIRST, CLASSES, method="ixg").answer(0)
    assert bare["completeness_error"] is None and bare["incomplete"] is None
