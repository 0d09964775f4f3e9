"""NCHSDB: prepared to the exact stages at fractional onsets, and what public readers get wrong."""

from __future__ import annotations

import pytest

from tests.cohort_files import nchsdb
from tests.cohort_files.nchsdb import BARE, FIRST, NIGHTS, OTHER, SECOND
from tests.cohort_files.written import BEGIN, assert_stages, changed, prepared
from utils.errors import UserError


@pytest.fixture
def raw(tmp_path):
    nchsdb.write(tmp_path / "raw")
    return tmp_path / "raw"


def test_stages_and_signals(raw, tmp_path, capsys):
    """Onsets such as 70.96 s, gaps of a minute; what is called EDF+C has no annotations."""
    store = prepared("nchsdb", raw, tmp_path / "store")
    for name, stages in NIGHTS.items():
        assert_stages(store, name, stages)
        assert_stages(store, name, stages, role="EOG", factor=2)
    derivations = {name: store.night(name).derivations for name in NIGHTS}
    assert derivations[BARE][0] == "EEG C4 - EEG M1"
    assert derivations[OTHER][1:] == ("EEG LOC-M2 - EEG ROC-M1", "- EMG Chin2-Chin1")
    assert derivations[SECOND][2] == "EMG CHIN1-CHIN2"
    printed = capsys.readouterr().out
    assert "left out: 1483_7963: its table holds bytes of 0 alone" in printed
    assert "4 of 3,984 recordings, 3 of 3,673 persons" in printed


def test_studies_of_one_child_stay_together(raw, tmp_path):
    store = prepared("nchsdb", raw, tmp_path / "store", "--only", "10000_*")
    assert store.subjects == ["nchsdb-10000"]
    assert [int(store.recordings[name]["night"]) for name in (FIRST, SECOND)] == [1, 2]


def test_the_start_of_recording_is_no_origin(raw, tmp_path):
    """Faulty readers subtract its onset, 1.25 s: each epoch would begin with the one before it."""
    store = prepared("nchsdb", raw, tmp_path / "store", "--only", SECOND)
    assert_stages(store, SECOND, NIGHTS[SECOND], part=BEGIN)
    early = nchsdb.stages_of(NIGHTS[SECOND], nchsdb.LEADS[SECOND] - 1.25)
    (raw / f"{SECOND}.tsv").write_text(early)
    store = prepared("nchsdb", raw, tmp_path / "early", "--only", SECOND)
    with pytest.raises(AssertionError):
        assert_stages(store, SECOND, NIGHTS[SECOND], part=BEGIN)


@pytest.mark.parametrize("name", [FIRST, SECOND, BARE])
def test_onsets_rounded_to_a_grid_are_others(raw, tmp_path, name):
    path = changed("nchsdb", tmp_path, lambda profile: profile.pop("epochs"))
    store = prepared(path, raw, tmp_path / "store", "--only", name)
    with pytest.raises(AssertionError):
        assert_stages(store, name, NIGHTS[name])


def test_broken_tables_and_unknown_words_are_refused(raw, tmp_path):
    with pytest.raises(UserError, match=r"1483_7963.tsv: .* holds bytes of 0"):
        prepared("nchsdb", raw, tmp_path / "store", "--exclusions", "False", "--only", "1483_*")
    path = raw / f"{FIRST}.tsv"
    path.write_text(path.read_text().replace("Sleep stage N3", "Sleep stage 3"))
    with pytest.raises(UserError, match=r"'Sleep stage 3' at 190.96 s is no word"):
        prepared("nchsdb", raw, tmp_path / "store", "--only", FIRST)


def test_missing_channels_are_refused_and_no_zeros(raw, tmp_path):
    path = raw / f"{FIRST}.edf"
    content = path.read_bytes()
    for label in (b"EEG C4-M1", b"EEG C3-M2", b"EEG O1-M2"):
        content = content.replace(label, b"Patient  ", 1)
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{FIRST}: no channel for the required EEG"):
        prepared("nchsdb", raw, tmp_path / "store", "--only", FIRST)
