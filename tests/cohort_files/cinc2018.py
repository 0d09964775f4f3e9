"""CinC 2018: WFDB headers over MATLAB v4 matrices, stages as notes and as masks.

Scoring begins minutes after the signal: 360 s in ``tr03-0005``, 390 s in ``tr05-0028``.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import h5py
import numpy as np

from tests.cohort_files.written import START, matlab_record, telling, wfdb_notes

FS = 200.0
_LEAD = {"tr03-0005": 12, "tr05-0028": 13}  # epochs before the first note
NIGHTS = {
    "tr03-0005": [0, 1, 2, 2, 3, 4, 4, 0],
    "tr05-0028": [0, 0, 1, -1, 2, 2, 2, 4, 4],
}
_WORDS = {0: "W", 1: "N1", 2: "N2", 3: "N3", 4: "R", -1: "U"}
_MASKS = {0: "wake", 1: "nonrem1", 2: "nonrem2", 3: "nonrem3", 4: "rem", -1: "undefined"}
_LABELS = (
    "F3-M2", "F4-M1", "C3-M2", "C4-M1", "O1-M2", "O2-M1", "E1-M2", "Chin1-Chin2", "ABD", "CHEST",
    "AIRFLOW",
)  # fmt: skip


def write(folder: Path) -> dict[str, list[int]]:
    """Two labelled records and one of the test set; stages by recording, -1 before the first."""
    for name, codes in NIGHTS.items():
        write_record(folder / "training" / name / name, codes, _LEAD[name])
    stem = folder / "test" / "te03-0001" / "te03-0001"
    matlab_record(stem, FS, _signals([2, 2], 0), START)
    return {name: [-1] * _LEAD[name] + codes for name, codes in NIGHTS.items()}


def write_record(stem: Path, codes: list[int], lead: int) -> None:
    """Signals, notes and masks of one record."""
    matlab_record(stem, FS, _signals(codes, 30 * lead), START)
    notes, at = [], 30 * lead
    for code, run in groupby(codes):
        # a note where the stage changes; events lie among them
        notes.append((round(at * FS), _WORDS[code]))
        notes.append((round((at + 7) * FS), "(resp_hypopnea"))
        notes.append((round((at + 19) * FS), "resp_hypopnea)"))
        at += 30 * len(list(run))
    wfdb_notes(stem, "arousal", notes, FS)
    epoch = round(30 * FS)
    per_sample = np.repeat([99] * lead + codes, epoch)
    with h5py.File(f"{stem}-arousal.mat", "w", userblock_size=512) as file:
        for code, name in _MASKS.items():
            mask = (per_sample == code).astype(np.uint8)
            file[f"data/sleep_stages/{name}"] = mask[:, None]  # MATLAB's row, transposed in HDF5


def _signals(codes: list[int], lead: float) -> dict[str, tuple[float, str, np.ndarray]]:
    own = telling(codes, FS, lead=lead)
    rng = np.random.default_rng(len(own))
    noise = {label: (100.0, "uV", rng.normal(0, 20, len(own))) for label in _LABELS}
    saturation = {"SaO2": (300.0, "%", 95 + rng.normal(0, 0.1, len(own)))}
    heart = {"ECG": (100.0, "uV", rng.normal(0, 100, len(own)))}
    return noise | {"C4-M1": (100.0, "uV", own)} | saturation | heart
