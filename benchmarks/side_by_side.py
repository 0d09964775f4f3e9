"""Time several ways of doing one thing in one run, turn by turn, on one core."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median


def one_core() -> None:
    """Keep this process, and the threads it starts, on a single core where the system allows."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def seconds(
    ways: dict[str, Callable[[], object]], repeats: int, *, steady: bool = False
) -> dict[str, float]:
    """Median seconds of every way; they take turns, so a busy machine slows all alike.

    ``steady``: each turn begins with a call that is not timed, as one step of many follows its
    like, and not another way that left its own arrays in the caches.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            if steady:
                way()
            started = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - started)
    # a median does not move when one round is interrupted
    return {name: median(values) for name, values in taken.items()}


def resident_mb() -> float:
    """Resident memory of this process in MB (Linux; 0 elsewhere)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            # the second number is resident pages; getrusage has the peak alone
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return 0.0


def peak_mb(command: Sequence[str]) -> float:
    """Run a command of this project in a process of its own: its peak resident memory in MB."""
    folder = Path(__file__).parents[1]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    # wait4 has the peak of this child; getrusage would have the largest of all so far
    _, status, usage = os.wait4(process.pid, 0)
    # the child is gone: Popen must not wait for it again
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} left with {process.returncode}")
    return usage.ru_maxrss / 1024
