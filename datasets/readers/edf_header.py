"""The header of EDF and BDF files: every field that reading depends on, checked on its own.

Format: Kemp et al. 1992 (EDF), Kemp & Olivan 2003 (EDF+), BioSemi (BDF).
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from utils.errors import UserError, unreadable
from utils.stages import LONGEST_SECONDS

ANNOTATION_LABELS = ("EDF Annotations", "BDF Annotations")
# stricter than int() and float(), which also take 1_0, nan and digits of other scripts
_INTEGER = re.compile(r"[+-]?\d{1,8}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
# dots, as the format has it, or what recorders write in their place
_THREE = re.compile(r"(\d{1,2})[.:/-](\d{1,2})[.:/-](\d{1,2})", re.ASCII)
_NO_DATE = "01.01.85"  # the earliest day that EDF+ can name, for dates that were removed
_LARGEST_NUMBER = 1e9  # beyond any physical value or record duration in seconds
_SAMPLE_BYTES = {b"0": 2, b"\xffBIOSEMI": 3}
_OR_SALVAGE = ", or let --salvage take its whole records"
# name, width: the header record of every signal, one field of all signals after the other
_SIGNAL_FIELDS = (
    ("label", 16), ("transducer", 80), ("unit", 8), ("physical_min", 8), ("physical_max", 8),
    ("digital_min", 8), ("digital_max", 8), ("prefilter", 80), ("samples", 8), ("reserved", 32),
)  # fmt: skip


def is_synthetic(path: Path) -> bool:
    """Whether an EDF names a generator as the recording's equipment.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            recording = file.read(168)[88:].split()  # the header's field on the recording
    except OSError as error:
        raise unreadable(path, error) from error
    return b"synthetic" in recording


class Header:
    """The fields of a header that reading depends on, each checked on its own.

    ``start`` is ``None`` where it cannot be read; ``clock`` has its time of day all the same, on 1
    January 1985. With ``salvage`` the whole records count that are
    in the file, whatever the header promises. ``notes`` list what was odd.
    """

    def __init__(self, path: Path, *, salvage: bool) -> None:
        self.path = path
        self.notes: list[str] = []
        self.is_cut = False
        fixed, per_signal, n_signals = self._read()
        if len(per_signal) < 256 * n_signals:
            raise self._wrong("is truncated inside its header; fetch it again")
        text = fixed.decode("latin-1")  # should be ASCII; this decodes any byte
        self.n_bytes = self._integer(fixed[184:192], "header size", 512, 256 * 4097)
        if self.n_bytes != 256 * (n_signals + 1):
            raise self._wrong(
                f"wrong signal count: {n_signals} signals need a header of "
                f"{256 * (n_signals + 1)} bytes, it gives {self.n_bytes}; fetch it again"
            )
        date, time = text[168:176], text[176:184]
        self.start = _moment(_NO_DATE if date == "00.00.00" else date, time)
        self.clock = self.start or _moment(_NO_DATE, time)
        if self.start is None:
            self.notes.append(f"start {date!r}, {time!r} cannot be read: start unknown")
        self.is_plus = text[192:197] in ("EDF+C", "EDF+D", "BDF+C", "BDF+D")
        # -1 marks a recording that was never closed
        self.n_records = self._integer(fixed[236:244], "number of records", -1, 10**8)
        self.record_seconds = self._number(fixed[244:252], "record duration")
        self.signals = self._split(per_signal, n_signals)
        self.record_bytes = self.sample_bytes * sum(s["samples"] for s in self.signals)
        if salvage:
            self._count_records()
        self._check_records()
        self._check_size()

    def _read(self) -> tuple[bytes, bytes, int]:
        """The fixed part, that of the signals, and the number of signals."""
        try:
            with self.path.open("rb") as file:
                fixed = file.read(256)
                self._check_magic(fixed)
                n_signals = self._integer(fixed[252:256], "number of signals", 1, 4096)
                return fixed, file.read(256 * n_signals), n_signals
        except OSError as error:
            raise unreadable(self.path, error) from error

    def _wrong(self, what: str) -> UserError:
        return UserError(f"{self.path}: {what}")

    def _check_magic(self, fixed: bytes) -> None:
        version = fixed[:8].rstrip(b" \x00")  # some recorders pad with zeros, not spaces
        if len(fixed) < 256 or version not in _SAMPLE_BYTES:
            raise self._wrong("is not an EDF file (wrong first bytes); fetch it again")
        self.sample_bytes = _SAMPLE_BYTES[version]

    def _integer(self, field: bytes, name: str, low: int, high: int) -> int:
        text = field.decode("latin-1").strip(" \x00")
        if not _INTEGER.fullmatch(text) or not low <= int(text) <= high:
            raise self._wrong(f"impossible {name} {text!r} in the header; fetch it again")
        return int(text)

    def _number(self, field: bytes, name: str) -> float:
        text = field.decode("latin-1").strip(" \x00")
        # a decimal comma; 1,000 may be a thousand
        text = re.sub(r"^([+-]?\d+),(\d{1,2}|\d{4,})$", r"\1.\2", text, flags=re.ASCII)
        if not _NUMBER.fullmatch(text) or abs(float(text)) > _LARGEST_NUMBER:
            raise self._wrong(f"impossible {name} {text!r} in the header; fetch it again")
        return float(text)

    def _split(self, raw: bytes, n_signals: int) -> list[dict]:
        signals: list[dict] = [{} for _ in range(n_signals)]
        at = 0
        for name, width in _SIGNAL_FIELDS:
            for fields in signals:
                fields[name] = raw[at : at + width]
                at += width
        column = 0
        for fields in signals:
            for name in ("label", "unit"):
                fields[name] = _text(fields[name])
            label = fields["label"]
            fields["samples"] = self._integer(
                fields["samples"], f"samples per record of {label!r}", 0, 10**8
            )
            # in samples, not bytes, of a record
            fields["columns"] = slice(column, column + fields["samples"])
            column += fields["samples"]
            if label not in ANNOTATION_LABELS:
                try:
                    self._parse_range(fields)
                except UserError as error:
                    fields["fault"] = str(error)
        return signals

    def _parse_range(self, fields: dict) -> None:
        """Keep the ranges that calibrate one signal; a fault matters only if the signal is read."""
        label, most = fields["label"], 2 ** (8 * self.sample_bytes - 1)
        if not fields["samples"]:
            raise self._wrong(f"channel {label!r} has no samples; choose another one")
        low, high = (
            self._integer(fields[f"digital_{end}"], f"digital {end} of {label!r}", -most, most - 1)
            for end in ("min", "max")
        )
        bottom, top = (
            self._number(fields[f"physical_{end}"], f"physical {end} of {label!r}")
            for end in ("min", "max")
        )
        # bottom > top, or low > high: an amplifier that inverts
        if low == high or bottom == top:
            raise self._wrong(f"channel {label!r} has an empty value range; fetch it again")
        fields["physical"], fields["digital"] = (bottom, top), (low, high)

    def _count_records(self) -> None:
        """Take as many records as the file holds whole, with a note where the header differs."""
        size = self.path.stat().st_size - self.n_bytes
        whole, rest = divmod(size, max(1, self.record_bytes))
        if (self.n_records, 0) != (whole, rest):
            n_records = whole if self.n_records < 0 else min(whole, self.n_records)
            self.notes.append(
                f"its header promises {self.n_records:,} records, the file holds "
                f"{size / max(1, self.record_bytes):,.1f}: the first {n_records:,} are read"
            )
            self.n_records, self.is_cut = n_records, True

    def _check_records(self) -> None:
        if self.n_records <= 0 or not self.record_bytes:
            raise self._wrong(
                f"holds no data ({self.n_records} records); the recording was not closed properly, "
                f"fetch it again{_OR_SALVAGE * (self.n_records < 0)}"
            )
        # EDF+ allows records without a duration where they hold no signals
        only_annotations = all(s["label"] in ANNOTATION_LABELS for s in self.signals)
        if self.record_seconds < 0 or (self.record_seconds == 0 and not only_annotations):
            raise self._wrong(f"impossible record duration {self.record_seconds:g} s")
        if self.n_records * self.record_seconds > LONGEST_SECONDS:
            raise self._wrong(f"claims to last {self.n_records * self.record_seconds:g} s")

    def _check_size(self) -> None:
        expected = self.n_bytes + self.n_records * self.record_bytes
        actual = self.path.stat().st_size
        if actual != expected and not self.is_cut:
            state = "is truncated" if actual < expected else "has bytes after its last record"
            raise self._wrong(
                f"{state}: its header promises {expected:,} bytes, there are {actual:,}; "
                f"fetch it again{_OR_SALVAGE}"
            )


def _moment(date: str, time: str) -> datetime | None:
    fields = [_THREE.fullmatch(field.strip(" \x00")) for field in (date, time)]
    if None in fields:
        return None
    (day, month, year), (hour, minute, second) = (map(int, one.groups()) for one in fields)
    # EDF+ has years of two digits from 1985 on
    century = 1900 if year >= 85 else 2000
    try:
        return datetime(century + year, month, day, hour, minute, second)
    except ValueError:
        return None


def _text(field: bytes) -> str:
    """A label or unit, which should be ASCII, as it can be shown: UTF-8 or else Latin-1."""
    try:
        text = field.decode("utf-8")
    except UnicodeDecodeError:
        text = field.decode("latin-1")
    return "".join(c if c.isprintable() else "?" for c in text.strip(" \x00"))
