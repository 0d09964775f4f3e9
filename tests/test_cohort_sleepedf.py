"""Sleep-EDF by its profile: the same nights, stages and bouts as by its own reader."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from datasets.readers import sleepedf
from datasets.readers.profiles import cohort_nights, declared_night, profile
from tests.cohort_files.written import prepared
from tests.edf_files import write_hypnogram, write_psg
from utils.errors import UserError


def nights_in(folder, **options):
    return cohort_nights.find(folder, profile.load("sleepedf"), cohort_nights.Options(**options))


def test_nights_are_those_of_its_reader(raw):
    pairs = {pair.id: sleepedf.read(pair) for pair in sleepedf.find_pairs(raw)}
    nights = nights_in(raw)
    assert [night.id for night in nights] == sorted(pairs)
    for night in nights:
        one, other = declared_night.read(night), pairs[night.id]
        assert one.stages.tolist() == other.stages.tolist()
        assert one.bouts == other.bouts
        assert (one.subject, one.night, one.start) == (other.subject, other.night, other.start)
        assert list(one.signals) == list(other.signals)
        assert one.note == other.note
        assert [path.name for path in night.files] == [
            path.name for pair in sleepedf.find_pairs(raw) if pair.id == night.id
            for path in pair.files
        ]  # fmt: skip


def test_a_store_by_role(raw, tmp_path):
    store = prepared("sleepedf", raw, tmp_path / "store", "--roles", "EEG", "EOG")
    assert {row["subject"] for row in store.recordings.values()} == {
        pair.subject for pair in sleepedf.find_pairs(raw)
    }
    assert store.settings["protocol"] == "tinysleepnet"


@pytest.mark.parametrize(
    ("bouts", "first", "message"),
    [
        ([("W", 2), ("Sleep stage X", 2)], 0, "'Sleep stage X' at 60 s is no word"),
        ([("W", 2), ("R", 2)], 0.5, "does not fill whole 30 s epochs"),
        ([("?", 4)], 0, "holds none of the stages"),
    ],
)
def test_other_hypnograms_are_refused(tmp_path, bouts, first, message):
    write_psg(tmp_path / "SC4001E0-PSG.edf", 5)
    write_hypnogram(tmp_path / "SC4001EC-Hypnogram.edf", bouts, first)
    with pytest.raises(UserError, match=message):
        declared_night.read(nights_in(tmp_path)[0])


def test_the_real_night(real_data, tmp_path):
    for path in (real_data / "sleep_edf").glob("SC4001E*"):
        shutil.copy(path, tmp_path)
    # an excerpt of ten epochs beside the hypnogram of the whole night
    with pytest.raises(UserError, match=r"stages for the 10 epochs of SC4001E0-PSG.edf"):
        declared_night.read(nights_in(tmp_path)[0])
    recording = declared_night.read(nights_in(tmp_path, salvage=True)[0])
    assert recording.stages.tolist() == [0] * 10
    assert np.ptp(recording.signals["EEG Fpz-Cz"].read(0, 300)) > 10
    whole = sleepedf.read_bouts(sleepedf.EdfFile(tmp_path / "SC4001EC-Hypnogram.edf"))
    assert recording.bouts == whole
