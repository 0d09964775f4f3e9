"""Writers of files for generators of cohorts, by libraries of the formats and never by our own.

An EEG tells its stage: a sine of 10 Hz whose amplitude is that of the epoch's code. What a store
holds is compared with its own stages by :func:`stages_in`, so that a shift of one epoch, another
channel or another sign cannot pass.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import scipy.io
import wfdb

import preprocess
from datasets.readers.profiles import profile
from datasets.store.store import Store
from utils.stages import UNSCORED

START = datetime(2018, 3, 5, 22, 30, 11)
_STEP, _FIRST = 15.0, 20.0  # uV between codes, and of an epoch that nobody scored


def telling(
    codes: Sequence[int], fs: float, *, epoch: float = 30.0, lead: float = 0.0, tail: float = 0.0
) -> np.ndarray:
    """A signal in uV that tells the code of each epoch; ``lead``, ``tail`` s before and after."""
    lengths = [lead, *[epoch] * len(codes), tail]
    amplitude = [_FIRST, *(_FIRST + _STEP * (code + 1) for code in codes), _FIRST]
    ends = np.rint(np.cumsum(lengths) * fs).astype(int)
    envelope = np.repeat(amplitude, np.diff(ends, prepend=0))
    return envelope * np.sin(2 * np.pi * 10 * np.arange(len(envelope)) / fs)


_INNER = (0.2, 0.8)  # of an epoch: filters blur its borders, and 20 s epochs have context
BEGIN = (0.01, 0.04)  # from 0.3 s to 1.2 s, which show whether an epoch begins a second too early


def stages_in(
    signal: np.ndarray, factor: float = 1.0, part: tuple[float, float] = _INNER
) -> list[int]:
    """Codes that a part of epochs (n, samples) tells, ``factor`` times as large as written."""
    begin, end = (round(one * signal.shape[1]) for one in part)
    inside = signal[:, begin:end]
    amplitude = np.sqrt(2) * inside.std(axis=1) / factor
    codes = (amplitude - _FIRST) / _STEP - 1
    assert np.abs(codes - np.rint(codes)).max() < 0.2, "epochs do not lie on the stages' own"
    return np.rint(codes).astype(int).tolist()


def assert_stages(
    store: Store,
    recording: str,
    stages: Sequence[int],
    *,
    role: str = "EEG",
    factor: float = 1.0,
    part: tuple[float, float] = _INNER,
) -> None:
    """A night has exactly these stages, and a channel of it tells the same wherever scored."""
    night = store.night(recording)
    assert night.stages.tolist() == list(stages)
    column = [channel.role for channel in store.channels].index(role)
    shown = stages_in(np.asarray(night.signals()[:, column]), factor, part)
    scored = [(a, b) for a, b in zip(stages, shown, strict=True) if a != UNSCORED]
    assert [a for a, _ in scored] == [b for _, b in scored]


def prepared(cohort: str | Path, raw: Path, save_path: Path, *flags: str) -> Store:
    """The store that ``preprocess.py`` makes of a folder."""
    words = ["--cohort", str(cohort), "--raw_path", str(raw), "--save_path", str(save_path)]
    preprocess.main([*words, "--jobs", "1", *flags])
    return Store(save_path)


def changed(cohort: str, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A cohort's profile after a change, as a faulty reader would have it."""
    value = json.loads((profile.FOLDER / f"{cohort}.json").read_text())
    change(value)
    path = folder / f"{cohort}.json"
    path.write_text(json.dumps(value))
    return path


def noise(labels: Iterable[str], fs: float, n: int) -> dict[str, tuple[float, np.ndarray]]:
    """Rate and ``n`` samples in uV of channels that tell nothing."""
    rng = np.random.default_rng(n)
    return {label: (fs, rng.normal(0, 20, n)) for label in labels}


def edf(
    path: Path,
    signals: Mapping[str, tuple[float, np.ndarray]],
    *,
    start: datetime = START,
    units: Mapping[str, str] | None = None,
    annotations: Sequence[tuple[float, float | None, str]] = (),
    record_seconds: float = 1.0,
    limit: float = 500.0,
) -> None:
    """An EDF of (rate, values) by label, in uV unless ``units`` has another; EDF+ if annotated."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [
        edfio.EdfSignal(
            np.clip(values, -limit, limit),
            fs,
            label=label,
            physical_dimension=(units or {}).get(label, "uV"),
            physical_range=(-limit, limit),
        )
        for label, (fs, values) in signals.items()
    ]
    marks = [edfio.EdfAnnotation(*annotation) for annotation in annotations]
    edfio.Edf(
        made,
        recording=edfio.Recording(startdate=start.date()),
        starttime=start.time(),
        data_record_duration=record_seconds if made else None,
        annotations=marks or None,
    ).write(path)


def matlab_record(
    stem: Path, fs: float, signals: Mapping[str, tuple[float, str, np.ndarray]], start: datetime
) -> None:
    """A WFDB record whose samples are a MATLAB v4 matrix, as in PhysioNet's challenges.

    ``signals``: gain (units per unit), unit and values by label. scipy writes the matrix; the
    header states that samples begin after the 24 bytes in which MATLAB describes it.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    digital = np.stack([np.rint(gain * v) for gain, _, v in signals.values()]).astype(np.int16)
    # column by column, so that samples of one instant follow each other
    scipy.io.savemat(stem.with_suffix(".mat"), {"val": digital}, format="4")
    n = digital.shape[1]
    lines = [f"{stem.name} {len(signals)} {fs:g} {n} {start:%H:%M:%S}"]
    for row, (label, (gain, unit, _)) in zip(digital, signals.items(), strict=True):
        checksum = int(row.astype(np.int64).sum()) & 0xFFFF
        checksum -= 0x10000 if checksum > 0x7FFF else 0
        about = f"{stem.name}.mat 16+24 {gain:g}/{unit} 16 0 {row[0]} {checksum} 0 {label}"
        lines.append(about)
    stem.with_suffix(".hea").write_text("\n".join(lines) + "\n")


def wfdb_notes(stem: Path, suffix: str, notes: Sequence[tuple[int, str]], fs: float) -> None:
    """An annotation file of (sample, text), by the format's library."""
    samples = np.array([sample for sample, _ in notes])
    wfdb.wrann(
        stem.name,
        suffix,
        samples,
        symbol=['"'] * len(notes),
        aux_note=[text for _, text in notes],
        fs=fs,
        write_dir=str(stem.parent),
    )
