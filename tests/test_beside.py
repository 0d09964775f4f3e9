"""Experts' stages beside a recording: every layout to the planted ones, exports to none."""

from __future__ import annotations

import edfio
import numpy as np
import pytest

from datasets.readers.any_file import opened
from datasets.readers.edf import EdfFile
from datasets.readers.expert_annotations import find, of_annotations, read
from evaluation.exports.edf_export import write_edf
from evaluation.exports.night_tables import write_events, write_predictions
from evaluation.stagers.stager import Asked, expert_of
from interpret.epochs_of_interest import choose_epochs
from tests.edf_files import write_hypnogram, write_psg
from utils.errors import UserError
from utils.staged_night import StagedNight

PLANTED = np.array([0, 0, 1, 2, 2, 3, 4, -1, 2, 0], np.int8)
WORDS = ("W", "WAKE", "N1", "n2", "Sleep stage 2", "N3", "R", "?", "S2", "wake")
BIDS = (
    "onset\tduration\ttrial_type\n0\t60\tSleep stage W\n12.5\t3\tarousal\n60\t30\tN1\n90\t60\tN2\n\
150\t30\tN3\n180\t30\tREM\n240\t30\tN2\n270\t30\tW\n"
)
PROFUSION = (
    "<CMPStudyConfig><EpochLength>30</EpochLength><SleepStages>{}</SleepStages></CMPStudyConfig>"
)
LISTS = {
    "night.txt": "\n".join(WORDS),
    "night_hypno.txt": "# by hand\n0\n0\n1\n2\n2\n3\n4\n-2\n2\n0\n",
    "night_hypno.csv": "epoch,stage\n" + "\n".join(f"{k},{w}" for k, w in enumerate(WORDS)),
    "night.csv": "Onset,Stage\n" + "\n".join(
        f"{30 * k},{w}" for k, w in reversed(list(enumerate(WORDS))) if w != "?"
    ),
    "night_hypnogram.csv": "hypno\n" + "\n".join("0012245920"),
    "night_events.tsv": BIDS,
    "night_stage.txt": "\n".join("WW12235?2W"),
    "night-profusion.xml": PROFUSION.format(
        "".join(f"<SleepStage>{k}</SleepStage>" for k in (0, 0, 1, 2, 2, 4, 5, 9, 2, 0))
    ),
}  # fmt: skip


@pytest.fixture
def recording(tmp_path):
    write_psg(tmp_path / "night.edf", 10, {"EEG": 10})
    return EdfFile(tmp_path / "night.edf")


@pytest.mark.parametrize("name", LISTS)
def test_every_layout_gives_the_planted_stages(recording, tmp_path, name):
    (tmp_path / name).write_text(LISTS[name])
    assert find(recording.path) == tmp_path / name
    stages, note = read(tmp_path / name, recording, 10)
    np.testing.assert_array_equal(stages, PLANTED)
    if name in ("night_hypno.txt", "night_hypnogram.csv"):
        assert note.startswith(f"numbers are {'yasa' if name.endswith('txt') else 'rk'} (0 W, 1 N1")


def test_brackets_in_a_name_are_no_pattern(tmp_path):
    write_psg(tmp_path / "night[1].edf", 2, {"EEG": 10})
    (tmp_path / "night1.txt").write_text("W\nW\n")
    assert find(tmp_path / "night[1].edf") is None
    (tmp_path / "night[1].txt").write_text("W\nW\n")
    assert find(tmp_path / "night[1].edf").name == "night[1].txt"


@pytest.mark.parametrize("first", ["patient restless", LISTS["night.txt"]])
def test_a_second_file_of_the_same_name_is_named(recording, tmp_path, first):
    """A technician's notes beside the expert's stages: neither hides the other in silence."""
    (tmp_path / "night.txt").write_text(first)
    (tmp_path / "night.csv").write_text(LISTS["night.csv"])
    file, notes = opened(recording.path), []
    path, _ = expert_of(file, Asked(), 10, notes)
    named = "night.csv: could be the expert's, too; night.txt is read, as --expert names none"
    assert named in notes
    assert (path is None) == (first == "patient restless")
    assert (path is None) == any("no agreement: " in note for note in notes)
    (tmp_path / "night.txt").unlink()
    notes = []
    assert expert_of(file, Asked(), 10, notes)[1].tolist() == PLANTED.tolist()
    assert not any("could be" in note for note in notes)


def test_sleep_edf_pairs_and_lengths(tmp_path):
    write_psg(tmp_path / "SC4001E0-PSG.edf", 4, {"EEG": 10})
    write_hypnogram(tmp_path / "SC4001EC-Hypnogram.edf", [("W", 2), ("1", 1), ("2", 9)])
    path = find(tmp_path / "SC4001E0-PSG.edf")
    assert path.name == "SC4001EC-Hypnogram.edf"
    recording = EdfFile(tmp_path / "SC4001E0-PSG.edf")
    assert read(path, recording, 4)[0].tolist() == [0, 0, 1, 2]
    (tmp_path / "b.txt").write_text("N2\nN2\n")
    with pytest.raises(UserError, match="2 stages for 4 epochs of 30 s"):
        read(tmp_path / "b.txt", recording, 4)


def test_stages_among_other_annotations(tmp_path):
    """As HMC and many recorders write them: events between, durations or none, N1 for S1."""
    entries = [
        (0, 30, "Sleep stage W"),
        (3, None, "Lights off"),
        (30, None, "Sleep stage N1"),
        (41.5, 3, "Arousal"),
        (60, None, "Sleep stage N2"),
        (120, None, "Sleep stage R"),
    ]
    signal = edfio.EdfSignal(np.tile([-1.0, 1.0], 900), 10, label="EEG", physical_dimension="uV")
    notes = [edfio.EdfAnnotation(*entry) for entry in entries]
    edfio.Edf([signal], annotations=notes).write(tmp_path / "night.edf")
    file = EdfFile(tmp_path / "night.edf")
    assert of_annotations(file, 6).tolist() == [0, 1, 2, 2, 4, -1]
    late = edfio.EdfAnnotation(35, 30, "Sleep stage N2")
    edfio.Edf([signal], annotations=[late]).write(tmp_path / "b.edf")
    assumed: list[str] = []
    assert of_annotations(EdfFile(tmp_path / "b.edf"), 6, assumed).tolist() == [
        -1,
        2,
        -1,
        -1,
        -1,
        -1,
    ]
    assert "1 of 1 stages do not fill whole 30 s epochs (first at 35 s)" in assumed[0]
    other = edfio.EdfAnnotation(0, 30, "Sleep stage N2")
    edfio.Edf([signal], annotations=[notes[0], other]).write(tmp_path / "c.edf")
    with pytest.raises(UserError, match="two stages at 0 s"):
        of_annotations(EdfFile(tmp_path / "c.edf"), 6)
    edfio.Edf([signal], annotations=[notes[1]]).write(tmp_path / "d.edf")
    assert of_annotations(EdfFile(tmp_path / "d.edf"), 6) is None
    with pytest.raises(UserError, match="holds no sleep stages; is it a hypnogram"):
        read(tmp_path / "d.edf", file, 6)


def test_what_a_model_wrote_is_no_expert(recording, tmp_path):
    assert find(recording.path) is None
    night = StagedNight("night", "night", np.eye(5)[PLANTED.clip(0)], PLANTED)
    write_predictions(tmp_path / "night.csv", night, [""] * 10)
    write_events(tmp_path / "night_events.tsv", night, "a model")
    write_edf(tmp_path / "night-Hypnogram.edf", night)
    assert find(recording.path) is None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "W\nN2\nsleepy\n", "stage 3 is 'sleepy'"),
        ("a.csv", "epoch,who\n0,me\n", "no column of stages among epoch, who|is .epoch,who."),
        ("a.csv", "onset,stage\n15,W\n", "scores no epoch"),
        ("a.csv", "onset,stage\nnow,W\n", "no time in the row now, W"),
        ("a.csv", "epoch,stage\n0\n", "different numbers of columns"),
        ("a.csv", "epoch,stage\n1,W\n3,N2\n", "its epochs are not 0, 1, 2"),
        ("a.csv", "onset,stage\n30,W\n30,N2\n", "two stages at 30 s"),
        ("a.tsv", "onset\tduration\ttrial_type\n0\t1\tarousal\n", "holds no sleep stages"),
        ("a.txt", "", "holds no sleep stages"),
        ("a.txt", "?\n" * 10, "scores no epoch"),
        ("a.xml", "<PSGAnnotation/>", "no sleep stages"),
    ],
)
def test_broken_ones_are_one_line(recording, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read(tmp_path / name, recording, 10)


def test_a_hypnogram_of_another_hour_is_refused(recording, tmp_path):
    from datetime import date, time

    write_hypnogram(tmp_path / "x.edf", [("W", 2)])
    write_psg(tmp_path / "late.edf", 2, {"EEG": 10}, start=(date(1989, 4, 24), time(23, 0)))
    with pytest.raises(
        UserError, match=r"scores no epoch of late.edf: its stages lie from -24420 to"
    ):
        read(tmp_path / "x.edf", EdfFile(tmp_path / "late.edf"), 2)


def test_epochs_of_interest_are_chosen():
    """Transitions between long bouts, then the least certain; no flagged epoch, none twice."""
    probabilities = np.full((40, 5), 0.02)
    stages = np.repeat([0, 2, 1, 2, 3], [10, 12, 1, 7, 10])
    probabilities[np.arange(40), stages] = 0.92
    probabilities[35] = [0.1, 0.1, 0.2, 0.35, 0.25]
    probabilities[5] = [0.4, 0.3, 0.1, 0.1, 0.1]
    flags = [""] * 40
    chosen = choose_epochs(probabilities, flags, 4)
    assert chosen == [
        (5, "uncertain, 40% sure"),
        (10, "transition from W"),
        (30, "transition from N2"),
        (35, "uncertain, 35% sure"),
    ]
    flags[30] = "flat"
    assert 30 not in dict(choose_epochs(probabilities, flags, 4))
    assert choose_epochs(probabilities[:1], [""], 4) == [(0, "uncertain, 92% sure")]
    assert choose_epochs(probabilities, flags, 0) == []
