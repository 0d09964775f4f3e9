"""Layers that are quicker on a processor than torch's own: the same sums and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.batch_norm import BatchNorm, normed_linear
from models.dense import Dense, linear
from models.dropout import Dropout


def gradients(out: torch.Tensor, *of: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Of a sum whose terms weigh differently."""
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return torch.autograd.grad((out * weights).sum(), of)


@pytest.mark.parametrize("rows", [(3,), (300,), (20, 30)])
@pytest.mark.parametrize("leak", [None, 0.01])
def test_a_linear_layer_by_convolution(rows, leak):
    torch.manual_seed(0)
    layer = Dense(7, 5)
    x = torch.randn(*rows, 7, requires_grad=True)
    plain = nn.functional.linear(x, layer.weight, layer.bias)
    plain = plain if leak is None else nn.functional.leaky_relu(plain, leak)
    own = linear(x, layer.weight, layer.bias, leak)
    assert own.shape == plain.shape
    assert torch.allclose(own, plain, atol=1e-6)
    assert leak is not None or torch.equal(layer(x), own)
    of = (x, layer.weight, layer.bias)
    for a, b in zip(gradients(own, *of), gradients(plain, *of), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_a_norm_that_the_next_layer_takes_over(training):
    torch.manual_seed(0)
    norms, layer = [BatchNorm(3).double(), BatchNorm(2).double()], Dense(5, 4).double()
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.train(training)
    plain_norms = [BatchNorm(norm.num_features).double().train(training) for norm in norms]
    for plain, norm in zip(plain_norms, norms, strict=True):
        plain.load_state_dict(norm.state_dict())
    x = (3 * torch.randn(6, 11, 5, dtype=torch.double) + 1).requires_grad_()
    parts = [norm(part) for norm, part in zip(plain_norms, x.split([3, 2], dim=2), strict=True)]
    plain, own = layer(torch.cat(parts, dim=2)), normed_linear(norms, x, layer)
    assert torch.allclose(own, plain, atol=1e-12)
    of = (x, layer.weight, layer.bias)
    gains = [parameter for norm in norms for parameter in norm.parameters()]
    plain_gains = [parameter for norm in plain_norms for parameter in norm.parameters()]
    ours, theirs = gradients(own, *of, *gains), gradients(plain, *of, *plain_gains)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-10)
    for norm, plain in zip(norms, plain_norms, strict=True):
        for name, kept in plain.state_dict().items():
            assert torch.allclose(norm.state_dict()[name], kept, atol=1e-12), name


def test_a_constant_column_leaves_statistics_and_gradients_finite():
    norm, layer = BatchNorm(3), Dense(3, 2)
    x = torch.randn(400, 3)
    x[:, 1] = 0.0  # as of a lead that is off throughout a batch
    x.requires_grad_()
    plain = BatchNorm(3)
    expected, out = layer(plain(x)), normed_linear([norm], x, layer)
    assert torch.allclose(out, expected, atol=1e-4)
    assert torch.allclose(norm.running_var, plain.running_var, atol=1e-6)
    assert gradients(out, x)[0].isfinite().all()


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5])
def test_dropout_leaves_out_its_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    out = Dropout(p)(torch.ones(1001, 1003))
    n = out.numel()
    left_out = (out == 0).double().mean().item()
    error = (p * (1 - p) / n) ** 0.5
    assert abs(left_out - p) < 4 * error + 1 / 2**17
    kept = out[out != 0]
    assert torch.all(kept == kept[0])
    assert abs(kept[0].item() - 1 / (1 - p)) < 1e-4
    # neither neighbours nor the four that share one random number go together
    for lag in (1, 2, 3, 4):
        both = ((out.flatten()[lag:] == 0) & (out.flatten()[:-lag] == 0)).double().mean().item()
        assert abs(both - p * p) < 5 * (p * p * (1 - p * p) / n) ** 0.5


def test_dropout_follows_the_seed_and_its_gradient_the_mask():
    x, layer = torch.ones(13, 7, requires_grad=True), Dropout(0.3)
    torch.manual_seed(1)
    first = layer(x)
    assert torch.equal(torch.autograd.grad(first.sum(), x)[0], first.detach())
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)
    assert not torch.equal(layer(x), first)
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert not Dropout(1.0)(x).any()
