"""Files that are either whole or absent: write beside the target, then rename."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

_SUFFIX = ".unfinished"


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` (file or folder) that replaces it on success.

    On any failure the temporary path is removed and ``target`` stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}{_SUFFIX}")
    remove(temporary)
    try:
        yield temporary
        if temporary.is_dir():
            remove(target)
        temporary.replace(target)
    except BaseException:
        remove(temporary)
        raise


def remove(path: Path) -> None:
    """Delete a file or a folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Delete what killed runs left unfinished anywhere below ``folder``."""
    for leftover in list(folder.rglob(f".*{_SUFFIX}")):
        remove(leftover)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_bytes(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON people can read, whole or not at all; NaN is refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_array(path: Path, array: np.ndarray) -> None:
    """Write one ``.npy``; unlike ``np.save`` a full disk keeps its error number."""
    array = np.ascontiguousarray(array)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data.cast("B") if array.size else b"")


def sha256(path: Path) -> str:
    """Checksum of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
