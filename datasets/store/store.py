"""The store: prepared nights on disk, memory-mapped, described by files of plain text.

::

    dataset.json                     format, cohort, settings, channels, the command that made it
    recordings.csv                   one row per night: subject, stage counts, source, checksum
    folds/<name>.json                lists of subject ids
    nights/<recording>/signals.npy   [n_epochs, n_channels, fs*30], uV or integers
    nights/<recording>/signals_<fs>hz.npy   channels of other rates, where asked for
    nights/<recording>/stages.npy    int8 [n_epochs], -1 = unscored
    nights/<recording>/night.json    channels, mean and sd, offset in the source, start time

Epochs stay in time order and none is dropped inside the kept range. A night is written under a
temporary name and renamed, ``dataset.json`` comes last: a store that opens is whole.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from datasets.readers.recording import Scale
from datasets.store import descriptions
from datasets.store.integers import INTEGERS, recorded_scale, to_integers, to_values
from datasets.store.moments import channel_moments
from datasets.store.preparation import PreparedNight, Settings, preset_named
from datasets.store.stored_night import Night, channel_of, read_night, remake, signals_name
from utils.errors import UserError
from utils.files import sha256, write_array, write_json, write_text, written_folder
from utils.json_values import value_in
from utils.stages import EPOCH_SECONDS, STAGES, stage_counts
from utils.text import harmless
from utils.version import VERSION

FORMAT_VERSION = 1
STORED_NIGHT = "stored night"  # what a night's folder is called where it may be replaced
# what differs between the nights of a store, whose channels are otherwise the same
_OF_ONE_NIGHT = ("mean", "sd", "derivation", "scale")


class Store:
    """A finished store, opened for reading.

    Raises:
        UserError: no store there, an unfinished one, or one of another format version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        description = self._read_description()
        self.cohort: str = description["cohort"]
        self.settings: dict[str, Any] = description["settings"]
        self.channels = tuple(channel_of(fields) for fields in description["channels"])
        try:
            self.recordings = descriptions.table_rows(self.path / "recordings.csv")
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.path}: damaged store ({type(error).__name__}: {error}); run the preprocess "
                "script with this path again"
            ) from error

    def _read_description(self) -> dict[str, Any]:
        path = self.path / "dataset.json"
        if not path.is_file():
            state = "its preparation did not finish" if self.path.is_dir() else "there is no store"
            raise UserError(f"{self.path}: {state}; run the preprocess script with this path")
        try:
            description = descriptions.store_facts(path, FORMAT_VERSION)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path}: not a description of a store ({error}); run the preprocess script with "
                "this path again"
            ) from error
        if (version := description["format"]) != FORMAT_VERSION:
            raise UserError(
                f"{path}: store format {version}, this code reads {FORMAT_VERSION}; "
                "prepare the data again into a new folder"
            )
        return description

    @property
    def subjects(self) -> list[str]:
        """Subject ids, ascending."""
        return sorted({row["subject"] for row in self.recordings.values()})

    def of_subjects(self, subjects: Iterable[str]) -> list[str]:
        """Recording ids of these subjects, ascending."""
        wanted = set(subjects)
        return sorted(r for r, row in self.recordings.items() if row["subject"] in wanted)

    def night(self, recording: str) -> Night:
        """One night by recording id."""
        if recording not in self.recordings:
            raise UserError(f"{self.path}: no recording {recording!r} in this store")
        night, row = read_night(self.path / "nights" / recording), self.recordings[recording]
        # subjects are split by the table, so one that is damaged would train on who is held out
        if (night.subject, str(night.n_epochs)) != (row["subject"], row["n_epochs"]):
            raise UserError(f"{night.folder}: differs from recordings.csv; {remake(night.folder)}")
        if night.channels != self.channels:
            raise UserError(f"{night.folder}: has other channels; {remake(night.folder)}")
        return night


def write_night(
    nights: Path, prepared: PreparedNight, settings: Settings, sources: Iterable[Path]
) -> None:
    """Write one night's folder under ``nights``, whole or not at all."""
    recording, stored, scales = prepared.recording, prepared.signals, {}
    if settings.dtype == INTEGERS:
        stored, scales = _as_integers(prepared)
    moments = {
        fs: np.stack(channel_moments(epochs, prepared.stages), axis=1).tolist()
        for fs, epochs in prepared.signals.items()
    }
    channels = []
    for channel in prepared.channels:
        # v != v: NaN alone differs from itself
        mean, sd = (None if v != v else v for v in moments[channel.fs].pop(0))
        of_night = {"mean": mean, "sd": sd}
        if settings.kept is not None:
            of_night["derivation"] = recording.derivations.get(channel.label)
        if scales:
            of_night["scale"] = scales[channel.label]
        channels.append(asdict(channel) | of_night)
    facts = {
        "version": VERSION,
        "recording": recording.id,
        "subject": recording.subject,
        "night": recording.night,
        "n_epochs": len(prepared.stages),
        "first_epoch": prepared.first_epoch,
        "start": recording.start.isoformat() if recording.start else None,
        **_own_onsets(prepared),
        **({"note": recording.note} if recording.note else {}),
        "channels": channels,
        "counts": stage_counts(prepared.stages),
        "settings": settings.as_json(),
        "sources": {
            path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in sources
        },
    }
    with written_folder(nights / recording.id, STORED_NIGHT) as folder:
        for fs, epochs in stored.items():
            write_array(folder / signals_name(fs, prepared.channels), epochs)
        write_array(folder / "stages.npy", prepared.stages)
        write_json(folder / "night.json", facts)


def _own_onsets(prepared: PreparedNight) -> dict[str, list[float]]:
    """Onsets in s of the source of epochs that do not follow each other from its start."""
    if (onsets := prepared.recording.onsets) is None:
        return {}
    first = prepared.first_epoch
    return {"onsets": np.round(onsets[first : first + len(prepared.stages)], 6).tolist()}


def _as_integers(
    prepared: PreparedNight,
) -> tuple[dict[float, np.ndarray], dict[str, Scale | None]]:
    """Integers by rate and scales by label; ``prepared`` gets the values that will be read back."""
    stored, scales = {}, {}
    for fs, epochs in prepared.signals.items():
        stored[fs] = np.empty(epochs.shape, np.int16)
        labels = [channel.label for channel in prepared.channels if channel.fs == fs]
        for k, label in enumerate(labels):
            recorded = recorded_scale(prepared.recording.signals.get(label))
            stored[fs][:, k], scales[label] = to_integers(epochs[:, k], recorded)
        # moments are those of what is read back
        epochs[:] = to_values(stored[fs], [scales[label] for label in labels])
    return stored, scales


def refuse_other_settings(nights: Path, settings: Settings) -> None:
    """Refuse a store whose nights were prepared with other settings.

    Raises:
        UserError: naming the settings in which a finished night differs from these.
    """
    asked = settings.as_json()
    for folder in sorted(nights.glob("[!.]*")):
        # a damaged night is no obstacle: it is prepared again
        made_with = dict(_facts(folder).get("settings", asked))
        if "preset" in made_with:
            made_with["preset"] = preset_named(made_with["preset"])
        if differing := sorted(key for key in asked if asked[key] != made_with.get(key)):
            raise UserError(
                f"{nights.parent}: prepared before with other settings "
                f"({', '.join(differing)}); choose another --save_path or delete that store"
            )


def is_current(folder: Path, sources: Iterable[Path]) -> bool:
    """Whether this version made a finished night from exactly these files."""
    facts, sources = _facts(folder), list(sources)
    known = facts.get("sources", {})
    if facts.get("version") != VERSION or set(known) != {path.name for path in sources}:
        return False
    # sizes first, as a checksum reads the whole file
    return all(
        path.stat().st_size == known[path.name].get("bytes")
        and sha256(path) == known[path.name].get("sha256")
        for path in sources
    )


def _facts(folder: Path) -> dict[str, Any]:
    """Contents of a night's ``night.json``; empty if it is missing or damaged."""
    try:
        return descriptions.night_facts(folder / "night.json")
    except (OSError, ValueError):
        return {}


def finish(path: Path, settings: Settings, command: str) -> Store:
    """Write the table and the description over all nights present, and open the store.

    Raises:
        UserError: nights whose channels, rates or units differ cannot share a store.
    """
    rows, channels = [], None
    for folder in sorted((path / "nights").glob("[!.]*")):
        facts = value_in(folder / "night.json")
        these = [{k: v for k, v in c.items() if k not in _OF_ONE_NIGHT} for c in facts["channels"]]
        if channels is not None and these != channels:
            raise UserError(
                f"{folder}: its channels differ from the other nights' "
                f"({_brief(these)} against {_brief(channels)}); bring them to one rate with "
                "--resample or prepare them into a store of their own"
            )
        channels = these
        rows.append(_row(facts))
    columns = list(rows[0])
    table = io.StringIO()
    # one end of line on every system, so that a store has the same bytes everywhere
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    # ids come from names of files, which a spreadsheet could take for a formula
    writer.writerows({name: harmless(value) for name, value in row.items()} for row in rows)
    write_text(path / "recordings.csv", table.getvalue())
    description = {
        "format": FORMAT_VERSION,
        "version": VERSION,
        "cohort": settings.cohort,
        "settings": settings.as_json(),
        "channels": channels,
        "epoch_seconds": EPOCH_SECONDS,
        "stages": list(STAGES),
        "command": command,
    }
    # last of all: its presence marks a finished store
    write_json(path / "dataset.json", description)
    return Store(path)


def _row(facts: dict[str, Any]) -> dict[str, Any]:
    # of several files the first is the recording
    source, checks = next(iter(facts["sources"].items()))
    return {
        "recording": facts["recording"],
        "subject": facts["subject"],
        "night": facts["night"],
        "n_epochs": facts["n_epochs"],
        **facts["counts"],
        "source": source,
        "sha256": checks["sha256"],
    }


def _brief(channels: list[dict[str, Any]]) -> str:
    return ", ".join(f"{c['label']} {c['fs']:g} Hz {c['unit']}" for c in channels)
