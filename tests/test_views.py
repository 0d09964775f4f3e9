"""Views: epochs, sequences and nights, resident or streamed, standardised without leaks."""

from __future__ import annotations

import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.store import stored_channels, views
from datasets.store.store import Store
from datasets.store.stored_channels import select_channels, train_statistics
from datasets.store.views import View
from tests.conftest import prepare
from tests.edf_files import write_pair
from tests.together import join_group, run_together
from utils.errors import UserError


@pytest.fixture(params=[4.0, 0.0], ids=["resident", "streamed"])
def view(request, store) -> View:
    made = View(store, list(store.recordings), budget_gb=request.param)
    assert made.resident == (request.param > 0)
    return made


def expected(store: Store, recording: str) -> np.ndarray:
    """Standardised by the moments of its own scored epochs, channel by channel."""
    night = store.night(recording)
    x = np.array(night.signals()).astype(np.float64)
    scored = x[np.asarray(night.stages) >= 0]
    mean, sd = scored.mean(axis=(0, 2)), scored.std(axis=(0, 2))
    return (x - mean[:, None]) / sd[:, None]


def test_whole_nights(store, view):
    for recording, signals, stages in view.whole_nights():
        np.testing.assert_allclose(signals, expected(store, recording), atol=1e-3)
        np.testing.assert_array_equal(stages, store.night(recording).stages)
        assert (signals.dtype, stages.dtype) == (torch.float32, torch.int64)


def test_every_scored_epoch_comes_once(store, view):
    seen = []
    for batch in view.epochs(7, seed=3):
        assert batch.signals.shape[1:] == (1, 3, 3000)
        assert (batch.stages >= 0).all()
        seen += list(zip(batch.nights.tolist(), batch.first.tolist(), strict=True))
        for k in range(len(batch.nights)):
            night = expected(store, view.recordings[batch.nights[k]])
            np.testing.assert_allclose(batch.signals[k, 0], night[batch.first[k]], atol=1e-3)
    truth = {
        (n, e)
        for n, recording in enumerate(view.recordings)
        for e in np.flatnonzero(store.night(recording).stages >= 0).tolist()
    }
    assert set(seen) == truth
    assert len(seen) == len(truth)


@pytest.mark.parametrize(("length", "stride"), [(5, 1), (8, 5), (20, None)])
def test_sequences_never_cross_a_recording(store, view, length, stride):
    starts = []
    for batch in view.sequences(length, stride=stride, batch_size=6, scored_only=False):
        assert batch.signals.shape[1:] == (length, 3, 3000)
        for k, (number, first) in enumerate(zip(batch.nights, batch.first, strict=True)):
            night = store.night(view.recordings[number])
            assert first + length <= night.n_epochs
            np.testing.assert_array_equal(batch.stages[k], night.stages[first : first + length])
            starts.append((number, first))
    for number, recording in enumerate(view.recordings):
        of_night = [first for n, first in starts if n == number]
        n_epochs = store.night(recording).n_epochs
        assert of_night[0] == 0
        assert of_night[-1] == n_epochs - length
        assert set(np.diff(of_night)) <= {stride or length} | set(range(1, stride or length))
        covered = {e for first in of_night for e in range(first, first + length)}
        assert covered == set(range(n_epochs))


def test_shuffling_follows_the_seed_alone(view):
    def order(seed):
        return [f for b in view.sequences(4, batch_size=5, seed=seed) for f in b.first.tolist()]

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == sorted(order(None))


def test_resident_and_streamed_agree(store):
    views = [View(store, list(store.recordings), budget_gb=gb) for gb in (4.0, 0.0)]
    pairs = zip(*(v.sequences(6, stride=2, batch_size=4, seed=9) for v in views), strict=True)
    for a, b in pairs:
        assert torch.allclose(a.signals, b.signals, atol=1e-6)
        assert torch.equal(a.stages, b.stages)
        np.testing.assert_array_equal(a.first, b.first)


def test_class_counts(store, view):
    rows = store.recordings.values()
    totals = [sum(int(r[s]) for r in rows) for s in ("W", "N1", "N2", "N3", "REM")]
    assert view.class_counts().tolist() == totals


def test_train_statistics_come_from_training_recordings_only(store, tmp_path):
    train, test = store.of_subjects(["SC400", "SC401"]), store.of_subjects(["SC402"])
    statistics = train_statistics(store, train)
    pooled = [
        np.array(store.night(r).signals(), np.float64)[np.asarray(store.night(r).stages) >= 0]
        for r in train
    ]
    joined = np.concatenate(pooled)
    np.testing.assert_allclose(statistics.mean, joined.mean(axis=(0, 2)), atol=1e-3)
    np.testing.assert_allclose(statistics.sd, joined.std(axis=(0, 2)), rtol=1e-4)
    # a test night's values do not enter: change them on disk, and nothing moves
    copy = tmp_path / "copy"
    shutil.copytree(store.path, copy)
    changed = Store(copy)
    np.save(
        copy / "nights" / test[0] / "signals.npy",
        1000 + np.array(changed.night(test[0]).signals()),
    )
    again = train_statistics(changed, train)
    np.testing.assert_array_equal(again.mean, statistics.mean)
    np.testing.assert_array_equal(again.sd, statistics.sd)
    view = View(store, test, standardise=statistics)
    _, signals, _ = next(view.whole_nights())
    raw = np.array(store.night(test[0]).signals())
    wanted = (raw - statistics.mean[:, None]) / statistics.sd[:, None]
    np.testing.assert_allclose(signals, wanted, atol=1e-3)


def test_plain_microvolts(store):
    view = View(store, ["SC4001E0"], standardise="none")
    _, signals, _ = next(view.whole_nights())
    np.testing.assert_array_equal(signals, store.night("SC4001E0").signals())


def test_channels_by_label_and_role(store):
    assert select_channels(store, ["EOG", "EEG Pz-Oz"]) == (100.0, [2, 1])
    assert select_channels(store, ["eeg pz - oz", "EEG Pz - Oz"]) == (100.0, [1, 1])
    assert select_channels(store, ["EMG"]) == (1.0, [0])
    view = View(store, ["SC4001E0"], channels=["EOG", "EEG"], standardise="none")
    _, signals, _ = next(view.whole_nights())
    np.testing.assert_array_equal(signals, store.night("SC4001E0").signals()[:, [2, 0]])
    with pytest.raises(UserError, match=r"no channel 'ECG'; it has EEG Fpz-Cz \(EEG\)"):
        select_channels(store, ["ECG"])
    with pytest.raises(UserError, match=r"1 and 100 Hz.*--resample"):
        select_channels(store, ["EEG", "EMG"])


def test_one_hertz_channels_can_be_viewed_alone(store):
    for gb in (1.0, 0.0):
        view = View(store, ["SC4001E0"], channels=["EMG"], standardise="none", budget_gb=gb)
        batch = next(iter(view.sequences(3, batch_size=2)))
        wanted = store.night("SC4001E0").signals(1.0)[:3]
        np.testing.assert_array_equal(batch.signals[0], wanted)


def test_nights_shorter_than_a_sequence(tmp_path):
    write_pair(tmp_path / "raw", [("W", 5), ("2", 5)], 10, name="SC4001E0")
    write_pair(tmp_path / "raw", [("W", 15), ("2", 15)], 30, name="SC4011E0")
    prepare(tmp_path / "raw", tmp_path / "s")
    store = Store(tmp_path / "s")
    view = View(store, list(store.recordings))
    assert view.too_short(20) == ["SC4001E0"]
    assert {int(n) for b in view.sequences(20, batch_size=8) for n in b.nights} == {1}
    with pytest.raises(UserError, match=r"no recording has 31 epochs \(longest: 30\)"):
        view.sequences(31, batch_size=8)


def test_windows_without_any_scored_epoch_are_left_out(tmp_path):
    write_pair(tmp_path / "raw", [("W", 4), ("2", 4), ("?", 8), ("2", 4)], 20)
    prepare(tmp_path / "raw", tmp_path / "s", "--keep_all")
    view = View(Store(tmp_path / "s"), ["SC4001E0"])
    firsts = [int(f) for b in view.sequences(4, batch_size=8) for f in b.first]
    assert firsts == [0, 4, 16]
    batches = view.sequences(4, batch_size=8, scored_only=False)
    assert [int(f) for b in batches for f in b.first] == [0, 4, 8, 12, 16]
    # an unscored epoch stays inside its sequence: neighbours on disk are neighbours in time
    batch = next(iter(view.sequences(6, stride=4, batch_size=8)))
    assert batch.stages[1].tolist() == [2, 2, 2, 2, -1, -1]


def test_a_flat_channel_is_centred_not_blown_up(tmp_path):
    write_pair(tmp_path / "raw", [("W", 3), ("2", 3)], 6)
    psg = next((tmp_path / "raw").glob("*PSG*"))
    raw = bytearray(psg.read_bytes())
    raw[1024:] = np.full((len(raw) - 1024) // 2, 100, "<i2").tobytes()
    psg.write_bytes(raw)
    prepare(tmp_path / "raw", tmp_path / "s")
    view = View(Store(tmp_path / "s"), ["SC4001E0"])
    _, signals, _ = next(view.whole_nights())
    assert signals.abs().max() < 1e-3


def test_views_refuse_nothing_and_mixed_orders(store):
    with pytest.raises(UserError, match="no recordings chosen"):
        View(store, [])
    with pytest.raises(UserError, match="statistics"):
        View(store, ["SC4001E0"], standardise="train")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("budget_gb", [4.0, 0.0])
def test_batches_live_on_the_gpu(store, budget_gb):
    on_cpu = View(store, list(store.recordings))
    on_gpu = View(store, list(store.recordings), device="cuda", budget_gb=budget_gb)
    for a, b in zip(
        on_cpu.sequences(5, batch_size=4, seed=1),
        on_gpu.sequences(5, batch_size=4, seed=1),
        strict=True,
    ):
        assert b.signals.is_cuda
        assert b.stages.is_cuda
        assert torch.allclose(a.signals, b.signals.cpu(), atol=1e-5)


def test_jitter_draws_the_ends_as_often_as_the_rest(store):
    # runs of 10 epochs, 4 apart, hold windows of 7, each once in a pass but for those at the ends
    view = View(store, list(store.recordings)[:1])
    n, passes = int(view.lengths[0]), 400
    counts = np.zeros(n - 7 + 1)
    for seed in range(passes):
        for first in listed(view.sequences(10, stride=4, batch_size=99, seed=seed, jitter=True)):
            assert 0 <= first[1] <= n - 10
            counts[first[1] : first[1] + 4] += 1
    assert (counts[4:-4] == passes).all() and (counts > 0).all()
    for end in (counts[:4], counts[-4:]):
        assert end.mean() == pytest.approx(passes, rel=0.08)


def test_jitter_leaves_no_recording_out(store):
    view = View(store, list(store.recordings))
    shortest = int(view.lengths.min())
    for seed in range(20):
        batches = view.sequences(shortest, stride=8, batch_size=9, seed=seed, jitter=True)
        assert {night for night, _ in listed(batches)} == set(range(len(view.lengths)))


def test_jitter_moves_the_borders(store):
    view = View(store, list(store.recordings)[:1])

    def firsts(seed):
        batches = view.sequences(10, stride=8, batch_size=3, seed=seed, jitter=True)
        return {int(first) for batch in batches for first in batch.first}

    assert len({frozenset(firsts(seed)) for seed in range(6)}) > 2
    assert firsts([0, 7]) == firsts([0, 7])


def listed(batches) -> list[tuple[int, int]]:
    return [
        pair for n, f, _ in batches.windows for pair in zip(n.tolist(), f.tolist(), strict=True)
    ]


def test_batches_can_be_continued_in_the_middle(store):
    view = View(store, list(store.recordings))
    whole = view.sequences(5, batch_size=4, seed=1)
    rest = list(whole.after(3))
    assert len(rest) == len(whole) - 3
    for a, b in zip(list(whole)[3:], rest, strict=True):
        assert torch.equal(a.signals, b.signals) and torch.equal(a.stages, b.stages)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 16, 1000])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_every_batch(store, processes, batch_size):
    view = View(store, list(store.recordings))
    whole = view.sequences(5, batch_size=batch_size, seed=1)
    if batch_size < processes:
        with pytest.raises(UserError, match=f"too small for {processes} processes"):
            whole.for_process(0, processes)
        return
    shares = [whole.for_process(rank, processes) for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1
    assert sorted(chain.from_iterable(map(listed, shares))) == sorted(listed(whole))
    sizes = [[len(n) for n, *_ in share.windows] for share in shares]
    assert all(size for share in sizes for size in share), "a process without work"
    # the same batches on any number of processes
    together = [sum(parts) for parts in zip(*sizes, strict=True)]
    assert together == whole.for_process(0, 1).sizes


def test_a_last_batch_of_one_joins_the_one_before(store):
    view = View(store, list(store.recordings))
    n_windows = len(listed(view.sequences(5, batch_size=1000)))
    batches = view.sequences(5, batch_size=n_windows - 1).for_process(0, 1)
    assert [len(n) for n, *_ in batches.windows] == [n_windows]


def test_processes_share_whole_nights(store):
    view = View(store, list(store.recordings))
    shares = [[r for r, *_ in view.whole_nights(rank, 2)] for rank in (0, 1)]
    assert sorted(chain.from_iterable(shares)) == sorted(view.recordings)
    assert not set(shares[0]) & set(shares[1])


@pytest.mark.parametrize(("processes", "fs"), [(2, 100.0), (3, 100.0), (2, 64.0)])
def test_a_process_holds_its_share_and_sees_what_one_alone_sees(store, monkeypatch, processes, fs):
    def alike(ours, theirs):
        # resampled as a part of a night, of which the filter sees an epoch more on either side
        return torch.allclose(ours, theirs, atol=0 if fs == 100 else 1e-4, rtol=0)

    alone = View(store, list(store.recordings), fs=fs)
    batches = list(alone.sequences(6, stride=2, batch_size=5, seed=4))
    nights = [(r, x) for r, x, _ in alone.whole_nights()]
    for rank in range(processes):
        monkeypatch.setattr(views, "_share", lambda rank=rank: (rank, processes))
        # room for a share, not for the whole
        own = alone.lengths[rank::processes].sum()
        view = View(store, list(store.recordings), fs=fs, budget_gb=(own * 12 * 30 * fs + 1) / 1e9)
        view._moments = alone._moments  # those of the others come from the others
        assert view._data.shape[0] == own < alone.n_epochs
        assert not view.resident
        for ours, theirs in zip(
            view.sequences(6, stride=2, batch_size=5, seed=4), batches, strict=True
        ):
            assert alike(ours.signals, theirs.signals)
            assert torch.equal(ours.stages, theirs.stages)
            assert np.array_equal(ours.keys, theirs.keys)
        # those it stages in a validation are those that it holds
        monkeypatch.setattr(view, "_files", None)
        seen = [(r, x) for r, x, _ in view.whole_nights(rank, processes)]
        assert all(
            r == name and alike(x, y)
            for (r, x), (name, y) in zip(seen, nights[rank::processes], strict=True)
        )


def test_two_processes_read_half_of_the_nights_each_to_scale_them(store, tmp_path):
    """Was: at another rate than the stored one every process read every night."""
    view = View(store, list(store.recordings), fs=64.0, budget_gb=0)
    run_together(2, scaled_together, tmp_path / "two", store.path)
    for rank in (0, 1):
        with np.load(tmp_path / "two" / f"{rank}.npz") as file:
            assert file["read"].tolist() == list(store.recordings)[rank::2]
            assert np.array_equal(file["moments"], view._moments)


def scaled_together(rank: int, folder: Path, path: Path) -> None:
    """As one of two processes, open a resampled view; write what was read and the moments."""
    join_group(rank, 2, folder / "meeting")
    read, reads = [], stored_channels.night_signals

    def counted(night, *given):
        read.append(night.id)
        return reads(night, *given)

    stored_channels.night_signals = counted
    store = Store(path)
    view = View(store, list(store.recordings), fs=64.0, budget_gb=0)
    np.savez(folder / f"{rank}.npz", read=read, moments=view._moments)


def test_views_of_one_process_share_a_gpu(monkeypatch):
    """Was: 60 % of what was left, for each: three views filled 94 % of the memory."""
    memory = {"free": 100e9, "taken": 0.0}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (memory["free"], 140e9))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: memory["taken"])
    gpu = torch.device("cuda")
    assert views._budget(gpu, 1) == pytest.approx(60)
    memory.update(free=60e9, taken=40e9)
    assert views._budget(gpu, 1) == pytest.approx(20)
    memory.update(free=30e9, taken=70e9)
    assert views._budget(gpu, 1) == 0
    # of a host all processes take from one memory
    assert views._budget(torch.device("cpu"), 4) == 1.0


def test_one_process_alone_holds_everything(store):
    assert views._share() == (0, 1)
    view = View(store, list(store.recordings))
    assert view.resident
    assert view._data.shape[0] == view.n_epochs


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="lists maps on Linux alone")
def test_stages_of_many_nights_take_no_maps(store):
    view = View(store, list(store.recordings), budget_gb=0.0)
    assert len(view.stages) == view.n_epochs
    # a process may have 65,530 maps
    assert "stages.npy" not in Path("/proc/self/maps").read_text()
