"""MASS: signals and stages of five subsets, each epoch on its own onset, a clock that drifts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.cohort_files.written import edf, noise, telling

FS = 256.0
SS1, SS2, SS3, SS4, SS5 = (f"01-0{k}-000{k}" for k in range(1, 6))
CODES = {
    SS1: [0, 1, 2, 2, 3, 3, 4, 4, 0],
    SS2: [0, 0, 1, 2, 3, 3, 3, 2, 4, 4, 1, 0],
    SS3: [0, 0, 2, 3, -1, 2, 4, 4],
    SS4: [1, 2, 2, 3, 3, 4, 4, 0, 0, 1],
    SS5: [0, 1, 2, 3, 2, 4, 4, 4, 2, 1],
}
# s between epochs, and from the signal's start to the first
SPACING = {SS1: 30.004, SS2: 20.003, SS3: 30.002, SS4: 20.0, SS5: 20.001}
FIRST = {SS1: 12.371, SS2: 3.302, SS3: 17.249, SS4: 2.5, SS5: 7.125}
_WORDS = {0: "W", 1: "1", 2: "2", 3: "3", 4: "R", -1: "?"}
_EVENT = '<Event channel="EEG C4-LER" groupName="MicroArousal" scorer="A, B" />'


def write(folder: Path) -> dict[str, list[int]]:
    """One night of each subset; what is left of stages where there is signal around them."""
    for name in CODES:
        _signals(folder, name)
        _stages(folder, name)
    # SS5 begins later than 5 s; ends are too short everywhere
    kept = {SS2: slice(1, -1), SS4: slice(1, -1), SS5: slice(0, -1)}
    return {name: codes[kept.get(name, slice(None))] for name, codes in CODES.items()}


def _signals(folder: Path, name: str) -> None:
    own = telling(CODES[name], FS, epoch=SPACING[name], lead=FIRST[name], tail=3)
    own = own[: len(own) // 256 * 256]
    reference = "LER" if name in (SS3, SS5) else "CLE"
    eeg = {f"EEG C4-{reference}": (FS, own)}
    if name == SS1:  # referencing was forgotten: the ear is in both
        ear = 60 * np.sin(2 * np.pi * 7 * np.arange(len(own)) / FS)
        eeg = {"EEG C4-CLE": (FS, own + ear), "EEG A1-CLE": (FS, ear)}
    eyes = {"EOG Left Horiz": (FS, own), "EOG Right Horiz": (FS, -own)}
    others = noise((f"EEG C3-{reference}", "EMG Chin1", "EMG Chin2", "ECG I"), FS, len(own))
    blank = "_" if name == SS2 else " "
    edf(folder / f"{name}{blank}PSG.edf", others | eeg | eyes)


def _stages(folder: Path, name: str) -> None:
    """Stages among events, in the form of one of the releases."""
    length = 20 if name in (SS2, SS4, SS5) else 30
    rows = []
    for k, code in enumerate(CODES[name]):
        # of R&K's two stages of deep sleep one is 4
        word = "4" if code == 3 and length == 20 and k % 2 else _WORDS[code]
        onset = round(FIRST[name] + SPACING[name] * k, 3)
        rows.append((onset, float(length), f"Sleep stage {word}"))
        rows.append((onset + 7.5, 4.0, _EVENT))
    if name == SS4:
        text = "".join(f"+{a:g}\x15{b:g}\x14{word}\x14\x00" for a, b, word in rows)
        (folder / f"{name}_saf.txt").write_text(text, encoding="latin-1")
    elif name == SS5:
        lines = ["onset,duration,description", *(f"{a},{b},{word}" for a, b, word in rows)]
        (folder / f"{name} Base_annotations.txt").write_text("\n".join(lines))
    else:
        end = {SS1: " Base", SS2: "_Base", SS3: "_Annotations"}[name]
        edf(folder / f"{name}{end}.edf", {}, annotations=rows)
