"""EDF files for tests: small, exact, and decoded a second time without the project's code."""

from __future__ import annotations

import re
import shutil
from datetime import date, time
from pathlib import Path

import edfio
import numpy as np

from datasets.readers.edf import EdfFile
from datasets.readers.profiles import cohort_nights, declared_night, profile
from datasets.readers.recording import Recording

START = (date(1989, 4, 24), time(16, 13))
TEXTS = {
    "W": "Sleep stage W",
    "1": "Sleep stage 1",
    "2": "Sleep stage 2",
    "3": "Sleep stage 3",
    "4": "Sleep stage 4",
    "R": "Sleep stage R",
    "?": "Sleep stage ?",
    "M": "Movement time",
}
LABELS = {"EEG Fpz-Cz": 100, "EOG horizontal": 100, "EMG submental": 1}


def digital_noise(n: int, seed: int = 0) -> np.ndarray:
    """12-bit samples that touch both limits."""
    samples = np.random.default_rng(seed).integers(-2048, 2048, n).astype(np.int16)
    samples[:2] = -2048, 2047
    return samples


def write_psg(
    path: Path,
    n_epochs: float,
    channels: dict[str, int] | None = None,
    record_seconds: int = 30,
    unit: str = "uV",
    start=START,
    limit: float = 192,
) -> dict[str, np.ndarray]:
    """A PSG of ``n_epochs`` x 30 s; returns the physical values of every channel."""
    signals, truth = [], {}
    for number, (label, fs) in enumerate((channels or LABELS).items()):
        digital = digital_noise(round(n_epochs * 30 * fs), number)
        signals.append(
            edfio.EdfSignal.from_digital(
                digital,
                fs,
                label=label,
                physical_dimension=unit,
                physical_range=(-limit, limit),
                digital_range=(-2048, 2047),
            )
        )
        truth[label] = -limit + (digital + 2048.0) * 2 * limit / 4095
    edfio.Edf(
        signals,
        recording=edfio.Recording(startdate=start[0]),
        starttime=start[1],
        data_record_duration=record_seconds,
    ).write(path)
    return truth


def write_hypnogram(
    path: Path, bouts: list[tuple[str, int]], first_epoch: int = 0, start=START
) -> None:
    """A hypnogram of (stage letter, epochs) bouts, one after the other."""
    annotations, at = [], first_epoch
    for letter, length in bouts:
        annotations.append(edfio.EdfAnnotation(30.0 * at, 30.0 * length, TEXTS.get(letter, letter)))
        at += length
    edfio.Edf(
        [],
        recording=edfio.Recording(startdate=start[0]),
        starttime=start[1],
        annotations=annotations,
    ).write(path)


def write_pair(
    folder: Path, bouts: list[tuple[str, int]], n_epochs: int, name: str = "SC4001E0", **options
) -> dict[str, np.ndarray]:
    """Both files of one night; ``options`` go to :func:`write_psg`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_hypnogram(folder / f"{name[:7]}C-Hypnogram.edf", bouts)
    return write_psg(folder / f"{name}-PSG.edf", n_epochs, **options)


def sleepedf_in(folder: Path, **options) -> list[cohort_nights.Night]:
    """The nights that the profile of Sleep-EDF has in a folder."""
    return cohort_nights.find(folder, profile.load("sleepedf"), cohort_nights.Options(**options))


def read_sleepedf(folder: Path) -> Recording:
    """The first of them."""
    return declared_night.read(sleepedf_in(folder)[0])


def beside_a_psg(hypnogram: Path, folder: Path, n_epochs: int) -> Recording:
    """A hypnogram as it is read beside a recording of so many epochs."""
    shutil.copy(hypnogram, folder)
    clock = EdfFile(hypnogram).clock
    psg = folder / f"{hypnogram.name[:7]}0-PSG.edf"
    write_psg(psg, n_epochs, {"EEG Fpz-Cz": 1}, start=(clock.date(), clock.time()))
    return read_sleepedf(folder)


def decode(
    path: Path,
) -> tuple[dict[str, tuple[float, np.ndarray]], list[tuple[float, float, str]]]:
    """Signals {label: (rate, physical values)} and annotations of an EDF file, from the format.

    Written from the format's description alone, to check the project's reader against.
    """
    raw = path.read_bytes()
    n_records, seconds, n = (
        float(raw[a:b].strip(b" \0")) for a, b in ((236, 244), (244, 252), (252, 256))
    )
    n_records, n = int(n_records), int(n)
    widths = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
    columns, at = [], 256
    for width in widths:
        columns.append([raw[at + k * width : at + (k + 1) * width].strip(b" \0") for k in range(n)])
        at += n * width
    labels = [c.decode("latin-1") for c in columns[0]]
    counts = [int(c) for c in columns[8]]
    data = np.frombuffer(raw[at:], "<i2").reshape(n_records, sum(counts))
    signals, annotations, first = {}, [], 0
    for k, label in enumerate(labels):
        part = data[:, first : first + counts[k]]
        first += counts[k]
        if label == "EDF Annotations":
            text = part.tobytes().decode("utf-8")
            entries = re.findall(r"([+-][\d.]+)(?:\x15([\d.]+))?\x14([^\x14]+)\x14", text)
            annotations += [(float(a), float(b or 0), c) for a, b, c in entries]
            continue
        try:
            bottom, top, low, high = (float(columns[c][k]) for c in (3, 4, 5, 6))
            values = bottom + (part.reshape(-1) - low) * (top - bottom) / (high - low)
        except (ValueError, ZeroDivisionError):
            continue  # a signal nobody can calibrate; who asks for it finds it missing
        signals[label] = counts[k] / seconds, values
    return signals, annotations


def write_discontinuous(path: Path, onsets: list[float], fs: int = 10) -> np.ndarray:
    """An EDF+D of one EEG channel, a record of 10 s at each onset; its digital values."""
    digital = digital_noise(10 * fs * len(onsets)).reshape(len(onsets), -1)
    stamps = b"".join(f"+{t:g}\x14\x14\x00".encode().ljust(40, b"\x00") for t in onsets)
    signals = [
        edfio.EdfSignal.from_digital(
            values,
            rate,
            label=label,
            physical_dimension="uV",
            physical_range=(-192, 192),
            digital_range=limits,
        )
        for label, rate, values, limits in (
            ("EEG", fs, digital.ravel(), (-2048, 2047)),
            ("notes", 2, np.frombuffer(stamps, "<i2"), (-32768, 32767)),
        )
    ]
    edfio.Edf(signals, data_record_duration=10).write(path)
    raw = bytearray(path.read_bytes())
    raw[192:197] = b"EDF+D"
    raw[256 + 16 : 256 + 32] = b"EDF Annotations "
    path.write_bytes(raw)
    return digital
