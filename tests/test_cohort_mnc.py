"""MNC: prepared to the exact stages, and what public readers of it get wrong."""

from __future__ import annotations

import pytest

from tests.cohort_files import mnc
from tests.cohort_files.mnc import DHC, NIGHTS, SSC1, SSC2
from tests.cohort_files.written import assert_stages, changed, prepared
from utils.errors import UserError


@pytest.fixture
def raw(tmp_path):
    mnc.write(tmp_path / "raw")
    return tmp_path / "raw"


def test_stages_and_signals(raw, tmp_path):
    store = prepared("mnc", raw, tmp_path / "store")
    assert sorted(store.recordings) == sorted(NIGHTS)  # what KHC has is not scored
    for name, stages in NIGHTS.items():
        assert_stages(store, name, stages)
        assert_stages(store, name, stages, role="EOG", factor=2)
    assert store.night(SSC2).derivations == ("C4", "E1 - E2", "chin")
    assert store.night(DHC).derivations == ("C4 - M1", "E1 - E2", "lchin - cchin")
    subjects = {name: row["subject"] for name, row in store.recordings.items()}
    assert subjects == {SSC1: "mnc-ssc_1558", SSC2: "mnc-ssc_1558", DHC: "mnc-dhc_0017"}


def test_wake_is_no_n1(raw, tmp_path):
    """A public map of words ends with N1 for what begins like Wake."""

    def as_n1(profile):
        for stages in profile["stages"]:
            stages["words"]["map"]["wake"] = "N1"

    store = prepared(changed("mnc", tmp_path, as_n1), raw, tmp_path / "store")
    with pytest.raises(AssertionError):
        assert_stages(store, SSC1, NIGHTS[SSC1])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("N3", "N8", r"ssc_1558_1.eannot: 'N8' at 150 s is no word"),
        ("unscored", "", r"ssc_1558_1.eannot: '' at 180 s is no word"),
        ("REM\n", "REM\nREM\nREM\nREM\n", "12 stages for the 9 epochs"),
    ],
)
def test_other_lists_are_refused(raw, tmp_path, old, new, message):
    path = raw / "ssc" / f"{SSC1}.eannot"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        prepared("mnc", raw, tmp_path / "store", "--only", SSC1)


def test_missing_channels_are_refused_and_no_zeros(raw, tmp_path):
    path = raw / "ssc" / f"{SSC2}-nsrr.edf"
    content = path.read_bytes()
    for label in (b"C4", b"C3", b"O1"):
        content = content.replace(label + b" " * 14, b"X9" + b" " * 14, 1)
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{SSC2}: no channel for the required EEG"):
        prepared("mnc", raw, tmp_path / "store", "--only", SSC2)
