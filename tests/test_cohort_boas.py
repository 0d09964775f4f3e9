"""BOAS: prepared to the exact stages, nights grouped by person."""

from __future__ import annotations

import pytest

from tests.cohort_files import boas
from tests.cohort_files.boas import NIGHTS
from tests.cohort_files.written import assert_stages, changed, prepared
from utils.errors import UserError


@pytest.fixture
def raw(tmp_path):
    boas.write(tmp_path / "raw")
    return tmp_path / "raw"


def test_stages_and_signals(raw, tmp_path, capsys):
    store = prepared("boas", raw, tmp_path / "store")
    assert sorted(store.recordings) == sorted(NIGHTS)
    for name, stages in NIGHTS.items():
        assert_stages(store, name, stages)
        # bipolar, or a pair whose difference is twice as large here
        assert_stages(store, name, stages, role="EOG", factor=2 if name == "sub-2" else 1)
    assert "3 of 128 recordings, 2 of 100 persons" in capsys.readouterr().out


def test_nights_are_no_persons(raw, tmp_path):
    store = prepared("boas", raw, tmp_path / "store")
    assert {n: r["subject"] for n, r in store.recordings.items()} == {
        "sub-1": "boas-7", "sub-10": "boas-7", "sub-2": "boas-3"
    }  # fmt: skip
    path = raw / "participants.tsv"
    path.write_text(path.read_text().replace("sub-10", "sub-11"))
    with pytest.raises(UserError, match=r"participants.tsv has no participant_id sub-10"):
        prepared("boas", raw, tmp_path / "other")
    path.unlink()
    with pytest.raises(UserError, match=r"no participants.tsv"):
        prepared("boas", raw, tmp_path / "other")


def test_stages_of_a_program_are_others(raw, tmp_path):
    def program(profile):
        profile["stages"][0]["columns"]["word"] = "stage_ai"

    store = prepared(changed("boas", tmp_path, program), raw, tmp_path / "store")
    with pytest.raises(AssertionError):
        assert_stages(store, "sub-1", NIGHTS["sub-1"])


def test_the_headband_and_unknown_numbers_are_refused(raw, tmp_path):
    scored = raw / "sub-2" / "eeg" / "sub-2_task-Sleep_acq-psg_events.tsv"
    whole = scored.read_text()
    scored.write_text(whole.replace("\t8\t", "\t5\t"))
    with pytest.raises(UserError, match=r"psg_events.tsv: '5' at 120 s is no word"):
        prepared("boas", raw, tmp_path / "store", "--only", "sub-2")
    # the headband's rows have no stages of scorers
    scored.write_text(scored.with_name(scored.name.replace("psg", "headband")).read_text())
    with pytest.raises(UserError, match=r"no line with the columns 'onset', 'duration', 'stage_h"):
        prepared("boas", raw, tmp_path / "store", "--only", "sub-2")


def test_a_missing_channel_is_refused_and_no_zeros(raw, tmp_path):
    path = raw / "sub-1" / "eeg" / "sub-1_task-Sleep_acq-psg_eeg.edf"
    content = path.read_bytes()
    for site in ("F3", "F4", "C3", "C4", "O1", "O2"):
        content = content.replace(f"PSG_{site}".encode(), f"PSG_X{site[0]}".encode(), 1)
    path.write_bytes(content)
    with pytest.raises(UserError, match="sub-1: no channel for the required EEG"):
        prepared("boas", raw, tmp_path / "store")
