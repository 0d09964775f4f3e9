"""The one place that writes: files and folders are whole or absent, and nobody's work is lost.

What exists is replaced or removed only if this program wrote it and nobody changed it since
(:mod:`utils.manifest`). Everything else is refused, in one line, before anything is computed.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from utils import manifest
from utils.errors import UserError
from utils.json_values import value_in
from utils.locks import SOFT_SUFFIX, SUFFIX, alive, locked
from utils.manifest import OLD_TEMPORARY, REPLACED, UNFINISHED, Entry, is_ours, sha256
from utils.outputs import check_file, check_folder, is_safe, refuse_inputs, safe_name
from utils.text import harmless

__all__ = [
    "check_file", "check_folder", "is_ours", "is_safe", "locked", "refuse_inputs", "safe_name",
    "sha256",
]  # fmt: skip


@contextmanager
def written_whole(
    target: Path,
    *,
    what: str = "",
    overwrite: bool | None = None,
    origin: tuple[str, str, str] | None = None,
) -> Iterator[Path]:
    """Yield a temporary path beside the file ``target``, which it replaces on success.

    On any failure the temporary file is removed and ``target`` stays as it was. ``what`` is the
    kind of file where a user chose its name: only the same kind is replaced. ``origin`` is listed
    with the file.

    Raises:
        UserError: ``target`` exists, is not ours, and ``overwrite`` does not allow for that.
    """
    if _is_within_unfinished(target):  # the folder is published as a whole, and listed then
        target.parent.mkdir(parents=True, exist_ok=True)
        yield target
        return
    check_file(target, what, overwrite=overwrite)
    with locked(target):
        before = _state(target)
        temporary = _beside(target, UNFINISHED)
        _discard(temporary)  # left by a process that died: this one has the lock
        try:
            yield temporary
            if _state(target) != before:  # editors do not take the lock
                check_file(target, what, overwrite=overwrite)
            _publish(temporary, target, what, origin)
        except BaseException:
            _discard(temporary)
            raise


def _publish(temporary: Path, target: Path, what: str, origin: tuple[str, str, str] | None) -> None:
    """Rename into place; killed at any instant, the list knows the file that is there."""
    entry = Entry(temporary.stat().st_size, sha256(temporary), what, origin=origin)
    former = (target.stat().st_size, sha256(target)) if target.exists() else None
    manifest.update(target.parent, target.name, replace(entry, former=former))
    temporary.replace(target)
    if former:
        manifest.update(target.parent, target.name, entry)


@contextmanager
def written_folder(target: Path, what: str) -> Iterator[Path]:
    """Yield an empty folder that becomes ``target``, in place of a former one of the same kind.

    On any failure it is removed and ``target`` stays as it was.

    Raises:
        UserError: ``target`` exists and is not wholly ours, or is a link that leads elsewhere.
    """
    check_folder(target, what)
    target = target.resolve() if target.is_symlink() else target
    with locked(target):
        _heal(target)
        temporary = _beside(target, UNFINISHED)
        temporary.mkdir()
        try:
            yield temporary
            manifest.write_for_tree(temporary, what)
            check_folder(target, what)  # again: it may have changed while this one was filled
            if target.exists():
                aside = _beside(target, REPLACED)
                target.rename(aside)
                temporary.rename(target)
                _discard(aside)
            else:
                temporary.rename(target)
        except BaseException:
            _heal(target)
            raise


def remove_ours(path: Path) -> None:
    """Delete a file that this program wrote; one of somebody else is left."""
    if not path.exists():
        return
    with locked(path):
        if is_ours(path):
            manifest.keep(path.parent)  # the file may be the record that others are known by
            path.unlink()
            manifest.update(path.parent, path.name, None)


def remove_results(folder: Path) -> None:
    """Delete what this program wrote into a folder, and the folder if nothing else is in it."""
    if not folder.is_dir():
        return
    with locked(folder):
        if not folder.is_symlink() and next(manifest.strangers(folder), None) is None:
            # under a name that is swept away, should this process be killed meanwhile
            temporary = _beside(folder, UNFINISHED)
            _discard(temporary)
            folder.rename(temporary)
            _discard(temporary)
            return
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != manifest.NAME):
            remove_ours(path)


def claim(path: Path, *, just_made: bool = False) -> Path:
    """Make a name ours that a library or another process fills, such as a log or a database.

    ``just_made``: the library chose the name and has begun the file.

    Raises:
        UserError: a file of somebody else has it.
    """
    with locked(path):
        if not just_made:
            check_file(path)
        manifest.update(path.parent, path.name, Entry(grows=True))
    return path


def finish(claimed: Path, target: Path) -> None:
    """Give a claimed file, once it is complete, the name ``target``; interrupted, it has its own.

    Raises:
        UserError: a file of somebody else has that name.
    """
    with locked(target):
        check_file(target)
        _publish(claimed, target, "", None)
    manifest.update(claimed.parent, claimed.name, None)


@contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``target``; one that a killed process left is swept away."""
    folder = _beside(target.with_name(f"{target.name}.files"), UNFINISHED)
    with locked(target.with_name(f"{target.name}.files")):
        _discard(folder)
        folder.mkdir()
        try:
            yield folder
        finally:
            _discard(folder)


def sweep(folder: Path, depth: int = 0) -> None:
    """Clear away what killed processes left unfinished in ``folder``, ``depth`` levels down."""
    for place, folders, names in os.walk(folder):
        here = Path(place)
        for name in (*folders, *names):
            _sweep_one(here, name)
        is_deepest = len(here.relative_to(folder).parts) >= depth
        # in place: os.walk descends into what is left in its own list
        folders[:] = [] if is_deepest else [name for name in folders if not name.startswith(".")]


def _sweep_one(folder: Path, name: str) -> None:
    for suffix in (UNFINISHED, REPLACED, SUFFIX, SOFT_SUFFIX):
        if name.startswith(".") and name.endswith(suffix):
            target = folder / name[1:].removesuffix(suffix)
            with locked(target, wait=False) as is_held:  # whoever holds it is still writing
                if is_held:
                    _heal(target)
    old = OLD_TEMPORARY.fullmatch(name)
    if old and not alive(int(old["pid"])):
        _discard(folder / name)


def _heal(target: Path) -> None:
    """Undo what a process that died, or failed, had begun; for the holder of the lock."""
    aside = _beside(target, REPLACED)
    if aside.exists() and not target.exists():
        aside.rename(target)
    _discard(aside)
    _discard(_beside(target, UNFINISHED))


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(f".{target.name}{suffix}")


def _discard(path: Path) -> None:
    """Delete a temporary file or folder, which is this program's by its name."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_within_unfinished(path: Path) -> bool:
    return any(part.startswith(".") and part.endswith(UNFINISHED) for part in path.parts[:-1])


def _state(path: Path) -> tuple[int, int, int] | None:
    """Inode, size and time of a file, which change when it is written; ``None`` if missing."""
    if not os.path.lexists(path):
        return None
    status = path.lstat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def write_text(
    path: Path, text: str, *, encoding: str = "utf-8", overwrite: bool | None = None
) -> None:
    """Write text with Unix line ends, whole or not at all; what cannot be encoded is escaped."""
    with written_whole(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(text.encode(encoding, "backslashreplace"))


def append_text(path: Path, text: str) -> None:
    """Add UTF-8 text to a file, or begin one; what somebody changed stays, and stays theirs."""
    with locked(path):
        old = path.read_bytes() if path.exists() else b""
        was_ours, new = not path.exists() or is_ours(path), old + text.encode()
        entry = Entry(len(new), hashlib.sha256(new).hexdigest())
        if was_ours:
            former = len(old), hashlib.sha256(old).hexdigest()
            manifest.update(path.parent, path.name, replace(entry, former=former))
        with path.open("ab") as file:
            file.write(text.encode())
        if was_ours:
            manifest.update(path.parent, path.name, entry)


def write_json(path: Path, value: Any, *, overwrite: bool | None = None) -> None:
    """Write indented JSON, whole or not at all; NaN is refused."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_text(path, text, overwrite=overwrite)


def write_table(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    delimiter: str = ",",
    *,
    overwrite: bool | None = None,
) -> Path:
    """Rows of the same keys as csv or tsv; ``None`` is an empty cell.

    Text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    with (
        written_whole(path, overwrite=overwrite) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: harmless(value) for k, value in row.items()} for row in rows)
    return path


def write_array(path: Path, array: np.ndarray) -> None:
    """Write one ``.npy``; unlike ``np.save`` a full disk keeps its error number."""
    array = np.ascontiguousarray(array)
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data.cast("B") if array.size else b"")


def write_arrays(path: Path, arrays: Mapping[str, Any], *, compressed: bool = True) -> None:
    """Write one ``.npz``, whole or not at all."""
    save = np.savez_compressed if compressed else np.savez
    with written_whole(path) as temporary, temporary.open("wb") as file:
        save(file, **arrays)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: the file is missing or is none.
    """
    try:
        value = value_in(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object")
    return value
