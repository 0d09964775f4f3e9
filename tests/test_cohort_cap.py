"""CAP: prepared to the exact stages, and what public readers of it get wrong."""

from __future__ import annotations

import pytest

from tests.cohort_files import cap
from tests.cohort_files.cap import NIGHTS
from tests.cohort_files.written import assert_stages, changed, prepared
from utils.errors import UserError


@pytest.fixture
def raw(tmp_path):
    cap.write(tmp_path / "raw")
    return tmp_path / "raw"


def test_stages_and_signals(raw, tmp_path, capsys):
    """Across midnight, with rows before the EDF, gaps, movement, and epochs 17 s off the grid."""
    store = prepared("cap", raw, tmp_path / "store")
    assert store.subjects == ["cap-n1", "cap-nfle27", "cap-rbd2"]
    for name, stages in NIGHTS.items():
        # nfle27 has no ear: its EEG is the sum of a chain
        assert_stages(store, name, stages)
        assert_stages(store, name, stages, role="EOG", factor=1 if name == "n1" else 2)
    assert store.night("nfle27").derivations[0] == "C4-P4 + P4-O2"
    assert store.night("n1").derivations[1] == "- ROC-LOC"
    # and not ROC - LOC: in all nights the eyes have one sign
    assert store.night("rbd2").derivations[1] == "LOC - ROC"
    assert store.night("nfle27").derivations[2] == "EMG1 - EMG2"
    printed = capsys.readouterr().out
    assert "2 scored epochs reach beyond the signal: left out" in printed
    assert "nfle27: line 1" in printed
    assert "columns, not 5: left out" in printed


def test_stages_are_those_of_the_event_column(raw, tmp_path):
    """Rows of CAP events repeat a stage in the first column, which is not that of an epoch."""

    def first_column(profile):
        profile["stages"][0]["columns"]["word"] = "Sleep Stage"
        profile["stages"][0]["words"]["prefix"] = ""

    path = changed("cap", tmp_path, first_column)
    with pytest.raises(UserError, match=r"n1.txt: 'S4' at 72 s lasts 5 s, no whole epochs"):
        prepared(path, raw, tmp_path / "store", "--only", "n1")


def test_a_second_unreadable_row_is_refused(raw, tmp_path):
    path = raw / "nfle27.txt"
    path.write_text(path.read_text() + "S2\tSLEEP-S2\n")
    with pytest.raises(UserError, match=r"nfle27.txt: line \d+ has 2 columns, not 5"):
        prepared("cap", raw, tmp_path / "store", "--only", "nfle27")


def test_unknown_words_and_missing_channels_are_refused(raw, tmp_path):
    path = raw / "n1.txt"
    whole = path.read_text()
    path.write_text(whole.replace("SLEEP-S4", "SLEEP-S5"))
    with pytest.raises(UserError, match=r"n1.txt: 'SLEEP-S5' at 210 s is no word"):
        prepared("cap", raw, tmp_path / "store", "--only", "n1")
    edf = raw / "nfle27.edf"
    edf.write_bytes(edf.read_bytes().replace(b"C4-P4", b"X4-P4", 1))
    with pytest.raises(UserError, match="nfle27: no channel for the required EEG"):
        prepared("cap", raw, tmp_path / "store", "--only", "nfle27")


def test_a_list_of_another_night_is_refused(raw, tmp_path):
    path = raw / "rbd2.txt"
    path.write_text(path.read_text().replace("23.5", "14.5").replace("00.0", "15.0"))
    with pytest.raises(UserError, match=r"rbd2.txt: scores"):
        prepared("cap", raw, tmp_path / "store", "--only", "rbd2")
