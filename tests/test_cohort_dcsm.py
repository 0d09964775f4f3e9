"""DCSM: prepared to the exact stages, and what public readers of it get wrong."""

from __future__ import annotations

import pytest

from tests.cohort_files import dcsm
from tests.cohort_files.dcsm import FIRST, NIGHTS
from tests.cohort_files.written import assert_stages, changed, edf, prepared, telling
from utils.errors import UserError


@pytest.fixture
def raw(tmp_path):
    dcsm.write(tmp_path / "raw")
    return tmp_path / "raw"


def test_stages_and_signals(raw, tmp_path, capsys):
    store = prepared("dcsm", raw, tmp_path / "store")
    assert store.subjects == [f"dcsm-{name}" for name in NIGHTS]
    for name, stages in NIGHTS.items():
        assert_stages(store, name, stages)
        assert_stages(store, name, stages, role="EOG", factor=2)
    assert "2 of 255 recordings, 2 of 255 persons" in capsys.readouterr().out


def test_the_hdf5_has_the_same(raw, tmp_path):
    for path in raw.rglob("*.edf"):
        path.unlink()
    store = prepared("dcsm", raw, tmp_path / "store")
    assert_stages(store, FIRST, NIGHTS[FIRST])


def test_the_third_number_is_a_length_and_no_end(raw, tmp_path):
    def ends(profile):
        columns = profile["stages"][0]["columns"]
        columns["end"] = columns.pop("duration")

    with pytest.raises(UserError, match=r"hypnogram.ids: 'N1' at 60 s lasts -30 s; correct it"):
        prepared(changed("dcsm", tmp_path, ends), raw, tmp_path / "store", "--only", FIRST)


def test_what_no_row_covers_is_unscored_and_no_wake(raw, tmp_path):
    store = prepared("dcsm", raw, tmp_path / "store", "--only", FIRST)
    assert store.night(FIRST).stages[[5, 9]].tolist() == [-1, -1]
    # windows of signal are no scored epochs
    assert sum(int(store.recordings[FIRST][s]) for s in ("W", "N1", "N2", "N3", "REM")) == 9


def test_eyes_are_a_difference_and_no_sum(raw, tmp_path):
    def added(profile):
        profile["roles"]["EOG"] = ["E1-M2 + E2-M2"]

    store = prepared(changed("dcsm", tmp_path, added), raw, tmp_path / "store")
    with pytest.raises(AssertionError):
        assert_stages(store, FIRST, NIGHTS[FIRST], role="EOG", factor=2)


def test_long_wake_is_trimmed(tmp_path):
    own = telling([0] * 64 + [2, 2] + [0] * 61, dcsm.FS)
    folder = tmp_path / "raw" / FIRST
    edf(folder / "psg.edf", {"C4-M1": (dcsm.FS, own)})
    (folder / "hypnogram.ids").write_text("0,1920,W\n1920,60,N2\n1980,1830,W\n")
    store = prepared("dcsm", tmp_path / "raw", tmp_path / "store")
    assert store.night(FIRST).stages.tolist() == [0] * 60 + [2, 2] + [0] * 60


def test_an_unknown_word_is_refused(raw, tmp_path):
    path = raw / FIRST / "hypnogram.ids"
    path.write_text(path.read_text().replace("N3", "S3"))
    with pytest.raises(UserError, match=r"hypnogram.ids: 'S3' at 180 s is no word"):
        prepared("dcsm", raw, tmp_path / "store")
