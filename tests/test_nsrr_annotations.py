"""NSRR annotations: every format gives the planted stages epoch by epoch; the real files."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from datasets.readers.scorings import nsrr_annotations as nsrr
from utils.errors import UserError

PLANTED = [0, 0, 1, 2, 2, 3, 3, -1, 4, -1]  # the second 3 was a stage 4
CODES = [0, 0, 1, 2, 2, 3, 4, 6, 5, 9]
CONCEPTS = {
    "piped": ["Wake|0", "Stage 1 sleep|1", "Stage 2 sleep|2", "Stage 3 sleep|3", "Stage 4 sleep|4",
              "REM sleep|5", "Movement|6", "Unscored|9"],
    "sro": ["SRO:Wake", "SRO:Stage1Sleep", "SRO:Stage2Sleep", "SRO:Stage3Sleep", "SRO:Stage4Sleep",
            "SRO:RapidEyeMovement", "SRO:Movement", "SRO:Unscored"],
    "sdo": ["SDO:WakeState", "SDO:NonRapidEyeMovementSleep-N1", "SDO:NonRapidEyeMovementSleep-N2",
            "SDO:NonRapidEyeMovementSleep-N3", "SDO:NonRapidEyeMovementSleep-N4",
            "SDO:RapidEyeMovementSleep", "SDO:Movement", "SDO:Unscored"],
}  # fmt: skip
_INDEX = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 9: 7}


def runs() -> list[tuple[int, int, int]]:
    """(first epoch, length, code) of the planted codes."""
    planted, first = [], 0
    for k in range(1, len(CODES) + 1):
        if k == len(CODES) or CODES[k] != CODES[first]:
            planted.append((first, k - first, CODES[first]))
            first = k
    return planted


def nsrr_xml(family: str, *, order: str = "as scored", seconds: float = 300.0) -> str:
    typed = family == "piped"

    def event(concept: str, start: float, duration: float, kind: str) -> str:
        parts = [
            f"<EventConcept>{concept}</EventConcept>",
            f"<Start>{start}</Start>",
            f"<Duration>{duration}</Duration>",
        ]
        parts = [f"<EventType>{kind}</EventType>", *parts] if typed else parts[::-1]
        return "<ScoredEvent>" + "".join(parts) + "</ScoredEvent>"

    stages = [
        event(CONCEPTS[family][_INDEX[code]], 30.0 * first, 30.0 * n, "Stages|Stages")
        for first, n, code in runs()
    ]
    others = [
        event("SpO2 desaturation|SpO2 desaturation", 40, 12, "Respiratory|Respiratory"),
        event("Arousal|Arousal ()", 61.5, 6, "Arousals|Arousals"),
    ]
    events = [*others, *stages]
    if order == "shuffled":
        events = [stages[2], others[1], *stages[3:], others[0], *stages[:2]]
    begin = event("Recording Start Time", 0, seconds, "")
    return (
        f'<?xml version="1.0"?><PSGAnnotation><EpochLength>30</EpochLength><ScoredEvents>{begin}'
        f"{''.join(events)}</ScoredEvents></PSGAnnotation>"
    )


@pytest.mark.parametrize("family", CONCEPTS)
@pytest.mark.parametrize("order", ["as scored", "shuffled"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_nsrr_xml(tmp_path, family, order, encoding):
    path = tmp_path / "a.xml"
    text = nsrr_xml(family, order=order)
    if encoding == "latin-1":
        text = text.replace('"1.0"?', '"1.0" encoding="ISO-8859-1"?').replace("><", ">\r\n<")
    path.write_bytes(text.encode(encoding))
    assert nsrr.read_nsrr(path).tolist() == PLANTED


@pytest.mark.parametrize("seconds", [330.0, 299.0])
def test_the_length_is_that_of_the_stages(tmp_path, seconds):
    path = tmp_path / "a.xml"
    path.write_text(nsrr_xml("piped", seconds=seconds))
    assert nsrr.read_nsrr(path).tolist() == PLANTED
    assert nsrr.read_nsrr(path, 1000.0).tolist() == PLANTED


def test_a_stage_without_a_name_is_nobodys(tmp_path):
    path = tmp_path / "a.xml"
    text = nsrr_xml("piped")
    for words in (
        "<EventConcept>Movement|6<",
        "<EventType>Stages|Stages</EventType><EventConcept><",
    ):
        assert words in text
        text = text.replace(words, words.replace("Movement|6", "").replace("Stages|Stages", ""))
    path.write_text(text)
    assert nsrr.read_nsrr(path).tolist() == PLANTED


def test_durations_that_disagree_with_the_next_start(tmp_path):
    path = tmp_path / "a.xml"
    text = nsrr_xml("piped")
    path.write_text(text.replace("<Duration>60.0</Duration>", "<Duration>90.0</Duration>", 1))
    assert nsrr.read_nsrr(path).tolist() == PLANTED  # starts win
    path.write_text(text.replace("<Start>60.0</Start>", "<Start>0.0</Start>"))
    with pytest.raises(UserError, match="next one begins at 0 s; the last ends at 300 s"):
        nsrr.read_nsrr(path)


def test_an_unmapped_code_is_nobodys_stage(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(nsrr_xml("piped").replace("REM sleep|5", "Strange|12"))
    assert nsrr.read_nsrr(path).tolist() == [-1 if s == 4 else s for s in PLANTED]


def profusion_xml(codes, length: int = 30) -> str:
    stages = "".join(f"\t\t<SleepStage>{code}</SleepStage>\r\n" for code in codes)
    event = "<ScoredEvent><LowestSpO2>89</LowestSpO2><Name>SpO2 desaturation</Name></ScoredEvent>"
    return (
        f"<!--a comment-->\r\n<CMPStudyConfig><EpochLength>{length}</EpochLength><ScoredEvents>"
        f"{event}</ScoredEvents><SleepStages>\r\n{stages}</SleepStages></CMPStudyConfig>"
    )


def test_profusion_xml(tmp_path):
    path = tmp_path / "a.xml"
    path.write_bytes(profusion_xml(CODES).encode("utf-8-sig"))
    assert nsrr.read_profusion(path).tolist() == PLANTED
    path.write_text(profusion_xml(CODES, length=20))
    with pytest.raises(UserError, match="epochs of 20 s"):
        nsrr.read_profusion(path)
    path.write_text(profusion_xml([]))
    with pytest.raises(UserError, match="no sleep stages"):
        nsrr.read_profusion(path)
    path.write_text(profusion_xml(["W"]))
    with pytest.raises(UserError, match="codes are numbers"):
        nsrr.read_profusion(path)


def test_files_that_are_not_what_they_should_be(tmp_path):
    path = tmp_path / "a.xml"
    for text, message in (
        (nsrr_xml("piped")[:-30], "not readable as XML .* line 1"),
        (nsrr_xml("piped") + "text", "junk after document element"),
        ("<CMPStudyConfig/>", "a CMPStudyConfig file, not PSGAnnotation"),
        ("<PSGAnnotation/>", "no sleep stages"),
        (nsrr_xml("piped").replace("<Start>60.0<", "<Start>sixty<"), "'sixty', not a number"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            nsrr.read_nsrr(path)


def test_two_annotations_of_a_night_must_agree():
    stages = np.array(PLANTED, np.int8)
    assert nsrr.reconciled(stages, stages.copy(), Path("a"))[0].tolist() == PLANTED
    assert nsrr.reconciled(stages, stages[:9], Path("a"))[0].tolist() == PLANTED[:9]
    other = stages.copy()
    other[[3, 7]] = 0
    with pytest.raises(UserError, match="differ, first in epoch 3; decide with --annotation"):
        nsrr.reconciled(stages, other, Path("a"))
    with pytest.raises(UserError, match=r"\(10 epochs\) .* \(8\) differ, first in epoch 8"):
        nsrr.reconciled(stages, stages[:8], Path("a"))
    early = nsrr.early_translation(stages)  # the first epoch is lost, and the last bout
    assert early.tolist() == PLANTED[1:-1]
    assert nsrr.reconciled(early, stages, Path("a"))[0].tolist() == PLANTED


HEADER = "Epoch\tUser-Defined Stage\tCAST-Defined Stage"
GAMMA = [0, 0, 1, 2, 2, 3, 4, 6, 5, 7]


@pytest.mark.parametrize("headers", [0, 1, 2])
def test_a_header_moves_no_label(tmp_path, headers):
    path = tmp_path / "a.stg.txt"
    rows = [f"{k}\t{code}\t{code}" for k, code in enumerate(GAMMA, 1)]
    path.write_text("\r\n".join([HEADER] * headers + rows) + "\r\n")
    assert nsrr.read_wsc_gamma(path, 10).tolist() == PLANTED
    assert nsrr.read_wsc_gamma(path, 12).tolist() == [*PLANTED, -1, -1]
    with pytest.raises(UserError, match="more stages than the 9 epochs"):
        nsrr.read_wsc_gamma(path, 9)


def test_broken_gamma_files(tmp_path):
    path = tmp_path / "a.stg.txt"
    for text, message in (
        ("1\t0\t0\n3\t0\t0\n", "line 2: epoch 3 follows 1"),
        ("1\t0\t0\nnonsense\n", "line 2: 'nonsense' is no epoch and stage"),
        (HEADER, "no sleep stages"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            nsrr.read_wsc_gamma(path, 5)


def test_changes_of_stage_across_midnight(tmp_path):
    path = tmp_path / "a.allscore.txt"
    lines = [
        "23:57:00.00\tSTAGE - N3",
        "23:58:00.00\tSTART RECORDING",
        "23:58:00.00\tSTAGE - W",
        "23:58:30.00\tPAUSED \xb0",
        "23:59:00.00\tSTAGE - N1",
        "23:59:30.00\tSTAGE - N2",
        "23:59:40.00\tAROUSAL - DUR: 3.0 SEC. - SPONTANEOUS",
        "00:00:40.00\tSTAGE - N3",  # ten seconds into an epoch: it keeps its larger part
        "00:01:30.00\tSTAGE - NO STAGE",
        "00:02:00.00\tSTAGE - R",
        "00:02:30.00\tLIGHTS ON",
        "00:02:30.00\tSTAGE - W",
    ]
    path.write_bytes("\r\n".join(lines[:-1]).encode("latin-1"))
    stages = nsrr.read_wsc_twin(path, 10).tolist()
    assert stages == [0, 0, 1, 2, 2, 3, 3, -1, 4, -1]
    # by the EDF's clock: within an epoch it is the same instant, else stages move with it
    assert nsrr.read_wsc_twin(path, 10, datetime(1985, 1, 1, 23, 58, 20)).tolist() == stages
    late = nsrr.read_wsc_twin(path, 8, datetime(1985, 1, 1, 23, 59))
    assert late.tolist() == stages[2:]
    early = nsrr.read_wsc_twin(path, 12, datetime(1985, 1, 1, 23, 57))
    assert early.tolist() == [-1, -1, *stages]
    with pytest.raises(UserError, match="none of its stages lie inside the recording"):
        nsrr.read_wsc_twin(path, 10, datetime(1985, 1, 1, 5, 0))
    path.write_text("23:58:00.00\tSTAGE - W\n")
    with pytest.raises(UserError, match="no START RECORDING"):
        nsrr.read_wsc_twin(path, 10)
    path.write_text("23:58:00.00\tSTART RECORDING\n")
    with pytest.raises(UserError, match="no sleep stages after"):
        nsrr.read_wsc_twin(path, 10)


def test_apples_intervals(tmp_path):
    path = tmp_path / "a.annot"
    rows = [
        "# a preamble",
        "class\tinstance\tchannel\tstart\tstop\tmeta",
        "W\t.\t.\t23:58:00\t23:59:00\t.",
        "N1\t.\t.\t23:59:00\t+30\t.",
        "N2\t.\t.\t0+00:01:30\t0+00:02:30\t.",
        "N3\t.\t.\t150\t210\t.",
        "arousal\t.\t.\t23:59:10\t23:59:13\t.",
        "?\t.\t.\t00:01:30\t00:02:00\t.",
        "R\t.\t.\t00:02:00\t...\t.",
        "L\t.\t.\t00:02:30\t00:03:00\t.",
    ]
    path.write_text("\n".join(rows))
    start = datetime(2001, 1, 1, 23, 58)
    assert nsrr.read_apples(path, start, 10).tolist() == PLANTED
    path.write_text("W\t.\t.\n")
    with pytest.raises(UserError, match=r"line 1: .* has no start and stop"):
        nsrr.read_apples(path, start, 10)
    path.write_text("W\t.\t.\t12:00:00\t12:00:30\t.")
    with pytest.raises(UserError, match="after the end of the recording"):
        nsrr.read_apples(path, start, 10)
    path.write_text("arousal\t.\t.\t1\t2\t.")
    with pytest.raises(UserError, match="no sleep stages"):
        nsrr.read_apples(path, start, 10)


def test_the_real_profusion_file_and_its_conversion(real_data):
    folder = real_data / "nsrr_xml"
    profusion = nsrr.read_profusion(folder / "100022-profusion.xml")
    assert len(profusion) == 1051
    assert [(profusion == k).sum() for k in range(5)] == [171, 61, 571, 119, 129]
    # this conversion lost the first epoch of wake and the last thirteen: its starts are 30 s early
    converted = nsrr.read_nsrr(folder / "100022-nsrr.xml")
    assert len(converted) == 1037
    assert (converted == profusion[1:1038]).all()
    with pytest.raises(UserError, match="not readable as XML"):
        nsrr.read_nsrr(folder / "malformed-junk-after-root.xml")
