"""HMC: prepared to the exact stages, and what public readers of it get wrong."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cohort_files import hmc
from tests.cohort_files.written import assert_stages, prepared
from utils.errors import UserError


@pytest.fixture
def raw(tmp_path):
    hmc.write(tmp_path / "hmc")
    return tmp_path / "hmc"


def test_stages_and_signals(raw, tmp_path):
    store = prepared("hmc", raw, tmp_path / "store")
    assert list(store.recordings) == ["SN001", "SN003"]
    assert store.subjects == ["hmc-SN001", "hmc-SN003"]
    for recording, stages in hmc.NIGHTS.items():
        assert_stages(store, recording, stages)


def test_eyes_are_a_difference_and_no_sum(raw, tmp_path):
    store = prepared("hmc", raw, tmp_path / "store")
    assert_stages(store, "SN001", hmc.NIGHTS["SN001"], role="EOG", factor=2)
    assert store.night("SN001").derivations[1] == "EOG E1-M2 - EOG E2-M2"


def test_the_text_has_the_stages_of_the_edf(raw, tmp_path):
    for path in raw.rglob("*_sleepscoring.edf"):
        path.unlink()
    store = prepared("hmc", raw, tmp_path / "store")
    assert_stages(store, "SN003", hmc.NIGHTS["SN003"])


def test_lights_are_no_wake(raw, tmp_path):
    # the third epoch begins with "Lights off@@EEG F4-A1", and is N1
    store = prepared("hmc", raw, tmp_path / "store")
    assert store.night("SN001").stages[2] == 1


def test_what_1_1_withdrew_is_left_out(raw, tmp_path, capsys):
    prepared("hmc", raw, tmp_path / "store")
    printed = capsys.readouterr().out
    assert "left out: SN014: withdrawn in version 1.1" in printed
    assert "2 of 151 recordings, 2 of 151 persons, 18 of 137,243 scored epochs" in printed
    store = prepared("hmc", raw, tmp_path / "all", "--exclusions", "False")
    assert "SN014" in store.recordings


def test_some_recordings_alone(raw, tmp_path):
    store = prepared("hmc", raw, tmp_path / "store", "--only", "sn*3")
    assert list(store.recordings) == ["SN003"]
    with pytest.raises(UserError, match="no recording is called SN7; there are SN001"):
        prepared("hmc", raw, tmp_path / "none", "--only", "SN7")
    with pytest.raises(UserError, match="--only SN7: no recording is called so"):
        prepared("hmc", raw, tmp_path / "none", "--only", "SN001", "SN7")


def test_an_unknown_word_is_refused(raw, tmp_path):
    path = raw / "recordings" / "SN001_sleepscoring.txt"
    (raw / "recordings" / "SN001_sleepscoring.edf").unlink()
    path.write_text(path.read_text().replace("Sleep stage N3", "Sleep stage S3"))
    with pytest.raises(UserError, match=r"SN001_sleepscoring.txt: 'Sleep stage S3' at 120 s is no"):
        prepared("hmc", raw, tmp_path / "store")


def test_a_missing_channel_is_refused_and_no_zeros(raw, tmp_path):
    bytes_of = (raw / "recordings" / "SN001.edf").read_bytes()
    for label in (b"EEG F4-M1", b"EEG C4-M1", b"EEG O2-M1", b"EEG C3-M2"):
        bytes_of = bytes_of.replace(label, b"Nothing  ", 1)
    (raw / "recordings" / "SN001.edf").write_bytes(bytes_of)
    with pytest.raises(UserError, match="SN001: no channel for the required EEG"):
        prepared("hmc", raw, tmp_path / "store")


def test_stages_that_lack_rows_are_not_moved(raw, tmp_path):
    """Faulty readers drop rows without their signal: what follows would be an epoch early."""
    folder = raw / "recordings"
    (folder / "SN001_sleepscoring.edf").unlink()
    path = folder / "SN001_sleepscoring.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if ", 90, 30," not in line))
    store = prepared("hmc", raw, tmp_path / "store")
    expected = hmc.NIGHTS["SN001"].copy()
    expected[3] = -1
    assert_stages(store, "SN001", expected)
    assert np.asarray(store.night("SN001").signals()).shape[0] == 9
