"""slpdb: WFDB of 250 Hz in mV, a note of stage and events at the start of each scored 30 s."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import wfdb

from tests.cohort_files.written import noise, telling, wfdb_notes

FS = 250.0
# some windows have no note
NIGHTS = {
    "slp01a": [0, 0, 1, 2, -1, 3, 3, 4],
    "slp01b": [2, 2, 4, 4, 0, -1, 0, 1],
    "slp03": [0, 1, 2, 2, 3, 3, 4, 0],
}
_WORDS = {0: "W", 1: "1", 2: "2", 3: "3", 4: "R"}
_LABELS = {"slp01a": "EEG (C4-A1)", "slp01b": "EEG (C4-A1)", "slp03": "EEG (O2-A1)"}


def write(folder: Path) -> dict[str, list[int]]:
    """The halves of a night, and one of another person; stages by recording."""
    folder.mkdir(parents=True)
    for name, codes in NIGHTS.items():
        own = telling(codes, FS)
        values = {"ECG": 200 * noise(["ECG"], FS, len(own))["ECG"][1] / 20, _LABELS[name]: own}
        wfdb.wrsamp(
            name,
            fs=FS,
            units=["mV"] * 2,
            sig_name=list(values),
            p_signal=np.stack(list(values.values()), axis=1) / 1000,
            fmt=["16"] * 2,
            write_dir=str(folder),
        )
        wfdb_notes(folder / name, "st", notes_of(codes), FS)
    return NIGHTS


def notes_of(codes: list[int]) -> list[tuple[int, str]]:
    """Notes at the beginning of what they tell, the first at sample 1; stage 4 at one place."""
    notes = []
    for k, code in enumerate(codes):
        word = "4" if code == 3 and codes[k - 1] == 3 else _WORDS.get(code)
        if word is not None:
            events = (" HA", " OA X", "", " LA A")[k % 4]
            notes.append((max(1, round(30 * k * FS)), word + events))
    return notes
