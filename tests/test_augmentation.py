"""Augmentations: what each does to a signal with a known answer, drawn anew for every run."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from datasets.store.views import Batch
from objectives.augmentation import (
    AUGMENTATIONS,
    Amplitude,
    Augmented,
    BandStop,
    Channels,
    Contrast,
    Mask,
    Noise,
    Shift,
    composed,
)
from objectives.objective import Objective


@pytest.fixture
def runs() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(6, 4, 2, 3000)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_shape_type_and_probability(name, runs):
    transform = AUGMENTATIONS[name](1.0)
    assert isinstance(transform, v2.Transform)
    kept = runs.clone()
    changed = transform(runs)
    assert changed.shape == runs.shape and changed.dtype == runs.dtype
    assert torch.equal(runs, kept)
    assert all((a != b).any() for a, b in zip(changed, runs, strict=True))
    assert torch.equal(AUGMENTATIONS[name](0.0)(runs), runs)
    assert transform(runs[:, 0]).shape == runs[:, 0].shape  # single epochs


def test_some_runs_are_changed_and_others_not(runs):
    torch.manual_seed(1)
    many = runs[:1].expand(400, -1, -1, -1)
    changed = (Amplitude(0.3)(many) != many).flatten(1).any(dim=1)
    assert 0.22 < changed.float().mean() < 0.38


def test_amplitude_is_one_gain_a_channel(runs):
    gains = Amplitude(1.0, most=2.0)(runs) / runs
    assert torch.allclose(gains.amin(dim=(1, 3)), gains.amax(dim=(1, 3)), rtol=1e-4)
    assert (gains >= 0.499).all() and (gains <= 2.001).all()
    assert len(gains[:, 0, :, 0].flatten().unique()) == 12


def test_shift_moves_whole_runs(runs):
    torch.manual_seed(2)
    moved = Shift(1.0, share=0.1)(runs)
    for before, after in zip(runs, moved, strict=True):
        flat, other = (x.transpose(0, 1).flatten(1) for x in (before, after))
        lags = [lag for lag in range(-300, 301) if torch.equal(flat.roll(lag, dims=1), other)]
        assert len(lags) == 1


def test_bandstop_removes_a_band_and_no_more():
    torch.manual_seed(3)
    x = torch.randn(8, 1, 1, 3000)
    spectra = [torch.fft.rfft(s).abs()[:, 0, 0] for s in (x, BandStop(1.0, width=3.0)(x))]
    lost = spectra[1] < 1e-3
    assert ((lost.sum(dim=1) >= 89) & (lost.sum(dim=1) <= 91)).all()  # 3 Hz of 1/30 Hz bins
    assert torch.allclose(spectra[0][~lost], spectra[1][~lost], atol=1e-2)
    assert len({tuple(row.nonzero()[:1, 0].tolist()) for row in lost}) > 4


def test_mask_is_one_stretch_of_an_epoch():
    torch.manual_seed(4)
    masked = Mask(1.0, share=0.2)(torch.ones(5, 3, 2, 3000)) == 0
    assert torch.equal(masked[:, :, 0], masked[:, :, 1])
    assert (masked.sum(dim=-1) <= 600).all()
    borders = masked.int().diff(dim=-1).abs().sum(dim=-1)
    assert (borders <= 2).all()


def test_noise_is_a_share_of_the_channels_deviation():
    torch.manual_seed(5)
    x = torch.randn(50, 1, 2, 3000) * torch.tensor([1.0, 100.0])[:, None]
    ratio = (Noise(1.0, share=0.3)(x) - x).std(dim=-1) / x.std(dim=-1)
    assert ratio.max() < 0.32 and 0.1 < ratio.mean() < 0.2
    assert abs(ratio[:, 0, 0].mean() - ratio[:, 0, 1].mean()) < 0.08


def test_channels_are_killed_but_never_all():
    torch.manual_seed(6)
    x = torch.ones(5000, 2, 4, 10)
    alive = Channels(0.5)(x).amax(dim=(1, 3))
    assert (alive.sum(dim=1) >= 1).all()
    assert 0.5 < alive.mean() < 0.53  # half, and the one that is kept
    assert torch.equal(Channels(1.0)(x).amax(dim=(1, 3)).sum(dim=1), torch.ones(5000))


def test_an_objective_sees_changed_signals_and_the_same_stages(runs):
    seen = []

    class Seeing(Objective):
        def __call__(self, model, batch):
            seen.append(batch)

    objective = Augmented(Seeing(), composed(["noise"], 1.0))
    stages = torch.zeros(6, 4)
    objective(None, Batch(runs, stages, None, None, np.arange(6)))
    assert not torch.equal(seen[0].signals, runs) and seen[0].stages is stages
    assert objective.state_dict() == {}
    within = SimpleNamespace(state_dict=lambda: {"a": 1}, load_state_dict=seen.append)
    wrapped = Augmented(within, composed(["mask"], 1.0))
    wrapped.load_state_dict(wrapped.state_dict())
    assert seen[-1] == {"a": 1}


def test_a_response_is_smooth_and_of_its_size():
    """One gain a frequency, lines between the knots; the same for all epochs of a run."""
    torch.manual_seed(0)
    x = torch.randn(400, 1, 1, 3000)
    changed = AUGMENTATIONS["response"](1.0)(x)
    gains = 20 * (torch.fft.rfft(changed).abs() / torch.fft.rfft(x).abs()).log10().squeeze()
    hertz = torch.fft.rfftfreq(3000, 1 / 100)
    at_knot = gains[:, (hertz - 8).abs().argmin()]
    assert 2.5 < at_knot.std() < 3.5 and at_knot.mean().abs() < 0.5
    low, high = gains[:, (hertz - 8).abs().argmin()], gains[:, (hertz - 16).abs().argmin()]
    middle = gains[:, (hertz - 128**0.5).abs().argmin()]
    torch.testing.assert_close(middle, (low + high) / 2, atol=0.05, rtol=0)
    runs = torch.randn(2, 3, 1, 3000)
    ratio = torch.fft.rfft(AUGMENTATIONS["response"](1.0)(runs)).abs() / torch.fft.rfft(runs).abs()
    torch.testing.assert_close(ratio[:, 0], ratio[:, 2], atol=1e-2, rtol=1e-2)


def sized() -> torch.Tensor:
    """Noise of sizes 1, 2 and 4, a run of three epochs each: in decibels, 2 is the middle."""
    torch.manual_seed(3)
    return torch.randn(3, 3, 1, 3000) * torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1, 1)


def test_contrast_is_about_the_middle_epoch():
    halved = Contrast(1.0, least=0.5, most=0.5)(sized())
    for run, size in zip(halved, (2**0.5, 2.0, 8**0.5), strict=True):
        assert run.std() == pytest.approx(size, rel=0.08)
    same = Contrast(1.0, least=1.0, most=1.0)(sized())
    assert torch.allclose(same, sized(), atol=1e-4)
