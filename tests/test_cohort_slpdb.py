"""slpdb: prepared to the exact stages, halves of a night together."""

from __future__ import annotations

import pytest

from tests.cohort_files import slpdb
from tests.cohort_files.slpdb import FS, NIGHTS
from tests.cohort_files.written import BEGIN, assert_stages, changed, prepared, wfdb_notes
from utils.errors import UserError


@pytest.fixture
def raw(tmp_path):
    slpdb.write(tmp_path / "raw")
    return tmp_path / "raw"


def test_stages_and_signals(raw, tmp_path, capsys):
    """Events stand behind a stage, windows without a note are unscored; halves are one person."""
    store = prepared("slpdb", raw, tmp_path / "store")
    for name, stages in NIGHTS.items():
        assert_stages(store, name, stages)
        assert_stages(store, name, stages, part=BEGIN)
    assert store.subjects == ["slpdb-slp01", "slpdb-slp03"]
    assert "3 of 18 recordings, 2 of 16 persons" in capsys.readouterr().out


def lasting(folder, lasts):
    """The profile with notes that last otherwise."""
    return changed("slpdb", folder, lambda profile: profile["stages"][0].update(lasts=lasts))


def test_a_note_is_of_the_following_30_s_alone(raw, tmp_path):
    path = lasting(tmp_path, "until_next")
    store = prepared(path, raw, tmp_path / "store", "--only", "slp01a")
    with pytest.raises(AssertionError):
        assert_stages(store, "slp01a", NIGHTS["slp01a"])
    with pytest.raises(UserError, match=r"slp01a.st: 'W HA' at 0.004 s has no length"):
        prepared(lasting(tmp_path, "row"), raw, tmp_path / "other", "--only", "slp01a")


def test_a_note_is_not_of_the_30_s_before_it(raw, tmp_path):
    late = [(sample + round(30 * FS), text) for sample, text in slpdb.notes_of(NIGHTS["slp03"])]
    wfdb_notes(raw / "slp03", "st", late[:-1], FS)
    store = prepared("slpdb", raw, tmp_path / "store", "--only", "slp03")
    with pytest.raises(AssertionError):
        assert_stages(store, "slp03", NIGHTS["slp03"])


def test_unknown_notes_and_missing_channels_are_refused(raw, tmp_path):
    wfdb_notes(raw / "slp03", "st", [(1, "W"), (7500, "5 HA")], FS)
    with pytest.raises(UserError, match=r"slp03.st: '5 HA' at 30 s is no word"):
        prepared("slpdb", raw, tmp_path / "store", "--only", "slp03")
    path = raw / "slp01b.hea"
    path.write_text(path.read_text().replace("EEG (C4-A1)", "Resp (nasal)"))
    with pytest.raises(UserError, match="slp01b: no channel for the required EEG"):
        prepared("slpdb", raw, tmp_path / "store", "--only", "slp01b")
