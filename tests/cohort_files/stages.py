"""STAGES: events by the clock in three encodings of length, text with commas, labels by site."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path

from tests.cohort_files.written import edf, noise, telling

FS = 200.0
START = datetime(2016, 5, 9, 23, 57, 30)
BOGN, MSTR, STNF, GSDV, MSNF = "BOGN00001", "MSTR00012", "STNF00007", "GSDV00103", "MSNF00020"
SECOND = "GSDV00103_1"
# -1 is a gap, or said to be unknown
NIGHTS = {
    BOGN: [-1, 0, 0, 1, 2, 2, -1, 3, 4, 4, -1, -1],
    MSTR: [0, 1, 2, 3, -1, -1, 3, 4, 4],
    STNF: [0, 0, 1, 2, 3, 3, 2, 4],
    GSDV: [0, 0, 2, 2, -1, 3, 3, 3, 4, 4, 0],
    SECOND: [0, 1, 4, 4, 0],
    MSNF: [2, 2, 1, 4, 4, 0, 0],
}
LEADS = {MSTR: 13}  # s from the EDF's start to the first epoch
LABELS = {  # EEG with its reference or without, left and right eye, chin
    BOGN: ("C4M1", "E1M2", "E2M2", "CHIN"),
    MSTR: ("EEG_C4-A1", "EOG_LOC-A2", "EOG_ROC-A2", "EMG_Chin"),
    STNF: ("C4", "EOG1", "EOG2", "EMG1"),
    GSDV: ("C4-M1", "LOC", "ROC", "CHIN1"),
    SECOND: ("C4-M1", "E1", "E2", "CHIN1"),
    MSNF: ("C4", "L-EOG", "R-EOG", "EMG_#1"),
}
_WORDS = {0: "Wake", 1: "Stage1", 2: "Stage2", 3: "Stage3", 4: "REM", -1: "UnknownStage"}


def write(folder: Path) -> dict[str, list[int]]:
    """Five sites and a second recording of one person; stages by recording."""
    for name, codes in NIGHTS.items():
        place = folder / "original" / "STAGES PSGs" / name[:4]
        _signals(place / f"{name}.edf", name, codes)
        (place / f"{name}.csv").write_text(stages_of(name, codes), encoding="latin-1")
    return NIGHTS


def _signals(path: Path, name: str, codes: list[int]) -> None:
    own = telling(codes, FS, lead=LEADS.get(name, 0))
    eeg, left, right, chin = LABELS[name]
    marked = {eeg: (FS, own), left: (FS, own), right: (FS, -own)}
    if eeg == "C4":  # against what the recorder had in common
        ear = noise(("M1",), FS, len(own))
        marked |= {"C4": (FS, own + ear["M1"][1])} | ear
    edf(path, noise(("O2", chin), FS, len(own)) | marked, start=START)


def stages_of(name: str, codes: list[int]) -> str:
    """The events of a night: stages in its site's encoding, and notes."""
    begin = START + timedelta(seconds=LEADS.get(name, 0))
    rows = [(0.0, 0, "LightsOff"), (40.0, 0, "Awake"), (41.0, 2, "Position, left, by technician")]
    at = 0
    runs = [(code, len(list(run))) for code, run in groupby(codes)]
    for code, n in runs:
        if code >= 0 or (name == BOGN and at) or name == SECOND:
            if name == BOGN:
                # lights go on at the end: nothing is scored any more
                is_end = code < 0 and at + 30 * n == 30 * len(codes)
                rows.append((at, 0, "LON" if is_end else _WORDS[code]))
            elif name in (MSTR, STNF):
                # a few rows of one site last for a month
                lasts = 2_592_000 if name == STNF and at == 60 else 30
                rows += [(at + 30 * k, lasts, _WORDS[code]) for k in range(n)]
            else:
                rows.append((at, 30 * n, _WORDS[code]))
        at += 30 * n
    lines = ["Start Time,Duration (seconds),Event"]
    for seconds, lasts, text in sorted(rows, key=lambda row: row[0]):
        lines.append(f"{begin + timedelta(seconds=seconds):%H:%M:%S},{lasts},{text}")
    return "\n".join(lines) + "\n"
