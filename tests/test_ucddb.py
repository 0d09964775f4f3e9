"""EDF with one stage code per line: the Dublin sleep apnea database and what resembles it."""

from __future__ import annotations

import numpy as np
import pytest

import preprocess
import preprocess_ucddb
from datasets.readers.profiles import cohort_nights, declared_night, profile
from datasets.store.store import Store
from tests.edf_files import write_psg
from utils.errors import UserError

CODES = "0\n2\r\n3\n4\n5\n1\n8\n0\n"
STAGES = [0, 1, 2, 3, 3, 4, -1, 0]


def nights_in(folder):
    """The nights that the profile has in a folder."""
    return cohort_nights.find(folder, profile.load("ucddb"))


@pytest.fixture
def night(tmp_path):
    write_psg(tmp_path / "ucddb002.rec", 9, {"C3A2": 128, "Lefteye": 128})
    (tmp_path / "ucddb002_stage.txt").write_text(CODES)
    return tmp_path


def test_stages_and_signals(night):
    recording = declared_night.read(nights_in(night)[0])
    assert recording.stages.tolist() == [*STAGES, -1]  # the last epoch was not scored
    assert recording.id == recording.subject == "ucddb002"
    assert set(recording.signals) == {"C3A2", "Lefteye"}


def test_to_a_store_at_another_rate(night, tmp_path):
    words = ["--raw_path", str(night), "--save_path", str(tmp_path / "store"), "--jobs", "1"]
    preprocess_ucddb.main([*words, "--resample", "100", "--channels", "EEG", "EOG"])
    store = Store(tmp_path / "store")
    assert store.cohort == "ucddb"
    assert [c.role for c in store.channels] == ["EEG", "EOG"]
    assert store.night("ucddb002").signals().shape == (9, 2, 3000)
    assert str(night) not in (tmp_path / "store" / "dataset.json").read_text()


@pytest.mark.parametrize("wish", ["Lefteye-RightEye", "lefteye - righteye"])
def test_a_difference_of_two_channels(night, tmp_path, wish):
    truth = write_psg(night / "ucddb002.rec", 9, {"Lefteye": 128, "RightEye": 128})
    words = ["--raw_path", str(night), "--save_path", str(tmp_path / "store"), "--jobs", "1"]
    preprocess_ucddb.main([*words, "--channels", wish])
    store = Store(tmp_path / "store")
    assert [(c.label, c.role) for c in store.channels] == [("Lefteye-RightEye", "EOG")]
    stored = np.array(store.night("ucddb002").signals()).ravel()
    np.testing.assert_allclose(stored, truth["Lefteye"] - truth["RightEye"], atol=1e-4)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_a_blank_line_is_an_epoch_that_nobody_scored(night, ends):
    (night / "ucddb002_stage.txt").write_bytes(ends.join(["", "0", "", "2", "3", "", ""]).encode())
    recording = declared_night.read(nights_in(night)[0])
    assert recording.stages.tolist() == [-1, 0, -1, 1, 2, -1, -1, -1, -1]


def test_names_in_capitals_are_a_pair(night):
    (night / "ucddb002.rec").rename(night / "UCDDB002.REC")
    (night / "ucddb002_stage.txt").rename(night / "UCDDB002_STAGE.TXT")
    assert declared_night.read(nights_in(night)[0]).stages.tolist() == [*STAGES, -1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0\n9\n", "'9' at 30 s is no word"),
        ("W\n", "'W' at 0 s is no word"),
        ("8\n8\n", "holds none of the stages"),
    ],
)
def test_other_lists_are_refused(night, content, message):
    (night / "ucddb002_stage.txt").write_text(content)
    with pytest.raises(UserError, match=message):
        declared_night.read(nights_in(night)[0])


def test_a_recording_alone_is_refused(night):
    (night / "ucddb002_stage.txt").unlink()
    with pytest.raises(UserError, match=r"ucddb002.rec: no stages beside it .*{stem}_stage.txt"):
        declared_night.read(nights_in(night)[0])
    with pytest.raises(UserError, match="absent: no such folder"):
        nights_in(night / "absent")


@pytest.mark.parametrize("words", [["--bandpass", "1"], ["--jobs", "0"]])
def test_impossible_flags_are_one_line(night, words):
    with pytest.raises(UserError, match=words[0]):
        preprocess_ucddb.main(["--raw_path", str(night), *words])


@pytest.mark.parametrize("script", [preprocess_ucddb, preprocess])
def test_a_blank_unit_of_unknown_gain_is_kept_and_said(night, script, capsys):
    truth = write_psg(night / "ucddb002.rec", 9, {"C3A2": 128}, unit="", limit=1e5)
    words = ["--raw_path", str(night), "--save_path", str(night / "store"), "--jobs", "1"]
    named = ["--cohort", "ucddb", "--resample", "128"] if script is preprocess else []
    script.main([*words, *named])
    store = Store(night / "store")
    assert [c.unit for c in store.channels if c.role == "EEG"] == [""]
    said = capsys.readouterr().out
    assert "EEG (C3A2) has no unit that anybody knows, and is kept as it is" in said
    if script is preprocess_ucddb:  # the other filters by role
        stored = np.array(store.night("ucddb002").signals()).ravel()
        np.testing.assert_allclose(stored, truth["C3A2"], rtol=1e-6)


def test_the_real_night_becomes_a_store(real_data, tmp_path):
    words = ["--raw_path", str(real_data / "ucddb"), "--save_path", str(tmp_path / "store")]
    preprocess_ucddb.main([*words, "--jobs", "1"])
    store = Store(tmp_path / "store")
    assert list(store.recordings) == ["ucddb018"]
    assert store.channels[0].unit == ""


def test_the_real_night(real_data):
    pair = next(p for p in nights_in(real_data / "ucddb") if p.id == "ucddb018")
    recording = declared_night.read(pair)
    counts = np.bincount(recording.stages, minlength=5)
    assert counts.tolist() == [328, 58, 280, 137, 19]
    assert recording.signals["EEG"].fs == 128


@pytest.mark.parametrize(("lines", "is_read"), [(8, True), (19, True), (20, False), (200, False)])
def test_a_list_of_another_length_is_noted_or_refused(night, lines, is_read):
    (night / "ucddb002_stage.txt").write_bytes(("0\r\n" * lines).encode("utf-16"))
    pair = nights_in(night)[0]
    if is_read:
        assert declared_night.read(pair).note == f"{lines} stages for 9 epochs"
    else:
        with pytest.raises(UserError, match=f"{lines} stages for the 9 epochs of ucddb002.rec"):
            declared_night.read(pair)
