"""EESM19 and EESM23: EEGLAB files in BIDS, stages in numbers of their own or in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io

from tests.cohort_files.written import noise, telling

NIGHTS = {
    "eesm19": {
        "sub-001_ses-001": [0, 1, 2, 2, 3, 4, 4, -1],
        "sub-001_ses-002": [0, 0, 2, 3, 3, 4, 0, 1],
    },
    "eesm23": {"sub-004_ses-012": [0, 0, 1, 2, 3, 3, 4, 4]},
}
LOOSE = "sub-001_ses-002"  # without a second of its fourth epoch
LEAD = 14.5  # s from the signal's start to the first epoch of EESM23's night
RATES = {"eesm19": 500.0, "eesm23": 250.0}
_NUMBERS = {0: "1", 4: "2", 1: "3", 2: "4", 3: "5", -1: "7"}
_WORDS = {0: "Wake", 4: "REM", 1: "N1", 2: "N2", 3: "N3", -1: "Artefact"}


def second(codes: list[int]) -> list[int]:
    """What the second scorer saw in a night: its third epoch is N1."""
    return [*codes[:2], 1, *codes[3:]]


def write(folder: Path, cohort: str) -> dict[str, list[int]]:
    """Nights of a cohort with and without a PSG; stages by recording, where there is signal."""
    for name, codes in NIGHTS[cohort].items():
        _night(folder, cohort, name, codes)
    ear_only = folder / "sub-001" / "ses-009" / "eeg"
    ear_only.mkdir(parents=True)
    (ear_only / "sub-001_ses-009_task-sleep_acq-earEEG_eeg.set").write_bytes(b"")
    lost = [*NIGHTS["eesm19"][LOOSE][:3], -1, *NIGHTS["eesm19"][LOOSE][4:]]
    return NIGHTS[cohort] | ({LOOSE: lost} if cohort == "eesm19" else {})


def _night(folder: Path, cohort: str, name: str, codes: list[int]) -> None:
    fs = RATES[cohort]
    person, session = name.split("_")
    start = folder / person / session / "eeg" / f"{name}_task-sleep"
    start.parent.mkdir(parents=True)
    own = telling(codes, fs, lead=LEAD if cohort == "eesm23" else 0)
    signals = {label: one for label, (_, one) in noise(("M1", "C3", "EMGc"), fs, len(own)).items()}
    signals |= {"C4": own + signals["M1"], "EOGl": own, "EOGr": -own}
    signals["C3"][: int(fs)] = np.nan  # an electrode that is off, at first
    if name == LOOSE:
        signals["C4"][round(95 * fs) : round(96 * fs)] = np.nan
    _set(Path(f"{start}_acq-PSG_eeg.set"), fs, signals)
    if cohort == "eesm23":
        _events(Path(f"{start}_acq-scoring_events.tsv"), "stages", [_WORDS[c] for c in codes], LEAD)
        return
    for k, scored in ((1, codes), (2, second(codes))):
        path = Path(f"{start}_acq-scoring{k}_events.tsv")
        _events(path, f"Scoring{k}", [_NUMBERS[code] for code in scored])


def _events(path: Path, column: str, words: list[str], lead: float = 0) -> None:
    rows = [f"{lead + 30 * k:g}\t30\t{word}" for k, word in enumerate(words)]
    path.write_text("\n".join([f"onset\tduration\t{column}", *rows]) + "\n")


def _set(path: Path, fs: float, signals: dict[str, np.ndarray]) -> None:
    """An EEGLAB file, whose samples are in uV."""
    labels = np.array([(label,) for label in signals], dtype=[("labels", object)])
    data = np.stack(list(signals.values())).astype(np.float32)
    n = float(data.shape[1])
    eeg = {
        "data": data, "srate": fs, "nbchan": float(len(data)), "pnts": n, "trials": 1.0,
        "xmin": 0.0, "xmax": (n - 1) / fs, "chanlocs": labels, "event": [], "epoch": [],
    }  # fmt: skip
    scipy.io.savemat(path, {"EEG": eeg})
