"""MNC: NSRR's EDFs with a word per epoch in Luna's eannot; cohorts of other labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.cohort_files.written import edf, noise, telling

FS = 128.0
SSC1, SSC2, DHC = "ssc_1558_1", "ssc_1558_2", "dhc_0017"
NIGHTS = {
    SSC1: [0, 0, 1, 1, 2, 3, -1, 4, 0],
    SSC2: [0, 1, 2, 2, 3, 3, 4, 4],
    DHC: [1, 2, 3, 2, 4, 4, 0, 0],
}
_WORDS = {0: "wake", 1: "N1", 2: "N2", 3: "N3", 4: "REM", -1: "unscored"}


def write(folder: Path) -> dict[str, list[int]]:
    """Two nights of one person, one of another cohort, and one without stages."""
    for name, codes in {**NIGHTS, "khc_0001": [0, 2]}.items():
        place = folder / name[:3]
        _signals(place / f"{name}-nsrr.edf", codes, is_referential=name != SSC2)
        if name[:3] != "khc":
            words = "\n".join(_WORDS[code] for code in codes)
            end = "-nsrr.eannot" if name == SSC2 else ".eannot"
            (place / f"{name}{end}").write_text(words + "\n\n")
    return NIGHTS


def _signals(path: Path, codes: list[int], *, is_referential: bool) -> None:
    own = telling(codes, FS)
    n = len(own)
    ears = noise(("M1", "M2"), FS, n) if is_referential else {}
    eeg = {"C4": (FS, own + (ears["M1"][1] if ears else np.zeros(n)))}
    chins = ("cchin", "lchin", "rchin") if is_referential else ("chin",)
    eyes = {"E1": (FS, own), "E2": (FS, -own)}
    edf(path, noise(("C3", "O1", *chins), FS, n) | ears | eeg | eyes)
