"""Errors users can cause: one clear line on stderr and exit code 2, never a traceback."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Callable
from pathlib import Path

from utils.memory import keep_freed_memory
from utils.text import shown

_LONGEST = 2000  # characters of a message; a damaged file may name something by a million


class UserError(Exception):
    """An error that users can correct: file, problem and remedy in one line."""

    def __init__(self, message: str) -> None:
        if len(message) > _LONGEST:  # the beginning has the file, the end the remedy
            message = f"{message[: _LONGEST // 2]} … {message[-_LONGEST // 2 :]}"
        super().__init__(message)


def describe(error: OSError) -> str:
    """An error of the operating system in one line: the file, and what happened."""
    where = f"{error.filename}: " if error.filename else ""
    if error.errno == errno.ENOSPC:
        return (
            f"{where}no space left on the disk; free some and run the same command again: "
            "what is finished is kept"
        )
    return f"{where}{error.strerror or error}"


def unreadable(path: Path, error: OSError) -> UserError:
    """What is raised for a file that cannot be opened."""
    if path.is_symlink() and not path.exists():
        return UserError(f"{path}: is a link to {path.readlink()}, which is not there; fetch it")
    return UserError(f"{path}: cannot be read ({error.strerror or error})")


def run_script(main: Callable[[], None]) -> int:
    """Run a script's ``main`` and turn its end into an exit code.

    Returns 0 on success, 2 after a ``UserError`` or an error of the operating system (a full
    disk, a missing permission), 130 after Ctrl-C. Everything else is our fault and keeps its
    traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        # names of files may hold what the code page of a console does not
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    keep_freed_memory()
    try:
        main()
    except UserError as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(describe(error))
    except KeyboardInterrupt:
        print("interrupted: the same command continues where this stopped", file=sys.stderr)
        return 130  # 128 + SIGINT, as shells report it
    return 0


def _refuse(message: str) -> int:
    # messages taken over from libraries may have line breaks
    print("error: " + shown(" ".join(message.split())), file=sys.stderr)
    return 2
