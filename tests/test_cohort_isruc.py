"""ISRUC-Sleep: prepared to the exact stages, and what public readers of it get wrong."""

from __future__ import annotations

import pytest

from tests.cohort_files import isruc
from tests.cohort_files.isruc import NIGHTS
from tests.cohort_files.written import assert_stages, changed, prepared
from utils.errors import UserError

PLACE, CODES = NIGHTS["I-1-1"]


def one(folder):
    """The folder of one night of subgroup I."""
    isruc.write_night(folder / PLACE, CODES, isruc.LABELS["I"])
    return folder


def test_stages_and_signals(tmp_path, capsys):
    """REM is 5; each file has its own stages, though 10 sorts before 2; 40 is no worse."""
    expected = isruc.write(tmp_path / "raw")
    store = prepared("isruc", tmp_path / "raw", tmp_path / "store")
    assert set(store.recordings) == set(NIGHTS)
    for recording, stages in expected.items():
        assert_stages(store, recording, stages)  # whatever the channels' places and names
        assert_stages(store, recording, stages, role="EOG", factor=2)
    # numbers repeat across subgroups; both nights of II are of one person
    assert {r["subject"] for r in store.recordings.values()} == {
        "isruc-I-1", "isruc-I-2", "isruc-I-10", "isruc-I-40", "isruc-II-1", "isruc-III-1"
    }  # fmt: skip
    assert [int(store.recordings[f"II-1-{k}"]["night"]) for k in (1, 2)] == [1, 2]
    assert "7 of 126 recordings, 6 of 118 persons" in capsys.readouterr().out


def test_the_second_expert(tmp_path):
    raw = one(tmp_path / "raw")
    store = prepared("isruc", raw, tmp_path / "store", "--scoring", "expert2")
    assert list(store.recordings) == ["I-1-1"]  # _2 is no night
    assert store.night("I-1-1").stages.tolist() == isruc.second(CODES) != CODES
    with pytest.raises(UserError, match="--scoring expert3: isruc has expert1, expert2"):
        prepared("isruc", raw, tmp_path / "other", "--scoring", "expert3")


def test_a_night_without_the_first_expert_is_named(tmp_path, capsys):
    """Stages of another scorer are not taken in silence."""
    raw = one(tmp_path / "raw")
    isruc.write_night(raw / PLACE.replace("/1/1", "/2/2"), CODES, isruc.LABELS["I"])
    (lost,) = (raw / PLACE).parent.glob("1_1*.txt")
    lost.unlink()
    store = prepared("isruc", raw, tmp_path / "store")
    assert store.night("I-1-1").stages.tolist() == isruc.second(CODES)
    note = "I-1-1: has no scoring of expert1: stages are of expert2"
    lines = capsys.readouterr().out
    assert note in lines and "I-2-1: has no" not in lines
    prepared("isruc", raw, tmp_path / "asked", "--scoring", "expert2")
    assert note not in capsys.readouterr().out


def test_channels_by_place_are_others(tmp_path):
    """The seventh channel is C4-A1 in subgroup I, and F4-M1 in this file of II."""

    def by_place(profile):
        profile["roles"]["EEG"] = [isruc.LABELS["II"][6]]

    expected = isruc.write(tmp_path / "raw")
    path = changed("isruc", tmp_path, by_place)
    store = prepared(path, tmp_path / "raw", tmp_path / "store", "--only", "II-*")
    with pytest.raises(AssertionError):
        assert_stages(store, "II-1-1", expected["II-1-1"])


def test_missing_channels_are_refused_and_no_zeros(tmp_path):
    raw = one(tmp_path / "raw")
    labels = [x for x in isruc.LABELS["I"] if "OC" not in x]
    isruc.without(raw / f"{PLACE}.rec", tuple(labels))
    with pytest.raises(UserError, match="I-1-1: no channel for the required EEG"):
        prepared("isruc", raw, tmp_path / "store")


def test_four_is_no_stage(tmp_path):
    raw = one(tmp_path / "raw")
    scored = raw / f"{PLACE}_1.txt"
    scored.write_text(scored.read_text().replace("5", "4"))
    with pytest.raises(UserError, match=r"1_1.txt: '4' at 180 s is no word"):
        prepared("isruc", raw, tmp_path / "store")


def test_lists_of_another_night_are_refused(tmp_path):
    raw = one(tmp_path / "raw")
    scored = raw / f"{PLACE}_1.txt"
    scored.write_text(scored.read_text().strip() + "\n2\n2\n")
    with pytest.raises(UserError, match="10 stages for the 8 epochs"):
        prepared("isruc", raw, tmp_path / "store")


def test_no_list_of_another_subgroup_is_taken(tmp_path, capsys):
    """Numbers repeat: 1_1.txt is there in each subgroup."""
    isruc.write(tmp_path / "raw")
    (tmp_path / "raw" / f"{PLACE}_1.txt").unlink()
    (tmp_path / "raw" / "Subgroup2" / "1" / "1" / "1_1.txt").unlink()
    path = changed("isruc", tmp_path, lambda profile: profile["stages"].pop())
    prepared(path, tmp_path / "raw", tmp_path / "store", "--only", "*-1-1")
    assert "left out: I-1-1: no file of stages" in capsys.readouterr().out
