"""A first profile of a folder: what its files show, and ``?`` where only a person knows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets.readers import expert_annotations
from datasets.readers.any_file import AnyFile
from datasets.readers.channels import match
from datasets.readers.discovery import files_below, recordings_among
from datasets.readers.profiles.checked_json import OPEN
from datasets.readers.profiles.profile import SignalFiles
from datasets.readers.recording import whole_epochs
from datasets.readers.signal_files import opened
from utils.errors import UserError

# formats by suffix, the likeliest recording first
_FORMATS = {
    ".edf": "edf", ".bdf": "edf", ".rec": "edf", ".hea": "wfdb", ".vhdr": "mne", ".set": "mne",
    ".fif": "mne", ".h5": "h5", ".mat": "mat",
}  # fmt: skip
_ROLES = ("EEG", "EOG", "EMG", "ECG")
_OPENED = 5  # recordings whose channels are looked at
_NUMBER = re.compile(r"\d+")


def of_folder(folder: Path) -> dict[str, Any]:
    """The fields of a profile as JSON, open ones being ``?``.

    Raises:
        UserError: no recordings there.
    """
    kind, paths = _recordings(folder)
    patterns, persons = _patterns(folder, paths)
    signals = [{"file": pattern, "format": kind} for pattern in patterns]
    if kind == "mat":
        signals = [one | {"rate": OPEN, "unit": OPEN} for one in signals]
        return _profile(folder, signals, persons, _stages(paths[0], None), {}, [])
    labels: dict[str, None] = {}
    roles: dict[str, dict[str, None]] = {role: {} for role in _ROLES}
    first: AnyFile | None = None
    for path in paths[:: max(1, len(paths) // _OPENED)][:_OPENED]:
        file = opened(path, SignalFiles(patterns[0], kind, gaps=True), salvage=True)
        first = first or file
        labels |= dict.fromkeys(channel.label for channel in file.channels)
        for role, one in match(file, [(role, role) for role in _ROLES], {}).items():
            roles[role][one.derivation] = None
    return _profile(folder, signals, persons, _stages(paths[0], first), roles, list(labels))


def _profile(
    folder: Path,
    signals: list[dict[str, Any]],
    person: dict[str, str],
    stages: dict[str, Any],
    roles: dict[str, dict[str, None]],
    labels: Sequence[str],
) -> dict[str, Any]:
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
    made = {role: list(wishes) for role, wishes in roles.items() if wishes}
    return {
        "schema": 1,
        "name": name or OPEN,
        "title": OPEN,
        "access": OPEN,
        "licence": OPEN,
        "page": OPEN,
        "cite": [OPEN],
        "signals": signals,
        "person": person,
        "stages": [stages],
        "roles": {role: made.get(role, [OPEN]) for role in ("EEG", "EOG", "EMG")} | made,
        "notes": [f"channels: {', '.join(labels)}"] if labels else [],
    }


def _recordings(folder: Path) -> tuple[str, list[Path]]:
    """The commonest format of recordings below a folder, and its files."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; --write_profile takes one with recordings")
    files = files_below(folder)
    for kind in dict.fromkeys(_FORMATS.values()):
        some = [path for path in files if _FORMATS.get(path.suffix.lower()) == kind]
        some = recordings_among(some)[0] if kind == "edf" else some
        if some:
            return kind, some
    raise UserError(f"{folder}: no recordings there; read are {', '.join(_FORMATS)}")


def _patterns(folder: Path, paths: Sequence[Path]) -> tuple[list[str], dict[str, str]]:
    """Patterns that match the paths, one for every shape, and whose the nights are.

    In names of one varying number that number is the person; else a person has to tell.
    """
    shapes: Counter[str] = Counter()
    varying: dict[str, list[set[str]]] = {}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        shape, numbers = _NUMBER.sub("\0", name), _NUMBER.findall(name)
        shapes[shape] += 1
        seen = varying.setdefault(shape, [set() for _ in numbers])
        for known, number in zip(seen, numbers, strict=True):
            known.add(number)
    if len(shapes) > len(paths) // 2 and len(paths) > 1:  # names that have no common shape
        suffix = re.escape(Path(paths[0]).suffix)
        return [rf"(?P<person>[^/]+){suffix}"], {"key": OPEN}
    patterns = [_pattern(shape, varying[shape]) for shape, _ in shapes.most_common()]
    is_clear = all(sum(len(s) > 1 for s in seen) == 1 for seen in varying.values())
    return patterns, {"key": "{person}" if is_clear else OPEN}


def _pattern(shape: str, varying: Sequence[set[str]]) -> str:
    """A regular expression of a shape: numbers that vary are groups, the others as they are."""
    names: Iterator[str] = iter(("person", "night", *(f"number{k}" for k in range(3, 99))))
    pieces = [re.escape(piece).replace("\\-", "-") for piece in shape.split("\0")]
    pattern = pieces[0]
    for seen, piece in zip(varying, pieces[1:], strict=True):
        one = next(iter(seen))
        pattern += (rf"(?P<{next(names)}>\d+)" if len(seen) > 1 else one) + piece
    return pattern


def _stages(path: Path, file: AnyFile | None) -> dict[str, Any]:
    """The file of stages beside a recording, and how it is read; open where none is recognised."""
    scored = expert_annotations.find(path)
    if scored is None or file is None:
        return {"file": OPEN, "format": OPEN}
    if path.stem not in scored.name:  # whose parts name the night is not plain
        return {"file": OPEN, "format": "auto"}
    entry = {"file": scored.name.replace(path.stem, "{stem}"), "format": "auto"}
    try:
        expert_annotations.read(scored, file, whole_epochs(file.seconds))
    except UserError as error:
        return entry | ({"vocabulary": OPEN} if "--vocabulary" in str(error) else {"format": OPEN})
    return entry
