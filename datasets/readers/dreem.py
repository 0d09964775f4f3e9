"""Dreem Open Datasets: one HDF5 file per record, its own hypnogram, and five scorers beside it.

Guillot et al., IEEE TNSRE 2020; files from Zenodo, DOI 10.5281/zenodo.15900394 (MIT). Signals are
µV already; labels are 0 to 4 and -1, as ours.
"""

from __future__ import annotations

import math
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from datasets.readers.consensus import aligned, all_of, scored_window
from datasets.readers.discovery import files_below, is_hidden
from datasets.readers.hdf5_file import attribute, numbers_at, opened
from datasets.readers.known_channels import alternatives
from datasets.readers.recording import (
    Recording,
    Signal,
    bouts_of,
    stages_from_bouts,
    unit_named,
    whole_epochs,
)
from utils.errors import UserError
from utils.json_values import parsed, value_in
from utils.stages import EPOCH_SECONDS, LONGEST_SECONDS, STAGES, UNSCORED

ROLES = alternatives("dreem")
N_SCORERS = 5
_FASTEST_HZ = 1e5
_MOST_SIGNALS = 1000
_MOST_EPOCHS = LONGEST_SECONDS // EPOCH_SECONDS
# what zipfile raises for damaged members, locked ones, and ways of packing that it does not know
_OF_ZIP = (OSError, zipfile.BadZipFile, EOFError, zlib.error, RuntimeError, ValueError)


@dataclass(frozen=True)
class Record:
    """One subject's night; ``scorers`` are the lists of codes that replace the file's hypnogram.

    ``path`` is the record, or the zip that holds it as ``member``. Where stages are not
    ``needed``, a hypnogram that is missing, damaged or of another length becomes a note.
    """

    path: Path
    scorers: tuple[Path, ...] = ()
    allow_length_mismatch: bool = False
    member: str | None = None
    needed: bool = True

    @property
    def id(self) -> str:
        """The record's uuid, which is its subject too."""
        return Path(self.member or self.path).stem

    @contextmanager
    def at_hand(self) -> Iterator[Record]:
        """The record as a file of its own, unpacked for as long as it is needed.

        Raises:
            UserError: the zip is damaged there.
        """
        if self.member is None:
            yield self
            return
        # HDF5 is read at random places, which a compressed member of a zip cannot offer
        with TemporaryDirectory(prefix="dreem-") as folder:
            unpacked = Path(folder) / f"{self.id}.h5"
            try:
                with zipfile.ZipFile(self.path) as archive, unpacked.open("wb") as file:
                    shutil.copyfileobj(archive.open(self.member), file)
            except _OF_ZIP as error:
                raise UserError(
                    f"{self.path}: cannot unpack {self.member} ({error}); fetch it again"
                ) from error
            yield replace(self, path=unpacked, member=None)

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything the night is made from."""
        return (self.path, *self.scorers)


def find_records(
    raw_path: Path, *, scorers: Path | None = None, allow_length_mismatch: bool = False
) -> list[Record]:
    """All ``*.h5`` in a folder or zip by id, with ``<scorers>/scorer_1..5/<id>.json`` if asked for.

    Raises:
        UserError: there is none, an id occurs twice, or a scorer's list is missing.
    """
    records: dict[str, Record] = {}
    for record in _all_records(raw_path):
        where = record.member or record.path
        if record.id in records:
            raise UserError(f"{where}: a second record {record.id}; remove one of the two")
        lists = ()
        if scorers is not None:
            lists = tuple(
                scorers / f"scorer_{k}" / f"{record.id}.json" for k in range(1, N_SCORERS + 1)
            )
            if missing := [str(p) for p in lists if not p.is_file()]:
                raise UserError(f"{where}: no scorer's list {missing[0]}")
        records[record.id] = replace(
            record, scorers=lists, allow_length_mismatch=allow_length_mismatch
        )
    if not records:
        raise UserError(
            f"{raw_path}: no *.h5 records there; fetch them with --download, name dodh.zip or "
            "dodo.zip (Zenodo, DOI 10.5281/zenodo.15900394), or make synthetic ones with "
            "generate_demo_data.py --format dreem"
        )
    return list(records.values())


def _all_records(raw_path: Path) -> list[Record]:
    if raw_path.suffix.lower() != ".zip":
        files = files_below(raw_path, [".h5"]) if raw_path.exists() else []
        return [Record(path) for path in sorted(files, key=lambda p: p.stem)]
    try:
        with zipfile.ZipFile(raw_path) as archive:
            names = [
                n for n in archive.namelist() if n.lower().endswith(".h5") and not is_hidden(n)
            ]
    except _OF_ZIP as error:
        raise UserError(f"{raw_path}: not a readable zip ({error}); fetch it again") from error
    return sorted((Record(raw_path, member=name) for name in names), key=lambda r: r.id)


def is_synthetic(record: Record) -> bool:
    """Whether a generator wrote the file."""
    with record.at_hand() as local, opened(local.path) as file:
        return attribute(file, "generator") == "synthetic"


def read(record: Record) -> Recording:
    """One night: signals as the file describes them, stages counted from the signals' start.

    Raises:
        UserError: no HDF5, no description, signals it does not hold or that end apart, no
            hypnogram, or one whose length differs by more than an epoch.
    """
    with opened(record.path) as file:
        described = _description(file, record.path)
        signals = {entry["name"]: _signal(file, entry, record.path) for entry in described}
        hypnogram, fault = _hypnogram_or_fault(file, record)
        began, odd_start = _start(file)
    lengths = {signal.seconds for signal in signals.values()}
    # rates differ, so the ends may, too, by less than a second
    if max(lengths) - min(lengths) >= 1:
        raise UserError(
            f"{record.path}: its signals last {min(lengths):g} to {max(lengths):g} s; they are not "
            "of one recording"
        )
    n_epochs = whole_epochs(min(lengths))
    difference = len(hypnogram) - n_epochs if len(hypnogram) else 0
    lengths_differ = f"{len(hypnogram)} stages for {n_epochs} epochs of signal" * bool(difference)
    if abs(difference) > 1 and record.needed and not record.allow_length_mismatch:
        raise UserError(
            f"{record.path}: {lengths_differ}; --allow_length_mismatch takes them as beginning "
            "together"
        )
    if abs(difference) > 1 and not record.needed:
        fault, hypnogram = fault or lengths_differ, np.zeros(0, np.int8)
    fault = f"no agreement: {fault}" if fault else lengths_differ
    bouts = bouts_of(hypnogram)
    stages = stages_from_bouts(bouts, n_epochs)
    note = "; ".join(filter(None, (fault, odd_start))) or None
    return Recording(
        record.id,
        record.id,
        1,
        signals,
        bouts,
        stages,
        began,
        note,
    )


def read_scorers(record: Record) -> np.ndarray:
    """The scorers' codes (5, n).

    Raises:
        UserError: a list is no list of codes from -1 to 4, or their lengths differ.
    """
    lists = []
    for path in record.scorers:
        try:
            codes = np.array(value_in(path))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a list of stages ({error})") from error
        # a list with a null or a fraction becomes an array of objects or floats
        if codes.ndim != 1 or codes.dtype.kind != "i" or not _are_codes(codes):
            raise UserError(f"{path}: not a list of codes from -1 to 4")
        lists.append(codes)
    if len({len(codes) for codes in lists}) > 1:
        lengths = ", ".join(str(len(codes)) for codes in lists)
        raise UserError(f"{record.id}: its scorers have lists of {lengths} epochs")
    return np.stack(lists).astype(np.int8)


def _start(file: Any) -> tuple[datetime | None, str]:
    """When it began, without a zone, as in EDF, and a note where the file has it unreadably.

    Nothing is lost without it, so that it is no reason to refuse a night.
    """
    try:
        value = attribute(file, "start_time")
        if value is None:
            return None, ""
        if isinstance(value, str) and not value.strip().replace(".", "", 1).isdecimal():
            return datetime.fromisoformat(value.strip()).replace(tzinfo=None), ""
        return datetime.fromtimestamp(float(value), UTC).replace(tzinfo=None), ""
    except (ValueError, TypeError, OverflowError, OSError):
        return None, "its start_time is unreadable, so its clock is unknown"


def _description(file: Any, path: Path) -> list[dict[str, Any]]:
    """The list of signals in the root's ``description``."""
    if "description" not in file.attrs:
        raise UserError(f"{path}: no 'description' of its signals; is it a Dreem record?")
    try:
        text = attribute(file, "description")
        entries = parsed(text) if isinstance(text, str) else None
        if not isinstance(entries, list) or len(entries) > _MOST_SIGNALS:
            raise ValueError("no list of signals")
        for entry in entries:
            entry["fs"], entry["unit"] = float(entry["fs"]), unit_named(str(entry["unit"]))
            entry["name"], entry["path"] = str(entry["name"]), str(entry["path"]).strip("/")
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(f"{path}: broken 'description' of its signals ({error})") from error
    if not entries:
        raise UserError(f"{path}: describes no signals")
    names = [entry["name"] for entry in entries]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path}: describes {', '.join(twice)} twice; correct the description")
    return entries


def _signal(file: Any, entry: dict[str, Any], path: Path) -> Signal:
    """One channel, read when asked for."""
    where, fs = entry["path"], entry["fs"]
    if not (math.isfinite(fs) and 0 < fs <= _FASTEST_HZ):
        raise UserError(f"{path}: /{where} has a rate of {fs:g} Hz")
    samples = numbers_at(file, path, where)
    n_samples, place = samples.size, samples.name
    if n_samples / fs > LONGEST_SECONDS:
        raise UserError(f"{path}: /{where} claims to last {n_samples / fs:g} s")

    # opened again for every piece: the file is closed once its description has been read
    def piece(start: float, stop: float) -> np.ndarray:
        with opened(path) as again:
            return np.asarray(again[place][round(start * fs) : round(stop * fs)], np.float64)

    return Signal(fs, entry["unit"], n_samples / fs, piece)


def _hypnogram_or_fault(file: Any, record: Record) -> tuple[np.ndarray, str]:
    """The stages, or none of them and why, where they are not needed."""
    if "hypnogram" not in file and not record.needed:
        return np.zeros(0, np.int8), ""
    try:
        return _hypnogram(file, record), ""
    except UserError as error:
        if record.needed:
            raise
        return np.zeros(0, np.int8), str(error)


def _hypnogram(file: Any, record: Record) -> np.ndarray:
    """The file's own stages, or the scorers' consensus brought to their place."""
    if "hypnogram" not in file:
        raise UserError(f"{record.path}: has no /hypnogram, so nothing can be learned from it")
    listed = numbers_at(file, record.path, "hypnogram")
    if listed.size > _MOST_EPOCHS:
        raise UserError(
            f"{record.path}: /hypnogram claims {listed.size:,} epochs; damaged, fetch it again"
        )
    own = np.asarray(listed)
    if not _are_codes(own):
        raise UserError(f"{record.path}: /hypnogram is not a list of codes from -1 to 4")
    own = own.astype(np.int8)
    if not record.scorers:
        return own
    scored = read_scorers(record)
    first, last = scored_window(scored, record.id)
    agreed, _ = all_of(scored[:, first:last])
    # the lists carry no time: their place is where they agree with the file's own hypnogram
    offset = aligned(agreed, own)
    if offset is None:
        raise UserError(
            f"{record.path}: its scorers agree with /hypnogram nowhere (95 % of epochs at one "
            "shift are asked for); leave out --scorers"
        )
    # epochs that a scorer had not reached, or had left, stay unscored
    stages = np.full(len(own), UNSCORED, np.int8)
    start, stop = max(0, offset), min(len(own), offset + len(agreed))
    stages[start:stop] = agreed[start - offset : stop - offset]
    return stages


def _are_codes(values: np.ndarray) -> bool:
    return values.size > 0 and bool(np.isin(values, range(UNSCORED, len(STAGES))).all())
