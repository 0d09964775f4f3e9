"""Cells of a table, submitted to Slurm or, where there is none, run on this machine.

A cell is one model, fold and seed: commands that run one after the other. Each is submitted by
submitit, which knows both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.processes import started

_ROOT = Path(__file__).parents[1]
_GPUS = "CUDA_VISIBLE_DEVICES"
_MINUTES = 7 * 24 * 60  # that a cell may take, where --submit names no other limit
_POLL_SECONDS = 0.2
_LONGEST_END = 60.0  # seconds that the end of interrupted cells is waited for


@dataclass(frozen=True)
class Cell:
    """Commands of one cell, and the log of all that they print.

    ``environment`` is added to their own; of a value None, that variable is taken out.
    """

    name: str
    commands: Sequence[Sequence[str]]
    log: Path
    environment: Mapping[str, str | None] | None = None


def run_cell(cell: Cell) -> str:
    """Run the commands of a cell; the last line of the one that failed, "" if none did."""
    # the number of the process is kept, so that one whose parent was killed is ended first
    number = cell.log.with_suffix(".pid")
    for command in cell.commands:
        with started(command, cell.log, number, cell.environment) as process:
            process.wait()
        if process.returncode:
            # the scripts' last line is their error message
            last = cell.log.read_text(encoding="utf-8").strip().splitlines()[-1]
            return f"{cell.name}: {last} (all of it: {cell.log})"
    return ""


def run_cells(
    cells: Sequence[Cell],
    folder: Path,
    at_once: int,
    *,
    gpus: Sequence[int] = (),
    options: Mapping[str, str] | None = None,
) -> None:
    """Submit all cells, ``at_once`` of them at a time, and wait for their ends.

    ``gpus`` are those of this machine that cells share equally; ``options`` what submitit's
    executor takes, such as ``slurm_partition``; it keeps its files in ``folder``.

    Raises:
        UserError: a cell failed, or the executor does not know an option. Cells that run at that
            moment are interrupted, as they are by Ctrl-C, and can be resumed.
    """
    if not cells:
        return
    executor = executor_of(folder, options or {})
    if gpus and executor.cluster == "slurm":
        raise UserError("--gpus: Slurm chooses GPUs; use --submit gpus_per_node=1")
    waiting, running = list(cells), {}
    with importable():
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    cell = waiting.pop(0)
                    print(cell.name, flush=True)
                    uses = [gpu for _, gpu in running.values()]
                    gpu = min(gpus, key=uses.count) if gpus else None
                    if executor.cluster != "slurm":
                        cell = replace(cell, environment=seeing(gpu))
                    running[executor.submit(run_cell, cell)] = cell, gpu
                for job in [job for job in running if job.done()]:
                    cell, _ = running.pop(job)
                    if fault := result_of(job, cell):
                        raise UserError(fault)
                time.sleep(_POLL_SECONDS)
        finally:
            interrupt(running)


def interrupt(jobs: Collection[Any]) -> None:
    """Interrupt submitted cells, and wait while they save how far they have come."""
    for job in jobs:
        job.cancel()
    until = time.monotonic() + _LONGEST_END
    while time.monotonic() < until and not all(job.done() for job in jobs):
        time.sleep(_POLL_SECONDS)


def executor_of(folder: Path, options: Mapping[str, str]) -> Any:
    """Submitit's executor: of Slurm where its ``srun`` is there, else of this machine.

    Raises:
        UserError: an option that it does not know, or a value of another kind.
    """
    import submitit

    executor = submitit.AutoExecutor(folder=folder)
    values = {name: int(text) if text.isdecimal() else text for name, text in options.items()}
    try:
        executor.update_parameters(**{"timeout_min": _MINUTES} | values)
    except (NameError, TypeError, ValueError, AssertionError) as error:
        raise UserError(f"--submit: {' '.join(str(error).split())}") from error
    return executor


def seeing(gpu: int | None) -> dict[str, str | None]:
    """The variable by which a cell sees one GPU or, by None, those that this process sees."""
    # submitit hides all of them where it was not asked for any
    return {_GPUS: os.environ.get(_GPUS) if gpu is None else str(gpu)}


@contextmanager
def importable() -> Iterator[None]:
    """Let submitted processes import this package, wherever they are started."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), before]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def result_of(job: Any, cell: Cell) -> str:
    """What went wrong with a submitted cell, "" for nothing."""
    import submitit

    try:
        return job.result()
    except (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError) as error:
        last = str(error).strip().splitlines()[-1]
        return f"{cell.name}: {last} (all of it: {job.paths.stderr})"
