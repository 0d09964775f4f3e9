"""EESM19 and EESM23: prepared to the exact stages of numbers and words of their own."""

from __future__ import annotations

import pytest

from tests.cohort_files import eesm
from tests.cohort_files.written import BEGIN, assert_stages, changed, prepared
from utils.errors import UserError

FIRST = "sub-001_ses-001"


@pytest.mark.parametrize("cohort", eesm.NIGHTS)
def test_stages_and_signals(tmp_path, cohort):
    """1 is Wake and 2 REM; an epoch with samples that are no numbers is unscored, and it alone."""
    expected = eesm.write(tmp_path / "raw", cohort)
    store = prepared(cohort, tmp_path / "raw", tmp_path / "store")
    assert sorted(store.recordings) == sorted(expected)  # without the night of an ear alone
    for name, stages in expected.items():
        assert_stages(store, name, stages)
        assert_stages(store, name, stages, role="EOG", factor=2)


def test_the_first_onset_is_not_subtracted(tmp_path):
    """A public reader does so; and another calls the column of stages otherwise."""
    expected = eesm.write(tmp_path / "raw", "eesm23")["sub-004_ses-012"]
    path = next((tmp_path / "raw").rglob("*_events.tsv"))
    path.write_text(path.read_text().replace("\tstages", "\tscoring"))
    store = prepared("eesm23", tmp_path / "raw", tmp_path / "store")
    assert_stages(store, "sub-004_ses-012", expected, part=BEGIN)
    header, *rows = path.read_text().splitlines()
    early = [f"{30 * k}\t{row.partition(chr(9))[2]}" for k, row in enumerate(rows)]
    path.write_text("\n".join([header, *early]))
    store = prepared("eesm23", tmp_path / "raw", tmp_path / "faulty")
    with pytest.raises(AssertionError):
        assert_stages(store, "sub-004_ses-012", expected)


def test_the_second_scorer(tmp_path):
    expected = eesm.write(tmp_path / "raw", "eesm19")
    store = prepared(
        "eesm19", tmp_path / "raw", tmp_path / "store", "--scoring", "expert2", "--only", FIRST
    )
    assert store.subjects == ["eesm19-001"]
    assert store.night(FIRST).stages.tolist() == eesm.second(expected[FIRST])


def test_the_usual_numbers_are_others(tmp_path):
    def usual(profile):
        words = {"0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "REM"}
        profile["stages"][0]["words"]["map"] |= words

    expected = eesm.write(tmp_path / "raw", "eesm19")
    path = changed("eesm19", tmp_path, usual)
    store = prepared(path, tmp_path / "raw", tmp_path / "store", "--only", FIRST)
    with pytest.raises(AssertionError):
        assert_stages(store, FIRST, expected[FIRST])


def test_labels_that_are_not_known_are_named(tmp_path):
    """Which these are was in none of our sources: the message lists what the file has."""
    eesm.write(tmp_path / "raw", "eesm23")
    path = changed("eesm23", tmp_path, lambda profile: profile["roles"].update(EEG=["E57 - E100"]))
    listed = r"required EEG among M1, C3, EMGc, C4, EOGl, EOGr; .* in the profile's roles$"
    with pytest.raises(UserError, match=listed):
        prepared(path, tmp_path / "raw", tmp_path / "store")


def test_unknown_words_are_refused(tmp_path):
    eesm.write(tmp_path / "raw", "eesm23")
    path = next((tmp_path / "raw").rglob("*_events.tsv"))
    path.write_text(path.read_text().replace("N2", "S2"))
    with pytest.raises(UserError, match=r"events.tsv: 'S2' at 104.5 s is no word"):
        prepared("eesm23", tmp_path / "raw", tmp_path / "store")
