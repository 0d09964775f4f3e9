"""Orders of training batches: stages in balance, nights moved in time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datasets.store.sampling import class_balanced_windows, moved_parallel_nights, parallel_nights
from datasets.store.views import View
from utils.errors import UserError


@pytest.fixture(scope="module", params=["resident", "streamed"])
def view(request, store) -> View:
    budget = None if request.param == "resident" else 0
    recordings = list(store.recordings)
    return View(store, recordings, channels=["EEG"], standardise="none", budget_gb=budget)


def test_every_stage_equally_often(view):
    for length, position in ((1, 0), (3, 1), (4, 1)):
        listed = class_balanced_windows(view, length, position, batch_size=64, seed=0)
        nights = np.concatenate([n for n, *_ in listed.windows])
        first = np.concatenate([f for _, f, _ in listed.windows])
        assert (first >= 0).all() and (first + length <= view.lengths[nights]).all()
        stages = view.stages[view.offsets[nights] + first + position]
        counts = np.bincount(stages, minlength=5)
        assert (stages >= 0).all() and (
            abs(counts - counts.mean()) < 4 * np.sqrt(0.16 * counts.sum())
        ).all()
        assert len(nights) <= (view.stages >= 0).sum()
        # the batch holds what was listed
        batch = next(iter(listed))
        assert batch.stages[:, position].tolist() == stages[:64].tolist()


def test_passes_differ(view):
    one, two = (
        class_balanced_windows(view, 1, 0, batch_size=64, seed=[0, k]).windows for k in (0, 1)
    )
    assert any((a[1] != b[1]).any() for a, b in zip(one, two, strict=True))


def test_no_scored_epoch_is_refused(view):
    with pytest.raises(UserError, match="no window of 100000 epochs"):
        class_balanced_windows(view, 100_000, 0, batch_size=4, seed=0)


def test_moved_nights_hold_their_signal_moved(view):
    length, directions = 20, set()
    whole = {r: (x, s) for r, x, s in view.whole_nights()}
    for seed in range(3):
        moved = moved_parallel_nights(view, length, 2, share=0.1, seed=seed)
        seen = {}
        for batch in moved:
            for row, (night, first) in enumerate(zip(batch.nights, batch.first, strict=True)):
                signals, stages = whole[view.recordings[night]]
                flat = signals[:, 0].flatten()
                shift = int(moved.shifts[night])
                start = first * view.n_samples - shift
                wanted = flat[start : start + length * view.n_samples]
                assert torch.equal(batch.signals[row, :, 0].flatten(), wanted)
                assert torch.equal(batch.stages[row], stages[first : first + length])
                seen.setdefault(night, []).append(int(first))
                directions.add(np.sign(shift))
        for night, firsts in seen.items():
            # in order, without a gap, from one of the first epochs
            assert (np.diff(firsts) == length).all() and firsts[0] <= 5
            assert firsts[0] >= (moved.shifts[night] > 0)
        assert abs(moved.shifts).max() <= 300
    assert {-1, 1} <= directions


def test_a_pass_in_parts_is_the_pass(view):
    moved = moved_parallel_nights(view, 20, 2, share=0.1, seed=0)
    parts = [*moved.until(2), *moved.after(2)]
    assert len(parts) == len(moved)
    for one, other in zip(parts, moved, strict=True):
        assert torch.equal(one.signals, other.signals)


def test_nights_too_short_are_refused(view):
    for order in (parallel_nights, lambda *a, **k: moved_parallel_nights(*a, share=0.1, **k)):
        with pytest.raises(UserError, match="no recording has 100000 epochs"):
            order(view, 100_000, 2, seed=0)
