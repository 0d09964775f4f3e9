"""A sound store of two short nights, written by hand, for tests that damage it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from utils.files import write_array

FS, EPOCHS = 10, 6
CHANNELS = [
    {"label": "EEG Fpz-Cz", "role": "EEG", "unit": "uV", "fs": FS, "bandpass": [0.3, None]},
    {"label": "EOG", "role": "EOG", "unit": "uV", "fs": FS, "bandpass": None},
]
RECORDINGS = {"a": "S1", "b": "S2"}


def write_small_store(path: Path, fs: float = FS, signals_of=None) -> Path:
    """Write the store; its signals are drawn by a fixed seed, or made of seconds from the start."""
    channels = [channel | {"fs": fs} for channel in CHANNELS]
    seconds = np.arange(round(EPOCHS * fs * 30)) / fs
    rng = np.random.default_rng(0)
    for recording, subject in RECORDINGS.items():
        folder = path / "nights" / recording
        folder.mkdir(parents=True)
        shape = (EPOCHS, len(CHANNELS), round(fs * 30))
        signals = rng.normal(0, 20, shape).astype(np.float32)
        if signals_of is not None:
            signals[:] = signals_of(seconds).reshape(EPOCHS, 1, -1)
        write_array(folder / "signals.npy", signals)
        write_array(folder / "stages.npy", np.array([0, 1, 2, 3, 4, -1], np.int8))
        facts = {
            "recording": recording, "subject": subject, "night": 1, "n_epochs": EPOCHS,
            "first_epoch": 0, "start": "2016-03-01T22:15:00", "settings": {}, "sources": {},
            "channels": [c | {"mean": 0.0, "sd": 20.0} for c in channels],
        }  # fmt: skip
        (folder / "night.json").write_text(json.dumps(facts))
    rows = [f"{recording},{subject},1,{EPOCHS}\n" for recording, subject in RECORDINGS.items()]
    (path / "recordings.csv").write_text("recording,subject,night,n_epochs\n" + "".join(rows))
    settings = {"protocol": "keep_all"}
    about = {"format": 1, "cohort": "x", "settings": settings, "channels": channels}
    (path / "dataset.json").write_text(json.dumps(about))
    return path


def edited(path: Path, **changes) -> None:
    """Change fields of a JSON file; ``...`` takes one out."""
    facts = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in facts.items() if value is not ...}))
