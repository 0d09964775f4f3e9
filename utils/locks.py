"""Locks between processes, on one machine or on several that share a disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

SUFFIX = ".staging-lock"
_SILENT_SECONDS = 2.0
_POLL_SECONDS = 0.02


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Lock ``path`` (a file or folder, existing or not) against other processes.

    A process that holds it already may take it again; a lock ends with its holder, however that
    dies. Yields whether it is held: always, unless ``wait`` is False and somebody else has it.
    """
    path = path.absolute()
    created = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}{SUFFIX}")
    # a singleton counts: the same process may lock the path again further down
    lock = FileLock(hidden, is_singleton=True, poll_interval=_POLL_SECONDS)
    try:
        lock.acquire(timeout=_SILENT_SECONDS if wait else 0)
    except Timeout:
        if not wait:
            yield False
            return
        print(f"waiting: another process is writing {path}", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield True
    except BaseException:
        _release(lock, hidden)
        for folder in created:  # for a file that then was not written
            if any(folder.iterdir()):
                break
            folder.rmdir()
        raise
    _release(lock, hidden)


def _release(lock: FileLock, hidden: Path) -> None:
    if lock.lock_counter == 1:
        # while it is held: who waits for the removed file finds that out and takes a new one
        hidden.unlink(missing_ok=True)
    lock.release()


def alive(pid: int) -> bool:
    """Whether a process of this machine still runs."""
    try:
        os.kill(pid, 0)  # signal 0 is not delivered; it only asks
    except PermissionError:
        return True  # somebody else's
    except OSError:
        return False
    return True
