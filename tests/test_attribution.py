"""Attributions: known answers on a linear model, completeness, and nothing left behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import models
from interpret import registry
from interpret.attribution import Attribution
from interpret.baselines import baselines_of
from interpret.captum_attributions import refuse_deep_lift
from interpret.explanation import completeness_error
from interpret.registry import explain, method_named
from interpret.target import EpochTarget
from models.base import StagingModel
from utils.errors import UserError

NAMES = [method.name for method in registry.METHODS if isinstance(method, Attribution)]
SMALL = {"n_samples": 300, "d_model": 16, "dim_feedforward": 16, "num_seq": 5}
FIRST = torch.tensor([0, 3, 7, 11])
CLASSES = torch.tensor([0, 2, 4, 2])


class Linear(StagingModel):
    """Each epoch's logits are one weighted sum of its samples; context is ignored."""

    def __init__(self, samples: int = 60) -> None:
        super().__init__()
        self.weights = nn.Linear(2 * samples, 5)

    def encode_epochs(self, x):
        return self.weights(x.flatten(1))

    def classify(self, z):
        return z


class Convolutional(Linear):
    """A network DeepLIFT has rules for."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(2, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(224, 5))
        self.weights = nn.Identity()

    def encode_epochs(self, x):
        return self.layers(x)


class Recurrent(Linear):
    """An LSTM, which cuDNN refuses to differentiate in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(2, 8, batch_first=True)
        self.weights = nn.Linear(8, 5)

    def encode_epochs(self, x):
        return self.weights(self.cells(x.transpose(1, 2))[0][:, -1])


def night_of(samples=60, n=12):
    torch.manual_seed(3)
    return torch.randn(n, 2, samples)


def cmt(**settings):
    torch.manual_seed(1)
    model = models.build("sequence_cmt", **SMALL | settings).eval()
    return EpochTarget(model, night_of(300))


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return EpochTarget(Linear(), night_of())


def weights_of(target):
    return target.model.weights.weight[CLASSES].view(4, 2, 60).detach()


@pytest.mark.parametrize("method", ["saliency", "ixg", "ig", "deeplift", "gshap"])
def test_a_linear_model_is_explained_exactly(linear, method):
    weights, x = weights_of(linear), linear.night[FIRST]
    expected = weights if method == "saliency" else weights * x
    explanation = explain(linear, FIRST, CLASSES, method=method)
    if method == "gshap":  # every epoch is compared with all baselines, here all zero
        assert torch.allclose(explanation.attributions, weights * x, atol=1e-5)
    else:
        assert torch.allclose(explanation.attributions, expected, atol=1e-5)
    if method in ("ig", "deeplift"):
        assert (explanation.error < 1e-4).all()


@pytest.mark.parametrize("baseline", ["zero", "mean", "shuffled"])
def test_integrated_gradients_against_any_baseline(linear, baseline):
    explanation = explain(linear, FIRST, CLASSES, method="ig", baseline=baseline)
    compared = baselines_of(linear.night, FIRST, baseline)
    expected = weights_of(linear) * (linear.night[FIRST] - compared)
    assert torch.allclose(explanation.attributions, expected, atol=1e-5)
    assert torch.allclose(
        explanation.attributions.sum((1, 2)),
        explanation.value - explanation.baseline_value,
        atol=1e-4,
    )


def test_modalities_and_occlusion_of_a_linear_model(linear):
    products = weights_of(linear) * linear.night[FIRST]
    groups = explain(linear, FIRST, CLASSES, method="ablation").attributions
    assert torch.allclose(groups[:, :, 0], products.sum(-1), atol=1e-5)
    # windows of 10 samples, 5 apart: Captum averages what covers a sample
    windows = explain(linear, FIRST, CLASSES, method="occlusion", seconds=5.0).attributions
    assert torch.allclose(windows[0, 1, :5], products[0, 1, :10].sum().expand(5), atol=1e-4)


@pytest.mark.parametrize("encoder", ["shared", "per_position"])
def test_integrated_gradients_are_complete_on_the_cmt(encoder):
    explanation = explain(cmt(encoder=encoder), FIRST, CLASSES, method="ig", steps=20)
    assert (explanation.error <= 0.01).all()


@pytest.mark.parametrize("method", [name for name in NAMES if name != "deeplift"])
@pytest.mark.parametrize("output", ["logit", "prob", "logodds"])
def test_every_method_on_the_cmt(method, output):
    target = cmt()
    target.output = output
    quick = method_named(method).quick
    explanation = explain(target, FIRST, CLASSES, method=method, **quick)
    assert explanation.attributions.shape == (4, 2, 300)
    assert (
        torch.isfinite(explanation.attributions).all() and explanation.attributions.abs().max() > 0
    )
    again = explain(target, FIRST, CLASSES, method=method, **quick)
    assert torch.equal(explanation.attributions, again.attributions)


@pytest.mark.parametrize("encoder", ["shared", "per_position"])
@pytest.mark.parametrize("output", ["logit", "prob", "logodds"])
def test_the_target_is_the_models_own_output(encoder, output):
    target = cmt(encoder=encoder)
    target.output = output
    x = target.night[FIRST] + 0.1
    values = target(x, FIRST, CLASSES)
    starts = [0, 1, 5, 7]  # windows of 5 with the epoch in the middle, inside a night of 12
    for row, (epoch, start, stage) in enumerate(zip(FIRST, starts, CLASSES, strict=True)):
        window = target.night[start : start + 5].clone()
        window[epoch - start] = x[row]
        logits = target.model(window[None])[0, epoch - start]
        p = logits.softmax(-1)[stage]
        expected = {"logit": logits[stage], "prob": p, "logodds": torch.log(p / (1 - p))}[output]
        assert torch.allclose(values[row], expected, atol=1e-4)


def test_context_effects_are_zero_where_context_is_ignored(linear):
    linear.model.num_seq = 5
    target = EpochTarget(linear.model, linear.night)
    with torch.no_grad():
        effects = target.context(FIRST, CLASSES)
        own = target.positions[FIRST]
        change = target(target.night[FIRST], FIRST, CLASSES)
        change = change - target(torch.zeros(4, 2, 60), FIRST, CLASSES)
    for row in range(4):
        assert torch.allclose(effects[row, own[row]], change[row], atol=1e-5)
        assert torch.allclose(effects[row].sum(), change[row], atol=1e-5)


@pytest.mark.parametrize("encoder", ["shared", "per_position"])
def test_context_effects_of_the_cmt(encoder):
    target = cmt(encoder=encoder)
    with torch.no_grad():
        effects = target.context(FIRST, CLASSES)
        window = target.night[1:6].clone()  # around epoch 3
        before = target.model(window[None])[0, 2, 2]
        window[4] = 0
        after = target.model(window[None])[0, 2, 2]
    assert effects.shape == (4, 5)
    assert torch.allclose(effects[1, 4], before - after, atol=1e-5)


def test_nothing_of_the_model_changes():
    target = cmt()
    target.model.train()
    target.model.heads[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in target.model.state_dict().items()}
    for method in ("ig", "gshap", "occlusion"):
        explain(target, FIRST, CLASSES, method=method)
    assert target.model.training
    assert not target.model.heads[0].weight.requires_grad
    assert target.model.inter.out.weight.requires_grad
    assert all(parameter.grad is None for parameter in target.model.parameters())
    after = target.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("method", ["ig", "occlusion", "saliency"])
def test_the_number_explained_at_once_changes_nothing(method):
    target = cmt()
    together = explain(target, FIRST, CLASSES, method=method).attributions
    for row in range(4):
        alone = explain(target, FIRST[row : row + 1], CLASSES[row : row + 1], method=method)
        assert torch.allclose(alone.attributions[0], together[row], atol=1e-5)


def test_a_constant_model_has_no_attribution(linear):
    nn.init.zeros_(linear.model.weights.weight)
    for method in ("saliency", "ixg", "ig", "occlusion", "ablation"):
        explanation = explain(linear, FIRST, CLASSES, method=method)
        assert (explanation.attributions == 0).all()
        assert not torch.isnan(explanation.error).any() or method != "ig"


def test_an_ignored_modality_gets_nothing(linear):
    with torch.no_grad():
        linear.model.weights.weight.view(5, 2, 60)[:, 1] = 0
    for method in ("saliency", "ixg", "ig", "occlusion", "ablation"):
        assert (explain(linear, FIRST, CLASSES, method=method).attributions[:, 1] == 0).all()


def test_deep_lift_only_where_it_has_rules():
    torch.manual_seed(0)
    target = EpochTarget(Convolutional(), night_of())
    explanation = explain(target, FIRST, CLASSES, method="deeplift")
    assert (explanation.error < 1e-3).all()
    with pytest.raises(UserError, match=r"no rule for layer cells \(LSTM\)"):
        refuse_deep_lift(Recurrent())
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    with pytest.raises(UserError, match="deeplift has no rule for layer"):
        explain(cmt(), FIRST, CLASSES, method="deeplift")
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
        ),
    ],
)
def test_recurrent_models_can_be_attributed(device):
    torch.manual_seed(0)
    target = EpochTarget(Recurrent().to(device).eval(), night_of().to(device))
    explanation = explain(target, FIRST, CLASSES, method="ig")
    assert (explanation.error <= 0.01).all()
    assert torch.backends.cudnn.enabled


def test_what_cannot_be_explained_is_said(linear):
    with pytest.raises(UserError, match="unknown method 'shap'; there are saliency, ixg"):
        explain(linear, FIRST, CLASSES, method="shap")
    with pytest.raises(UserError, match="unknown baseline"):
        explain(linear, FIRST, CLASSES, baseline="noise")
    flat = EpochTarget(linear.model, torch.zeros(5, 2, 60))
    with pytest.raises(UserError, match="baseline equals the epochs"):
        explain(flat, torch.tensor([1]), torch.tensor([0]))


def test_completeness_error_by_hand():
    attributions = torch.tensor([[[1.0, 2.0]], [[0.5, 0.0]]])
    error = completeness_error(attributions, torch.tensor([5.0, 1.0]), torch.tensor([1.0, 0.5]))
    assert torch.allclose(error, torch.tensor([0.25, 0.0]))
