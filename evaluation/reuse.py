"""Whose results lie under a name, and whether they are current.

Results are named after their recording's file: ``night`` of ``night.edf``. Where recordings share
a name, folders tell them apart: ``p1/psg.edf`` and ``p2/psg.edf`` give ``p1/psg`` and ``p2/psg``.
What decided a result is written with it, and one changed thing makes it out of date: the program's
version, the recording's bytes, the expert's, weights with their preparation, and the settings.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.readers import expert_annotations
from utils import manifest
from utils.errors import unreadable
from utils.files import is_ours, read_json, safe_name, sha256
from utils.json_values import parsed
from utils.version import VERSION

MADE_WITH = "made_with.json"

# flags of predict.py that do not decide what is in a result; the rest is written with it
NOT_SETTINGS = {
    "edf", "model", "expert", "list_models", "download", "output", "again", "overwrite", "device",
    "config", "is_interpret", "explain",
}  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """What results were made of: a recording of these bytes, by settings of this checksum.

    ``source`` is the recording's path, None where an earlier version did not record it.
    """

    source: Path | None
    sha256: str = ""
    settings: str = ""

    def is_of(self, other: Origin) -> bool:
        """Whether both are of one recording, which may have been edited, or moved."""
        if self.source in (None, other.source):
            return True
        return self.sha256 == other.sha256 and not self.source.exists()

    def is_current(self, now: Origin) -> bool:
        """Whether the results would come out the same now."""
        same = (self.sha256, self.settings) == (now.sha256, now.settings)
        return same and self.source is not None and self.is_of(now)


@dataclass(frozen=True)
class Namesakes:
    """Recordings that share a name: the folder ``common`` to them, and folders that hold several.

    A recording whose name nobody shares is the only one, and ``common`` its own folder.
    """

    common: Path
    crowded: frozenset[Path]


def namesakes_of(files: Sequence[Path]) -> dict[str, Namesakes]:
    """A command's recordings by their names, in lower case: some file systems ignore case."""
    folders: dict[str, list[Path]] = {}
    for file in files:
        folders.setdefault(file.stem.casefold(), []).append(file.parent.resolve())
    return {
        name: Namesakes(
            Path(os.path.commonpath(places)),
            frozenset(place for place, n in Counter(places).items() if n > 1),
        )
        for name, places in folders.items()
    }


def names_of(file: Path, namesakes: Mapping[str, Namesakes]) -> Iterator[str]:
    """Names that the results of ``file`` may have, the first choice first.

    Recordings that share a name mirror their tree below the folder that is common to them. Further
    names are for where the first is another recording's.

    Raises:
        UserError: the file's name cannot be one of results.
    """
    leaf, folder = safe_name(file.stem, file), file.parent.resolve()
    sharing = namesakes[file.stem.casefold()]
    if folder in sharing.crowded:  # night.edf beside night.bdf
        leaf = file.name
    above = folder.relative_to(sharing.common).parts
    for depth in range(len(above), len(folder.parts)):
        yield "/".join((*folder.parts[len(folder.parts) - depth :], leaf))


def made_with(
    source: Path, expert: str | None, stagers: Sequence[Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """All that decides the results of a recording, as JSON can hold it.

    ``expert`` is the file asked for, "none", or None for whichever lies beside the recording.

    Raises:
        UserError: the recording cannot be read.
    """
    beside = expert_annotations.find(source) if expert is None else Path(expert)
    scored = beside is not None and beside.is_file()
    made = {
        "version": VERSION,
        "source": source.parent.resolve() / source.name,
        "sha256": checksum(source),
        "expert": {"file": beside.name, "sha256": checksum(beside)} if scored else expert,
        "stagers": list(stagers),
        "settings": dict(settings),
    }
    return parsed(json.dumps(made, default=_plain))


def _plain(value: Any) -> Any:
    """What JSON has instead of paths and read-only mappings."""
    return dict(value) if isinstance(value, Mapping) else str(value)


def checksum(path: Path) -> str:
    """SHA-256 of a file of the user's.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return sha256(path)
    except OSError as error:
        raise unreadable(path, error) from error


def origin_of(made: Mapping[str, Any], folder: Path | None = None) -> Origin:
    """The origin of results made with these values, whose paths may be relative to ``folder``."""
    if not {"source", "sha256"} <= made.keys():  # of an earlier version
        return Origin(None)
    decided = {k: v for k, v in made.items() if k not in ("source", "sha256")}
    text = json.dumps(decided, sort_keys=True)
    source = _absolute(made["source"], folder) if folder else Path(made["source"])
    return Origin(source, made["sha256"], hashlib.sha256(text.encode()).hexdigest())


def relative(path: Path | str, folder: Path) -> str:
    """The path as a result in ``folder`` holds it: it stays true where both are moved together."""
    return os.path.relpath(path, folder.resolve())


def _absolute(path: str, folder: Path) -> Path:
    return Path(os.path.normpath(folder.resolve() / path))


def of_folder(folder: Path) -> Origin | None:
    """The origin of the results in a folder; None where there are none, or not all any more."""
    path = folder / MADE_WITH
    if not path.is_file():
        return None
    origin = origin_of(read_json(path), folder)
    whole = all((folder / name).exists() for name in manifest.read(folder).files)
    return origin if whole else Origin(origin.source)


def of_file(path: Path) -> Origin | None:
    """The origin of one file of results; None where there is none of this program's."""
    if not is_ours(path):
        return None
    source, *checksums = manifest.read(path.parent).files[path.name].origin or (None,)
    return Origin(source and _absolute(source, path.parent), *checksums)


def entry_of(path: Path, origin: Origin) -> tuple[str, str, str]:
    """An origin as the list of this program's files holds it for one file."""
    return relative(origin.source, path.parent), origin.sha256, origin.settings


@dataclass(frozen=True)
class Place:
    """Where the results of one recording go: a folder of all formats below ``root``, or files.

    ``chosen``: the user typed the names of the files, which are written anew without asking.
    ``shared`` are its files in data sets of all recordings, beside the folder.
    """

    root: Path
    folder: Path
    files: Sequence[Path] = ()
    chosen: bool = False
    shared: Sequence[Path] = ()

    @property
    def locked_by(self) -> Path:
        """The path whose lock is that of the results."""
        return self.files[0] if self.files else self.folder

    def is_current(self, now: Origin) -> bool:
        """Whether all results are there and would come out the same."""
        return not self.chosen and all(one and one.is_current(now) for one in self._origins())

    def holder(self, now: Origin) -> str:
        """Another recording's results that are in the way, in words; empty if none are."""
        if self.chosen:
            return ""
        if not self.files and (inside := self._nested()):
            return f"{inside} holds the results of another recording"
        places = [*(self.files or [self.folder]), *self.shared]
        held = zip(places, self._origins(), strict=True)
        others = ((path, one) for path, one in held if one and not one.is_of(now))
        words = (f"{path} holds the results of {one.source}" for path, one in others)
        return next(words, "")

    def _origins(self) -> list[Origin | None]:
        own = [of_file(path) for path in self.files] or [of_folder(self.folder)]
        return own + [of_file(path) for path in self.shared]

    def _nested(self) -> Path | None:
        """Results that this folder would lie in, or that would lie in this folder."""
        depth = len(self.folder.relative_to(self.root).parts)
        above = [path for path in self.folder.parents[: depth - 1] if (path / MADE_WITH).exists()]
        if above or (self.folder / MADE_WITH).exists():
            return next(iter(above), None)
        return next((path.parent for path in self.folder.rglob(MADE_WITH)), None)
