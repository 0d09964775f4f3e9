"""The foundation model: published sizes, masks everywhere, any roles, any length, objectives."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import models
from datasets.store.batches import Batch
from models.foundation import (
    PUBLISHED,
    ROLES,
    Foundation,
    FoundationEncoder,
)
from models.foundation_pretraining import FoundationPretraining
from models.probing_heads import HEADS
from models.role_layers import Layer, LogSpectrum
from objectives.denoising import Denoising, corrupt, dropped_roles, hide, mean_square
from objectives.draws import Draws
from objectives.night_staging import NightStaging, drop_roles, focal_loss, trimmed
from probing.linear_autoencoder import LinearAutoencoder
from training.foundation_family import begin_linear, linear_autoencoders, optimiser
from training.optimisers import schedule
from utils.metrics import kappa

FS, T = 20.0, 600  # a small rate: 30 s are 600 samples, a patch 120
SMALL = {"fs": FS, "d_model": 32, "n_heads": 2, "dim_feedforward": 48, "layers": 2}
SHAPES = {
    "light": {}, "apart": {"mixing": "none"}, "fine": {"merge": False},
    "samples": {"tokeniser": "both"}, "half": {"patch_seconds": 15.0},
    "published": PUBLISHED | SMALL,
}  # fmt: skip


def small(shape: str, head: str = "mlp") -> Foundation:
    torch.manual_seed(0)
    model = models.build("foundation", **SMALL | SHAPES[shape], head=head).eval()
    if head == "linear":  # begins with zeros
        nn.init.normal_(model.head.weight, 0, 0.2)
    return model


def draws(n: int) -> Draws:
    return Draws(np.arange(n), "", torch.device("cpu"))


def nights(b: int, n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(b, n, len(ROLES), T, generator=generator)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_published_parameter_counts():
    pretraining = models.build("foundation_pretraining", **PUBLISHED)
    assert count(pretraining) == 17_299_603
    encoder = pretraining.encoder
    assert count(pretraining.head) == 2_693_250
    assert count(encoder) == 14_606_353
    assert count(encoder.linear) == 2_691_584
    assert encoder.positions.numel() == 2_457_600
    assert count(encoder.layers) == 9_457_155 == 3 * (3_152_384 + 1)
    assert encoder.gain.numel() + encoder.offset.numel() == 14
    staging = models.build("foundation", **PUBLISHED, head="published")
    assert count(staging.head) == 49_315_859
    assert count(staging.head.gru) == 47_210_496
    assert count(staging) == 63_922_212
    assert count(models.build("foundation_pretraining")) < 3.1e6


@pytest.mark.parametrize("target", ["signal", "spectrum", "both"])
def test_only_what_is_predicted_has_a_head(target):
    net = FoundationPretraining(**SMALL, target=target).eval()
    assert (net.head is None) == (target == "spectrum")
    assert (net.spectral_head is None) == (target == "signal")
    x = nights(1, 2)
    loss, parts = Denoising(target=target)(net, Batch(x, None, None, None, np.arange(1)))
    loss.backward()
    assert set(parts) == ({"signal", "spectrum"} if target == "both" else {target})
    assert all(p.grad is not None for p in net.parameters())  # several processes need that


def test_unknown_heads_and_patches_that_do_not_fit():
    with pytest.raises(ValueError, match="unknown head 'gbdt'"):
        models.build("foundation", head="gbdt")
    with pytest.raises(ValueError, match="do not fill 30 s"):
        FoundationEncoder(patch_seconds=7.0)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("shape", SHAPES)
def test_padding_changes_nothing(shape, head):
    """A night alone equals the same night padded in a batch (F2, F3, F18, F24)."""
    model, short, long = small(shape, head), nights(1, 12), 5 * nights(1, 20, 1)
    batch = torch.full((2, 20, len(ROLES), T), float("nan"))
    batch[0, :12], batch[1] = short[0], long[0]
    with torch.no_grad():
        alone, together = model(short), model(batch)
    assert alone.shape == (1, 12, 5)
    assert (alone[0] - together[0, :12]).abs().max() < 1e-5
    assert (model(long)[0] - together[1]).abs().max() < 1e-5
    assert alone.std() > 1e-3


@pytest.mark.parametrize("shape", SHAPES)
def test_every_subset_of_roles_runs_and_absent_ones_are_never_seen(shape):
    model, x = small(shape), nights(1, 6)
    with torch.no_grad():
        whole = model(x)
        for code in range(1, 2 ** len(ROLES), 9):
            keep = torch.tensor([bool(code >> k & 1) for k in range(len(ROLES))])
            absent = x.masked_fill(~keep[None, None, :, None], float("nan"))
            logits = model(absent)
            assert logits.isfinite().all()
            assert not torch.allclose(logits, whole) or keep.all()
        encoded = model.encode(x.masked_fill(torch.arange(7)[:, None] == 2, float("nan")))
    assert not encoded.valid[:, 2].any()
    assert (encoded.tokens[:, 2] == 0).all()


def test_one_channel_changes_another_only_where_they_mix():
    """F1 of section 1: the reference's channels never see each other."""
    x, other = nights(1, 6), nights(1, 6)
    other[:, :, 1] += 3 * torch.randn(1, 6, T)
    for shape, expected in (("light", True), ("apart", False)):
        model = small(shape)
        with torch.no_grad():
            difference = (model.encode(x).tokens - model.encode(other).tokens)[:, 3].abs().max()
        assert (difference > 1e-4) == expected
        if not expected:
            assert difference == 0


@pytest.mark.parametrize("n_epochs", [1, 60, 1320])
def test_any_length_and_the_tail_is_kept(n_epochs):
    """11 h: the last epoch's stages depend on its own signal (F12, F18)."""
    for shape in ("light", "published"):
        model = models.build(
            "foundation", **SMALL | SHAPES[shape] | {"layers": 1, "roles": ["EEG"]}
        ).eval()
        nn.init.normal_(model.head.weight)
        x = torch.randn(1, n_epochs, 1, T)
        changed = x.clone()
        changed[:, -1] *= 3
        with torch.no_grad():
            logits, other = model(x), model(changed)
        assert logits.shape == (1, n_epochs, 5)
        assert (logits[:, -1] - other[:, -1]).abs().max() > 1e-4


def test_a_patch_is_valid_if_half_of_it_was_recorded():
    encoder = FoundationEncoder(**SMALL)
    x = torch.ones(1, 7, T)
    x[0, 0, :60] = float("nan")  # exactly half of the first patch of 120
    x[0, 1, :61] = float("nan")
    x[0, 2, 130] = float("nan")  # one sample, at a known place
    patches, valid = encoder.patches(x)
    assert valid[0, 0].tolist() == [True] * 5
    assert valid[0, 1].tolist() == [False, True, True, True, True]
    assert patches[0, 2, 1, 10] == 0 and patches[0, 2].sum() == T - 1


def test_a_layer_of_zeros_is_the_identity():
    """True pre-norm (F17): nothing but what its branches add."""
    layer = Layer(32, 2, 48, 0.0, mixing=True)
    for linear in (layer.time.out, layer.across.out, layer.ff[2]):
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    h = torch.randn(2, 3, 10, 32)
    assert torch.equal(layer(h, torch.ones(2, 3, 10, dtype=torch.bool)), h)


def test_recomputed_gradients_are_the_same():
    gradients = []
    for how in ("none", "feedforward", "layers"):
        torch.manual_seed(0)
        model = models.build("foundation", **SMALL, recompute=how, dropout=0.0, head="gru").train()
        model(nights(1, 4)).sum().backward()
        gradients.append(model.encoder.of_spectrum.weight.grad.clone())
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)
    assert torch.allclose(gradients[0], gradients[2], atol=1e-6)


def test_attention_rows_are_shares_and_see_nothing_masked():
    for shape in ("light", "fine", "apart"):
        model = small(shape)
        x = nights(1, 8)[0].permute(1, 0, 2).flatten(1)
        x[:, 7 * T :] = float("nan")
        x[4] = float("nan")
        time, across = model.encoder.attention(x, torch.tensor([1, 5]))
        assert time.shape == (2, 7, 8) and across.shape == (2, 7, 7)
        recorded = torch.arange(7) != 4
        assert torch.allclose(time[:, recorded].sum(-1), torch.ones(2, 6), atol=1e-5)
        assert (time[:, :, 7] == 0).all() and (time[:, 4] == 0).all()
        if shape != "apart":
            assert (across[:, recorded, 4] == 0).all()
            assert torch.allclose(across[:, recorded].sum(-1), torch.ones(2, 6), atol=1e-5)


def test_log_spectrum_finds_a_sine_and_is_standardised_on_training_nights():
    spectrum = LogSpectrum(1, 120)
    times = torch.arange(120) / FS
    power = spectrum.raw(torch.sin(2 * np.pi * 4 * times)[None, None, None])[0, 0, 0]
    edges = torch.logspace(0, np.log10(61), 41).round().unique()
    assert (edges[power.argmax()] - 1) / 6 <= 4 <= edges[power.argmax() + 1] / 6
    patches = torch.randn(2, 1, 50, 120) * 3
    patches[1, :, 25:] = 100.0  # padding, which counts for nothing
    valid = torch.ones(2, 1, 50, dtype=torch.bool)
    valid[1, :, 25:] = False
    spectrum.fit([(patches, valid)])
    standardised = spectrum(patches, valid)
    assert standardised[0].mean(1).abs().max() < 1e-4  # of each night its own mean
    assert standardised[1, :, :25].mean(1).abs().max() < 1e-4
    assert (standardised[valid].std(0) - 1).abs().max() < 0.02
    louder = spectrum(patches * torch.tensor([1.0, 7.0])[:, None, None, None], valid)
    assert (louder - standardised)[valid].abs().max() < 0.01  # whose night it is does not matter
    spectrum.fit([(torch.zeros(1, 1, 9, 120), torch.ones(1, 1, 9, dtype=torch.bool))])
    assert spectrum.sd.min() == pytest.approx(0.3)  # silence has no deviation to divide by
    assert spectrum(patches, valid).abs().max() <= 10


def test_focal_loss():
    """-(1 - p)^2 log p of the true stage alone (F1): the published one rises with confidence."""
    for p, ratio in ((0.2, 0.64), (0.99, 1e-4)):
        rest = (1 - p) / 4
        logits = torch.tensor([[p, rest, rest, rest, rest]]).log()
        cross = focal_loss(logits, torch.tensor([0]), gamma=0)
        assert cross.item() == pytest.approx(-np.log(p), rel=1e-4)
        assert focal_loss(logits, torch.tensor([0])).item() == pytest.approx(
            ratio * cross.item(), rel=1e-3
        )
    logits, stages = torch.randn(3, 9, 5), torch.randint(-1, 5, (3, 9))
    weights = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0])
    expected = nn.functional.cross_entropy(
        logits.flatten(0, 1), stages.flatten(), weight=weights, ignore_index=-1
    )
    assert focal_loss(logits, stages, gamma=0, weights=weights).item() == pytest.approx(
        expected.item(), rel=1e-5
    )
    smooth = nn.functional.cross_entropy(
        logits.flatten(0, 1), stages.flatten(), label_smoothing=0.1, ignore_index=-1
    )
    assert focal_loss(logits, stages, gamma=0, smoothing=0.1).item() == pytest.approx(smooth.item())
    assert focal_loss(logits, torch.full((3, 9), -1)).item() == 0


def test_decay_pulls_weights_alone():
    torch.manual_seed(0)
    net = models.build(
        "foundation_pretraining", **SMALL, tokeniser="both", affine=True, positions="learned"
    )
    for parameter in net.parameters():  # many begin at 0, which no decay would move
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    flags = SimpleNamespace(weight_decay=0.5, lr=0.1, warmup=0.0, schedule="constant")
    optimizer, _ = optimiser(10, lambda net: None, flags, net)
    optimizer.step()
    moved = {name for name, p in net.named_parameters() if (p != 1).any()}
    assert {"encoder.linear.weight", "head.weight"} <= moved
    assert all(name.endswith((".weight", "encoder.positions")) for name in moved)
    assert not [name for name in moved if "norm" in name]


def test_the_schedule_ends_where_it_was_planned():
    """Steps of the optimiser, not batches (F4): the published cycle ran 6 % of its way."""
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=0.01)
    planned = schedule(optimizer, 40, 0.1, "cosine")
    rates = []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        planned.step()
    assert rates[0] == pytest.approx(0.01 / 4)
    assert max(rates) == pytest.approx(0.01)
    assert rates.index(max(rates)) <= 4
    assert rates == rates[:4] + sorted(rates[4:], reverse=True)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0001)
    constant = schedule(torch.optim.AdamW([parameter], lr=0.01), 40, 0.1, "constant")
    assert constant.lr_lambdas[0](39) == 1


def test_wake_is_trimmed_around_sleep_alone():
    """Padding is no wake, and a night without sleep stays whole (F6)."""
    stages = torch.tensor(
        [
            [0, 0, 0, 2, 0, 3, 0, 0, -1, -1],
            [0, 0, 0, 0, 0, 0, -1, -1, -1, -1],
            [0, 0, -1, 4, 2, 2, 2, 2, 2, 2],
        ]
    )
    assert trimmed(stages, 1).tolist() == [
        [-1, -1, 0, 2, 0, 3, 0, -1, -1, -1],
        [0, 0, 0, 0, 0, 0, -1, -1, -1, -1],
        [-1, -1, -1, 4, 2, 2, 2, 2, 2, 2],
    ]


def test_roles_are_left_out_but_never_all():
    recorded = torch.ones(4000, 7, dtype=torch.bool)
    recorded[:, 5:] = False
    torch.manual_seed(0)
    out = dropped_roles(recorded, 0.3, draws(4000))
    assert (recorded & ~out).any(dim=1).all()
    assert out[:, :5].float().mean().item() == pytest.approx(0.3, abs=0.01)
    x = nights(8, 3)
    torch.manual_seed(0)
    dropped = drop_roles(x, 0.5, draws(8))
    lost = dropped.isnan().all(dim=-1).all(dim=1)
    assert lost.any() and not lost.all(dim=1).any()
    assert drop_roles(x, 0.0, draws(8)) is x


def test_hidden_patches_are_as_many_as_asked_for():
    recorded = torch.ones(50, 7, dtype=torch.bool)
    torch.manual_seed(0)
    hidden = hide(recorded, 500, 0.5, 0.0, 5, draws(50))
    assert hidden.float().mean().item() == pytest.approx(0.5, abs=0.02)
    epochs = hidden.unflatten(2, (100, 5)).all(dim=-1)
    assert epochs.float().mean() > 0.25  # whole epochs, and not single patches alone
    whole = hide(recorded, 500, 0.5, 0.4, 5, draws(50)).all(dim=-1)
    assert whole.any() and not whole.all(dim=1).any()


class _Seen(nn.Module):
    """Keeps what it was shown and reconstructs zeros."""

    def __init__(self):
        super().__init__()
        self.net = FoundationPretraining(**SMALL)

    def forward(self, clean, seen, hidden):
        self.seen, self.hidden = seen, hidden
        predicted = self.net(clean, seen, hidden)
        return predicted._replace(samples=torch.zeros_like(predicted.samples))


def test_only_hidden_valid_patches_count():
    """F16: visible ones and padding add nothing; zeros cost exactly the signal's power there."""
    x = nights(2, 4)
    x[1, 2:] = float("nan")
    x[0, :, 5] = float("nan")
    model, objective = _Seen().eval(), Denoising("masked", target="signal")
    torch.manual_seed(0)
    loss, parts = objective(model, Batch(x, None, None, None, np.arange(2)))
    patches, valid = model.net.encoder.patches(x.permute(0, 2, 1, 3).flatten(2))
    power = patches.square().mean(dim=-1)
    assert loss.item() == pytest.approx(power[valid & model.hidden].mean().item(), rel=1e-5)
    assert set(parts) == {"signal"}
    assert mean_square(patches, patches, valid) == 0


def test_what_is_hidden_is_not_seen():
    net = FoundationPretraining(**SMALL).eval()
    x = nights(1, 4)[0].permute(1, 0, 2).flatten(1)[None]
    hidden = torch.zeros(1, 7, 20, dtype=torch.bool)
    hidden[0, 3, 4:9] = True
    changed = x.clone()
    changed[0, 3, 4 * 120 : 9 * 120] = 7.0
    with torch.no_grad():
        one, other = net(x, x, hidden), net(x, changed, hidden)
    assert torch.equal(one.samples, other.samples)


def test_noise_is_of_the_channels_own_scale():
    """F15: an artefact in one night leaves the noise of all others as it is."""
    x = torch.randn(3, 2, 60_000) * torch.tensor([1.0, 5.0])[:, None]
    corrupted = x.clone()
    corrupted[0, 0, 100:200] = 1e4
    noisy = [corrupt(one, draws(3)) for one in (x, corrupted)]
    assert torch.equal(noisy[0][1:], noisy[1][1:])
    assert torch.equal(noisy[0][0, 1], noisy[1][0, 1])
    touched = noisy[0] != x
    assert touched.float().mean().item() == pytest.approx(0.1, abs=0.005)
    assert (noisy[0][touched] == 0).float().mean().item() == pytest.approx(0.5, abs=0.02)
    noise = noisy[0][:, 1][touched[:, 1] & (noisy[0][:, 1] != 0)]
    assert noise.std().item() == pytest.approx(5.0, rel=0.05)
    x[0, 0, :50] = float("nan")
    assert corrupt(x, draws(3))[0, 0, :50].isnan().all()


def test_linear_autoencoder_is_the_best_of_its_width():
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(4000, 6)) @ rng.normal(size=(6, 20))
    one = LinearAutoencoder(20, 6)
    one.add(clean[:2000], clean[:2000])
    one.add(clean[2000:], clean[2000:])
    assert np.abs(one.solve()(clean) - clean).max() < 1e-3
    narrow = LinearAutoencoder(20, 3)
    narrow.add(clean, clean)
    error = ((narrow.solve()(clean) - clean) ** 2).sum()
    singular = np.linalg.svd(clean - clean.mean(0), compute_uv=False)
    assert error == pytest.approx((singular[3:] ** 2).sum(), rel=0.02)


@pytest.mark.parametrize("tokeniser", ["linear", "both"])
def test_pretraining_can_begin_as_the_best_linear_autoencoder(tokeniser):
    torch.manual_seed(0)
    times = torch.arange(12 * T) / FS
    x = torch.stack([torch.sin(2 * np.pi * hz * times + hz) for hz in (0.7, 1.9)])
    x = x + 0.3 * torch.randn_like(x)
    night = x.unflatten(1, (12, T)).permute(1, 0, 2)
    view = SimpleNamespace(device="cpu", whole_nights=lambda: [("a", night, None)])
    settings = SMALL | {"roles": ["EEG", "EOG"], "tokeniser": tokeniser}
    net = FoundationPretraining(**settings).eval()
    torch.manual_seed(1)
    begin_linear(net, view)
    torch.manual_seed(1)
    linear = linear_autoencoders(net, view)
    clean, valid = net.encoder.patches(x[None])
    with torch.no_grad():
        made = net(x[None], x[None]).samples[0]
    assert valid.all()
    for k, one in enumerate(linear):
        expected = torch.from_numpy(one(clean[0, k].numpy()))
        error = (made[k] - expected).square().mean() / expected.square().mean()
        assert error < (1e-3 if tokeniser == "linear" else 0.05)


def test_four_nights_are_learned_by_heart():
    """Acceptance: kappa above 0.9 on the nights trained on."""
    torch.manual_seed(0)
    stages = torch.randint(0, 5, (4, 10)).repeat_interleave(4, dim=1)
    times = torch.arange(T) / FS
    hz = torch.tensor([1.0, 2.5, 4.0, 6.0, 8.0])
    waves = torch.sin(2 * np.pi * hz[stages][..., None] * times)
    x = torch.randn(4, 40, 2, T)
    x[:, :, 0] += waves
    model = models.build("foundation", **SMALL | {"roles": ["EEG", "EMG"]}, head="mlp")
    objective = NightStaging()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(60):
        loss, logs = objective(model, Batch(x, stages, None, None, np.arange(4)))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    predicted = model.eval()(x).argmax(-1)
    counts = np.zeros((5, 5), int)
    np.add.at(counts, (stages.flatten().numpy(), predicted.flatten().numpy()), 1)
    assert kappa(counts) > 0.9
    assert int(logs["scored"]) == 160
