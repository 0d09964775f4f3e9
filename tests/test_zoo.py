"""The zoo: exact parameter counts and shapes, whole nights, and the references' faults."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import spectrogram
from torch import nn

import models
from interpret.target import EpochTarget, WindowTarget
from models.convolutions import SameConv, SamePool, same
from models.recurrent import PeepholeLSTM
from models.seqsleepnet import triangular_bank
from models.simplesleepnet import time_features
from models.spectrogram import Spectrogram, log_spectrogram


def parameters(model: nn.Module, *, trainable: bool = False) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


@pytest.mark.parametrize(
    ("channels", "length", "fs", "count"),
    [
        (1, 1, 100, 4_301),
        (1, 3, 100, 5_661),
        (1, 21, 100, 17_901),
        (2, 1, 100, 4_987),
        (3, 21, 100, 46_473),
        (6, 1, 128, 8_271),
    ],
)
def test_chambon_parameters(channels, length, fs, count):
    model = models.build(
        "chambon2018", n_channels=channels, num_seq=length, fs=fs, n_samples=30 * fs
    )
    assert parameters(model) == count
    runs = torch.randn(2, length, channels, 30 * fs)
    assert model(runs).shape == (2, 1, 5)


@pytest.mark.parametrize(
    ("name", "settings", "count"),
    [
        ("tinysleepnet", {}, 1_516_293),
        ("tinysleepnet", {"cells": "lstm"}, 1_516_421),
        ("deepsleepnet", {}, 22_645_637),
        ("deepsleepnet", {"cells": "lstm"}, 22_647_685),
        ("seqsleepnet", {}, 133_605),
        ("seqsleepnet", {"n_channels": 3}, 174_629),
        ("sleeptransformer", {}, 3_701_893),
        ("sleeptransformer", {"n_blocks": 2}, 2_448_517),
        ("sleeptransformer", {"variant": "physioex"}, 2_656_133),
        ("sleeptransformer", {"variant": "physioex", "n_channels": 3}, 11_097_221),
        ("simplesleepnet", {"n_channels": 16}, 111_012),
        ("simplesleepnet", {"n_channels": 12}, 92_896),
        ("robustsleepnet", {"n_channels": 1}, 180_343),
        ("robustsleepnet", {"n_channels": 12}, 180_343),
    ],
)
def test_parameters(name, settings, count):
    model = models.build(name, **settings)
    assert parameters(model, trainable=True) == count


def test_counts_of_parts():
    tiny = models.build("tinysleepnet")
    assert parameters(tiny.rnn) == 1_115_008
    assert parameters(tiny) - tiny.rnn.peepholes.numel() == 1_515_909
    assert sum(w.numel() for w in tiny.decayed_parameters()) == 6_400 + 3 * 128 * 128 * 8
    deep = models.build("deepsleepnet")
    assert parameters(deep.small) + parameters(deep.large) == 604_032
    assert parameters(deep.shortcut) + parameters(deep.shortcut_norm) == 3_147_776
    assert [tuple(w.shape) for w in deep.decayed_parameters()] == [(64, 1, 50)]
    for channels, count in ((1, 137_733), (3, 187_013)):
        seq = models.build("seqsleepnet", n_channels=channels)
        assert parameters(seq) + seq.bank.triangles.numel() == count
    block = models.build("sleeptransformer").frames[0]
    assert parameters(block) == 313_344


NAMES = (
    "chambon2018", "tinysleepnet", "deepsleepnet", "seqsleepnet", "sleeptransformer",
    "simplesleepnet", "robustsleepnet",
)  # fmt: skip


def small(name: str, **settings) -> nn.Module:
    torch.manual_seed(0)
    return models.build(name, **{"n_channels": 1, "num_seq": 5, **settings}).eval()


@pytest.fixture(scope="module")
def night() -> torch.Tensor:
    torch.manual_seed(1)
    return 20 * torch.randn(23, 1, 3000)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_epochs", [1, 4, 5, 23])
def test_any_night_is_staged(name, n_epochs, night):
    model = small(name)
    probabilities = model.stage_night(night[:n_epochs], batch_size=7)
    assert probabilities.shape == (n_epochs, 5)
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(n_epochs), atol=1e-5)
    assert torch.allclose(probabilities, model.stage_night(night[:n_epochs]), atol=1e-5)
    assert model.stage_night(night[:0]).shape == (0, 5)


@pytest.mark.parametrize("name", NAMES)
def test_windows_slide_over_encodings(name, night):
    model = small(name)
    run = night[None, :9]
    if name == "tinysleepnet":
        return
    with torch.no_grad():
        together = model(run)
        placed = [
            {"first": torch.tensor([k])} if name == "simplesleepnet" else {} for k in range(5)
        ]
        apart = torch.cat([model(run[:, k : k + 5], **placed[k]) for k in range(5)])
    assert torch.allclose(together, apart, atol=1e-5)


@pytest.mark.parametrize("name", ["chambon2018", "seqsleepnet", "simplesleepnet", "robustsleepnet"])
def test_what_is_explained_is_what_is_staged(name, night):
    # a window in the middle of the night, staged as the model stages it there
    model = small(name)
    epochs, classes = torch.tensor([0, 11, 22]), torch.tensor([0, 2, 4])
    explained = EpochTarget(model, night, "prob")(night[epochs], epochs, classes)
    whole = WindowTarget(model, night, "prob")
    assert torch.allclose(explained, whole(whole.inputs(epochs), epochs, classes), atol=1e-6)
    if name == "chambon2018":
        assert torch.allclose(explained, model.stage_night(night)[epochs, classes], atol=1e-6)
    if name == "simplesleepnet":
        z = model.encode_epochs(night[9:14])[None]
        placed = model.classify(z, torch.tensor([9]))[0, 2].softmax(-1)[2]
        elsewhere = model.classify(z)[0, 2].softmax(-1)[2]
        assert torch.allclose(explained[1], placed, atol=1e-6)
        assert not torch.allclose(placed, elsewhere, atol=1e-5)


def test_chambon_drops_more_of_a_context_than_of_an_epoch():
    alone, context = (models.build("chambon2018", num_seq=n).train() for n in (1, 3))
    assert (alone.dropout.p, context.dropout.p) == (0.25, 0.5)
    assert models.build("chambon2018", context_dropout=0.1).dropout.p == 0.1


def test_chambon_stages_the_middle_epoch(night):
    model = small("chambon2018", num_seq=3)
    with torch.no_grad():
        probabilities = model.stage_night(night)
        by_hand = model(night[None, 4:7])[0, 0].softmax(-1)
        assert torch.allclose(probabilities[5], by_hand, atol=1e-6)
        edge = model(torch.stack([night[0], night[0], night[1]])[None])[0, 0].softmax(-1)
    assert torch.allclose(probabilities[0], edge, atol=1e-6)
    assert [small("chambon2018", num_seq=n).middle for n in (1, 2, 3, 4, 21)] == [0, 0, 1, 1, 10]


@pytest.mark.parametrize("cells", ["peephole", "lstm"])
def test_a_stateful_night_does_not_depend_on_its_chunks(cells, night):
    model = small("tinysleepnet", cells=cells)
    whole = model.stage_night(night)
    for size in (1, 20):
        assert torch.allclose(model.stage_night(night, batch_size=size), whole, atol=1e-5)
    # the state begins anew with every night
    assert torch.allclose(model.stage_night(night[:1]), whole[:1], atol=1e-5)
    # and what came before is remembered
    assert not torch.allclose(model.stage_night(night[5:]), whole[5:], atol=1e-5)


def test_the_past_alone_counts_for_tinysleepnet(night):
    model = small("tinysleepnet")
    changed = night.clone()
    changed[10:] = 0
    assert torch.allclose(model.stage_night(changed)[:10], model.stage_night(night)[:10], atol=1e-6)


def test_peepholes_by_hand():
    torch.manual_seed(0)
    cells = PeepholeLSTM(3, 2).double()
    with torch.no_grad():
        cells.peepholes.uniform_(-1, 1)
        cells.bias.uniform_(-1, 1)
    x = torch.randn(1, 4, 3, dtype=torch.float64)
    h, c, outputs = np.zeros(2), np.zeros(2), []
    w, u, b, p = (
        t.detach().numpy() for t in (cells.weight_ih, cells.weight_hh, cells.bias, cells.peepholes)
    )

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    for step in x[0].numpy():
        i, f, g, o = np.split(w @ step + u @ h + b, 4)
        c = sigmoid(f + 1 + p[1] * c) * c + sigmoid(i + p[0] * c) * np.tanh(g)
        h = sigmoid(o + p[2] * c) * np.tanh(c)
        outputs.append(h)
    computed, (last, _) = cells(x)
    assert np.allclose(computed[0].detach().numpy(), outputs)
    assert torch.equal(last, computed[:, -1])


def test_same_padding():
    assert same(3000, 50, 6) == (22, 22)
    assert same(500, 8, 8) == (2, 2)
    assert same(63, 8, 1) == (3, 4)
    assert same(63, 4, 4) == (0, 1)
    x = torch.randn(1, 1, 3000)
    first = SameConv(1, 2, 50, 6)(x)
    assert first.shape[-1] == 500
    assert SamePool(8)(first).shape[-1] == 63
    assert SamePool(4)(SamePool(8)(first)).shape[-1] == 16
    assert (SamePool(8)(-torch.ones(1, 1, 500)) == -1).all()  # padding never wins


def test_psd_spectrograms_are_scipys():
    x = torch.randn(3, 3000, dtype=torch.float64)
    computed = log_spectrogram(x, 100.0)
    _, _, expected = spectrogram(
        x.numpy(), 100, window="hamming", nperseg=200, noverlap=100, nfft=256, detrend="constant"
    )
    expected = 20 * np.log10(expected + np.finfo(np.float64).eps)
    assert computed.shape == (3, 29, 129)
    assert np.abs(computed.numpy() - expected.transpose(0, 2, 1)).max() < 1e-10


def test_the_two_spectrograms_are_one_in_other_units():
    x = torch.randn(1, 3000, dtype=torch.float64) * 20
    psd, phan = log_spectrogram(x, 100.0), log_spectrogram(x, 100.0, "phan")
    slope, offset = np.polyfit(phan[..., 5:-5].flatten().numpy(), psd[..., 5:-5].flatten(), 1)
    assert slope == pytest.approx(2.0, abs=0.05)
    assert offset == pytest.approx(-71.9, abs=2.5)


def test_spectrogram_statistics_are_those_of_the_epochs_given():
    layer = Spectrogram(2, 100.0, 3000)
    epochs = 20 * torch.randn(40, 2, 3000)
    layer.fit(epochs.split(7))
    scaled = layer(epochs)
    assert scaled.mean(dim=0).abs().max() < 1e-3
    assert (scaled.std(dim=0, correction=0) - 1).abs().max() < 1e-3
    before = layer.mean.clone()
    layer.fit((2 * epochs).split(7))
    assert not torch.allclose(before, layer.mean)
    assert {"mean", "sd"} <= set(layer.state_dict())


def test_the_filter_bank():
    bank = triangular_bank(100.0)
    assert bank.shape == (129, 32)
    edges = np.floor(257 * np.linspace(0, 50, 34) / 100).astype(int)
    assert (bank.argmax(dim=0).numpy() == edges[1:-1]).all()
    assert bank.max() == 1 and bank.min() == 0


def test_time_features():
    features = time_features(torch.tensor([0.0, 60.0]))
    assert features[0].tolist() == [0, 1, 1, 1, 1, 1]
    assert features[1].tolist() == pytest.approx(
        [0.05, *np.cos(np.pi * 60 / np.array([10, 30, 60, 90, 120]))], abs=1e-5
    )


def test_directions_stay_apart_in_deepsleepnet():
    # the forward half of the output must not know the future
    model = small("deepsleepnet").double()
    z = torch.randn(1, 5, 3072, dtype=torch.float64)
    changed = z.clone()
    changed[:, 3:] += 1
    with torch.no_grad():
        assert torch.allclose(model.forwards(z)[:, :3], model.forwards(changed)[:, :3])
        assert not torch.allclose(model.forwards(z)[:, 3:], model.forwards(changed)[:, 3:])


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_weight(name):
    torch.manual_seed(0)
    model = models.build(name, n_channels=2, num_seq=3)
    model(20 * torch.randn(2, 3, 2, 3000)).square().sum().backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle
