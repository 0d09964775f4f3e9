"""Which files are this program's own: a hidden manifest in each folder that it writes into.

``.sleep-staging.json`` lists names, sizes and checksums of what was written there. A file is ours
while its bytes are those of the list: one that a user edited, or put there, is a stranger's.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.json_values import value_in
from utils.locks import SOFT_SUFFIX, SUFFIX, locked
from utils.text import unmarked

NAME = ".sleep-staging.json"
_PROGRAM = "sleep-staging"
_LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}  # file managers', nobody's work
# ends of hidden names: being written, moved aside while it is replaced; and as it was before
UNFINISHED, REPLACED = ".staging-unfinished", ".staging-replaced"
OLD_TEMPORARY = re.compile(r"\..+\.(?P<pid>\d+)\.unfinished")


@dataclass(frozen=True)
class Entry:
    """One written file. ``what`` is its kind where a user chose its name.

    ``former`` (bytes, sha256) is what it replaces or extends, until that is done. A file that
    other programs fill as well, such as a log, ``grows`` and is known by its name alone. ``origin``
    is what a result was made of (:mod:`evaluation.reuse`).
    """

    bytes: int = 0
    sha256: str = ""
    what: str = ""
    former: tuple[int, str] | None = None
    grows: bool = False
    origin: tuple[str, str, str] | None = None

    def is_of(self, path: Path) -> bool:
        """Whether the file at ``path`` is what was written, or what a killed write left."""
        if self.grows:
            return True
        size = path.stat().st_size
        if size == self.bytes and sha256(path) == self.sha256:
            return True
        if self.former is None:
            return False
        start, digest = self.former
        # the former file untouched, or with some of what a killed process was appending
        return start <= size < max(self.bytes, start + 1) and sha256(path, start) == digest


@dataclass
class Manifest:
    """What a folder's list holds; ``what`` is its kind if it was written as a whole.

    ``older``: begun for a store or run that existed before there were lists.
    """

    what: str = ""
    older: bool = False
    files: dict[str, Entry] = field(default_factory=dict)


def sha256(path: Path, size: int | None = None) -> str:
    """Checksum of a file's bytes, or of its first ``size``."""
    with path.open("rb") as file:
        if size is not None:
            return hashlib.sha256(file.read(size)).hexdigest()
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(folder: Path) -> Manifest:
    """The folder's list; an empty one where there is none.

    Stores, runs and synthetic recordings from before there were lists are known by their records.

    Raises:
        UserError: a file of that name which is none.
    """
    path = folder / NAME
    if not path.is_file():
        return _from_before(folder)
    try:
        raw = value_in(path)
        if raw["made_by"] != _PROGRAM:
            raise ValueError("another program's")
        files = {name: _entry(fields) for name, fields in dict(raw["files"]).items()}
        return Manifest(raw["what"], raw.get("older", False), files)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not a list of this program's files ({error}); nothing beside it is replaced: "
            "choose another folder, or move that file away"
        ) from error


def _entry(fields: dict[str, Any]) -> Entry:
    tuples = {name: tuple(fields[name]) for name in ("former", "origin") if fields.get(name)}
    return Entry(**fields | tuples)


def write(folder: Path, manifest: Manifest) -> None:
    """Replace the folder's list; the same files give the same bytes."""
    files = {name: _fields(entry) for name, entry in sorted(manifest.files.items())}
    older = {"older": True} if manifest.older else {}
    about = {"made_by": _PROGRAM, "what": manifest.what, **older, "files": files}
    text = json.dumps(about, indent=1)
    path = folder / NAME
    temporary = folder / f"{NAME}{UNFINISHED}"
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


def _fields(entry: Entry) -> dict[str, Any]:
    return {k: v for k, v in vars(entry).items() if v not in ("", None, False)} | (
        {} if entry.grows else {"bytes": entry.bytes}
    )


def update(folder: Path, name: str, entry: Entry | None) -> None:
    """Set one file of the folder's list or, with ``None``, take it out."""
    # lock files begin with a dot of their own
    with locked(folder / NAME.removeprefix(".")):
        manifest = read(folder)
        if manifest.files.get(name) == entry:
            return
        if entry is None:
            del manifest.files[name]
        else:
            manifest.files[name] = entry
        write(folder, manifest)


def keep(folder: Path) -> None:
    """Write the list of a folder that has none, before the record it follows from is deleted."""
    with locked(folder / NAME.removeprefix(".")):
        if not (folder / NAME).exists():
            write(folder, read(folder))


def write_for_tree(folder: Path, what: str) -> None:
    """Lists for a folder that was written as a whole, and for every folder in it."""
    for place in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
        files = {p.name: Entry(p.stat().st_size, sha256(p)) for p in place.iterdir() if p.is_file()}
        write(place, Manifest(what if place == folder else "", files=files))


def is_ours(path: Path, what: str | None = None) -> bool:
    """Whether this program wrote the file, as ``what`` if that is given, and nobody changed it."""
    if path.is_symlink() or not path.is_file():
        return False
    entry = read(path.parent).files.get(path.name)
    return entry is not None and what in (None, entry.what) and entry.is_of(path)


def is_temporary(name: str) -> bool:
    """Whether a name is of a file or folder that is being written, or of a lock."""
    return name.startswith(".") and name.endswith((UNFINISHED, REPLACED, SUFFIX, SOFT_SUFFIX))


def strangers(folder: Path) -> Iterator[Path]:
    """Files anywhere below ``folder`` that are not ours, links included."""
    for place, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        known = read(Path(place)).files
        # os.walk counts links to folders among the folders, and does not enter them
        for name in sorted(names + links):
            path = Path(place) / name
            if name == NAME or name in _LITTER or is_temporary(name):
                continue
            if path.is_symlink() or name not in known or not known[name].is_of(path):
                yield path


# from before there were lists: the record of a folder, what it holds, and names it gives files
_EVALUATION = (
    r"evaluation[^/]*/((metrics|dod|missing_roles|sleep_statistics|probes|cleaning)\.json|"
    r"(recordings|stages|confusion_matrix|calibration|risk_coverage|sleep_statistics|dod|"
    r"missing_roles|probes|cleaning)\.csv|(confusion_matrix|reliability|risk_coverage|"
    r"missing_roles)\.png|predictions/[^/]+\.csv|events/[^/]+_events\.(tsv|json)|"
    r"edf/[^/]+-Hypnogram\.edf|nights/[^/]+\.png)"
)
_EXPLANATIONS = (
    r"interpretations[^/]*/((index|faithfulness)\.json|stage_means\.npz|"
    r"(summary|bands|deletion_insertion|stage_means|(planted|found|detected)_events)\.csv|"
    r"(bands|deletion_insertion|randomisation|stage_means)\.png|[^/]+\.html|"
    r"[^/]+_(roles|attention)\.(csv|png|npz)|[^/]+_e\d{4}/[^/]+\.(npz|png|svg))"
)
_RECORDS = {
    "dataset.json": ({"format", "channels", "command"}, re.compile(
        r"dataset\.json|recordings\.csv|left_out\.csv|folds/[^/]+\.json|figures/[^/]+\.png|"
        r"nights/[^/]+/(signals[\w.]*\.npy|stages\.npy|night\.json)"
    )),
    "run.json": ({"settings", "versions"}, re.compile(
        r"run\.json|metrics\.(jsonl|csv)|curve\.png|cohorts\.csv|"
        r"tensorboard/events\.out\.tfevents\.[^/]+|"
        r"checkpoints/(last|best|best_accuracy|pass_\d+)\.pt|encoded/[^/]+/[^/]+\.npz|"
        rf"embeddings/(train|validation|held_out|controls)\.(npz|csv)|{_EVALUATION}|{_EXPLANATIONS}"
    )),
    "manifest.json": ({"settings", "latent_agreement", "recordings"}, None),
    "settings.json": ({"cohort", "folds", "flags"}, re.compile(
        r"settings\.json|\w+\.(csv|json|md|tex)|seed\d+/[^/]+\.(log|pid)"
    )),
    "search.json": ({"script", "metric", "setting"}, re.compile(
        r"study\.db|trials\.csv|(best|search)\.json|\w+\.png|trials/[^/]+/(log\.txt|pid)"
    )),
}  # fmt: skip
_WHOLE = {
    r"nights/[^/]+/": "stored night", r"evaluation[^/]*/": "evaluation",
    r"interpretations[^/]*/": "explanations",
}  # fmt: skip
_DEPTH = 4
_EXPORTS = {"predictions", "events", "edf", "nights"}


def _from_before(folder: Path) -> Manifest:
    """The list that a store, run or synthetic cohort older than lists would have had."""
    for base in (folder, *folder.parents[:_DEPTH]):
        for record, (keys, pattern) in _RECORDS.items():
            facts = _facts(base / record)
            if not keys <= facts.keys():
                continue
            if (base / NAME).is_file() and not read(base).older:
                return Manifest()  # of a store or run that has had lists from its beginning
            pattern = pattern or _names_of(facts)
            where = "" if folder == base else folder.relative_to(base).as_posix() + "/"
            files = (
                {
                    path.name: Entry(path.stat().st_size, sha256(path))
                    for path in folder.iterdir()
                    if path.is_file()
                    and pattern.fullmatch(where + path.name)
                    and _is_of_a_night(path)
                }
                if folder.is_dir()
                else {}
            )
            return Manifest(_whole(where), True, files)
    return Manifest()


def _is_of_a_night(path: Path) -> bool:
    """Whether a page has explained epochs beside it, and an export is of an evaluated recording."""
    if path.parent.name in _EXPORTS and path.parent.parent.name.startswith("evaluation"):
        return re.sub(r"(_events|-Hypnogram)$", "", path.stem) in _evaluated(path.parent.parent)
    epochs = f"{glob.escape(path.stem)}_e[0-9][0-9][0-9][0-9]"
    return path.suffix != ".html" or any(path.parent.glob(epochs))


def _evaluated(folder: Path) -> set[str]:
    table = folder / "sleep_statistics.csv"
    if not table.is_file():
        return set()
    with table.open(newline="", encoding="utf-8") as file:
        return {unmarked(row.get("recording") or "") for row in csv.DictReader(file)}


def _whole(where: str) -> str:
    """What the folder ``where`` in a store or run was written as, if it was as a whole."""
    kinds = (kind for pattern, kind in _WHOLE.items() if re.fullmatch(pattern, where))
    return next(kinds, "")


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts = value_in(path) if path.is_file() else {}
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _names_of(facts: dict[str, Any]) -> re.Pattern[str]:
    """Files of a synthetic cohort's recordings, in any folder of it."""
    rows = facts["recordings"] if isinstance(facts["recordings"], list) else []
    stems = [row["recording"] for row in rows if isinstance(row, dict) and "recording" in row]
    stems = [stem for stem in stems if isinstance(stem, str) and stem]
    if not stems:  # another program's manifest: nothing follows from it
        return re.compile("manifest.json")
    # a Sleep-EDF recording and its hypnogram share seven characters: SC4001E0, SC4001EC
    stems = {stem[:7] if stem.startswith("SC4") else stem for stem in stems}
    return re.compile(rf"manifest\.json|(.*/)?({'|'.join(map(re.escape, stems))})[^/]*")
