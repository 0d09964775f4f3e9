"""Synthetic nights in the layout of the Dreem Open Datasets: ``<uuid>.h5`` and five scorers.

Two calibrated derivations stand for the Dreem montage: C3_M2 is the frontal one, O1_M2 the
occipital one. The eyes move against each other in EOG1 and EOG2, the brain leaks into both alike.
The hypnogram is the scorers' consensus.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import numpy as np

from datasets.readers.consensus import all_of
from datasets.synthetic.night import Night
from datasets.synthetic.scorers import draw_scorers
from datasets.synthetic.truth import write_truth
from utils.files import write_json, written_whole

FS = 250
# the namespace of URLs in RFC 4122; the real records are named by version-5 UUIDs, too
_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
_LEAK = 0.2
_DOMAINS = {"EOG1": "eog", "EOG2": "eog", "EMG": "emg", "ECG": "emg"}


def stem_of(subject: int, night: int) -> str:
    """Record id, a UUID made from subject and night, so that it is the same every time."""
    return str(uuid.uuid5(_NAMESPACE, f"synthetic dreem {subject} {night}"))


def write(folder: Path, night: Night, settings: dict, *, is_last: bool = False) -> str:
    """Write one record, its truth files and ``scorers/scorer_1..5/<id>.json``; returns the id.

    The cohort's last record has no ``start_time``, as some real ones.
    """
    stem = stem_of(night.subject.number, night.number)
    write_truth(folder, stem, night, settings)
    scored = draw_scorers(night.stream("scorers"), night.timeline.labels)
    for number, codes in enumerate(scored, 1):
        write_json(folder / "scorers" / f"scorer_{number}" / f"{stem}.json", codes.tolist())
    signals = _signals(night)
    # Unix time, one day per subject from July 2017 on
    start = None if is_last else 1_500_000_000 + 86_400 * night.subject.number
    with written_whole(folder / f"{stem}.h5") as temporary:
        _write(temporary, signals, all_of(scored)[0], night.seconds, start)
    return stem


def _signals(night: Night) -> dict[str, np.ndarray]:
    frontal, occipital, eyes = (
        night.render(name, FS) for name in ("EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal")
    )
    noise = night.stream("emg noise").standard_normal(len(frontal)).astype(np.float32)
    level = night.render_emg_envelope().repeat(FS)
    beats = np.cumsum(np.full(len(frontal), night.subject.heart_per_minute / 60 / FS)) % 1
    heart = 800 * np.exp(-0.5 * ((beats - 0.5) / 0.012) ** 2)
    return {
        "C3_M2": frontal,
        "O1_M2": occipital,
        "EOG1": eyes / 2 + _LEAK * frontal,
        "EOG2": -eyes / 2 + _LEAK * frontal,
        "EMG": 3 * level * noise,
        "ECG": heart,
    }


def _write(
    path: Path, signals: dict[str, np.ndarray], stages: np.ndarray, seconds: int, start: int | None
) -> None:
    import h5py

    described = []
    with h5py.File(path, "w", track_order=False) as file:
        # times are not tracked: HDF5 would store the clock, but a seed must give the same bytes
        file.create_dataset("hypnogram", data=stages.astype(np.int64), track_times=False)
        for name, samples in signals.items():
            domain = _DOMAINS.get(name, "eeg")
            where = f"signals/{domain}/{name}"
            file.create_dataset(where, data=samples.astype(np.float32), track_times=False)
            file[f"signals/{domain}"].attrs.update({"fs": FS, "unit": "uV"})
            described.append(
                {
                    "fs": FS,
                    "unit": "uV",
                    "path": where,
                    "name": name,
                    "domain": domain,
                    "default": True,
                }
            )
        file.attrs["description"] = json.dumps(described)
        file.attrs["events_description"] = "[]"
        file.attrs["duration"] = seconds
        # by this the reader knows the record: no store of it passes for a real cohort's
        file.attrs["generator"] = "synthetic"
        if start is not None:
            file.attrs["start_time"] = start
