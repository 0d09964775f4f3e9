"""Locks between processes, on one machine or on several that share a disk."""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from utils.errors import UserError

SUFFIX = ".staging-lock"
SOFT_SUFFIX = ".staging-lock-soft"  # where the file system has no locks
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_SILENT_SECONDS = 2.0
_INSTANT_SECONDS = 0.2  # that a sweep may hold a lock
_POLL_SECONDS = 0.02
_opened = threading.local()


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Lock ``path`` (a file or folder, existing or not) against other processes.

    A process that holds it already may take it again; a lock ends with its holder, however that
    dies. Yields whether it is held: always, unless ``wait`` is False and somebody else has it.
    """
    path = path.absolute()
    created = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = _acquired(path, _SILENT_SECONDS if wait else 0)
    except Timeout:
        if not wait:
            yield False
            return
        print(f"waiting: {holder_of(path)} is writing {path}", file=sys.stderr, flush=True)
        lock = _acquired(path, -1)
    try:
        yield True
    except BaseException:
        _release(lock)
        for folder in created:  # for a file that then was not written
            if any(folder.iterdir()):
                break
            folder.rmdir()
        raise
    _release(lock)


@contextmanager
def locked_alone(path: Path, doing: str) -> Iterator[None]:
    """Lock ``path`` for work that nobody waits for, since it may last for days.

    Raises:
        UserError: another process is at it, which is named.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = _acquired(path, _INSTANT_SECONDS)
    except Timeout:
        raise UserError(
            f"{path}: {holder_of(path)} is {doing} already; wait for its end, after which the same "
            "command continues there, or choose another --project_path"
        ) from None
    try:
        yield
    finally:
        _release(lock)


def holder_of(path: Path) -> str:
    """The process that holds the lock of ``path``, as far as it is known."""
    try:
        text = path.with_name(f".{path.name}{SUFFIX}").read_text(encoding="utf-8")
    except (OSError, ValueError):
        text = ""
    return text.strip() or "another process"


def _acquired(path: Path, timeout: float) -> BaseFileLock:
    """The lock of ``path``, held; a marker file where the file system knows no locks.

    Raises:
        Timeout: another process holds it.
    """
    hidden = path.with_name(f".{path.name}{SUFFIX}")
    while True:
        # a singleton counts: the same process may lock the path again further down
        lock = FileLock(
            hidden, is_singleton=True, poll_interval=_POLL_SECONDS, on_acquired=_remember
        )
        try:
            lock.acquire(timeout=timeout)
        except OSError as error:
            if isinstance(error, Timeout) or error.errno not in (*_NO_LOCKS, errno.ESTALE):
                raise
            if error.errno == errno.ESTALE:  # removed by its holder on another machine
                continue
            hidden.unlink(missing_ok=True)
            soft = path.with_name(f".{path.name}{SOFT_SUFFIX}")
            lock = SoftFileLock(soft, is_singleton=True, poll_interval=_POLL_SECONDS)
            lock.acquire(timeout=timeout)
            return lock
        if lock.lock_counter > 1 or _is_at(hidden):
            with suppress(OSError):  # a full disk
                hidden.write_text(f"process {os.getpid()} on {socket.gethostname()}")
            return lock
        lock.release()


def _remember(descriptor: int) -> None:
    _opened.status = os.fstat(descriptor)


def _is_at(hidden: Path) -> bool:
    """Whether the file that was locked is still the one of that name.

    Its former holder may have removed it since it was opened, after which somebody else may have
    locked a new one. (On a network file system such a file still counts one link.)
    """
    try:
        return os.path.samestat(_opened.status, hidden.stat())
    except OSError:  # there is none
        return False


def _release(lock: BaseFileLock) -> None:
    # a marker file is removed by the release itself
    if lock.lock_counter == 1 and lock.lock_file.endswith(SUFFIX):
        # while it is held: who waits for the removed file learns that, and takes a new one
        Path(lock.lock_file).unlink(missing_ok=True)
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
