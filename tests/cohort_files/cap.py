"""CAP: EDFs of several recorders, RemLogic's event lists by the clock, stages among CAP events."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from tests.cohort_files.written import edf, noise, telling

START = datetime(2001, 1, 15, 23, 57, 30)  # midnight falls into the third minute
# a gap is -1, as is movement time
NIGHTS = {
    "n1": [0, 0, 1, 2, 2, -1, 3, 3, 2, 4, 4, 0],
    "rbd2": [0, 1, 2, 2, -1, -1, 3, 4, 4],
    "nfle27": [0, 0, 2, -1, 2, 3, 4, 4],
}
LEADS = {"n1": 0, "rbd2": 17, "nfle27": 0}  # s from the EDF's start to the first epoch
_WORDS = {
    "n1": ["S0", "S0", "S1", "S2", "S2", "MT", "S3", "S4", "S2", "REM", "REM", "S0"],
    "rbd2": ["S0", "S1", "S2", "S2", None, None, "S4", "REM", "REM"],
    "nfle27": ["S0", "S0", "S2", "broken", "S2", "S3", "REM", "REM"],
}
_PREAMBLE = """RemLogic Event Export
Patient:\tPatient A
Recording Date:\t15/01/2001

Events Included:
SLEEP-S0
SLEEP-S1
SLEEP-S2
MCAP-A1

Scoring Session:
Scorer Name:\tExpert
"""


def write(folder: Path) -> dict[str, list[int]]:
    """Three nights of three recorders; stages by recording."""
    _signals(folder, "n1", 512.0, "C4-A1", "ROC-LOC", "EMG1-EMG2")
    _signals(folder, "rbd2", 256.0, "C4A1", "LOC", "EMG1-EMG2")
    _signals(folder, "nfle27", 128.0, "", "LOC", "EMG1")
    for name in NIGHTS:
        text = stages_of(name)
        (folder / f"{name}.txt").write_text(text, encoding="latin-1")
        (folder / f"{name}.edf.st").write_bytes(b"\0\0")
    return NIGHTS


def _signals(folder: Path, name: str, fs: float, eeg: str, eye: str, muscle: str) -> None:
    own = telling(NIGHTS[name], fs, lead=LEADS[name], tail=13 if name == "rbd2" else 0)
    chain = noise(("Fp2-F4", "F8-T4"), fs, len(own))
    if eeg:
        chain |= noise(("F4-C4", "C4-P4", "P4-O2"), fs, len(own)) | {eeg: (fs, own)}
    else:  # no ear: half of C4 - O2 in each link of the chain
        chain |= noise(("F4-C4",), fs, len(own)) | {"C4-P4": (fs, own / 2), "P4-O2": (fs, own / 2)}
    # an eye's bipolar channel begins at the right one
    eyes = {eye: (fs, -own)} if eye == "ROC-LOC" else {"LOC": (fs, own), "ROC": (fs, -own)}
    labels = [muscle, "EMG2"] if muscle == "EMG1" else [muscle]
    signals = chain | eyes | noise(labels, fs, len(own)) | noise(("ECG1-ECG2",), fs, len(own))
    edf(folder / f"{name}.edf", signals, start=START)


def stages_of(name: str) -> str:
    """The event list of a night: rows of stages, and of CAP events that repeat a stage."""
    dots = name == "rbd2"  # times with dots, no position, a blank before the unit
    header = ["Sleep Stage", "Position", "Time [hh:mm:ss]", "Event", "Duration[s]", "Location"]
    header = [x.replace("Duration[", "Duration [") for x in header] if dots else header
    rows = [header]
    begin = START + timedelta(seconds=LEADS[name])
    if name == "n1":  # scored before the EDF begins
        rows += [_row("S0", begin - timedelta(seconds=30 * k), "SLEEP-S0", 30) for k in (2, 1)]
    for k, word in enumerate(_WORDS[name]):
        at = begin + timedelta(seconds=30 * k)
        if word == "broken":
            rows.append(["S2", "Supine", "SLEEP-S2", "30"])
        elif word is not None:
            rows.append(_row(word, at, f"SLEEP-{word}", 30))
            if word in ("S1", "S2"):
                # the event's own stage is another one than its epoch's
                rows.append(_row("S4", at + timedelta(seconds=12), "MCAP-A1", 5, "F4-C4"))
    if dots:
        rows = [[x for k, x in enumerate(row) if k != 1] for row in rows]
        rows = [[x.replace(":", ".") if k == 1 else x for k, x in enumerate(r)] for r in rows]
        rows[0][1] = "Time [hh:mm:ss]"
    lines = ["\t".join(row) for row in rows]
    return (_PREAMBLE if name != "rbd2" else "RemLogic Event Export\n\n") + "\n".join(lines) + "\n"


def _row(stage: str, at: datetime, event: str, seconds: int, place: str = "ROC-LOC") -> list[str]:
    return [stage, "Unknown Position", f"{at:%H:%M:%S}", event, str(seconds), place]
