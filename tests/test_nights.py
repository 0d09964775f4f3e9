"""Nights in padded batches: every night once, nothing lost at its end, padding marked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datasets.store.nights import in_batches
from datasets.store.store import Store
from datasets.store.views import View
from utils.errors import UserError


@pytest.fixture(scope="module")
def view(role_store):
    store = Store(role_store)
    return View(
        store,
        list(store.recordings),
        channels=["EEG", "EOG", "PLETH", "LEG"],
        standardise="present",
    )


def test_every_night_once_and_whole(view):
    listed = in_batches(view, 2, seed=[0, 1])
    pieces = [piece for part in listed.pieces for piece in part]
    assert sorted(n for n, *_ in pieces) == list(range(len(view.recordings)))
    assert all(first == 0 and length == view.lengths[n] for n, first, length, *_ in pieces)
    batch = next(iter(listed))
    n, _, length, *_ = listed.pieces[0][0]
    assert batch.signals.shape[1] == max(length for _, _, length, *_ in listed.pieces[0])
    expected = view.stages[view.offsets[n] : view.offsets[n + 1]]
    assert batch.stages[0, :length].tolist() == expected.tolist()


def test_padding_and_absent_roles_are_nan(view):
    numbers = np.argsort(view.lengths, kind="stable")[[0, -1]]
    assert view.lengths[numbers[0]] < view.lengths[numbers[1]]
    listed = in_batches(view, len(view.recordings))
    (batch,) = listed
    for row, (n, _, length, *_) in enumerate(listed.pieces[0]):
        assert batch.signals[row, :length, :2].isfinite().all(), n
        assert batch.signals[row, length:].isnan().all()
        assert (batch.stages[row, length:] == -1).all()
        assert abs(float(batch.signals[row, :length, 0].mean())) < 0.2
    # a role that no recording has, and one that the store does not know
    assert batch.signals[:, :, 2:].isnan().all()
    assert [c.role for c in view.channels] == ["EEG", "EOG", "PLETH", "LEG"]


def test_pieces_stay_inside_and_move_with_the_seed(view):
    firsts = set()
    for seed in range(20):
        for part in in_batches(view, 3, longest=20, seed=[0, seed]).pieces:
            for n, first, length, *_ in part:
                assert length == min(20, view.lengths[n])
                assert 0 <= first <= view.lengths[n] - length
                firsts.add(first)
    assert len(firsts) > 5


def test_passes_resume_where_they_stopped_and_are_shared(view):
    listed = in_batches(view, 2, seed=3)
    assert listed.after(1).pieces == listed.pieces[1:]
    assert listed.until(1).pieces == listed.pieces[:1]
    shares = [listed.for_process(rank, 2).pieces for rank in range(2)]
    together = sorted(p.night for s in shares for part in s for p in part if not p.stand_in)
    assert together == list(range(len(view.recordings)))
    assert len(shares[0]) == len(shares[1])


def test_a_process_without_a_night_takes_the_step_all_the_same(view):
    """Was: the others waited for it, where a batch had fewer nights than there are processes."""
    listed = in_batches(view, 1, seed=[0, 1])
    first, second = (listed.for_process(rank, 2) for rank in range(2))
    assert len(first) == len(second) == len(view.recordings)
    batch = next(iter(second))
    assert batch.stand_in and (batch.stages == -1).all()
    assert sum(first.sizes) == len(view.recordings) and not sum(second.sizes)


def test_streamed_nights_are_the_resident_ones(view, role_store):
    store = Store(role_store)
    streamed = View(
        store,
        view.recordings,
        channels=["EEG", "EOG", "PLETH", "LEG"],
        standardise="present",
        budget_gb=0,
    )
    assert not streamed.resident
    for one, other in zip(
        in_batches(view, 2, seed=1), in_batches(streamed, 2, seed=1), strict=True
    ):
        assert torch.equal(one.signals.nan_to_num(9), other.signals.nan_to_num(9))
        assert torch.equal(one.stages, other.stages)


def test_other_models_refuse_absent_channels(role_store):
    store = Store(role_store)
    with pytest.raises(UserError, match="has no PLETH; choose other --channels"):
        View(store, list(store.recordings), channels=["EEG", "PLETH"])
    with pytest.raises(UserError, match="none of LEG; it has"):
        View(store, list(store.recordings), channels=["LEG"], standardise="present")


def test_a_flat_channel_is_absent(role_store):
    store = Store(role_store)
    flat = "shhs1-200004"  # whose abdomen was flat
    view = View(store, [flat], channels=["EEG", "ABDO"], standardise="present")
    signals = next(iter(view.whole_nights()))[1]
    assert signals[:, 0].isfinite().all()
    assert signals[:, 1].isnan().all()
