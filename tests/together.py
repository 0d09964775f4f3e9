"""Processes that train together, forked from one that has imported what they need."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["cmt_training", "foundation_training", "ssl_training", "staging_training"]
)


def run_together(
    n_processes: int, work: Callable[..., None], folder: Path, *given: Any, seconds: float = 120
) -> None:
    """Call ``work(rank, folder, *given)`` in so many processes; an error in one is raised here."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = [(work, rank, folder, given) for rank in range(n_processes)]
    processes = [_CONTEXT.Process(target=_reported, args=each) for each in arguments]
    for process in processes:
        process.start()
    # a process that failed leaves the others waiting for it
    until = time.monotonic() + seconds
    while any(process.is_alive() for process in processes) and time.monotonic() < until:
        wait([process.sentinel for process in processes if process.is_alive()], timeout=1)
        if any(process.exitcode for process in processes):
            break
    codes = [process.exitcode for process in processes]  # None of one that still waits
    for process in processes:
        process.kill()
        process.join()
    errors = [path.read_text() for path in sorted(folder.glob("error_*"))]
    assert not errors, errors[0]
    assert codes == [0] * n_processes, f"exit codes {codes}; None: still at it after {seconds} s"


def _reported(work: Callable[..., None], rank: int, folder: Path, given: tuple[Any, ...]) -> None:
    import torch

    torch.set_num_threads(1)
    try:
        work(rank, folder, *given)
    except BaseException:
        (folder / f"error_{rank}").write_text(traceback.format_exc())
        os._exit(1)  # the others wait for this one, and are ended with it


def join_group(rank: int, n_processes: int, meeting: Path) -> None:
    """Make this process one of a group, as a launcher would, which meets at a new file."""
    from torch import distributed

    names = {"WORLD_SIZE": n_processes, "LOCAL_RANK": rank, "NODE_RANK": 0, "GROUP_RANK": 0}
    os.environ.update({name: str(value) for name, value in names.items()})
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=n_processes
    )
