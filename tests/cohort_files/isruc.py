"""ISRUC-Sleep: EDFs named .rec in numbered folders, one code per line by two experts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.cohort_files.written import edf, noise, telling

FS = 200.0
# by recording: folder below the root, first expert's and second expert's codes
NIGHTS = {
    "I-1-1": ("subgroupI/1/1", [0, 1, 2, 2, 3, 3, 4, 0]),
    "I-2-1": ("subgroupI/2/2", [0, 0, 1, 2, 2, 4, 4, 4, 0]),
    "I-10-1": ("subgroupI/10/10", [0, 2, 2, 2, 3, 4, -1, 4]),
    "I-40-1": ("subgroupI/40/40", [0, 0, 0, 1, 1, 2, 2, 2]),
    "II-1-1": ("Subgroup2/1/1/1", [0, 1, 1, 2, 3, 3, 2, 4]),
    "II-1-2": ("Subgroup2/1/2/2", [2, 2, 3, 3, 4, 0, 0, 1]),
    "III-1-1": ("subgroupIII/1/1", [1, 2, 3, 4, 0, 1, 2, 3]),
}
_WORDS = {0: "0", 1: "1", 2: "2", 3: "3", 4: "5", -1: "?"}  # REM is 5
_ENDS = ["X1", "X2", "X3", "X4", "X5", "X6", "X7", "X8", "DC3", "DC8", "SaO2"]
LABELS = {  # in another order in II
    "I": ["LOC-A2", "ROC-A1", "F3-A2", "C3-A2", "O1-A2", "F4-A1", "C4-A1", "O2-A1"],
    "II": ["C4-M1", "E1-M2", "E2-M1", "F3-M2", "C3-M2", "O1-M2", "F4-M1", "O2-M1"],
    "III": ["F3", "C3", "O1", "LOC", "ROC", "F4", "C4", "O2"],
}


def second(codes: list[int]) -> list[int]:
    """What the second expert scored: the third epoch is N1 to them."""
    return [*codes[:2], 1, *codes[3:]]


def write(folder: Path) -> dict[str, list[int]]:
    """Nights of all subgroups; the first expert's stages by recording."""
    for name, (place, codes) in NIGHTS.items():
        write_night(folder / place, codes, LABELS[name.split("-")[0]])
    return {name: codes for name, (_, codes) in NIGHTS.items()}


def write_night(stem: Path, codes: list[int], labels: list[str]) -> None:
    """A recording, and both experts' lists with empty lines at their ends."""
    own = telling(codes, FS)
    marked = {label: (FS, own) for label in labels if label[:2] == "C4"}
    for left, right in (("LOC", "ROC"), ("E1", "E2")):
        marked |= {label: (FS, own) for label in labels if label.startswith(left)}
        marked |= {label: (FS, -own) for label in labels if label.startswith(right)}
    edf(stem.with_suffix(".rec"), noise([*labels, *_ENDS], FS, len(own)) | marked)
    for expert, scored in (("1", codes), ("2", second(codes))):
        lines = [*(_WORDS[code] for code in scored), "", ""]
        stem.with_name(f"{stem.name}_{expert}.txt").write_text("\r\n".join(lines) + "\r\n")


def without(path: Path, labels: tuple[str, ...]) -> None:
    """Rename channels, so that a recording lacks them."""
    content = path.read_bytes()
    for label in labels:
        content = content.replace(f"{label:16}".encode(), f"{'Gone':16}".encode(), 1)
    path.write_bytes(content)
    assert np.all([f"{label:16}".encode() not in content[:9000] for label in labels])
