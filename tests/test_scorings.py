"""Scorings of laboratories' software: every layout gives the planted stages, or is refused."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from datasets.readers.scorings.layouts import read
from datasets.readers.scorings.scoring import Recorded, Wishes
from datasets.readers.scorings.vocabulary import codes_of, stage_of
from tests import scoring_layouts as lab
from tests.scoring_layouts import LAYOUTS, TRUTH, lines, words
from utils.errors import UserError

NIGHT = Recorded("night.edf", lab.START, 1200.0, (100.0, 10.0))


def staged(path: Path, content: str | bytes, recorded: Recorded = NIGHT, **wishes) -> list[int]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read(path, recorded, Wishes(**wishes))[0].tolist()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_planted_stages(tmp_path, layout):
    name, text = LAYOUTS[layout]
    assert staged(tmp_path / name, text) == TRUTH


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "\r\n", "\r"]
)
def test_encodings_and_line_ends(tmp_path, layout, encoding):
    name, text = LAYOUTS[layout]
    if layout == "a value per sample" or (layout == "double line ends" and encoding == "\r"):
        pytest.skip("as the others, and long")
    if encoding.isspace():
        raw = text.replace("\n", encoding).encode()
    else:
        raw = text.replace('encoding="utf-8"', f'encoding="{encoding}"').encode(encoding)
    assert staged(tmp_path / name, raw) == TRUTH


@pytest.mark.parametrize(
    ("layout", "hour"), [("remlogic", 0), ("domino", 12), ("annot, clocks", 23), ("alice csv", 1)]
)
def test_rows_are_placed_by_their_clock(tmp_path, layout, hour):
    """A recording that began four epochs earlier, or two later, on a date that nobody knows."""
    name, text = LAYOUTS[layout]
    early = lab.START.replace(year=1985, month=1, day=1, minute=48)
    stages = staged(tmp_path / name, text, Recorded("n.edf", early, 1320.0))
    assert stages == [*[-1] * 4, *TRUTH]
    late = lab.START.replace(year=1985, month=1, day=1, minute=51)
    assert staged(tmp_path / name, text, Recorded("n.edf", late, 600.0)) == TRUTH[2:22]
    if layout == "alice csv":  # its epochs are numbered, too
        assert staged(tmp_path / name, text, Recorded("n.edf", None, 1200.0)) == TRUTH
    else:
        with pytest.raises(UserError, match=r"start is unknown.*--expert_table"):
            staged(tmp_path / name, text, Recorded("n.edf", None, 1200.0))
    other = lab.START.replace(hour=(lab.START.hour + 6 + hour % 6) % 24)
    with pytest.raises(UserError, match="scores no epoch"):
        staged(tmp_path / name, text, Recorded("n.edf", other, 1200.0))


@pytest.mark.parametrize("layout", ["mne csv", "edfbrowser xml, ISO", "nox", "remlogic, ISO"])
def test_dates_are_compared_where_both_are_real(tmp_path, layout):
    name, text = LAYOUTS[layout]
    another = Recorded("n.edf", datetime(2020, 5, 17, 23, 50), 1200.0)
    with pytest.raises(UserError, match=r"is dated 2021-0.-0., the recording 2020-05-17"):
        staged(tmp_path / name, text, another)
    assert (
        staged(tmp_path / name, text, Recorded("n", datetime(1985, 1, 1, 23, 50), 1200.0)) == TRUTH
    )


def test_rows_off_the_grid_are_placed_and_not_rounded(tmp_path):
    rows = [[30 * k + 10, 30, w] for k, w in enumerate(words(lab.SLEEP))]
    text = lab.table("onset,duration,description", rows)
    (tmp_path / "a.csv").write_text(text)
    stages, notes = read(tmp_path / "a.csv", NIGHT, Wishes())
    assert stages.tolist() == TRUTH  # 20 s of each epoch are its own
    assert "38 of 38 stages do not fill whole 30 s epochs (first at 10 s)" in " ".join(notes)
    half = [[30 * k + 15, 30, w] for k, w in enumerate(words(lab.SLEEP))]
    pairs = zip([-1, *TRUTH], TRUTH, strict=False)
    expected = [a if a == b else -1 for a, b in pairs]  # neither stage fills more than half
    assert staged(tmp_path / "a.csv", lab.table("onset,duration,stage", half)) == expected


def test_epochs_of_20_s_are_placed_where_they_lie(tmp_path):
    letters = "WWW111222333RRRRRR" * 3
    expected = []
    for k in range(36):
        parts = [lab.CODE[letters[second // 20]] for second in range(30 * k, 30 * k + 30)]
        best = max(set(parts), key=parts.count)
        expected.append(best if parts.count(best) > 15 else -1)
    recorded = Recorded("n.edf", lab.START, 1080.0)
    listed = lines(words(lab.AASM, letters))
    assert staged(tmp_path / "a.txt", listed, recorded) == expected
    assert staged(tmp_path / "a.xml", lab.profusion(20, letters), recorded) == expected


@pytest.mark.parametrize("missing", [-1, 1, 155])
@pytest.mark.parametrize("layout", ["compumedics", "yasa csv", "profusion", "dreams", "nidra"])
def test_lists_of_another_length_are_refused_with_both_numbers(tmp_path, layout, missing):
    name, text = LAYOUTS[layout]
    seconds = 1200.0 + 30 * missing
    per_epoch = 6 if layout == "dreams" else 1
    n, epochs = 40 * per_epoch, int(seconds / 30) * per_epoch
    with pytest.raises(UserError, match=f"{n} stages for {epochs} epochs of") as error:
        staged(tmp_path / name, text, Recorded("n.edf", lab.START, seconds))
    assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize("layout", ["bids", "wonambi", "edfbrowser xml", "domino", "saf", "annot"])
def test_what_has_its_own_times_may_end_early_or_late(tmp_path, layout):
    name, text = LAYOUTS[layout]
    stages = staged(tmp_path / name, text, Recorded("n.edf", lab.START, 1500.0))
    assert stages == TRUTH + [-1] * 10
    stages, notes = read(tmp_path / name, Recorded("n.edf", lab.START, 900.0), Wishes())
    assert stages.tolist() == TRUTH[:30]
    assert "scores 1200 s, the recording lasts 900 s" in " ".join(notes)


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([f"{k},N2" for k in range(2, 32)], "none is placed; give it all epochs, or a column of"),
        (["Epoch,Stage", "1,W", "3,N1", "2,N2", *(f"{k},N2" for k in range(4, 41))], "none is"),
        ([f"{k},N2" for k in range(1, 31)], "30 stages for 40 epochs"),
    ],
)
def test_epochs_that_numbers_do_not_place_are_refused(tmp_path, rows, line):
    for content in {lines(rows), lines(["Epoch,Stage", *rows[rows[0] == "Epoch,Stage" :]])}:
        with pytest.raises(UserError, match=line):
            staged(tmp_path / "a.csv", content)


@pytest.mark.parametrize(
    ("began", "seconds", "first"),
    [
        (lab.START, 1200.0, 0),  # fills the recording; by the clock it would leave it
        (lab.START, 2400.0, 20),  # lights off at midnight, within it
        (lab.START, 1500.0, 20),  # by the clock, beyond the end
        (lab.START.replace(hour=9), 1500.0, 0),  # by the clock, apart
        (None, 1200.0, 0),
    ],
)
def test_times_from_midnight_or_from_the_start(tmp_path, began, seconds, first):
    stages = staged(tmp_path / "a.csv", LAYOUTS["since the start"][1],
                    Recorded("n.edf", began, seconds))  # fmt: skip
    n = int(seconds / 30)
    assert stages == ([-1] * first + TRUTH + [-1] * 80)[:n]


def test_samples_of_a_part_are_placed_and_of_another_rate_refused(tmp_path):
    for rate in (100, 10, 256):
        rows = lab.timed(lab.AASM, step=30 * rate, length=None)[:9]
        content = lab.table("onset,stage", rows)
        recorded = Recorded("n.edf", lab.START, 1200.0 if rate > 10 else 500.0, (100.0, 10.0))
        if rate == 256:
            with pytest.raises(UserError, match=r"go to 61440, the recording lasts 1200 s: they"):
                staged(tmp_path / "a.csv", content, recorded)
        else:
            stages = staged(tmp_path / "a.csv", content, recorded)
            assert stages[:17] == [*TRUTH[:9], *[-1] * 8]


def test_what_was_assumed_of_times_is_said(tmp_path):
    noted = {"since the start": "count from the start", "in epochs": "its times are epochs",
             "unnamed milliseconds": "its times are milliseconds",
             "numbered, unscored left out": "2 epochs are not in it"}  # fmt: skip
    for layout, note in noted.items():
        (tmp_path / "a.csv").write_text(LAYOUTS[layout][1])
        assert note in " ".join(read(tmp_path / "a.csv", NIGHT, Wishes())[1])


@pytest.mark.parametrize("length", ["1e-99", "9e99", "0.0000001", "-30"])
def test_epochs_of_no_length_are_refused(tmp_path, length):
    text = lab.profusion().replace(">30<", f">{length}<")
    with pytest.raises(UserError, match=r"a.xml: .*(epochs last|epochs of|EpochLength)"):
        staged(tmp_path / "a.xml", text)


AMBIGUOUS = {
    "0 to 4": ("yasa", lines(words({**lab.YASA, "?": "?", "4": 4}))),
    "0 to 4, a nap": ("rk", lines(words({**lab.RK, "R": 3, "?": "?"}))),
    "DREAMS": ("dreams", lines(words(lab.DREAMS))),
    "1 W, 2 REM": ("deltamed", lines(words(lab.DELTAMED))),
    "UCDDB": ("ucddb", lines(words(dict(zip("WR1234?", range(7), strict=True))))),
    "begins asleep": ("rk", lines(["2", *words(lab.RK)[1:]])),
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_ambiguous_numbers_need_a_vocabulary(tmp_path, kind):
    vocabulary, text = AMBIGUOUS[kind]
    for content in (text, lab.table("stage", [[w] for w in text.split()])):
        with pytest.raises(UserError, match=r"--vocabulary: yasa .0 W, 1 N1.*rk.*dreams"):
            staged(tmp_path / "a_stage.txt", content)
        stages = staged(tmp_path / "a_stage.txt", content, vocabulary=vocabulary)
        expected = {"0 to 4": TRUTH, "DREAMS": TRUTH, "1 W, 2 REM": TRUTH, "UCDDB": TRUTH}
        rest = {"begins asleep": [2, *TRUTH[1:]]}
        rest["0 to 4, a nap"] = [3 if code == 4 else code for code in TRUTH]
        if kind == "0 to 4":
            expected[kind] = [4 if letter in "4R" else lab.CODE[letter] for letter in lab.NIGHT]
        assert stages == (expected | rest)[kind]


def test_numbers_outside_a_vocabulary_and_unknown_vocabularies(tmp_path):
    with pytest.raises(UserError, match="7 is not in the vocabulary dreams"):
        staged(tmp_path / "a.txt", "5\n7\n" * 20, vocabulary="dreams")
    with pytest.raises(UserError, match="--vocabulary r&k: choose from yasa"):
        Wishes("r&k")


@pytest.mark.parametrize(
    ("known", "code"),
    [
        ("Sleep stage W@@EEG F4-A1", 0), ("sleep-wake,Manual", 0), ("SLEEP-S0", 0), ("Éveil", 0),
        ("WACH", 0), ("AWA", 0), ("Stage 1 sleep|1", 1), ("NREM 1", 1), ("Non-REM1", 1),
        ("sleep-n1,Manual", 1), ("S 1", 1), ("Sleep stage N2 ", 2), ("Stadium 2", 2), ("n2", 2),
        ("NonREM2", 2), ("SRO:Stage2Sleep", 2), ("Sleep stage 4", 3), ("STAGE4", 3), ("N4", 3),
        ("SDO:NonRapidEyeMovementSleep-N4", 3), ("Stade 3", 3), ("R", 4), ("Sleep stage REM", 4),
        ("Stage 5", 4), ("REM sleep|5", 4), ("Sommeil paradoxal", 4), ("MT", -1), ("?", -1),
        ("Movement time", -1), ("Sleep stage U", -1), ("SLEEP-UNSCORED", -1), ("NotScored", -1),
        ("UnknownStage", -1), ("No Stage", -1), ("Artefact", -1), ("n/a", -1), ("", -1),
        ("arousal", None), ("SPINDLE", None), ("Lights out now", None), ("sleep-apnea", None),
        ("Sleep stage X", None), ("N5", None), ("sleep-n2,Auto", None), ("MCAP-A1", None),
    ],
)  # fmt: skip
def test_words(known, code):
    assert stage_of(known) == code


def test_unknown_stages_are_named_and_never_wake(tmp_path):
    codes, notes = codes_of(["Sleep stage W", "Sleep stage X", "NREM", "N2"], tmp_path)
    assert codes == [0, -1, -1, 2]
    assert "unknown stages are unscored; 'Sleep stage X' (1); 'NREM' (1)" in notes[0]
    with pytest.raises(UserError, match=r"holds no sleep stages; 'Sleep stage X' .2."):
        codes_of(["Sleep stage X", "Sleep stage X"], tmp_path, only_stages=False)
    rows = [[t, 30, "Tiefschlaf" if w == "N3" else w] for t, _, w in lab.timed(lab.AASM)]
    (tmp_path / "a.csv").write_text(lab.table("onset,duration,event", rows))
    stages, notes = read(tmp_path / "a.csv", NIGHT, Wishes())
    assert stages.tolist() == [-1 if code == 3 else code for code in TRUTH]
    assert "unscored, though they fill whole epochs: 'Tiefschlaf'" in " ".join(notes)


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>'
    "<CMPStudyConfig>&b;</CMPStudyConfig>"
)
WRONG = {
    "not a scoring as text but an Excel": ("a.csv", b"PK\x03\x04\x00\x00"),
    "but an HDF5 file": ("a.txt", b"\x89HDF\r\n"),
    "it is empty": ("a.txt", b" \n\n"),
    "XML with a DOCTYPE": ("a.xml", BOMB.encode()),
    "XML of 'Study'": ("a.xml", b"<Study/>"),
    "not readable as XML": ("a.xml", b"<CMPStudyConfig>"),
    "codes are numbers": ("a.xml", "<CMPStudyConfig><SleepStages><SleepStage>²</SleepStage>"
                          "</SleepStages></CMPStudyConfig>".encode()),
    "not a number of seconds": ("a.xml", lab.profusion().replace(">30<", ">nan<").encode()),
    "no expert's; score them": ("a.rml", lab.rml().replace("UserStaging", "x").encode()),
    "column Confidence": ("a.csv", lab.table(
        "Epoch,Stage,Confidence", [[k, w, .9] for k, w in enumerate(words(lab.AASM))]).encode()),
    "column proba_N1": ("a.csv", lab.table(
        "stage,proba_N1", [[w, .1] for w in words(lab.AASM)]).encode()),
    "column prob_W": ("a.tsv", lab.table(
        "onset\tstage\tprob_W", [[t, w, 1] for t, w in lab.timed(lab.AASM, length=None)],
        "\t").encode()),
    "stage 3 is 'sleepy'": ("a.txt", b"W\nN2\nsleepy\n" + b"W\n" * 37),
    "read are lists of stages": ("a.txt", b"Dear colleague,\nthe night was quiet.\n"),
    "its times may be starts or ends of stages; say which": (
        "a.txt", b"W\t30\nN1\t90\nN2\t300\n"),
    "elements nested deeper than 100": ("a.xml", b"<PatientStudy>" + b"<a>" * 3000),
    "two stages at 30 s": ("a.csv", b"onset,stage\n30,W\n30,N2\n"),
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_what_is_refused_is_one_line_with_the_file(tmp_path, message):
    name, raw = WRONG[message]
    with pytest.raises(UserError, match=message) as error:
        staged(tmp_path / name, raw)
    assert str(error.value).startswith(str(tmp_path / name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["9" * 5000, "W\n" + "8" * 5000, '"' * 140_001 + ",W", "a,b\n" + "x" * 140_000 + ",W",
     "onset,stage\n" + "1" * 5000 + ",W\n", "onset,stage\nnan,W\n", "onset,stage\n1e99,W\n",
     "\x14", "+\x15\x14\x14", "Mk1=a,b,1,1", "*\n", "time_base\n", "[Hypnogram\n", "\x00\x00\x00"],
)  # fmt: skip
def test_odd_texts_are_one_line(tmp_path, text):
    with pytest.raises(UserError, match=str(tmp_path)):
        staged(tmp_path / "a.txt", text)


TABLE = lab.table(
    "Lab report\nnr;clock;x;y;stage", [[k, lab.clock(k), "a", "b", w] for k, w in enumerate(
        words(lab.AASM))], ";",
)  # fmt: skip


@pytest.mark.parametrize(
    "spec", ["time=2,stage=5", "time=clock,stage=stage,sep=semicolon", "stage=5,sep=;,skip=2"]
)
def test_a_declared_table(tmp_path, spec):
    assert staged(tmp_path / "a.txt", TABLE, table=spec) == TRUTH


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("stage=5,colour=2", "--expert_table: no 'colour'; it takes time, stage"),
        ("time=2", "name the column of stages, such as stage=2"),
        ("stage=7", "no column 7; its rows have up to 5"),
        ("stage=hypno", "no column is called 'hypno'"),
        ("stage=5,skip=many", "skip=many is no number of lines"),
        ("stage=4", "holds no sleep stages"),
        ("time=3,stage=5", "no time in the row"),
    ],
)
def test_a_table_that_is_declared_wrongly(tmp_path, spec, message):
    with pytest.raises(UserError, match=message):
        staged(tmp_path / "a.txt", TABLE, table=spec)


@pytest.mark.parametrize("seconds", [1200.0, 1215.0, 1290.0])
def test_named_starts_are_never_taken_for_ends(tmp_path, seconds):
    rows = [[30 * k + 30, w] for k, w in enumerate(words(lab.AASM))]
    text, recorded = lab.table("onset,stage", rows), Recorded("n.edf", lab.START, seconds)
    n = int(-(-seconds // 30))
    assert staged(tmp_path / "a.csv", text, recorded) == [-1, *TRUTH, -1, -1][:n]


def test_the_first_row_that_is_broken_costs_itself(tmp_path):
    rows = [["now" if k == 3 else t, 30, w] for k, (t, _, w) in enumerate(lab.timed(lab.SLEEP))]
    (tmp_path / "a.csv").write_text(lab.table("onset,duration,description", rows))
    stages, notes = read(tmp_path / "a.csv", NIGHT, Wishes())
    assert stages.tolist() == [*TRUTH[:3], -1, *TRUTH[4:]]
    assert "1 rows are left out: no time in the row now, 30, Sleep stage N1" in " ".join(notes)


def test_a_random_night_in_every_list(tmp_path):
    """Any stages after a beginning that gives numbers one meaning, against a map written here."""
    rng = np.random.default_rng(0)
    for trial in range(20):
        n = int(rng.integers(8, 60))
        night = "WW1R?" + "".join(rng.choice(list("W1234R?"), n)) + "W"
        truth = [lab.CODE[letter] for letter in night]
        recorded = Recorded("n.edf", lab.START, 30.0 * len(night) + float(rng.integers(0, 29)))
        for names in (lab.AASM, lab.RK, {**lab.SANDMAN, "?": ""}):
            path = tmp_path / f"{trial}.txt"
            text = "\n".join(words(names, night))
            assert staged(path, text, recorded)[: len(truth)] == truth
