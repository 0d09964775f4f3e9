"""CFS, CCSHS, CHAT, HomePAP, SOF: prepared to the exact stages, and faults of public readers."""

from __future__ import annotations

import pytest

from datasets.readers.profiles import profile, scored_rows, stage_words
from datasets.readers.scorings.scoring import Recorded
from tests.cohort_files import nsrr
from tests.cohort_files.written import assert_stages, changed, edf, noise, prepared
from utils.errors import UserError


@pytest.mark.parametrize("cohort", nsrr.NIGHTS)
def test_stages_and_signals(tmp_path, cohort):
    """Channels against Fpz are referenced to the opposite ear: what Fpz has is gone."""
    expected = nsrr.write(tmp_path / "raw", cohort)
    store = prepared(cohort, tmp_path / "raw", tmp_path / "store")
    assert sorted(store.recordings) == sorted(expected)
    for name, stages in expected.items():
        assert_stages(store, name, stages)
        assert_stages(store, name, stages, role="EOG", factor=2)
    assert "EMG" in [channel.role for channel in store.channels]


def test_without_profusions_xml_that_of_nsrr_is_read(tmp_path):
    expected = nsrr.write(tmp_path / "raw", "ccshs")
    next((tmp_path / "raw").rglob("*-profusion.xml")).unlink()
    store = prepared("ccshs", tmp_path / "raw", tmp_path / "store")
    for name, stages in expected.items():
        assert_stages(store, name, stages)


def test_families_stay_together(tmp_path):
    """Parents and children are no strangers: a split by person would leak."""
    nsrr.write(tmp_path / "raw", "cfs")
    store = prepared("cfs", tmp_path / "raw", tmp_path / "store")
    subjects = {name[-6:]: row["subject"] for name, row in store.recordings.items()}
    assert subjects == {"800002": "cfs-12", "800010": "cfs-31", "800033": "cfs-12"}
    next((tmp_path / "raw").rglob("*.csv")).unlink()
    with pytest.raises(UserError, match=r"no cfs-visit5-dataset-\*.csv, which tells whose"):
        prepared("cfs", tmp_path / "raw", tmp_path / "other")


def test_a_childs_visits_stay_together_and_faulty_nights_are_left_out(tmp_path, capsys):
    nsrr.write(tmp_path / "raw", "chat")
    edf(tmp_path / "raw" / "chat-baseline-300051.edf", noise(["C4", "M1"], 200, 12000))
    store = prepared("chat", tmp_path / "raw", tmp_path / "store")
    assert store.subjects == ["chat-300001", "chat-300007"]
    assert [int(store.recordings[f"chat-{v}-300001"]["night"]) for v in ("baseline", "followup")
            ] == [1, 2]  # fmt: skip
    assert "left out: chat-baseline-300051: is referenced already" in capsys.readouterr().out


def test_nights_with_pauses_are_refused(tmp_path):
    """A signal that lacks a minute has the later stages' epochs two too early."""
    nsrr.write(tmp_path / "raw", "chat")
    name = "chat-baseline-300001"
    path = next((tmp_path / "raw").rglob(f"{name}-profusion.xml"))
    path.write_text(nsrr.profusion([0, 0, *nsrr.NIGHTS["chat"][name][1]]))
    with pytest.raises(UserError, match=f"10 stages for the 8 epochs of {name}.edf"):
        prepared("chat", tmp_path / "raw", tmp_path / "store", "--only", name)


def test_early_translations_to_nsrr_xml_do_no_harm(tmp_path):
    """The first translator lost the first epoch: its stages would lie 30 s early."""
    stages = nsrr.write(tmp_path / "raw", "sof")["sof-visit-8-07853"]
    path = next((tmp_path / "raw").rglob("*-nsrr.xml"))
    path.write_text(nsrr.nsrr(stages[1:]))
    store = prepared("sof", tmp_path / "raw", tmp_path / "store")
    assert_stages(store, "sof-visit-8-07853", stages)
    next((tmp_path / "raw").rglob("*-profusion.xml")).unlink()
    store = prepared("sof", tmp_path / "raw", tmp_path / "early")
    with pytest.raises(AssertionError):
        assert_stages(store, "sof-visit-8-07853", stages)


def test_channels_as_recorded_are_not_taken_for_referenced(tmp_path):
    def unreferenced(profile):
        profile["roles"]["EEG"] = ["C4"]

    stages = nsrr.write(tmp_path / "raw", "ccshs")["ccshs-trec-1800001"]
    path = changed("ccshs", tmp_path, unreferenced)
    store = prepared(path, tmp_path / "raw", tmp_path / "store")
    with pytest.raises(AssertionError):
        assert_stages(store, "ccshs-trec-1800001", stages)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (nsrr.profusion([0, 1, 2]).replace(">2<", ">8<"), "'8' at 60 s is no word"),
        (nsrr.profusion([0, 1, 2], seconds=20), "epochs of 20 s, not of 30 s"),
        (nsrr.profusion([0] * 20), "20 stages for the 8 epochs"),
        ("<CMPStudyConfig><SleepStages/></CMPStudyConfig>", "holds no sleep stages"),
        ("<CMPStudyConfig>", "not readable as XML"),
    ],
)
def test_other_annotations_are_refused(tmp_path, text, message):
    nsrr.write(tmp_path / "raw", "ccshs")
    next((tmp_path / "raw").rglob("*-profusion.xml")).write_text(text)
    with pytest.raises(UserError, match=message):
        prepared("ccshs", tmp_path / "raw", tmp_path / "store")


def test_missing_ears_are_refused_and_no_zeros(tmp_path):
    nsrr.write(tmp_path / "raw", "ccshs")
    path = next((tmp_path / "raw").rglob("*.edf"))
    path.write_bytes(path.read_bytes().replace(b"A1  ", b"X1  ", 1))
    with pytest.raises(UserError, match="no channel for the required EEG"):
        prepared("ccshs", tmp_path / "raw", tmp_path / "store")


def test_recordings_at_home_are_none_of_homepap(tmp_path):
    nsrr.write(tmp_path / "raw", "homepap")
    name = "homepap-home-1600009"
    edf(tmp_path / "raw" / "edfs" / "home" / f"{name}.edf", noise(["Flow"], 100, 6000))
    store = prepared("homepap", tmp_path / "raw", tmp_path / "store")
    assert name not in store.recordings
    assert store.subjects == ["homepap-1600001"]  # who is in both subsets
    assert store.night("homepap-lab-full-1600001").derivations[2] == "Rchon - Cchin"


def test_the_real_profusion_file(real_data):
    path = real_data / "nsrr_xml" / "100022-profusion.xml"
    stages = profile.load("ccshs").stages[0]
    declared = scored_rows.Declared(path, stages, 30.0)
    rows = scored_rows.rows_of(declared, Recorded("100022.edf", None, 31530.0))
    coded, notes = stage_words.coded(rows, stages.words, path)
    assert [sum(code == k for _, code in coded) for k in range(5)] == [171, 61, 571, 119, 129]
    assert not notes
