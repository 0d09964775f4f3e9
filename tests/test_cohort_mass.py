"""MASS: prepared to the exact stages on their own onsets, and what public readers get wrong."""

from __future__ import annotations

import pytest

from tests.cohort_files import mass
from tests.cohort_files.mass import SS1, SS2, SS3
from tests.cohort_files.written import BEGIN, assert_stages, changed, prepared
from utils.errors import UserError


@pytest.fixture
def raw(tmp_path):
    mass.write(tmp_path / "raw")
    return tmp_path / "raw"


def test_stages_and_signals(tmp_path, capsys):
    """Five forms of files; epochs of 20 s lose the first and the last, which have no context."""
    expected = mass.write(tmp_path / "raw")
    store = prepared("mass", tmp_path / "raw", tmp_path / "store")
    assert sorted(store.recordings) == sorted(expected)
    for name, stages in expected.items():
        assert_stages(store, name, stages)
        assert_stages(store, name, stages, role="EOG", factor=2)
    # of epochs of 30 s on their own onsets, the very beginning is their own, too
    for name in (SS1, SS3):
        assert_stages(store, name, expected[name], part=BEGIN)
    assert store.night(SS1).derivations[0] == "EEG C4-CLE - EEG A1-CLE"
    assert "5 of 200 recordings, 5 of 200 persons" in capsys.readouterr().out


@pytest.mark.parametrize("name", [SS1, SS3])
def test_epochs_from_the_start_hold_others_signals(raw, tmp_path, name):
    path = changed("mass", tmp_path, lambda profile: profile.pop("epochs"))
    store = prepared(path, raw, tmp_path / "store", "--only", name)
    with pytest.raises(AssertionError):
        assert_stages(store, name, mass.CODES[name])


def test_ears_that_were_left_in_are_taken_out(raw, tmp_path):
    def as_labelled(profile):
        profile["roles"]["EEG"] = ["EEG C4-CLE"]

    path = changed("mass", tmp_path, as_labelled)
    store = prepared(path, raw, tmp_path / "store", "--only", SS1)
    with pytest.raises(AssertionError):
        assert_stages(store, SS1, mass.CODES[SS1])


def test_epochs_of_20_s_are_none_of_30_s(raw, tmp_path):
    path = changed("mass", tmp_path, lambda profile: profile.pop("variants"))
    with pytest.raises(UserError, match="lasts 20 s, no whole epochs of 30 s"):
        prepared(path, raw, tmp_path / "store", "--only", SS2)


def test_an_unknown_stage_is_refused_and_events_are_not(raw, tmp_path):
    path = raw / f"{mass.SS5} Base_annotations.txt"
    path.write_text(path.read_text().replace("Sleep stage R", "Sleep stage 5"))
    with pytest.raises(UserError, match=r"'Sleep stage 5' at .* is no word of the profile"):
        prepared("mass", raw, tmp_path / "store", "--only", mass.SS5)


def test_missing_channels_and_stages(raw, tmp_path, capsys):
    path = raw / f"{SS3} PSG.edf"
    content = path.read_bytes()
    for label in (b"EEG C4-LER", b"EEG C3-LER"):
        content = content.replace(label, b"Photo Stim", 1)
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{SS3}: no channel for the required EEG"):
        prepared("mass", raw, tmp_path / "store", "--only", SS3)
    (raw / f"{SS3}_Annotations.edf").unlink()
    prepared("mass", raw, tmp_path / "store")
    assert f"left out: {SS3}: no file of stages" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("onset", "message"),
    [("+2.2.5", "two stages at"), ("+\u0662\u0662", "'Sleep stage 2' has no readable onset")],
)
def test_broken_onsets_are_refused(raw, tmp_path, onset, message):
    path = raw / f"{mass.SS4}_saf.txt"
    text = path.read_text(encoding="latin-1").replace("+22.5\x15", f"{onset}\x15")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        prepared("mass", raw, tmp_path / "store", "--only", mass.SS4)
