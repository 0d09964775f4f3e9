"""EDF, EDF+ and BDF files, read strictly: what is broken is refused, never repaired or skipped.

Format: Kemp et al. 1992 (EDF), Kemp & Olivan 2003 (EDF+), BioSemi (BDF). Libraries are
lenient: edfio drops annotations that do not match and leaves samples uncalibrated where a range
cannot be read, mne repairs dates and record counts. Nothing must be built on repairs, so once a
header has passed every check, samples are taken straight from the records.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np

from datasets.readers.edf_header import ANNOTATION_LABELS, Header
from datasets.readers.recording import Scale
from utils.errors import UserError
from utils.stages import LONGEST_SECONDS

_BLOCK_BYTES = 8_000_000  # read at a time: records hold all channels, of which few are kept
_SIMULTANEOUS = 1e-3  # seconds
_LATE = 1.001e-3  # of one record after another: stamps have a few decimals
# onset [0x15 duration] 0x14 text 0x14 [text 0x14 ...]
_ENTRY = re.compile(
    r"([+-]\d+(?:\.\d+)?)(?:\x15(\d+(?:\.\d+)?))?\x14((?:[^\x14\x15]*\x14)+)", re.ASCII
)


@dataclass(frozen=True)
class Channel:
    """One ordinary signal of a file, as its header describes it; ``columns`` of every record.

    ``fault`` is the reason why it cannot be read, where its value ranges make no sense.
    """

    label: str
    unit: str
    fs: float
    physical: tuple[float, float]
    digital: tuple[int, int]
    columns: slice
    fault: str | None = None

    @property
    def scale(self) -> Scale | None:
        """Gain and offset of digital values; none of files that have no such ranges."""
        (bottom, top), (low, high) = self.physical, self.digital
        if top == bottom or low == high:
            return None
        gain = (top - bottom) / (high - low)
        return gain, top / gain - high

    def calibrate(self, digital: np.ndarray) -> np.ndarray:
        """Physical values, float64, of digital ones."""
        gain, offset = self.scale
        return (digital + offset) * gain


@dataclass(frozen=True)
class Annotation:
    """One EDF+ annotation: onset and duration in seconds from the first sample of the file."""

    onset: float
    duration: float
    text: str


class EdfFile:
    """A checked EDF file: header at once, samples when asked for.

    Time counts from the first sample, which EDF+ may place after the header's start; ``start`` is
    its date and time, or ``None`` where they cannot be read, and ``clock`` the same, of 1 January
    1985 where only the time of day is known. With ``gaps`` a discontinuous
    recording (EDF+D) lies on its own clock, ``gaps`` (k, 2) in s between its parts reading as NaN.
    With ``salvage`` the whole records of a cut file are read. ``notes`` tell what was odd.

    Raises:
        UserError: not EDF, no records, a header field that cannot be, unless ``salvage`` truncated
            or overlong, or, unless ``gaps``, a discontinuous recording.
    """

    stages = None  # they are among the annotations, if anywhere

    def __init__(self, path: Path, *, gaps: bool = False, salvage: bool = False) -> None:
        self.path = path
        self.gaps = np.zeros((0, 2))
        self._first, self._onsets = 0.0, None
        self._held: dict[int, np.ndarray] = {}  # bytes by a channel's first column
        self._sound: dict[str, Channel] = {}
        self._header = header = Header(path, salvage=salvage)
        self.notes, self.start, self.clock = header.notes, header.start, header.clock
        self.is_plus = header.is_plus
        self._record_seconds = header.record_seconds
        self.seconds = header.n_records * header.record_seconds
        # annotations alone, as in hypnograms, have no first sample to count from
        has_signals = any(s["label"] not in ANNOTATION_LABELS for s in header.signals)
        if header.is_plus and header.record_seconds > 0 and has_signals:
            self._place_records(gaps)
        self.channels = tuple(
            Channel(
                label=fields["label"],
                unit=fields["unit"],
                fs=fields["samples"] / self._record_seconds,
                physical=fields.get("physical", (0.0, 0.0)),
                digital=fields.get("digital", (0, 0)),
                columns=fields["columns"],
                fault=fields.get("fault"),
            )
            for fields in header.signals
            if fields["label"] not in ANNOTATION_LABELS
        )

    def hold(self, labels: Iterable[str]) -> None:
        """Keep these channels' samples in memory, as they are in the file, read in one pass.

        What is read of them afterwards does not touch the file again.
        """
        # a broken channel matters to nobody who does not read it
        asked = [c for c in self.channels if c.label in set(labels) and not c.fault]
        columns = [channel.columns for channel in asked]
        # several models may read the same channels
        columns = [part for part in columns if part.start not in self._held]
        if columns:
            raw = self._raw(slice(None), columns)
            self._held |= {part.start: values for part, values in zip(columns, raw, strict=True)}

    def _raw(self, records: slice, columns: Sequence[slice]) -> list[np.ndarray]:
        """Bytes of some signals, (records, bytes) each; a block of records at a time is read."""
        header, size = self._header, self._header.sample_bytes
        first, stop, _ = records.indices(header.n_records)
        if all(part.start in self._held for part in columns):
            return [self._held[part.start][first:stop] for part in columns]
        raw = [np.empty((stop - first, size * (p.stop - p.start)), np.uint8) for p in columns]
        # whole records, since each holds a piece of every channel
        at_once = max(1, _BLOCK_BYTES // header.record_bytes)
        for begin in range(first, stop, at_once):
            n = min(at_once, stop - begin)
            offset = header.n_bytes + begin * header.record_bytes
            block = np.fromfile(self.path, np.uint8, n * header.record_bytes, offset=offset)
            for values, part in zip(raw, columns, strict=True):
                own = block.reshape(n, -1)[:, size * part.start : size * part.stop]
                values[begin - first : begin - first + n] = own
        return raw

    def _digital(self, records: slice, columns: slice) -> np.ndarray:
        """Digital values of one signal, (records, samples)."""
        (raw,) = self._raw(records, [columns])
        if self._header.sample_bytes == 2:
            return raw.view("<i2")
        # BDF: 24 bits in the upper bytes of 32, whose shift then keeps the sign
        wide = np.zeros((len(raw), raw.shape[1] // 3, 4), np.uint8)
        wide[..., 1:] = raw.reshape(len(raw), -1, 3)
        return wide.view("<i4")[..., 0] >> 8

    def channel(self, label: str) -> Channel:
        """The channel called ``label``, of several the first with a signal.

        Raises:
            UserError: there is none, or its ranges make no sense.
        """
        if label not in self._sound:
            matches = [channel for channel in self.channels if channel.label == label]
            if not matches:
                present = ", ".join(channel.label for channel in self.channels)
                raise UserError(
                    f"{self.path}: no channel {label!r}; it has: {present}. Choose with --channels"
                )
            sound = [channel for channel in matches if not channel.fault]
            if not sound:
                raise UserError(matches[0].fault)
            self._sound[label] = sound[0] if len(matches) == 1 else self._with_signal(sound)
        return self._sound[label]

    def _with_signal(self, channels: Sequence[Channel]) -> Channel:
        """The first of several channels of one label that ever varies."""
        label = channels[0].label
        numbers = [k for k, channel in enumerate(self.channels) if channel.label == label]
        whole = slice(None)
        chosen = next((c for c in channels if np.ptp(self._digital(whole, c.columns))), channels[0])
        at = numbers.index(self.channels.index(chosen)) + 1
        self.notes.append(f"{len(numbers)} channels are called {label!r}: number {at} is read")
        return chosen

    def read(self, label: str, start: float, stop: float) -> np.ndarray:
        """Samples of one channel between two instants in seconds, float64, in the file's unit."""
        channel = self.channel(label)
        first, last = round(start * channel.fs), round(stop * channel.fs)
        width = channel.columns.stop - channel.columns.start
        if self._onsets is not None:
            return self._read_parts(channel, first, last, width)
        records = slice(first // width, -(-last // width))  # rounded down and up
        digital = self._digital(records, channel.columns).reshape(-1)
        offset = first - records.start * width
        return channel.calibrate(digital[offset : offset + last - first])

    def _read_parts(self, channel: Channel, first: int, last: int, width: int) -> np.ndarray:
        """Samples ``[first, last)`` of a recording with gaps, NaN where nothing was recorded."""
        # halves always up: to the even number, records that touch would overlap
        at = np.floor(self._onsets * channel.fs + 0.5 + 1e-6).astype(int)
        touched = np.flatnonzero((at + width > first) & (at < last))
        last = min(last, round(self.seconds * channel.fs))
        samples = np.full(max(0, last - first), np.nan)
        if not len(touched):
            return samples
        records = slice(touched[0], touched[-1] + 1)
        # (records, samples): the place of each sample in the output, which may lie outside
        index = at[records, None] + np.arange(width) - first
        inside = (index >= 0) & (index < len(samples))
        values = channel.calibrate(self._digital(records, channel.columns))
        samples[index[inside]] = values[inside]
        return samples

    def annotations(self, broken: list[str] | None = None) -> list[Annotation]:
        """All annotations in file order, without the records' time stamps.

        With ``broken``, malformed ones are left out and added to it in words.

        Raises:
            UserError: unless ``broken``, on any byte that is not part of a well-formed annotation;
                edfio would skip the broken entry, and an epoch would lose its stage in silence.
        """
        annotations: list[Annotation] = []
        for signal in self._annotation_signals():
            for record in signal:
                annotations.extend(self._parse(record, broken))
        return annotations

    def _annotation_signals(self) -> Iterator[np.ndarray]:
        """Text of every annotation signal, (n_records, bytes) each."""
        for fields in self._header.signals:
            if fields["label"] in ANNOTATION_LABELS and fields["samples"]:
                yield from self._raw(slice(None), [fields["columns"]])

    def _parse(self, record: np.ndarray, broken: list[str] | None) -> Iterator[Annotation]:
        # entries end with a zero, and zeros fill the record
        for raw in record.tobytes().rstrip(b"\x00").split(b"\x00"):
            try:
                entry = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                if broken is None:
                    raise self._broken_annotation(f"byte {error.start} is not UTF-8") from error
                # a technician's note may be in Latin-1, a stage has no such letters
                entry = raw.decode("latin-1")
                if "stage" in entry.casefold():
                    broken.append(f"annotation that is not UTF-8: {entry[:60]!r}")
            match = _ENTRY.fullmatch(entry)
            if match is None:
                if entry and broken is None:
                    raise self._broken_annotation(repr(entry[:60]))
                if entry:
                    broken.append(f"broken annotation left out: {entry[:60]!r}")
                continue
            onset, duration, texts = match.groups()
            for words in texts.split("\x14")[:-1]:
                if words:  # a record's time stamp is an annotation without text
                    # microseconds: a difference of decimal numbers is no round one
                    begins = round(float(onset) - self._first, 6)
                    yield Annotation(begins, float(duration or 0), words)

    def _broken_annotation(self, what: str) -> UserError:
        return UserError(f"{self.path}: broken EDF+ annotation ({what}); fetch the file again")

    def _place_records(self, gaps: bool) -> None:
        """Place records in time, or refuse gaps: joined across one, epochs get false neighbours."""
        # of several annotation signals the first keeps the time (EDF+)
        first = next(self._annotation_signals(), None)
        if first is None:
            return
        onsets = np.array([self._stamp(record, strict=not gaps) for record in first])
        if gaps:
            self._mend_stamps(onsets)
        self._first = float(onsets[0])
        late = timedelta(seconds=self._first)
        self.start, self.clock = (one and one + late for one in (self.start, self.clock))
        onsets -= onsets[0]
        if _are_even(onsets, self._record_seconds):
            return
        # a recorder's own clock: what each record is late or early adds up over the night
        own = float(onsets[-1]) / (len(onsets) - 1)
        if _are_even(onsets, own) and abs(own - self._record_seconds) <= _LATE:
            self._record_seconds, self.seconds = own, own * len(onsets)
        else:
            self._place_parts(onsets, gaps)

    def _stamp(self, record: np.ndarray, *, strict: bool) -> float:
        """Onset of a record in seconds from the header's start; NaN where it has none."""
        stamp = re.match(rb"([+-]\d+(?:\.\d+)?)\x14\x14\x00", record.tobytes())
        if stamp is None and strict:
            raise self._broken_annotation("a record without its time stamp")
        return np.nan if stamp is None else float(stamp[1])

    def _mend_stamps(self, onsets: np.ndarray) -> None:
        """Set onsets of lone records whose stamp is broken, by their neighbours', with a note."""
        as_read, seconds = onsets.copy(), self._record_seconds
        middle = (onsets[:-2] + onsets[2:]) / 2
        joined = np.abs(onsets[2:] - onsets[:-2] - 2 * seconds) <= _SIMULTANEOUS
        odd = joined & ~(np.abs(onsets[1:-1] - middle) <= seconds / 2)  # NaN is odd
        onsets[1:-1][odd] = middle[odd]
        if len(onsets) > 1 and np.isnan(onsets[0]):
            onsets[0] = onsets[1] - seconds
        if len(onsets) > 1 and np.isnan(onsets[-1]):
            onsets[-1] = onsets[-2] + seconds
        if np.isnan(onsets).any():
            raise self._broken_annotation("records without their time stamps")
        if n := int((onsets != as_read).sum()):
            self.notes.append(f"{n} records have a broken time stamp: they follow their neighbours")

    def _place_parts(self, onsets: np.ndarray, gaps: bool) -> None:
        """Keep the onsets of records that do not follow each other, in s from the first one."""
        seconds = self._record_seconds
        late = np.diff(onsets) - seconds
        if not gaps:
            gap = int(np.argmax(np.abs(late)))
            raise UserError(
                f"{self.path}: the recording is discontinuous (EDF+D), first at "
                f"{self._first + onsets[gap]:g} s; split it into continuous files first"
            )
        self._onsets, self.seconds = onsets, float(onsets[-1] + seconds)
        if late.min() < -_LATE or self.seconds > LONGEST_SECONDS:
            raise UserError(f"{self.path}: records overlap or lie days apart; correct the file")
        ends = onsets[:-1] + seconds
        self.gaps = np.column_stack((ends, ends + late))[late > _LATE]


def _are_even(onsets: np.ndarray, seconds: float) -> bool:
    """Whether records of that length follow each other, none late by more than a millisecond."""
    return bool(np.abs(onsets - seconds * np.arange(len(onsets))).max() <= _SIMULTANEOUS)
