"""The formats in which a staged night is written, by the names that ``--export`` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from evaluation.exports import bids_dataset
from evaluation.exports.edf_export import write_edf
from evaluation.exports.night_tables import write_events, write_predictions
from evaluation.exports.text_exports import write_annot, write_eannot, write_snooz, write_yasa
from evaluation.exports.xml_exports import write_edfbrowser, write_nsrr, write_profusion
from evaluation.night_summary import picture, summary
from evaluation.staged_file import StagedFile
from utils import figures
from utils.arguments import nearest
from utils.errors import UserError
from utils.files import write_json

ALL = "all"


class DataSet(Protocol):
    """A data set of all recordings, below an output folder."""

    def path_of(self, folder: Path, name: str) -> Path:
        """Path in it of a recording, whose results have this name."""

    def check(self, folder: Path) -> None:
        """Refuse what lies in its place."""

    def describe(self, folder: Path) -> None:
        """Write what it has beside the recordings."""


@dataclass(frozen=True)
class Reasons:
    """How many epochs a page explains, 0 for none, for how many of them it has counterfactuals."""

    explained: int = 0
    counterfactuals: int = 0


@dataclass(frozen=True)
class Export:
    """One format: ``file`` is its name in a recording's folder, with ``{}`` for the recording's.

    A file after ``--output`` is of the format whose ``ending`` it has, the longest one first.
    ``programs`` read it. ``usual``: it is written into every folder; ``described``: a json of its
    name describes its columns; ``shared``: it lies in a data set of all recordings, beside their
    folders.
    """

    file: str
    programs: str
    write: Callable[[Path, StagedFile, Reasons], Any]
    ending: str = ""
    usual: bool = False
    described: bool = False
    shared: DataSet | None = None

    @property
    def own_ending(self) -> str:
        """The ending of a single file of this format; "" where there is none."""
        return self.ending or self.file.removeprefix("{}")


def _plain(write: Callable[[Path, StagedFile], Any]) -> Callable[[Path, StagedFile, Reasons], Any]:
    """A writer that explains nothing."""
    return lambda path, staged, reasons: write(path, staged)


def _page(path: Path, staged: StagedFile, reasons: Reasons) -> None:
    place = path.parent / "interpretations"
    staged.write_page(path, place, reasons.explained, reasons.counterfactuals)


_events = _plain(lambda path, staged: write_events(path, staged, staged.headline))
EXPORTS: Mapping[str, Export] = {
    "csv": Export(
        "{}.csv", "spreadsheets, pandas, R", usual=True,
        write=_plain(lambda path, staged: write_predictions(path, staged, staged.quality_flags)),
    ),
    "events": Export(
        "{}_events.tsv", "readers of BIDS events", _events, ".tsv", usual=True, described=True
    ),
    "edf": Export(
        "{}-Hypnogram.edf", "MNE, EDFbrowser, Luna, edfio, pyEDFlib", _plain(write_edf), ".edf",
        usual=True,
    ),
    "json": Export(
        "{}.json", "scripts", usual=True,
        write=_plain(lambda path, staged: write_json(path, summary(staged))),
    ),
    "png": Export(
        "{}.png", "papers, slides", usual=True,
        write=_plain(lambda path, staged: figures.save_as(picture(staged), path)),
    ),
    "html": Export("{}.html", "browsers", _page, usual=True),
    "bids": Export(
        "", "bids-validator, PyBIDS, MNE-BIDS", _events, described=True, shared=bids_dataset
    ),
    "annot": Export("{}.annot", "Luna", _plain(write_annot)),
    "eannot": Export("{}.eannot", "Luna", _plain(write_eannot)),
    "profusion": Export("{}-profusion.xml", "Compumedics Profusion", _plain(write_profusion)),
    "nsrr": Export("{}-nsrr.xml", "NSRR's tools, Luna", _plain(write_nsrr)),
    "edfbrowser": Export("{}_edfbrowser.xml", "EDFbrowser", _plain(write_edfbrowser)),
    "yasa": Export("{}_yasa.json", "YASA", _plain(write_yasa)),
    "snooz": Export("{}_snooz.tsv", "Snooz", _plain(write_snooz)),
}  # fmt: skip


def format_of(target: str) -> Export | None:
    """The format of a file after ``--output``, by its longest ending; ``None`` if it has none's."""
    fitting = [
        export
        for export in EXPORTS.values()
        if export.own_ending and target.lower().endswith(export.own_ending)
    ]
    return max(fitting, key=lambda export: len(export.own_ending), default=None)


def listed() -> str:
    """Endings of files after ``--output``, and which format each is: ``.csv, .tsv (events), …``."""
    endings = {name: export.own_ending for name, export in EXPORTS.items() if export.own_ending}
    return ", ".join(
        ending if ending == f".{name}" else f"{ending} ({name})" for name, ending in endings.items()
    )


def exports_named(names: Sequence[str]) -> dict[str, Export]:
    """The formats of a folder: the usual ones and those that are named.

    Raises:
        UserError: there is no such format; it lists them.
    """
    if unknown := [name for name in names if name not in (*EXPORTS, ALL)]:
        meant, known = nearest(unknown[0], EXPORTS), ", ".join((*EXPORTS, ALL))
        raise UserError(f"--export {unknown[0]}: no such format{meant}; formats are {known}")
    return {
        name: export
        for name, export in EXPORTS.items()
        if export.usual or name in names or ALL in names
    }


def help_of_exports() -> str:
    """What ``--help`` prints of the formats: those of every folder, and the others' programs."""
    usual = ", ".join(name for name, export in EXPORTS.items() if export.usual)
    others = "; ".join(f"{k} ({one.programs})" for k, one in EXPORTS.items() if not one.usual)
    return (
        f"formats to write into the folder beside {usual}: {others}; or {ALL}. What each holds: "
        "docs/staging.md"
    )
