"""HMC 1.1: EDFs of 256 Hz with an EDF+ and a text of stages beside each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.cohort_files.written import START, edf, telling

FS = 256.0
NIGHTS = {"SN001": [0, 0, 1, 2, 3, 3, 2, 4, 0], "SN003": [0, 1, 2, 2, 4, -1, 4, 0, 0, 0]}
_WORDS = {0: "W", 1: "N1", 2: "N2", 3: "N3", 4: "R", -1: "?"}
_EEGS = ("EEG F4-M1", "EEG C4-M1", "EEG O2-M1", "EEG C3-M2")


def write(folder: Path) -> dict[str, list[int]]:
    """Two nights, and one that version 1.1 withdrew; their stages by recording."""
    for name, codes in {**NIGHTS, "SN014": [0, 2, 2]}.items():
        write_night(folder / "recordings", name, codes)
    return NIGHTS


def write_night(folder: Path, name: str, codes: list[int]) -> None:
    """One night: scoring begins with the signal, before lights off."""
    own = telling(codes, FS)
    rng = np.random.default_rng(len(codes))
    others = {label: (FS, rng.normal(0, 20, len(own))) for label in _EEGS}
    # eyes move in opposite directions: of their sum nothing would be left
    eyes = {"EOG E1-M2": (FS, own), "EOG E2-M2": (FS, -own)}
    muscle = {"EMG chin": (FS, rng.normal(0, 15, len(own)))}
    heart = {"ECG": (FS, rng.normal(0, 100, len(own)))}
    edf(folder / f"{name}.edf", others | {"EEG C4-M1": (FS, own)} | muscle | eyes | heart)
    rows = [(30.0 * k, 30.0, f"Sleep stage {_WORDS[code]}") for k, code in enumerate(codes)]
    # what follows @@ is the channel that was on the scorer's screen
    lights = [(60.0, 0.0, "Lights off@@EEG F4-A1"), (240.0, 0.0, "Lights on@@SaO2")]
    edf(folder / f"{name}_sleepscoring.edf", {}, annotations=sorted([*rows, *lights]))
    lines = ["Date, Time, Recording onset, Duration, Annotation, Linked channel"]
    for onset, seconds, text in sorted([*rows, *lights]):
        word, _, channel = text.partition("@@")
        clock = START.strftime("%Y-%m-%d, %H:%M:%S")
        lines.append(f"{clock}, {onset:g}, {seconds:g}, {word}, {channel}")
    (folder / f"{name}_sleepscoring.txt").write_text("\n".join(lines) + "\n")
