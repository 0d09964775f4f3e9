"""Recordings below a folder: the one search of every script that takes folders.

Hidden folders and files are passed over, as are macOS's ``._name`` and ``__MACOSX``; folders that
are links are followed, each once, so that circles end; suffixes count in any case. A link to
nothing is listed: who opens it reports it by name.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from datasets.readers.channels import can_be_staged
from datasets.readers.edf_header import ANNOTATION_LABELS, Header
from utils.errors import UserError, unreadable

EDF_SUFFIXES = (".edf", ".bdf", ".rec")
_OF_MACOS = "__MACOSX"


def files_below(
    folder: Path, suffixes: Sequence[str] = (), faults: list[str] | None = None
) -> list[Path]:
    """Files below ``folder``, by path, of some suffixes in lower case, or all.

    Folders that cannot be read are added to ``faults``, in words.

    Raises:
        UserError: a folder cannot be read, and there is no such list.
    """
    files = _walked(folder, faults)
    return sorted(path for path in files if not suffixes or path.suffix.lower() in suffixes)


def is_hidden(path: PurePath | str) -> bool:
    """Whether any part of a path is hidden, or one of macOS's own."""
    parts = PurePath(path).parts
    # a recording called "..", as in "...edf", is none: it is refused by its name
    return _OF_MACOS in parts or any(
        part.startswith(".") and PurePath(part).stem.strip(".") for part in parts
    )


def _walked(folder: Path, faults: list[str] | None) -> Iterator[Path]:
    """Every file; folders that are links come last, so that files have their own paths."""
    seen: set[tuple[int, int]] = set()
    folders, links = [folder], []
    while folders or links:
        place = folders.pop() if folders else links.pop()
        try:
            status = place.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(place) as entries:
                inside = [entry for entry in entries if not is_hidden(entry.name)]
        except OSError as error:
            fault = unreadable(place, error)
            if faults is None:
                raise fault from error
            faults.append(str(fault))
            continue
        for entry in inside:
            path = place / entry.name
            if entry.is_dir():
                (links if entry.is_symlink() else folders).append(path)
            elif entry.is_file() or entry.is_symlink():  # a pipe would be waited for without end
                yield path


def named_recordings(spec: str, suffixes: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Recordings that a user names, by path, and in words what could not be looked into.

    ``spec`` is a file, taken as it is, a folder, or a pattern of either, such as ``nights/*.edf``.

    Raises:
        UserError: there is none.
    """
    path, faults = Path(spec), []
    if path.is_dir():
        files, _ = recordings_among(files_below(path, suffixes, faults))
    elif os.path.lexists(path):
        if path.exists() and not path.is_file():
            raise UserError(f"--edf {spec}: is no file but a pipe or a device; name a recording")
        files = [path]
    else:
        # a suffix that is spelt out is meant, "*" means recordings
        meant = () if glob.has_magic(path.suffix) or not path.suffix else (path.suffix.lower(),)
        matching = list(_matching(path))
        files = [p for p in matching if p.suffix.lower() in (meant or suffixes) and not p.is_dir()]
        if not files:  # "nights/sub-*" are folders
            folders = [place for place in matching if place.is_dir()]
            files = [p for place in folders for p in files_below(place, suffixes, faults)]
        files, _ = recordings_among(sorted(set(files)))
    if not files:
        raise UserError("; ".join([f"--edf {spec}: no EDF, BDF or Dreem file there", *faults]))
    return files, faults


def _matching(pattern: Path) -> Iterator[Path]:
    """Files and folders that match a pattern, but for hidden ones that it does not name."""
    parts = pattern.relative_to(pattern.anchor).parts
    n_fixed = next((k for k, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    # glob() takes relative patterns only, so an absolute one starts at its root
    start = Path(pattern.anchor or ".", *parts[:n_fixed])
    for path in start.glob(str(Path(*parts[n_fixed:]))):
        is_one = path.is_file() or path.is_dir() or path.is_symlink()
        if is_one and not is_hidden(path.relative_to(start)):
            yield path


def recordings_among(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Recordings among ``files``, and what only lies beside them, each recognised by its content.

    Beside them lie files of annotations alone, such as hypnograms, and EDFs without a channel to
    stage that are named after a recording: ``ucddb002_lifecard.edf``, a Holter. What cannot be read
    stays a recording, which is reported when it is opened.
    """
    labels = {path: _labels_of(path) for path in files}
    named = {
        (path.parent, path.stem.lower())
        for path, own in labels.items()
        if own is None or can_be_staged(own)
    }
    recordings, others = [], []
    for path, own in labels.items():
        is_lone = own is None or can_be_staged(own) or (own and not _owner(path) & named)
        (recordings if is_lone else others).append(path)
    return recordings, others


def _owner(path: Path) -> set[tuple[Path, str]]:
    """What the recording could be called that a file is named after."""
    stem = path.stem.lower()
    return {(path.parent, stem[: cut.start()]) for cut in re.finditer(r"[ _.-]", stem)}


def _labels_of(path: Path) -> list[str] | None:
    """Labels of an EDF's signals, ``None`` of another file or one that cannot be read."""
    if path.suffix.lower() not in EDF_SUFFIXES:
        return None
    try:
        signals = Header(path, salvage=True).signals
    except UserError:
        return None
    return [fields["label"] for fields in signals if fields["label"] not in ANNOTATION_LABELS]
