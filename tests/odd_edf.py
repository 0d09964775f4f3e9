"""EDF and BDF files for tests in which every field of the header can be odd, and a slow reader.

Both follow the format's description alone and share nothing with the project's own code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)


@dataclass
class Chan:
    """One signal: its header's fields as written, and digital values, ``per_record`` each."""

    label: str | bytes
    digital: np.ndarray
    per_record: int
    unit: str | bytes = "uV"
    physical: tuple[object, object] = (-500, 500)
    limits: tuple[object, object] = (-32768, 32767)


@dataclass
class Odd:
    """Fields of the fixed header, and annotations by record as bytes."""

    seconds: object = 1
    date: str = "01.01.20"
    time: str = "22.00.00"
    version: bytes = b"0       "
    kind: str = ""
    n_records: object = None
    onsets: list[float] | None = None
    notes: dict[int, bytes] = field(default_factory=dict)
    note_bytes: int = 80
    cut: int = 0
    tail: bytes = b""


def pink(seconds: float, fs: float, seed: int = 0, sd: float = 20.0) -> np.ndarray:
    """Noise whose power falls with its frequency, in uV."""
    rng = np.random.default_rng(seed)
    n = round(seconds * fs)
    spectrum = np.fft.rfft(rng.normal(size=n)) / np.maximum(np.fft.rfftfreq(n, 1 / fs), 0.5)
    x = np.fft.irfft(spectrum, n)
    return sd * x / x.std()


def eeg(label: str | bytes = "EEG C4-M1", *, fs: float = 100, epochs: int = 4, **more) -> Chan:
    """An EEG in records of ``seconds`` (default 1) of ``epochs`` x 30 s; ``sd`` and ``seed``."""
    seconds = more.pop("seconds", 1)
    x = pink(30 * epochs, fs, more.pop("seed", 0), more.pop("sd", 20.0))
    return Chan(
        label, np.clip(x * 65535 / 1000, -32768, 32767).astype(int), round(fs * seconds), **more
    )


def note(onset: float, text: str = "", duration: float | None = None) -> bytes:
    """One entry of an annotation signal."""
    length = b"" if duration is None else b"\x15" + f"{duration:g}".encode()
    return (
        f"{onset:+.6f}".rstrip("0").rstrip(".").encode()
        + length
        + b"\x14"
        + text.encode()
        + b"\x14\0"
    )


def write_odd(path: Path, channels: list[Chan], odd: Odd | None = None, **more) -> Path:
    """Write the file; ``more`` are fields of :class:`Odd`. EDF+ has an annotation signal last."""
    odd = odd or Odd(**more)
    counts = [len(c.digital) // c.per_record for c in channels if c.per_record]
    n = min(counts) if counts else max([0, *odd.notes]) + 1
    columns = [c.digital[: n * c.per_record].reshape(n, -1).astype("<i2") for c in channels]
    heads = [(c.label, "", c.unit, *c.physical, *c.limits, "", c.per_record, "") for c in channels]
    if odd.kind:
        stamps = (
            odd.onsets if odd.onsets is not None else [k * float(odd.seconds) for k in range(n)]
        )
        rows = [note(t) + odd.notes.get(k, b"") for k, t in enumerate(stamps)]
        assert all(len(row) <= odd.note_bytes for row in rows)
        texts = b"".join(row.ljust(odd.note_bytes, b"\0") for row in rows)
        columns.append(np.frombuffer(texts, "<i2").reshape(n, -1))
        about = ("EDF Annotations", "", "", -1, 1, -32768, 32767, "", odd.note_bytes // 2, "")
        heads.append(about)
    number = n if odd.n_records is None else odd.n_records
    fixed = [odd.version, *map(_bytes, (
        ("X X X X", 80), ("Startdate X X X X", 80), (odd.date, 8), (odd.time, 8),
        (256 * (len(heads) + 1), 8), (odd.kind, 44), (number, 8), (odd.seconds, 8), (len(heads), 4),
    ))]  # fmt: skip
    rest = [_bytes((head[k], width)) for k, width in enumerate(FIELDS) for head in heads]
    body = np.concatenate(columns, axis=1).tobytes() if columns else b""
    path.write_bytes((b"".join(fixed + rest) + body)[: -odd.cut or None] + odd.tail)
    return path


def _bytes(pair: tuple[object, int]) -> bytes:
    value, width = pair
    raw = value if isinstance(value, bytes) else str(value).encode("latin-1")
    assert len(raw) <= width, raw
    return raw.ljust(width)


def slow_read(path: Path, label: str) -> tuple[list[tuple[float, float]], list[tuple[float, str]]]:
    """Every sample of a channel as (seconds from the header's start, value), and all annotations.

    Record by record and sample by sample: records lie where their stamps say.
    """
    raw = path.read_bytes()
    n_records, seconds, n = int(raw[236:244]), float(raw[244:252]), int(raw[252:256])
    columns, at = [], 256
    for width in FIELDS:
        columns.append([raw[at + k * width : at + (k + 1) * width].strip() for k in range(n)])
        at += n * width
    names = [name.decode("latin-1") for name in columns[0]]
    samples, notes = [], []
    for record in range(n_records):
        begins, parts = record * seconds, {}
        for k, name in enumerate(names):
            size = 2 * int(columns[8][k])
            parts[name], at = raw[at : at + size], at + size
        if "EDF Annotations" in parts:
            entries = re.findall(
                rb"([+-][\d.]+)(?:\x15[\d.]+)?\x14([^\x14\0]*)\x14\0", parts["EDF Annotations"]
            )
            begins = float(entries[0][0])
            notes += [(float(t), text.decode()) for t, text in entries if text]
        k = names.index(label)
        low, high, bottom, top = (float(columns[c][k]) for c in (5, 6, 3, 4))
        count = int(columns[8][k])
        for j in range(count):
            digital = int.from_bytes(parts[label][2 * j : 2 * j + 2], "little", signed=True)
            value = bottom + (digital - low) * (top - bottom) / (high - low)
            samples.append((begins + j * seconds / count, value))
    return samples, notes
