"""ANPHY-Sleep: a folder per person with an EDF of 1000 Hz and a text of stages."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from tests.cohort_files.written import edf, noise, telling

FS = 1000.0
NIGHTS = {"EPCTL01": [-1, 0, 1, 2, 2, 3, 4, -1], "EPCTL02": [0, 0, 2, 3, 3, 4, 4, 0]}
_WORDS = {0: "W", 1: "N1", 2: "N2", 3: "N3", 4: "R", -1: "L"}


def write(folder: Path) -> dict[str, list[int]]:
    """Two nights, a row per epoch or per bout; stages by recording."""
    for name, codes in NIGHTS.items():
        own = telling(codes, FS)
        marked = {"C4": (FS, own), "EOG1": (FS, own), "EOG2": (FS, -own)}
        labels = ("Fpz", "C3", "CHEMG1", "CHEMG2")
        edf(folder / name / f"{name}.edf", noise(labels, FS, len(own)) | marked)
        rows, at = [], 0
        for code, run in groupby(codes):
            n = len(list(run))
            rows += [f"{_WORDS[code]}\t{at}\t{30 * n}"] if name == "EPCTL01" else [
                f"{_WORDS[code]}\t{at + 30 * k}\t30" for k in range(n)
            ]  # fmt: skip
            at += 30 * n
        (folder / name / f"{name}.txt").write_text("\n".join(rows) + "\n")
    return NIGHTS
