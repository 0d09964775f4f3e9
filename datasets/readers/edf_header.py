"""The header of EDF and BDF files: every field that reading depends on, checked on its own.

Format: Kemp et al. 1992 (EDF), Kemp & Olivan 2003 (EDF+), BioSemi (BDF).
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from utils.errors import UserError
from utils.stages import LONGEST_SECONDS

ANNOTATION_LABELS = ("EDF Annotations", "BDF Annotations")
# stricter than int() and float(), which also take 1_0, nan and digits of other scripts
_INTEGER = re.compile(r"[+-]?\d{1,8}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_DATE_TIME = re.compile(r"(\d\d)\.(\d\d)\.(\d\d)(\d\d)\.(\d\d)\.(\d\d)", re.ASCII)
_LARGEST_NUMBER = 1e9  # beyond any physical value or record duration in seconds
_SAMPLE_BYTES = {b"0       ": 2, b"\xffBIOSEMI": 3}
# name, width: the header record of every signal, one field of all signals after the other
_SIGNAL_FIELDS = (
    ("label", 16), ("transducer", 80), ("unit", 8), ("physical_min", 8), ("physical_max", 8),
    ("digital_min", 8), ("digital_max", 8), ("prefilter", 80), ("samples", 8), ("reserved", 32),
)  # fmt: skip


class Header:
    """The fields of a header that reading depends on, each checked on its own."""

    def __init__(self, path: Path, *, undated: bool) -> None:
        self.path = path
        with path.open("rb") as file:
            fixed = file.read(256)
            self._check_magic(fixed)
            n_signals = self._integer(fixed[252:256], "number of signals", 1, 4096)
            per_signal = file.read(256 * n_signals)
        if len(per_signal) < 256 * n_signals:
            raise self._wrong("is truncated inside its header; fetch it again")
        text = fixed.decode("latin-1")  # should be ASCII; this decodes any byte
        self.n_bytes = self._integer(fixed[184:192], "header size", 512, 256 * 4097)
        if self.n_bytes != 256 * (n_signals + 1):
            raise self._wrong(
                f"wrong signal count: {n_signals} signals need a header of "
                f"{256 * (n_signals + 1)} bytes, it gives {self.n_bytes}; fetch it again"
            )
        stamp = text[168:184]
        if undated and stamp.startswith("00.00.00"):
            stamp = "01.01.85" + stamp[8:]  # the earliest day that EDF+ can name
        self.start = self._start(stamp)
        self.is_plus = text[192:197] in ("EDF+C", "EDF+D", "BDF+C", "BDF+D")
        # -1 marks a recording that was never closed; refused below, where the reason is given
        self.n_records = self._integer(fixed[236:244], "number of records", -1, 10**8)
        self.record_seconds = self._number(fixed[244:252], "record duration")
        self.signals = self._split(per_signal, n_signals)
        self._check_records()
        self._check_size()

    def _wrong(self, what: str) -> UserError:
        return UserError(f"{self.path}: {what}")

    def _check_magic(self, fixed: bytes) -> None:
        if len(fixed) < 256 or fixed[:8] not in _SAMPLE_BYTES:
            raise self._wrong("is not an EDF file (wrong first bytes); fetch it again")
        self.sample_bytes = _SAMPLE_BYTES[fixed[:8]]

    def _integer(self, field: bytes, name: str, low: int, high: int) -> int:
        text = field.decode("latin-1").strip(" \x00")  # some recorders pad with zeros, not spaces
        if not _INTEGER.fullmatch(text) or not low <= int(text) <= high:
            raise self._wrong(f"impossible {name} {text!r} in the header; fetch it again")
        return int(text)

    def _number(self, field: bytes, name: str) -> float:
        text = field.decode("latin-1").strip(" \x00")
        if not _NUMBER.fullmatch(text) or abs(float(text)) > _LARGEST_NUMBER:
            raise self._wrong(f"impossible {name} {text!r} in the header; fetch it again")
        return float(text)

    def _start(self, field: str) -> datetime:
        match = _DATE_TIME.fullmatch(field)
        try:
            day, month, year, hour, minute, second = map(int, match.groups() if match else ())
            # EDF+ has years of two digits from 1985 on
            century = 1900 if year >= 85 else 2000
            return datetime(century + year, month, day, hour, minute, second)
        except ValueError:
            raise self._wrong(
                f"unreadable start date and time {field!r} (expected dd.mm.yyhh.mm.ss); "
                "correct bytes 168-183 of the header"
            ) from None

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
                fields[name] = fields[name].decode("latin-1").strip(" \x00")
            label = fields["label"]
            fields["samples"] = self._integer(
                fields["samples"], f"samples per record of {label!r}", 1, 10**8
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
        low, high = (
            self._integer(fields[f"digital_{end}"], f"digital {end} of {label!r}", -most, most - 1)
            for end in ("min", "max")
        )
        bottom, top = (
            self._number(fields[f"physical_{end}"], f"physical {end} of {label!r}")
            for end in ("min", "max")
        )
        # bottom > top is legal: an amplifier that inverts
        if low >= high or bottom == top:
            raise self._wrong(f"channel {label!r} has an empty value range; fetch it again")
        fields["physical"], fields["digital"] = (bottom, top), (low, high)

    def _check_records(self) -> None:
        if self.n_records <= 0:
            raise self._wrong(
                f"holds no data ({self.n_records} records); the recording was not closed properly, "
                "fetch it again"
            )
        # EDF+ allows records without a duration where they hold no signals
        only_annotations = all(s["label"] in ANNOTATION_LABELS for s in self.signals)
        if self.record_seconds < 0 or (self.record_seconds == 0 and not only_annotations):
            raise self._wrong(f"impossible record duration {self.record_seconds:g} s")
        if self.n_records * self.record_seconds > LONGEST_SECONDS:
            raise self._wrong(f"claims to last {self.n_records * self.record_seconds:g} s")

    def _check_size(self) -> None:
        self.record_bytes = self.sample_bytes * sum(s["samples"] for s in self.signals)
        expected = self.n_bytes + self.n_records * self.record_bytes
        actual = self.path.stat().st_size
        if actual != expected:
            state = "is truncated" if actual < expected else "has bytes after its last record"
            raise self._wrong(
                f"{state}: its header promises {expected:,} bytes, there are {actual:,}; "
                "fetch it again"
            )
