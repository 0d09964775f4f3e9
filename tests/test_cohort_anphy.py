"""ANPHY-Sleep: prepared to the exact stages; lights are no stage."""

from __future__ import annotations

import pytest

from tests.cohort_files import anphy
from tests.cohort_files.anphy import NIGHTS
from tests.cohort_files.written import assert_stages, changed, prepared
from utils.errors import UserError


@pytest.fixture
def raw(tmp_path):
    anphy.write(tmp_path / "raw")
    return tmp_path / "raw"


def test_stages_and_signals(raw, tmp_path, capsys):
    store = prepared("anphy", raw, tmp_path / "store")
    assert store.subjects == ["anphy-EPCTL01", "anphy-EPCTL02"]
    for name, stages in NIGHTS.items():
        assert_stages(store, name, stages)
        assert_stages(store, name, stages, role="EOG", factor=2)
    assert "2 of 29 recordings, 2 of 29 persons" in capsys.readouterr().out


def test_lights_are_no_wake(raw, tmp_path):
    def as_wake(profile):
        profile["stages"][0]["words"]["map"]["L"] = "W"

    store = prepared(changed("anphy", tmp_path, as_wake), raw, tmp_path / "store")
    with pytest.raises(AssertionError):
        assert_stages(store, "EPCTL01", NIGHTS["EPCTL01"])


def test_unknown_words_and_missing_channels_are_refused(raw, tmp_path):
    path = raw / "EPCTL01" / "EPCTL01.txt"
    path.write_text(path.read_text().replace("R\t", "S\t"))
    with pytest.raises(UserError, match=r"EPCTL01.txt: 'S' at 180 s is no word"):
        prepared("anphy", raw, tmp_path / "store")
    path = raw / "EPCTL02" / "EPCTL02.edf"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"C4  ", b"E70 ", 1).replace(b"C3  ", b"E30 ", 1))
    with pytest.raises(UserError, match="EPCTL02: no channel for the required EEG"):
        prepared("anphy", raw, tmp_path / "store", "--only", "EPCTL02")
