"""Profiles: what is wrong with one is named by its field; epochs on onsets of their own."""

from __future__ import annotations

import csv
import json
import re
import shutil

import edfio
import numpy as np
import pytest

from datasets.readers.expert_annotations import is_export
from datasets.readers.profiles import cohort_nights, declared_night, profile
from datasets.readers.profiles.own_onsets import placed
from datasets.readers.profiles.profile import Epochs
from datasets.readers.scorings import nsrr_annotations
from datasets.readers.scorings.scoring import Row
from datasets.store.protocols import PROTOCOLS
from evaluation.exports.edf_export import write_edf
from evaluation.exports.exported_stages import counted_codes_of
from evaluation.exports.night_tables import write_events, write_predictions
from evaluation.exports.text_exports import write_annot, write_eannot, write_snooz
from evaluation.exports.xml_exports import write_nsrr, write_profusion
from tests.cohort_files.written import assert_stages, edf, prepared, telling
from utils.errors import UserError
from utils.staged_night import StagedNight

WORDS = {"map": {"W": "W", "1": "N1", "2": "N2", "3": "N3", "R": "REM", "?": "unscored"}}
SIMPLE = {
    "schema": 1, "name": "lab", "title": "Lab", "access": "open", "licence": "?", "page": "p",
    "cite": [],
    "signals": [{"file": "(?P<person>p\\d)\\.edf", "format": "edf"}],
    "stages": [{
        "file": "{stem}.txt", "format": "table", "separator": "\t",
        "columns": {"onset": 1, "duration": 2, "word": 3}, "words": WORDS,
    }],
    "roles": {"EEG": ["C4"]},
}  # fmt: skip
CODES = [0, 0, 1, 2, 3, 3, 2, 4, 4, 0, 1, 2]
LETTERS = dict(zip((0, 1, 2, 3, 4, -1), "W123R?", strict=True))


def declared(folder, **changes):
    """The path of a profile with some fields changed."""
    path = folder / "lab.json"
    path.write_text(json.dumps(SIMPLE | {"licence": "none"} | changes))
    return path


def write(folder, codes, onsets, seconds, **lengths):
    """One night whose epochs lie at ``onsets``, each ``seconds`` long."""
    folder.mkdir(exist_ok=True)
    fs = 128
    own = telling(codes, fs, **lengths)
    edf(folder / "p1.edf", {"C4": (fs, own[: len(own) // fs * fs])})
    rows = zip(onsets, codes, strict=True)
    lines = [f"{onset:g}\t{seconds:g}\t{LETTERS[code]}" for onset, code in rows]
    (folder / "p1.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("name", profile.names())
def test_every_profile_is_in_order(name):
    one = profile.load(name)
    assert one.name == name
    assert one.protocol in PROTOCOLS


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({"title": "Other", "notes": ["a"], "cite": ["b"], "expect": {"persons": 3}}, True),
        ({"exclude": [{"id": "p1", "reason": "c"}], "protocol": "tinysleepnet"}, True),
        ({"epochs": {"seconds": 30, "extra": 1}, "night": "", "id": "{stem}"}, True),
        ({"epochs": {"extra": 2}}, False),
        ({"roles": {"EEG": ["C3"]}}, False),
        ({"stages": [SIMPLE["stages"][0] | {"words": {"map": {"W": "N1"}}}]}, False),
        ({"signals": [SIMPLE["signals"][0] | {"gaps": True}]}, False),
        ({"person": {"key": "{stem}"}}, False),
        ({"variants": [{"when": {"person": "p2"}, "roles": {"EEG": ["C3"]}}]}, False),
    ],
)
def test_the_digest_is_of_what_stores_hold(tmp_path, change, is_same):
    """Fields that are printed change none, nor do those that repeat a default."""
    usual = profile.load(str(declared(tmp_path))).digest
    assert (profile.load(str(declared(tmp_path, **change))).digest == usual) == is_same


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"licence": "?", "cite": ["a", "?"]}, r"still '\?': licence, cite\[1\]"),
        ({"licens": "x"}, "licens: there is no such field; did you mean 'licence'"),
        ({"schema": 2}, "schema: is 2; choose from 1"),
        ({"name": "Our Lab"}, "name: is 'Our Lab'; small letters"),
        ({"cite": "a"}, "cite: is 'a', not a list"),
        (
            {"signals": [{"file": "(", "format": "edf"}]},
            r"signals\[0\].file: '\(' is not a regular",
        ),
        ({"signals": [{"file": "x", "format": "edff"}]}, r"signals\[0\].format: is 'edff'; choose"),
        ({"signals": [{"format": "edf"}]}, r"signals\[0\].file: is missing"),
        ({"signals": [{"file": "x", "format": "mat"}]}, r"signals\[0\].rate: is missing"),
        ({"signals": []}, "signals: is empty"),
        ({"stages": [{"file": "x", "format": "list"}]}, r"stages\[0\].words: is missing"),
        ({"roles": {"EEG": [1]}}, r"roles.EEG\[0\]: is 1, not a text"),
        ({"epochs": {"seconds": True}}, "epochs.seconds: is True, not a number"),
        ({"epochs": {"seconds": 20, "context": 4}}, "epochs.context: makes epochs of 28 s"),
        ({"epochs": {"seconds": 0}}, "epochs.seconds: is 0, not above 0"),
        ({"epochs": {"seconds": 20, "grid": "stages"}}, "epochs.context: makes epochs of 20 s"),
        (
            {"epochs": {"seconds": 20, "context": 5, "grid": "exact"}},
            "epochs.grid: is exact; epochs with context",
        ),
        (
            {"variants": [{"when": {"sit": "x"}, "epochs": {}}]},
            r"variants\[0\].when.sit: no pattern has such a group",
        ),
        ({"epochs": []}, r"epochs: is \[\], not an object of fields"),
        ({"expect": {"epochs": 1.5}}, "expect.epochs: is 1.5, not a whole number"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(tmp_path, change, message):
    path = declared(tmp_path, **change)
    with pytest.raises(UserError, match=f"lab.json: {message}"):
        profile.load(str(path))


def test_a_wrong_stage_is_named(tmp_path):
    stages = [SIMPLE["stages"][0] | {"words": {"map": {"W": "wake"}}}]
    with pytest.raises(UserError, match=r"stages\[0\].words.map.W: is 'wake'; choose from W, N1"):
        profile.load(str(declared(tmp_path, stages=stages)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {"onset": 0, "word": 1}}, "columns.onset: is no number of a column, from 1"),
        ({"columns": {"word": 1}}, "columns: names no column for both"),
        ({"columns": {"onset": 1, "word": 2, "until": 3}}, "columns.until: known are word"),
        ({"separator": ""}, "separator: is empty"),
        ({"words": {"map": {}}}, "words.map: names no word"),
        ({"words": {"map": {"S1": "N1", "s1": "W"}}}, "words.map: names a word twice"),
        ({"format": "masks"}, "rate: is missing; masks"),
        ({"format": "masks", "rate": 0}, "rate: is 0, not above 0"),
        ({"format": "list", "seconds": -5}, "seconds: is -5, not above 0"),
    ],
)
def test_files_of_stages_that_cannot_be_read_are_named(tmp_path, change, message):
    path = declared(tmp_path, stages=[SIMPLE["stages"][0] | change])
    with pytest.raises(UserError, match=rf"stages\[0\]\.{message}"):
        profile.load(str(path))


def test_no_profile_at_all(tmp_path):
    with pytest.raises(UserError, match="--cohort nowhere: known are"):
        profile.load("nowhere")
    with pytest.raises(UserError, match="not a profile"):
        profile.load(str(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text("[1, 2")
    with pytest.raises(UserError, match="not a profile"):
        profile.load(str(tmp_path / "bad.json"))
    (tmp_path / "list.json").write_text("[1, 2]")
    with pytest.raises(UserError, match=r"the profile: is \[1, 2\], not an object"):
        profile.load(str(tmp_path / "list.json"))


def test_some_nights_keep_their_numbers_among_all(tmp_path):
    """Of a person whose files name no number, the second night stays the second."""
    (tmp_path / "raw").mkdir()
    for name in ("p1a", "p1b", "P2a"):
        (tmp_path / "raw" / f"{name}.edf").touch()
    signals = [{"file": "(?P<person>p\\d)[ab]\\.edf", "format": "edf", "case": "lower"}]
    lab = profile.load(str(declared(tmp_path, signals=signals)))
    every = cohort_nights.find(tmp_path / "raw", lab)
    assert [(n.id, n.subject, n.night) for n in every] == [
        ("p1a", "lab-p1", 1), ("p1b", "lab-p1", 2), ("p2a", "lab-p2", 1),
    ]  # fmt: skip
    some = cohort_nights.find(tmp_path / "raw", lab, cohort_nights.Options(only=("P1B",)))
    assert [(n.id, n.night) for n in some] == [("p1b", 2)]


def test_epochs_at_fractions_of_a_second(tmp_path):
    """Off the grid by 10.96 s, none is rounded to it: signals go with their own stages."""
    onsets = 70.96 + 30 * np.arange(len(CODES))
    write(tmp_path / "raw", CODES, onsets, 30, lead=70.96, tail=45)
    path = declared(tmp_path, epochs={"grid": "stages"})
    store = prepared(path, tmp_path / "raw", tmp_path / "store")
    assert_stages(store, "p1", [-1, -1, *CODES, -1])


def test_a_clock_that_drifts_is_followed(tmp_path):
    """Spaced by 30.2 s, the twelfth epoch would be 2.2 s late on a grid, more in a night."""
    onsets = 3.3 + 30.2 * np.arange(len(CODES))
    write(tmp_path / "raw", CODES, onsets, 30, lead=3.3, tail=45, epoch=30.2)
    path = declared(tmp_path, epochs={"grid": "stages"})
    store = prepared(path, tmp_path / "raw", tmp_path / "store")
    assert store.night("p1").stages[: len(CODES)].tolist() == CODES
    assert_stages(store, "p1", [*CODES, -1])


def test_exports_of_epochs_on_their_own_onsets_lie_where_these_are(tmp_path):
    """A clock that drifts: counted from the start, the twelfth epoch would be 5.5 s early."""
    onsets = 3.3 + 30.2 * np.arange(len(CODES))
    write(tmp_path / "raw", CODES, onsets, 30, lead=3.3, tail=45, epoch=30.2)
    path = declared(tmp_path, epochs={"grid": "stages"})
    night = prepared(path, tmp_path / "raw", tmp_path / "store").night("p1")
    np.testing.assert_allclose(night.onsets[: len(CODES)], onsets, atol=1e-3)
    staged = StagedNight("p1", "p1", np.eye(5)[night.stages], night.stages, own_onsets=night.onsets)
    text = write_predictions(tmp_path / "p1.csv", staged).read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert [float(row["onset_s"]) for row in rows[:12]] == pytest.approx(onsets, abs=0.01)
    notes = edfio.read_edf(write_edf(tmp_path / "p1.edf", staged)).annotations
    assert [note.onset for note in notes[:12]] == pytest.approx(onsets, abs=1e-3)
    assert staged.annotations().onset[:12] == pytest.approx(onsets, abs=1e-3)
    write_annot(tmp_path / "p1.annot", staged)
    lines = (tmp_path / "p1.annot").read_text().splitlines()[-len(night.stages) :]
    assert [float(line.split("\t")[3]) for line in lines[:12]] == pytest.approx(onsets, abs=1e-3)
    write_snooz(tmp_path / "p1.tsv", staged)
    lines = (tmp_path / "p1.tsv").read_text().splitlines()[2:]
    assert [float(line.split("\t")[2]) for line in lines[:12]] == pytest.approx(onsets, abs=1e-3)
    write_nsrr(tmp_path / "p1-nsrr.xml", staged)
    starts = re.findall("<Start>(.*)</Start>", (tmp_path / "p1-nsrr.xml").read_text())[1:]
    assert [float(start) for start in starts[:12]] == pytest.approx(onsets, abs=1e-3)
    assert all(is_export(tmp_path / name) for name in ("p1.annot", "p1.tsv", "p1-nsrr.xml"))


def test_formats_that_count_epochs_have_the_stage_of_the_nearest(tmp_path):
    """On a clock that drifts by 2 s per epoch; the recording's seventh is half of two of them."""
    onsets = 4.0 + 32.0 * np.arange(10)
    codes = np.array([0, 1, 2, 3, 4, 0, 1, 2, 3, 4])
    staged = StagedNight("p", "p", np.eye(5)[codes], codes, own_onsets=onsets, seconds=340.0)
    # starts 4, 36, 68, 100, 132, 164, 196, 228, 260, 292 of epochs at 0, 30, …, 300
    assert counted_codes_of(staged) == [0, 1, 2, 3, 4, 0, -1, 1, 2, 3, 4]
    write_eannot(tmp_path / "p.eannot", staged)
    words = (tmp_path / "p.eannot").read_text().split()
    assert " ".join(words) == "W N1 N2 N3 R W ? N1 N2 N3 R"
    write_profusion(tmp_path / "p-profusion.xml", staged)
    read = nsrr_annotations.read_profusion(tmp_path / "p-profusion.xml").tolist()
    assert read == counted_codes_of(staged) and is_export(tmp_path / "p-profusion.xml")


def test_exports_of_shorter_epochs_are_of_these_and_not_of_their_context(tmp_path):
    """Twenty seconds each, without gaps; windows with context would overlap by ten."""
    codes = np.array([0, 1, 2, 3, 4, 0])
    windows = 20.0 * np.arange(6) + 15  # epochs at 20, 40, …, each with 5 s before and after it
    staged = StagedNight("p", "p", np.eye(5)[codes], codes, own_onsets=windows, seconds=200.0)
    begins = [20.0, 40.0, 60.0, 80.0, 100.0, 120.0]
    made = staged.annotations()
    assert made.onset.tolist() == begins and set(made.duration) == {20.0}
    notes = edfio.read_edf(write_edf(tmp_path / "p.edf", staged)).annotations
    assert [(note.onset, note.duration) for note in notes[:6]] == [(one, 20) for one in begins]
    write_annot(tmp_path / "p.annot", staged)
    lines = [line.split("\t") for line in (tmp_path / "p.annot").read_text().splitlines()[-6:]]
    assert [(float(line[3]), line[4]) for line in lines] == [(one, "+20") for one in begins]
    rows = list(csv.DictReader(write_predictions(tmp_path / "p.csv", staged).read_text().split()))
    assert [float(row["onset_s"]) for row in rows] == begins
    events = write_events(tmp_path / "p_events.tsv", staged, "model")
    rows = list(csv.DictReader(events.read_text().splitlines(), delimiter="\t"))
    assert [(float(row["onset"]), float(row["duration"])) for row in rows] == [
        (one, 20) for one in begins
    ]


def test_twenty_second_epochs_get_context(tmp_path):
    """Each is 30 s with 5 s on both sides; the first and the last have none, and are left out."""
    onsets = 20.0 * np.arange(len(CODES))
    write(tmp_path / "raw", CODES, onsets, 20, epoch=20)
    path = declared(tmp_path, epochs={"seconds": 20, "context": 5, "grid": "stages"})
    store = prepared(path, tmp_path / "raw", tmp_path / "store")
    night = store.night("p1")
    assert night.stages.tolist() == CODES[1:-1]
    signals = np.asarray(night.signals()[:, 0])
    # the middle 20 s of an epoch are its own, the 5 s before are the end of the one before it
    np.testing.assert_allclose(signals[1:, :1000], signals[:-1, 2000:3000], atol=1e-3)


def test_gaps_between_stages_are_unscored():
    rows = [(Row("W", onset, 30.0), 0) for onset in (12.5, 42.5, 132.5)]
    own = placed(rows, Epochs(grid="stages"), 180.0, "file")
    assert own.onsets.tolist() == [12.5, 42.5, 72.5, 102.5, 132.5]
    assert own.stages.tolist() == [0, 0, -1, -1, 0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0.0, 30.0), (20.0, 30.0)], "two stages at 20 s"),
        ([(0.0, 44.0)], "lasts 44 s, no whole epochs of 30 s"),
        ([(0.0, 3e11)], "lasts 3e.11 s, which is no time of a night"),
        ([(0.0, 30.0), (3e11, 30.0)], "at 3e.11 s lasts 30 s, which is no time of a night"),
        ([(0.0, 30.0), (180.0, 30.0), (210.0, 30.0)], "scores 2 epochs after the signal's end"),
    ],
)
def test_rows_that_cannot_be_epochs_are_refused(rows, message):
    with pytest.raises(UserError, match=message):
        placed([(Row("W", *row), 0) for row in rows], Epochs(grid="stages"), 185.0, "file")


def test_one_recording_in_two_formats_is_read_in_the_first_declared(tmp_path):
    write(tmp_path / "raw", CODES, 30.0 * np.arange(len(CODES)), 30)
    (tmp_path / "raw" / "p1.h5").write_bytes(b"no HDF5 at all")
    both = [{"file": f"(?P<person>p1)\\.{end}", "format": kind} for end, kind in
            (("edf", "edf"), ("h5", "h5"))]  # fmt: skip
    path = declared(tmp_path, signals=both)
    assert_stages(prepared(path, tmp_path / "raw", tmp_path / "store"), "p1", CODES)
    path = declared(tmp_path, signals=both[::-1])
    with pytest.raises(UserError, match=r"p1.h5: "):
        prepared(path, tmp_path / "raw", tmp_path / "other")


def test_lines_of_one_epoch_have_to_agree(tmp_path):
    write(tmp_path / "raw", CODES, 30.0 * np.arange(len(CODES)), 30)
    lines = [LETTERS[code] for code in CODES for _ in range(6)]
    scored = tmp_path / "raw" / "p1.txt"
    scored.write_text("\n".join(["[Hypnogram]", *lines]) + "\n\n")
    stages = {"file": "{stem}.txt", "format": "list", "skip": 1, "seconds": 5, "words": WORDS}
    path = declared(tmp_path, stages=[stages])
    assert_stages(prepared(path, tmp_path / "raw", tmp_path / "store"), "p1", CODES)
    scored.write_text("\n".join(["[Hypnogram]", "W", *lines]))
    with pytest.raises(UserError, match="stages 1, W in the 30 s from 60 s, which are one epoch"):
        prepared(path, tmp_path / "raw", tmp_path / "other")


def test_lines_of_20_s_are_placed_by_their_time(tmp_path):
    """Three of them are two epochs: none is stretched to an epoch or made one with the next."""
    write(tmp_path / "raw", CODES, 30.0 * np.arange(len(CODES)), 30)
    of_20_s = [letter for pair in ("WW", "12", "33", "2R", "RW", "12") for letter in
               (pair[0], pair[1], pair[1])]  # fmt: skip
    (tmp_path / "raw" / "p1.txt").write_text("\n".join(of_20_s))
    stages = {"file": "{stem}.txt", "format": "list", "seconds": 20, "words": WORDS}
    path = declared(tmp_path, stages=[stages])
    # of each pair the first has 20 of 30 s
    assert_stages(prepared(path, tmp_path / "raw", tmp_path / "store"), "p1", CODES)


@pytest.mark.parametrize("rows", ["360\t0\tW\n", "30\t0\t?\n390\t0\tW\n"])
@pytest.mark.parametrize("grid", ["signal", "stages"])
def test_stages_that_last_no_time_are_refused(tmp_path, rows, grid):
    write(tmp_path / "raw", CODES, 30.0 * np.arange(len(CODES)), 30)
    (tmp_path / "raw" / "p1.txt").write_text(rows)
    stages = [SIMPLE["stages"][0] | {"lasts": "until_next"}]
    path = declared(tmp_path, stages=stages, epochs={"grid": grid})
    with pytest.raises(UserError, match=r"p1.txt: no stage in it lasts until another one"):
        prepared(path, tmp_path / "raw", tmp_path / "store")


def test_two_stages_of_one_instant_are_refused(tmp_path):
    """Each lasts until the next: one of them would have no time, and nobody would know."""
    write(tmp_path / "raw", CODES, 30.0 * np.arange(len(CODES)), 30)
    scored = tmp_path / "raw" / "p1.txt"
    path = declared(tmp_path, stages=[SIMPLE["stages"][0] | {"lasts": "until_next"}])
    scored.write_text("0\t0\tW\n60\t0\t1\n60\t0\t1\n90\t0\t?\n90\t0\t2\n")  # no contradiction
    store = prepared(path, tmp_path / "raw", tmp_path / "store")
    assert store.night("p1").stages.tolist() == [0, 0, 1, *[2] * 9]
    scored.write_text("0\t0\tW\n60\t0\t1\n60\t0\t2\n")
    with pytest.raises(UserError, match=r"p1.txt: two stages at 60 s"):
        prepared(path, tmp_path / "raw", tmp_path / "other")


def test_another_scoring_of_one_file_is_not_taken_for_the_first(tmp_path):
    """Both are columns of a table, so that the files of a finished night are the same."""
    write(tmp_path / "raw", CODES, 30.0 * np.arange(len(CODES)), 30)
    scored = tmp_path / "raw" / "p1.txt"
    scored.write_text("\n".join(f"{row}\tR" for row in scored.read_text().splitlines()))
    first = SIMPLE["stages"][0]
    second = first | {"name": "b", "columns": {"onset": 1, "duration": 2, "word": 4}}
    path = declared(tmp_path, stages=[first | {"name": "a"}, second])
    assert_stages(prepared(path, tmp_path / "raw", tmp_path / "store"), "p1", CODES)
    with pytest.raises(UserError, match=r"other settings \(profile\)"):
        prepared(path, tmp_path / "raw", tmp_path / "store", "--scoring", "b")
    store = prepared(path, tmp_path / "raw", tmp_path / "other", "--scoring", "b")
    assert store.night("p1").stages.tolist() == [4] * len(CODES)


@pytest.mark.parametrize("broken", ["30.x\t30\tW", "a lone cell"])
def test_unreadable_rows_are_refused_unless_declared(tmp_path, capsys, broken):
    write(tmp_path / "raw", CODES, 30.0 * np.arange(len(CODES)), 30)
    scored = tmp_path / "raw" / "p1.txt"
    lines = scored.read_text().splitlines()
    scored.write_text("\n".join([lines[0], broken, *lines[2:]]))
    with pytest.raises(UserError, match=r"p1.txt: line 2"):
        prepared(declared(tmp_path), tmp_path / "raw", tmp_path / "other")
    path = declared(tmp_path, stages=[SIMPLE["stages"][0] | {"broken": 1}])
    store = prepared(path, tmp_path / "raw", tmp_path / "store")
    assert_stages(store, "p1", [CODES[0], -1, *CODES[2:]])
    assert "note: p1: line 2" in capsys.readouterr().out
    scored.write_text("\n".join([lines[0], broken, broken, *lines[2:]]))
    with pytest.raises(UserError, match=r"p1.txt: line 3"):
        prepared(path, tmp_path / "raw", tmp_path / "two")


def test_free_text_is_passed_over_and_unknown_stages_are_not(tmp_path):
    write(tmp_path / "raw", CODES, 30.0 * np.arange(len(CODES)), 30)
    scored = tmp_path / "raw" / "p1.txt"
    words = {"map": WORDS["map"], "ignore": ["*"], "heed": ["stage*"]}
    path = declared(tmp_path, stages=[SIMPLE["stages"][0] | {"words": words}])
    scored.write_text("45\t0\tAwake, lights on\n" + scored.read_text())
    assert_stages(prepared(path, tmp_path / "raw", tmp_path / "store"), "p1", CODES)
    scored.write_text("45\t0\tStage7\n" + scored.read_text())
    with pytest.raises(UserError, match="'Stage7' at 45 s is no word of the profile"):
        prepared(path, tmp_path / "raw", tmp_path / "other")


@pytest.mark.parametrize(("kind", "first", "last"), [("profusion", 0, 1051), ("nsrr", 1, 1038)])
def test_the_real_xml_files_of_nsrr(real_data, tmp_path, kind, first, last):
    """By the path of profiles: Profusion's own, and its conversion, whose starts are 30 s early."""
    folder = real_data / "nsrr_xml"
    expected = nsrr_annotations.read_profusion(folder / "100022-profusion.xml")
    shutil.copy(folder / f"100022-{kind}.xml", tmp_path / f"p1-{kind}.xml")
    edf(tmp_path / "p1.edf", {"C4": (1.0, np.arange(30.0 * len(expected)) % 100)})
    stages = [{"file": f"{{stem}}-{kind}.xml", "format": "auto"}]
    lab = profile.load(str(declared(tmp_path, stages=stages)))
    night = declared_night.read(cohort_nights.find(tmp_path, lab)[0])
    assert len(night.stages) == 1051
    assert night.stages[: last - first].tolist() == expected[first:last].tolist()
    assert (night.stages[last - first :] == -1).all()
