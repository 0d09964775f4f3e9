"""DCSM: a folder per person with an EDF, the same as U-Time's HDF5, and run-length stages."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from tests.cohort_files.written import edf, noise, telling

FS = 256.0
FIRST = "tp0a4e3f2b_1c2d_4e5f_8a9b_0123456789ab"
SECOND = "tpfedcba98_7654_4321_8fed_cba987654321"
# a gap that nobody scored, and an epoch that is said to be unknown
NIGHTS = {FIRST: [0, 0, 1, 2, 2, -1, 3, 4, 4, -1, 0], SECOND: [0, 1, 2, 2, 2, 3, 3, 2, 4]}
RUNS = {
    FIRST: "0,60,W\n60,30,N1\n90,60,N2\n180,30,N3\n210,60,REM\n270,30,UNKNOWN\n300,30,W\n",
    SECOND: "0,30,W\n30,30,N1\n60,90,N2\n150,60,N3\n210,30,N2\n240,30,REM\n",
}
LABELS = (
    "ABDOMEN", "C3-M2", "C4-M1", "CHIN", "E1-M2", "E2-M2", "ECG-II", "F3-M2", "F4-M1", "LAT",
    "NASAL", "O1-M2", "O2-M1", "RAT", "SNORE", "SPO2", "THORAX",
)  # fmt: skip


def write(folder: Path) -> dict[str, list[int]]:
    """Two persons; their stages by recording."""
    for name, codes in NIGHTS.items():
        write_night(folder / name, codes, RUNS[name])
    return NIGHTS


def write_night(folder: Path, codes: list[int], runs: str) -> None:
    """The three files of a person."""
    own = telling(codes, FS)
    # eyes move in opposite directions: of their sum nothing would be left
    marked = {"C4-M1": (FS, own), "E1-M2": (FS, own), "E2-M2": (FS, -own)}
    signals = noise(LABELS, FS, len(own)) | marked
    edf(folder / "psg.edf", signals)
    (folder / "hypnogram.ids").write_text(runs)
    with h5py.File(folder / "psg.h5", "w") as file:
        for label, (fs, values) in signals.items():
            file[f"channels/{label}"] = values.astype(np.float32)
            file[f"channels/{label}"].attrs["sample_rate"] = fs
