"""Subprocesses whose ids are kept in files, so that those of a killed parent can be ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils.files import check_file, claim, remove_ours, write_text
from utils.locks import alive

_POLL_SECONDS = 0.1


@contextmanager
def started(
    command: Sequence[str],
    log: Path,
    number: Path,
    environment: Mapping[str, str | None] | None = None,
) -> Iterator[subprocess.Popen[Any]]:
    """Run a process that writes into ``log``; leaving the block before its end interrupts it.

    ``environment`` is added to this process's own; a variable of value None is taken out.
    What a killed parent left running under the same ``number`` file is ended first.
    """
    stop_orphan(number)
    merged = os.environ | dict(environment or {})
    with claim(log).open("a", encoding="utf-8") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={k: v for k, v in merged.items() if v is not None},
        )
    write_text(number, str(process.pid))
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)  # like Ctrl-C, after which scripts can be resumed
            process.wait()
        remove_ours(number)


def stop_orphan(number: Path) -> None:
    """End the process of a ``number`` file whose folder is in its command line (Linux).

    Raises:
        UserError: somebody else's file has that name.
    """
    check_file(number)
    if not number.exists():
        return
    pid = int(number.read_text() or 0)
    # the number may have been given to another process since
    command = Path(f"/proc/{pid}/cmdline")
    if pid and command.exists() and str(number.parent).encode() in command.read_bytes():
        os.kill(pid, signal.SIGINT)
        # a zombie is still alive, with an empty command line
        while alive(pid) and command.exists() and command.read_bytes():
            time.sleep(_POLL_SECONDS)
    remove_ours(number)
