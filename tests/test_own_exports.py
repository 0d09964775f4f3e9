"""Stages that programs wrote are no expert's, unless a person changed them."""

from __future__ import annotations

import csv
from datetime import date, time

import edfio
import numpy as np
import pytest

from datasets.readers.any_file import opened
from datasets.readers.edf import EdfFile
from datasets.readers.expert_annotations import (
    exports_beside,
    find,
    is_export,
    of_annotations,
    read,
)
from datasets.readers.scorings.scoring import Wishes
from evaluation.exports.edf_export import write_edf
from evaluation.exports.night_tables import write_events, write_predictions
from evaluation.stagers.interface import stage
from evaluation.stagers.stager import Asked, expert_of
from tests.edf_files import START, write_hypnogram, write_psg
from tests.odd_edf import eeg, note, write_odd
from utils.errors import UserError
from utils.staged_night import StagedNight, Vote

STAGES = np.array([0, 0, 1, 2, 2, 3, 4, 4, 2, 0], np.int8)
EXPERT = np.array([0, 1, 1, 2, 2, 3, 4, -1, 2, 0], np.int8)
NOBODY = np.full(10, -1, np.int8)


def night(expert: np.ndarray = NOBODY, start: str | None = None, votes: bool = False):
    probabilities = np.eye(5)[STAGES] * 0.9 + 0.02
    cast = [Vote("a", probabilities, 0.5), Vote("b", probabilities, 0.5)] if votes else ()
    return StagedNight("night", "night", probabilities, expert, start=start, votes=cast)


WRITERS = {
    "night.csv": lambda path, staged: write_predictions(path, staged, [""] * 10),
    "night_events.tsv": lambda path, staged: write_events(path, staged, "a model"),
    "night-Hypnogram.edf": write_edf,
}


@pytest.fixture
def recording(tmp_path):
    write_psg(tmp_path / "night.edf", 10, {"EEG": 10})
    return EdfFile(tmp_path / "night.edf")


def edited(path, changes: dict[int, str], column: str):
    """Write other words into a column of a table, or into EDF+ annotations."""
    if path.suffix == ".edf":
        old = edfio.read_edf(path)
        names = ("W", "N1", "N2", "N3", "R")
        notes = [edfio.EdfAnnotation(30 * k, 30, f"Sleep stage {names[code]}")
                 for k, code in enumerate(STAGES)]  # fmt: skip
        for k, word in changes.items():
            notes[k] = edfio.EdfAnnotation(30 * k, 30, f"Sleep stage {word.replace('REM', 'R')}")
        edfio.Edf([], recording=old.recording, starttime=old.starttime, annotations=notes).write(
            path
        )
        return
    separator = "\t" if path.suffix == ".tsv" else ","
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter=separator))
    for k, word in changes.items():
        rows[k][column] = word
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.DictWriter(file, rows[0], delimiter=separator)
        table.writeheader()
        table.writerows(rows)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("expert", [NOBODY, EXPERT], ids=["alone", "beside an expert"])
@pytest.mark.parametrize("votes", [False, True])
def test_an_unchanged_export_is_named_and_not_taken(recording, tmp_path, name, expert, votes):
    WRITERS[name](tmp_path / name, night(expert, f"{START[0]}T{START[1]}", votes))
    assert find(recording.path) is None
    assert exports_beside(recording.path) == [tmp_path / name]
    notes: list[str] = []
    path, stages = expert_of(opened(recording.path), Asked(), 10, notes)
    assert (stages == -1).all() and path is None
    assert notes == [f"{name}: stages of a program, not taken for an expert's"]
    with pytest.raises(UserError, match=r"this program exported, unchanged: no expert's; correct"):
        read(tmp_path / name, recording, 10)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("expert", [NOBODY, EXPERT], ids=["alone", "beside an expert"])
def test_an_edited_export_is_that_persons_scoring(recording, tmp_path, name, expert):
    WRITERS[name](tmp_path / name, night(expert, f"{START[0]}T{START[1]}"))
    edited(tmp_path / name, {2: "N3", 9: "REM"}, "trial_type" if "tsv" in name else "stage")
    assert find(recording.path) == tmp_path / name
    assert exports_beside(recording.path) == []
    stages, _ = read(tmp_path / name, recording, 10)
    assert stages.tolist() == [0, 0, 3, 2, 2, 3, 4, 4, 2, 4]


@pytest.mark.parametrize("name", ["night.csv", "night_events.tsv"])
@pytest.mark.parametrize("expert", [NOBODY, EXPERT], ids=["alone", "beside an expert"])
def test_a_column_expert_filled_in_by_hand_is_read(recording, tmp_path, name, expert):
    WRITERS[name](tmp_path / name, night(expert))
    edited(tmp_path / name, {0: "N1", 7: "n3"}, "expert")
    wanted = expert.copy()
    wanted[[0, 7]] = 1, 3
    assert find(recording.path) == tmp_path / name
    assert read(tmp_path / name, recording, 10)[0].tolist() == wanted.tolist()


def test_exports_of_former_versions_have_no_hash(recording, tmp_path):
    table = "epoch,onset_s,stage,expert,p_W\n"
    rows = [f"{k},{30 * k},W,{{}},0.9" for k in range(10)]
    (tmp_path / "night.csv").write_text(table + "\n".join(rows).replace("{}", ""))
    assert find(recording.path) is None and is_export(tmp_path / "night.csv")
    (tmp_path / "night.csv").write_text(table + "\n".join(rows).replace("{}", "N2"))
    assert read(tmp_path / "night.csv", recording, 10)[0].tolist() == [2] * 10


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    "header", ["Epoch,Stage,Confidence", "Epoch,Stage,p_N1", "epoch,stage,proba_rem", 
               "n,stage,prob", "epoch,stage,N1_probability", "Epoch,Stage,stages_hash"],
)  # fmt: skip
def test_other_programs_exports(recording, tmp_path, header, encoding):
    rows = "\n".join(f"{k},N2,0.9" for k in range(10))
    (tmp_path / "night_hypno.csv").write_text(f"{header}\n{rows}\n", encoding=encoding)
    if "hash" in header:  # a hash that does not fit: somebody's corrections
        assert find(recording.path) == tmp_path / "night_hypno.csv"
        return
    assert find(recording.path) is None
    with pytest.raises(UserError, match=r"that a program wrote .column .*: no expert's"):
        read(tmp_path / "night_hypno.csv", recording, 10)


def annotated(path, entries, start=START):
    notes = [edfio.EdfAnnotation(*entry) for entry in entries]
    about = edfio.Recording(startdate=start[0])
    edfio.Edf([], recording=about, starttime=start[1], annotations=notes).write(path)


@pytest.mark.parametrize(
    "word",
    [
        "Sleep stage {}", "Sleep stage {} ", "sleep stage {}@@EEG C4-A1", "sleep-{},Manual",
        "Stage {}", "SLEEP-{}", "{}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("length", [30, None])
def test_words_of_edf_annotations(recording, tmp_path, word, length):
    names = ("Wake", "N1", "N2", "N3", "REM")
    entries = [(30 * k, length, word.format(names[code])) for k, code in enumerate(STAGES)]
    annotated(tmp_path / "h.edf", [*entries, (12, 3, "Lights off@@EEG"), (40, 9, "arousal")])
    assert read(tmp_path / "h.edf", recording, 10)[0].tolist() == STAGES.tolist()


@pytest.mark.parametrize(
    "word", ["Sleep stage U", "Sleep stage ?", "Movement time", "Sleep stage X"]
)
def test_what_nobody_scored_ends_a_stage_without_duration(recording, tmp_path, word):
    entries = [(0, None, "Sleep stage W"), (60, None, word), (150, None, "Sleep stage N2"),
               (210, None, "Sleep stage R")]  # fmt: skip
    annotated(tmp_path / "h.edf", entries)
    stages, note = read(tmp_path / "h.edf", recording, 10)
    assert stages.tolist() == [0, 0, -1, -1, -1, 2, 2, 4, 4, 4]
    assert "a stage lasts until the next row" in note
    assert ("unknown stages are unscored; 'Sleep stage X' (1)" in note) == (word[-1] == "X")


def test_triggers_and_notes_are_no_stages(recording, tmp_path):
    for words in ("12341", "WRWRW", ["Wake"] * 5):
        annotated(tmp_path / "h.edf", [(30 * k, 30, word) for k, word in enumerate(words)])
        assert of_annotations(EdfFile(tmp_path / "h.edf"), 10) is None
    for words in (["Awake", "N2"], ["S  1", "S  2"] * 9, ["N1", "N2", "REM"]):
        for length in (None, 0.1):
            notes = [(3.7 * k * k, length, word) for k, word in enumerate(words)]
            annotated(tmp_path / "h.edf", notes)
            assert of_annotations(EdfFile(tmp_path / "h.edf"), 10) is None


@pytest.mark.parametrize("change", ["sorted", "cut", "both"])
@pytest.mark.parametrize("name", ["night.csv", "night_events.tsv"])
def test_an_export_sorted_or_cut_is_still_an_export(recording, tmp_path, name, change):
    WRITERS[name](tmp_path / name, night())
    header, *rows = (tmp_path / name).read_text().splitlines()
    rows = rows[:-2] if change != "sorted" and name.endswith(".csv") else rows
    rows = rows[::-1] if change != "cut" else rows
    (tmp_path / name).write_text("\n".join([header, *rows]) + "\n")
    with pytest.raises(UserError, match="exported, unchanged: no expert's"):
        read(tmp_path / name, recording, 10)


LETTERS = {"AASM": "W N1 N2 N3 R", "CAP": "W S1 S2 S4 R", "words": "Awake N1 N2 N3 REM"}


@pytest.mark.parametrize("length", [30, None])
@pytest.mark.parametrize("kind", LETTERS)
def test_stages_of_a_letter_are_no_less_stages(recording, tmp_path, kind, length):
    names = LETTERS[kind].split()
    entries = [(30 * k, length, names[code]) for k, code in enumerate(STAGES)]
    if length:  # a technician's note is none
        entries += [(41.3, None, "Awake")]
    annotated(tmp_path / "h.edf", entries)
    assert read(tmp_path / "h.edf", recording, 10)[0].tolist() == STAGES.tolist()
    # the same among a recording's own annotations
    notes = {int(t): note(t, word, seconds) for t, seconds, word in entries}
    write_odd(tmp_path / "own.edf", [eeg(epochs=10)], kind="EDF+C", notes=notes)
    assert of_annotations(EdfFile(tmp_path / "own.edf"), 10).tolist() == STAGES.tolist()


def test_an_unscored_stage_with_a_prefix_costs_no_bare_ones(recording, tmp_path):
    entries = [(30 * k, 30, ("W", "N1", "N2", "N3", "R")[code]) for k, code in enumerate(STAGES)]
    annotated(tmp_path / "h.edf", [*entries[:-1], (270, 30, "Sleep stage ?")])
    assert read(tmp_path / "h.edf", recording, 10)[0].tolist() == [*STAGES[:-1].tolist(), -1]


def test_numbers_of_a_hypnogram_are_read_by_a_vocabulary(recording, tmp_path):
    codes = [{3: 5, 1: 3, 2: 4, 0: 1, 4: 2}[code] for code in STAGES]
    annotated(tmp_path / "h.edf", [(30 * k, 30, str(code)) for k, code in enumerate(codes)])
    with pytest.raises(UserError, match="--vocabulary"):
        read(tmp_path / "h.edf", recording, 10)
    wishes = Wishes("deltamed")
    assert read(tmp_path / "h.edf", recording, 10, wishes)[0].tolist() == STAGES.tolist()
    with pytest.raises(UserError, match="an EDF has no columns; leave out --expert_table"):
        read(tmp_path / "h.edf", recording, 10, Wishes(table="stage=1"))


def test_a_stage_said_twice_is_said_once(recording, tmp_path):
    names = ("W", "N1", "N2", "N3", "R")
    entries = [(30 * k, 30, f"Sleep stage {names[code]}") for k, code in enumerate(STAGES)]
    also = [(30 * k, 30, f"Stage {(0, 1, 2, 3, 5)[code]}") for k, code in enumerate(STAGES)]
    annotated(tmp_path / "h.edf", [*entries, *also[2:]])
    assert read(tmp_path / "h.edf", recording, 10)[0].tolist() == STAGES.tolist()


def test_one_repeated_change_does_not_make_epochs_of_changes(recording, tmp_path):
    changes = [(0, "W"), (60, "N1"), (120, "N2"), (150, "N2"), (240, "N3"), (270, "R")]
    annotated(tmp_path / "h.edf", [(t, None, f"Sleep stage {word}") for t, word in changes])
    stages = read(tmp_path / "h.edf", recording, 10)[0]
    assert stages.tolist() == [0, 0, 1, 1, 2, 2, 2, 2, 3, 4]


@pytest.mark.parametrize(
    ("day", "clock", "wanted"),
    [
        (START[0], time(16, 14, 30), [-1, -1, -1, 0, 1, 2, 2, -1, -1, -1]),  # lights off
        (START[0], time(16, 12, 30), [1, 2, 2, *[-1] * 7]),
        (date(1985, 1, 1), time(16, 14), [-1, -1, 0, 1, 2, 2, -1, -1, -1, -1]),
        (date(1985, 1, 1), time(0, 0), [0, 1, 2, 2, *[-1] * 6]),  # date and clock were removed
        (date(1989, 4, 23), time(16, 13), None),
        (date(2003, 4, 24), time(16, 13), None),
    ],
)
def test_a_hypnogram_is_placed_by_its_start(recording, tmp_path, day, clock, wanted):
    bouts = [("W", 1), ("1", 1), ("2", 2)]
    write_hypnogram(tmp_path / "h.edf", bouts, start=(day, clock))
    if wanted is None:
        with pytest.raises(UserError, match=f"starts {day} 16:13:00, the recording 1989-04-24"):
            read(tmp_path / "h.edf", recording, 10)
    else:
        assert read(tmp_path / "h.edf", recording, 10)[0].tolist() == wanted


@pytest.mark.parametrize(
    "raw", [b"5\x14beep\x14", b"+5,5\x14beep\x14", b"+5\x15-1\x14beep\x14", b"+5.\x14beep\x14",
            b"+5\x14EMG m\xe9dium\x14", b"+90\x1530\x14Sleep stage \xb5\x14"],
)  # fmt: skip
def test_a_broken_annotation_costs_itself(recording, tmp_path, raw):
    annotated(tmp_path / "h.edf", [(5, 3, "x" * 40), (0, 60, "Sleep stage W"), (60, 30, "N2")])
    content = (tmp_path / "h.edf").read_bytes()
    at = content.index(b"+5\x153\x14" + b"x" * 40)
    size = len(b"+5\x153\x14" + b"x" * 40 + b"\x14")
    (tmp_path / "h.edf").write_bytes(
        content[:at] + raw + b"\x00" * (size - len(raw)) + content[at + size :]
    )
    stages, note = read(tmp_path / "h.edf", recording, 10)
    assert stages.tolist() == [0, 0, *[-1] * 8]
    assert ("broken annotation left out" in note) == (b"beep" in raw)
    with pytest.raises(UserError, match="broken EDF"):  # a store is stricter
        EdfFile(tmp_path / "h.edf").annotations()


@pytest.mark.parametrize(
    "name",
    ["night.eannot", "night.hyp", "night.TXT", "night.csv", "night.tsv", "night_sleepscoring.txt",
     "night_stage.txt", "night.STA"],
)  # fmt: skip
def test_scorings_of_the_recordings_name_are_taken(recording, tmp_path, name):
    words = [f"{k} {code}" for k, code in enumerate("0012345530")]
    words = words if name.endswith("STA") else ["W", "N1"] * 5
    (tmp_path / name).write_text("\n".join(words))
    path, stages = expert_of(opened(recording.path), Asked(), 10, [])
    assert path == tmp_path / name
    assert stages.tolist() == [0, 0, 1, 2, 3, 3, 4, 4, 3, 0] if "STA" in name else [0, 1] * 5


def test_numbers_are_asked_about_and_a_vocabulary_answers(recording, tmp_path):
    (tmp_path / "night.txt").write_text("\n".join("0012344420"))
    notes: list[str] = []
    path, _ = expert_of(opened(recording.path), Asked(), 10, notes)
    assert path is None and "could be several vocabularies; name one with --voc" in notes[0]
    for vocabulary, code in (("yasa", 4), ("rk", 3)):
        asked = Asked(scoring=Wishes(vocabulary))
        path, stages = expert_of(opened(recording.path), asked, 10, [])
        assert stages.tolist() == [0, 0, 1, 2, 3, code, code, code, 2, 0]


@pytest.mark.parametrize("expert", [None, "none"])
@pytest.mark.parametrize("scoring", [Wishes("rk"), Wishes(table="stage=1")])
def test_a_wish_that_meets_no_file_is_named(recording, expert, scoring):
    notes: list[str] = []
    expert_of(opened(recording.path), Asked(expert=expert, scoring=scoring), 10, notes)
    assert f"'{scoring.vocabulary or scoring.table}' is not used: no expert's" in notes[0]


def test_what_is_wrong_with_an_expert_is_one_line(recording, tmp_path):
    with pytest.raises(UserError, match=r"absent.txt: no such file; name one with --expert"):
        expert_of(opened(recording.path), Asked(expert=str(tmp_path / "absent.txt")), 10, [])
    with pytest.raises(UserError, match="expert: no 'words'; it takes file, vocabulary, table"):
        stage(recording.path, [], expert={"words": "rk"})
    with pytest.raises(UserError, match="--vocabulary r: choose from yasa"):
        stage(recording.path, [], expert={"file": "a.txt", "vocabulary": "r"})
