"""STAGES: prepared to the exact stages of three encodings, and what public readers get wrong."""

from __future__ import annotations

import pytest

from tests.cohort_files import stages
from tests.cohort_files.stages import BOGN, GSDV, MSTR, NIGHTS, SECOND, STNF
from tests.cohort_files.written import BEGIN, assert_stages, changed, prepared
from utils.errors import UserError


@pytest.fixture
def raw(tmp_path):
    stages.write(tmp_path / "raw")
    return tmp_path / "raw"


def scored(raw, name):
    """The events of one recording."""
    return next(raw.rglob(f"{name}.csv"))


def test_stages_and_signals(raw, tmp_path):
    """Past midnight, with gaps, notes of technicians and text with commas in it."""
    store = prepared("stages", raw, tmp_path / "store")
    assert sorted(store.recordings) == sorted(NIGHTS)
    for name, codes in NIGHTS.items():
        assert_stages(store, name, codes)
        assert_stages(store, name, codes, role="EOG", factor=2)
    assert_stages(store, MSTR, NIGHTS[MSTR], part=BEGIN)
    assert store.night(STNF).derivations[0] == "C4 - M1"
    assert store.recordings[SECOND]["subject"] == store.recordings[GSDV]["subject"]


def test_gaps_are_kept(raw, tmp_path):
    """Faulty readers put stages one after the other: what follows a gap comes too early."""
    store = prepared("stages", raw, tmp_path / "store", "--only", "GSDV*", "MSTR*")
    assert store.night(GSDV).stages[4] == -1
    assert store.night(MSTR).stages[4:6].tolist() == [-1, -1]
    together = [code for code in NIGHTS[GSDV] if code >= 0]
    with pytest.raises(AssertionError):
        assert_stages(store, GSDV, [*together, -1])


def test_a_technicians_note_is_no_stage(raw, tmp_path):
    def awake(profile):
        profile["variants"][0]["stages"][0]["words"]["map"]["Awake"] = "W"

    path = changed("stages", tmp_path, awake)
    store = prepared(path, raw, tmp_path / "store", "--only", BOGN)
    assert_stages(store, BOGN, NIGHTS[BOGN])  # in the Wake of this night it does no harm
    csv = scored(raw, BOGN)
    csv.write_text(csv.read_text() + "23:59:31,0,Awake\n")
    store = prepared(path, raw, tmp_path / "faulty", "--only", BOGN)
    with pytest.raises(AssertionError):
        assert_stages(store, BOGN, NIGHTS[BOGN])
    assert_stages(prepared("stages", raw, tmp_path / "own", "--only", BOGN), BOGN, NIGHTS[BOGN])


def test_lengths_of_a_month_are_epochs(raw, tmp_path):
    path = changed("stages", tmp_path, lambda profile: profile["variants"].pop())
    with pytest.raises(UserError, match=r"STNF00007.csv: "):
        prepared(path, raw, tmp_path / "store", "--only", STNF)


def test_unknown_stages_are_refused_though_text_is_free(raw, tmp_path):
    csv = scored(raw, GSDV)
    csv.write_text(csv.read_text().replace("Stage3", "Stage5"))
    with pytest.raises(UserError, match="'Stage5' at 150 s is no word of the profile"):
        prepared("stages", raw, tmp_path / "store", "--only", GSDV)


def test_missing_channels_are_refused_and_no_zeros(raw, tmp_path):
    path = scored(raw, MSTR).with_suffix(".edf")
    path.write_bytes(path.read_bytes().replace(b"EEG_C4-A1", b"Snore    ", 1))
    with pytest.raises(UserError, match=f"{MSTR}: no channel for the required EEG"):
        prepared("stages", raw, tmp_path / "store", "--only", MSTR)
