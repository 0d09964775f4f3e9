"""DREAMS: prepared to the exact stages, by AASM and by R&K, and what readers of it get wrong."""

from __future__ import annotations

import pytest

from tests.cohort_files import dreams
from tests.cohort_files.dreams import FIRST, NIGHTS
from tests.cohort_files.written import assert_stages, changed, prepared
from utils.errors import UserError


@pytest.fixture
def raw(tmp_path):
    dreams.write(tmp_path / "raw")
    return tmp_path / "raw"


def test_stages_and_signals(raw, tmp_path, capsys):
    """Numbers run backwards, one every 5 s."""
    store = prepared("dreams", raw, tmp_path / "store")
    assert sorted(store.recordings) == sorted(NIGHTS)
    for name, stages in NIGHTS.items():
        assert_stages(store, name, stages)
        assert_stages(store, name, stages, role="EOG", factor=2)
    assert "2 of 47 recordings" in capsys.readouterr().out


def test_stages_by_rk_are_of_20_s(tmp_path):
    expected = dreams.write_rk(tmp_path / "raw")
    store = prepared("dreams-rk", tmp_path / "raw", tmp_path / "store")
    assert_stages(store, FIRST, expected)
    # nor are they epochs of 30 s
    text = (tmp_path / "raw" / f"HypnogramR&K_{FIRST}.txt").read_text()
    (tmp_path / "raw" / f"HypnogramAASM_{FIRST}.txt").write_text(text)
    with pytest.raises(UserError, match="30 s from 90 s, which are one epoch"):
        prepared("dreams", tmp_path / "raw", tmp_path / "other")


def test_numbers_in_the_usual_order_are_others(raw, tmp_path):
    def usual(profile):
        words = profile["stages"][0]["words"]["map"]
        words |= {"0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "5": "REM"}

    store = prepared(changed("dreams", tmp_path, usual), raw, tmp_path / "store")
    with pytest.raises(AssertionError):
        assert_stages(store, FIRST, NIGHTS[FIRST])


def test_a_number_per_epoch_is_refused(raw, tmp_path):
    """Five-second lines taken for epochs would be six times as many as there is signal."""
    path = changed("dreams", tmp_path, lambda profile: profile["stages"][0].pop("seconds"))
    with pytest.raises(UserError, match="60 stages for the 10 epochs"):
        prepared(path, raw, tmp_path / "store", "--only", FIRST)


def test_unknown_numbers_and_missing_channels_are_refused(raw, tmp_path):
    path = raw / f"HypnogramAASM_{FIRST}.txt"
    path.write_text(path.read_text().replace("-1", "6"))
    with pytest.raises(UserError, match="'6' at 240 s is no word of the profile"):
        prepared("dreams", raw, tmp_path / "store", "--only", FIRST)
    path = raw / "patient3.edf"
    content = path.read_bytes()
    for label in (b"CZ2-A1", b"FP1-A1", b"O1-A1 "):
        content = content.replace(label, b"NAFP1 ", 1)
    path.write_bytes(content)
    with pytest.raises(UserError, match="patient3: no channel for the required EEG"):
        prepared("dreams", raw, tmp_path / "store", "--only", "patient3")
