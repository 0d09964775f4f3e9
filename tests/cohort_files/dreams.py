"""DREAMS: EDFs of 200 Hz, two hypnograms of a number every 5 s, which run backwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.cohort_files.written import edf, noise, telling

FS = 200.0
FIRST, OTHER = "subject1", "patient3"
NIGHTS = {FIRST: [0, 0, 1, 2, 3, 3, 4, 4, -1, 0], OTHER: [1, 2, 2, 3, 2, 4, 4, 0]}
BY_RK = [0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 2, 4, 4, 0, 0]  # of 20 s, over the same 300 s
_NUMBERS = {0: "5", 4: "4", 1: "3", 2: "2", 3: "1", -1: "-1"}


def write(folder: Path) -> dict[str, list[int]]:
    """A subject and a patient; stages by AASM by recording."""
    for name, codes in NIGHTS.items():
        _signals(folder / f"{name}.edf", telling(codes, FS), name)
        _hypnogram(folder, "AASM", name, codes, 6)
    return NIGHTS


def write_rk(folder: Path) -> list[int]:
    """A subject whose signal tells the stages by R&K; what is left of them with context."""
    _signals(folder / f"{FIRST}.edf", telling(BY_RK, FS, epoch=20), FIRST)
    _hypnogram(folder, "AASM", FIRST, NIGHTS[FIRST], 6)
    _hypnogram(folder, "R&K", FIRST, BY_RK, 4)
    return BY_RK[1:-1]


def _signals(path: Path, own: np.ndarray, name: str) -> None:
    eeg = "CZ-A1" if name == FIRST else "CZ2-A1"
    left, right = ("P8-A1", "P18-A1") if name == FIRST else ("EOG1", "EOG2")
    marked = {eeg: (FS, own), left: (FS, own), right: (FS, -own)}
    edf(path, noise(("FP1-A1", "O1-A1", "EMG1"), FS, len(own)) | marked)


def _hypnogram(folder: Path, rules: str, name: str, codes: list[int], lines: int) -> None:
    numbers = [_NUMBERS[code] for code in codes for _ in range(lines)]
    if rules == "R&K":
        numbers[36:40] = ["0"] * 4  # stage 4, the tenth epoch
    text = "\n".join([f"[Hypnogram{rules}]", *numbers]) + "\n"
    (folder / f"Hypnogram{rules}_{name}.txt").write_text(text)
