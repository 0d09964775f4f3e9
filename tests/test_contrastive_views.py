"""What contrast calls the same: each change of an epoch on a signal with a known answer."""

from __future__ import annotations

import pytest
import torch

from objectives.contrast_views import (
    VIEWS,
    CutOut,
    Offset,
    Permute,
    Scale,
    ShiftOut,
    Warp,
    WhiteNoise,
    read_at,
    views_of,
)


@pytest.mark.parametrize("kind", [ShiftOut, Warp, Permute, CutOut, Scale, Offset, WhiteNoise])
def test_views_change_every_epoch_in_its_own_way(kind):
    torch.manual_seed(0)
    x = torch.randn(20, 2, 3000)
    changed = kind(1.0)(x)
    assert changed.shape == x.shape and torch.isfinite(changed).all()
    moved = [(a != b).any().item() for a, b in zip(x, changed, strict=True)]
    assert sum(moved) >= 18  # a permutation may keep the order
    assert torch.equal(kind(0.0)(x), x)


def test_a_shift_leaves_zeros_behind():
    torch.manual_seed(0)
    x = 1 + torch.arange(3000.0).expand(30, 1, -1)
    for before, after in zip(x[:, 0], ShiftOut(1.0)(x)[:, 0], strict=True):
        gone = int((after == 0).sum())
        assert gone <= 300
        kept = after[after != 0]
        assert torch.equal(kept, before[gone:]) or torch.equal(kept, before[: 3000 - gone])


def test_segments_keep_their_samples_and_change_their_places():
    torch.manual_seed(0)
    x = torch.arange(3000.0).expand(30, 1, -1)
    changed = Permute(1.0)(x)[:, 0]
    assert (changed.sort(dim=1).values == x[:, 0]).all()
    assert ((changed.diff(dim=1) != 1).sum(dim=1) <= 3).all()


def test_warping_and_cutting_go_forward_in_time():
    torch.manual_seed(0)
    x = torch.arange(3000.0).expand(50, 1, -1)
    warped = Warp(1.0)(x)[:, 0]
    assert (
        (warped.diff(dim=1) >= 0).all()
        and (warped[:, 0] < 5).all()
        and (warped[:, -1] > 2994).all()
    )
    slopes = warped.diff(dim=1)
    assert slopes.min() > 0.2 and slopes.max() < 4.1  # stretched by 0.5 to 2, brought to one length
    cut = CutOut(1.0)(x)[:, 0]
    jumps = cut.diff(dim=1).max(dim=1).values
    assert (cut.diff(dim=1) >= 0).all()
    inner = jumps > 100
    assert (abs(jumps[inner] - 750) < 2).all() and 0.2 < inner.float().mean() < 0.8


def test_read_at_is_linear_between_samples():
    x = torch.tensor([[[0.0, 10.0, 40.0]]])
    values = read_at(x, torch.tensor([[-1.0, 0.5, 1.25]]))
    assert values.tolist() == [[[0.0, 5.0, 17.5]]]


def test_sets_of_views():
    for name in VIEWS:
        assert views_of(name)(torch.randn(3, 1, 3000)).shape == (3, 1, 3000)
    assert [type(t).__name__ for t in views_of("benchmark").transforms] == [
        "BandStop",
        "ShiftOut",
        "Warp",
        "Permute",
        "Mask",
        "CutOut",
    ]
    with pytest.raises(ValueError, match="benchmark and sleepyco"):
        views_of("other")
