"""Stores of 16-bit integers: the recorder's own where nothing changed them, else equal steps."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

import generate_demo_data
import preprocess_dreem
import preprocess_nsrr
import preprocess_ucddb
from datasets.readers.edf import EdfFile
from datasets.store.integers import to_integers, to_values
from datasets.store.store import Store
from datasets.store.stored_file import StoredFile
from datasets.store.views import View
from tests.conftest import prepare
from tests.small_store import edited
from utils.errors import UserError
from utils.files import write_array


@pytest.fixture(scope="module")
def both(raw, tmp_path_factory):
    """The same nights as float32 and as integers."""
    folder = tmp_path_factory.mktemp("integers")
    for dtype in ("float32", "int16"):
        prepare(raw, folder / dtype, "--channels", "all", "--store_dtype", dtype, "--jobs", "1")
    return Store(folder / "float32"), Store(folder / "int16")


def test_unfiltered_nights_hold_the_recorders_integers(raw, both):
    floats, integers = both
    for recording in integers.recordings:
        night, like = integers.night(recording), floats.night(recording)
        file = EdfFile(next(raw.glob(f"{recording[:7]}*PSG.edf")))
        for fs in {channel.fs for channel in night.channels}:
            stored = night.stored(fs)
            assert stored.dtype == np.int16
            labels = [channel.label for channel in night.channels if channel.fs == fs]
            for k, label in enumerate(labels):
                columns = file.channel(label).columns
                digital = file._digital(slice(None), columns).reshape(-1)
                first = round(night.first_epoch * 30 * fs)
                ours = stored[:, k].reshape(-1)
                assert np.array_equal(ours, digital[first : first + len(ours)]), label
            # and so the same values, to the last bit
            assert np.array_equal(np.array(night.signals(fs)), like.signals(fs))
        assert (night.mean, night.sd) == (like.mean, like.sd)


@pytest.mark.parametrize("fs", [None, 64.0])
@pytest.mark.parametrize("budget_gb", [4.0, 0.0])
def test_views_see_the_same(both, budget_gb, fs):
    floats, integers = (
        View(s, list(s.recordings), channels=["EOG", "EEG"], fs=fs, budget_gb=budget_gb)
        for s in both
    )
    for a, b in zip(
        *(v.sequences(6, batch_size=4, seed=1) for v in (floats, integers)), strict=True
    ):
        assert torch.equal(a.signals, b.signals)
        assert torch.equal(a.stages, b.stages)


def test_files_for_stagers_by_name_see_the_same(both):
    label = both[0].channels[1].label
    floats, integers = (StoredFile(s, next(iter(s.recordings))).read(label, 31, 95) for s in both)
    assert np.array_equal(floats, integers)


def test_it_takes_half_the_room(both):
    sizes = [(next(s.path.rglob("signals.npy"))).stat().st_size - 128 for s in both]
    assert sizes[0] == 2 * sizes[1]


def test_filtered_nights_are_within_half_a_step(raw, tmp_path):
    stores = []
    for dtype in ("float32", "int16"):
        words = ("--bandpass", "0.3", "35", "--store_dtype", dtype, "--jobs", "1")
        prepare(raw, tmp_path / dtype, *words)
        stores.append(Store(tmp_path / dtype))
    for recording in stores[0].recordings:
        floats, integers = (np.array(s.night(recording).signals()) for s in stores)
        steps = np.ptp(floats, axis=(0, 2)) / 65_535
        assert (np.abs(floats - integers).max(axis=(0, 2)) <= 0.51 * steps).all()
        # moments are those of what is read back
        night = stores[1].night(recording)
        scored = integers[night.stages >= 0].astype(float)
        assert night.mean == pytest.approx(scored.mean(axis=(0, 2)), abs=1e-6)
        assert night.sd == pytest.approx(scored.std(axis=(0, 2)), rel=1e-5)


VALUES = np.linspace(-5, 9, 600, dtype=np.float32).reshape(2, 300)


@pytest.mark.parametrize(
    "recorded",
    [None, (0.01, 7.0), (1e-4, 0.0), (-0.5, 3.0)],
    ids=["unknown", "another", "too fine for 16 bits", "downwards"],
)
def test_values_off_the_recorders_scale_get_one_of_their_own(recorded):
    integers, scale = to_integers(VALUES, recorded)
    assert scale != recorded
    assert (integers.min(), integers.max()) == (-32_768, 32_767)
    back = to_values(integers[:, None], [scale])[:, 0]
    assert np.abs(back - VALUES).max() <= 0.51 * 14 / 65_535


def test_flat_and_absent_channels():
    flat = np.full((2, 30), 3.25, np.float32)
    integers, scale = to_integers(flat, None)
    assert np.array_equal(to_values(integers[:, None], [scale])[:, 0], flat)
    integers, scale = to_integers(np.full((2, 30), np.nan, np.float32), (0.1, 0.0))
    assert scale is None
    assert np.isnan(to_values(integers[:, None], [scale])).all()


def damaged(store: Store, tmp_path, **changes) -> Store:
    """A copy of one night's description and arrays, its first channel changed."""
    copy = shutil.copytree(store.path, tmp_path / "copy")
    path = copy / "nights" / next(iter(store.recordings)) / "night.json"
    channels = json.loads(path.read_text())["channels"]
    edited(path, channels=[channels[0] | changes, *channels[1:]])
    return Store(copy)


@pytest.mark.parametrize("scale", [[1.0], ["1", 2.0], [1.0, float("nan")], 3, [True, 0]])
def test_scales_that_are_none_are_refused(both, tmp_path, scale):
    store = damaged(both[1], tmp_path, scale=scale)
    with pytest.raises(UserError, match="its 'scale' is"):
        store.night(next(iter(store.recordings)))


@pytest.mark.parametrize("scale", [None, [1e308, 1e308]])
def test_scales_that_make_no_numbers_are_refused(both, tmp_path, scale):
    store = damaged(both[1], tmp_path, scale=scale)
    for budget_gb in (4.0, 0.0):
        with pytest.raises(UserError, match="hold samples that are no numbers"):
            list(View(store, list(store.recordings), budget_gb=budget_gb).epochs(64))


def test_arrays_of_other_types_are_still_refused(both, tmp_path):
    store = damaged(both[1], tmp_path)
    night = store.night(next(iter(store.recordings)))
    write_array(night.folder / "signals.npy", np.zeros(night.stored(100).shape, np.int32))
    with pytest.raises(UserError, match="holds int32"):
        night.signals()


def test_stores_by_role_hold_integers_too(tmp_path):
    raw, absent = tmp_path / "raw", tmp_path / "map.json"
    absent.write_text('{"CO2": ["a channel that no file has"]}')
    words = ["--format", "nsrr", "--subjects", "2", "--nights", "1", "--hours", "0.5"]
    generate_demo_data.main(["--output", str(raw), *words, "--jobs", "1"])
    stores = []
    for dtype in ("float32", "int16"):
        words = ["--raw_path", str(raw), "--save_path", str(tmp_path / dtype), "--jobs", "1"]
        roles = ["--roles", "EEG", "EOG", "SPO2", "CO2", "--channel_map", str(absent)]
        preprocess_nsrr.main([*words, *roles, "--store_dtype", dtype])
        stores.append(Store(tmp_path / dtype))
    for recording in stores[0].recordings:
        floats, integers = (np.array(s.night(recording).signals()) for s in stores)
        assert np.isnan(integers[:, 3]).all()
        steps = np.ptp(floats[:, :3], axis=(0, 2)) / 65_535
        errors = np.abs(floats - integers)[:, :3].max(axis=(0, 2))
        assert (errors <= 0.51 * steps + 1e-5).all()


@pytest.mark.parametrize("script", [preprocess_dreem, preprocess_nsrr, preprocess_ucddb])
def test_every_preparation_has_the_flag(script):
    assert script.parse_args(["--store_dtype", "int16"]).store_dtype == "int16"
    # nothing in the commands of stores as they were
    assert script.parse_args([]).store_dtype is None
