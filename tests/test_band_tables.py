"""Tables of band powers: what is read back, what is refused, stores, splits and stage means."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import models
from datasets.band_batches import BandSource, balanced_batches
from datasets.band_tables import (
    read_table,
    split_of,
    stage_means,
    table_of_store,
    with_stage_means,
    write_table,
)
from tests.band_nights import DERIVATIONS, made_up_table
from utils.errors import UserError

CPU = torch.device("cpu")


def test_a_table_is_read_as_it_was_written(tmp_path):
    written = made_up_table(tmp_path / "t.npz")
    table = read_table(tmp_path / "t.npz")
    assert (table.cohort, table.derivations) == ("synthetic-table", DERIVATIONS)
    assert table.subjects == [f"SC4{k:02}" for k in range(6)]
    for night, wanted in zip(table.nights, written.nights, strict=True):
        assert night.recording == wanted.recording and night.decibels.dtype == np.float32
        assert np.abs(night.decibels - wanted.decibels).max() < 0.03
        assert (night.stages == wanted.stages).all()
    assert table.derivation("Pz-Oz") == table.derivation("EEG Pz-Oz") == 1
    assert table.is_eog == [False, False, True]
    with pytest.raises(UserError, match="no derivation 'Cz'; it has EEG Fpz-Cz"):
        table.derivation("Cz")


def arrays(**changes):
    of_night = {"SC4001_db": np.zeros((4, 3, 5), np.float16), "SC4001_stage": np.zeros(4, np.int8)}
    return {k: v for k, v in {**of_night, **changes}.items() if v is not None}


def test_a_plain_table_is_of_sleep_edf(tmp_path):
    np.savez(tmp_path / "t.npz", **arrays(SC4001_first_s=np.float32(3)))
    table = read_table(tmp_path / "t.npz")
    assert (table.cohort, table.subjects) == ("sleepedf-2018", ["SC400"])


BROKEN = np.zeros((4, 3, 5), np.float16)
BROKEN[2, 1, 3] = np.nan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SC4001_stage": None}, "SC4001 lacks SC4001_stage"),
        ({"SC4001_db": None}, "SC4001 lacks SC4001_db"),
        ({"SC4001_db": None, "SC4001_stage": None}, "without nights"),
        ({"other": np.zeros(3)}, "'other' is no array"),
        ({"SC4001_db": np.zeros((4, 2, 5), np.float16)}, r"not float \(4, 3, 5\)"),
        ({"SC4001_db": np.zeros((3, 3, 5), np.float16)}, r"not float \(4, 3, 5\)"),
        ({"SC4001_db": np.zeros((4, 3, 5), np.int16)}, "band powers int16"),
        ({"SC4001_db": BROKEN}, "not finite"),
        ({"SC4001_db": np.full((4, 3, 5), np.inf, np.float16)}, "not finite"),
        ({"SC4001_stage": np.full(4, 5, np.int8)}, "from -1 to 4"),
        ({"SC4001_stage": np.zeros(4)}, "from -1 to 4"),
        ({"x_db": np.zeros((4, 3, 5)), "x_stage": np.zeros(4, np.int8)}, "x names no subject"),
        ({"SC4001_db": np.array([{}] * 4)}, "no table of band powers"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, changes, message):
    np.savez(tmp_path / "t.npz", **arrays(**changes))
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / "t.npz")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "t.npz").write_bytes(b"PK\x03\x04 cut")
    np.save(tmp_path / "t.npy", np.zeros(3))
    for name in ("t.npz", "t.npy", "none.npz"):
        with pytest.raises(UserError, match=f"{name}: no "):
            read_table(tmp_path / name)


def test_a_store_gives_its_nights_in_its_eeg_and_eog(store, tmp_path):
    net = models.build("night_bands")
    table = table_of_store(store, lambda fs: net.decibels, tmp_path / "t.npz")
    write_table(table.path, table)
    again = read_table(table.path)
    assert len(again.nights) == len(store.recordings) and again.cohort == store.cohort
    assert again.is_eog == [False, False, True]
    night = again.nights[0]
    signals = torch.from_numpy(np.array(store.night(night.recording).signals()))
    expected = net.decibels(signals)[:, 0].numpy()
    assert np.abs(night.decibels[:, 0] - expected).max() < 0.03
    assert night.subject in store.subjects


def test_a_split_is_by_subject_and_by_seed():
    subjects = [f"S{k}" for k in range(9)]
    parts = split_of(subjects, 2, 3, 0)
    assert [len(part) for part in parts] == [4, 3, 2] and sorted(
        s for p in parts for s in p
    ) == subjects
    assert parts == split_of(subjects[::-1], 2, 3, 0) != split_of(subjects, 2, 3, 1)
    with pytest.raises(UserError, match="leave none to train on"):
        split_of(subjects, 5, 4, 0)


def test_stage_means_move_to_the_other_table(tmp_path):
    ours = made_up_table(tmp_path / "a.npz")
    other = made_up_table(tmp_path / "b.npz", shift=7.0)
    moved = with_stage_means(ours, other, other.subjects[:4])
    wanted = stage_means(other.of_subjects(other.subjects[:4]))
    assert np.allclose(stage_means(moved.nights), wanted, atol=1e-3)
    n2, unscored = ours.nights[0].stages == 2, ours.nights[0].stages == -1
    for kept in (n2, unscored):
        assert (moved.nights[0].decibels[kept] == ours.nights[0].decibels[kept]).all()


def test_derivations_of_other_names_move_to_the_first_of_their_kind(tmp_path):
    ours = made_up_table(tmp_path / "a.npz")
    other = made_up_table(tmp_path / "b.npz", shift=7.0)
    renamed = replace(ours, derivations=("EEG C4-M1", "EEG Pz-Oz", "EOG left"))
    moved, again = (with_stage_means(t, other, other.subjects) for t in (ours, renamed))
    for night, same in zip(moved.nights, again.nights, strict=True):
        assert (night.decibels == same.decibels).all()


def test_batches_hold_as_many_nights_of_each_source(tmp_path):
    many = made_up_table(tmp_path / "a.npz", 6)
    few = made_up_table(tmp_path / "b.npz", 2)
    sources = [BandSource(t.nights, tuple(t.is_eog)) for t in (many, few)]
    batches = balanced_batches(sources, 4, [0, 0], CPU)
    assert [[s for s, _ in group] for group in batches.groups] == [[0, 0, 1, 1]] * 3
    assert sorted(n for group in batches.groups for s, n in group if s == 0) == list(range(6))
    batch = next(iter(batches))
    assert batch.decibels.shape == (4, int(batch.lengths.max()), 3, 5)
    assert batch.is_eog.tolist() == [[False, False, True]] * 4
    for k, length in enumerate(batch.lengths.tolist()):
        assert batch.decibels[k, :length].isfinite().all()
        assert batch.decibels[k, length:].isnan().all() and (batch.stages[k, length:] == -1).all()
    again = balanced_batches(sources, 4, [0, 0], CPU)
    assert again.groups == batches.groups and again.seeds == batches.seeds
    assert again.after(2).groups == batches.groups[2:] and len(again.after(2)) == 1
    assert balanced_batches(sources, 4, [0, 1], CPU).groups != batches.groups


def test_the_table_of_real_nights():
    folder = os.environ.get("SLEEP_REAL_DATA")
    path = Path(folder or "") / "sleep_edf_bandpowers" / "sc153.npz"
    if folder is None or not path.exists():
        pytest.skip("SLEEP_REAL_DATA names no folder with the table")
    table = read_table(path)
    assert len(table.nights) == 153 and len(table.subjects) == 78
    assert table.nights[0].decibels.shape[1:] == (3, 5)
