"""Building a store: many nights prepared at once, each whole or absent, finished ones skipped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import joblib
from tqdm import tqdm

from datasets.readers.recording import Recording
from datasets.store.preparation import Settings, prepare
from datasets.store.store import (
    STORED_NIGHT,
    Store,
    finish,
    is_current,
    refuse_other_settings,
    write_night,
)
from utils.errors import UserError
from utils.files import check_file, check_folder, locked, refuse_inputs, safe_name, sweep
from utils.text import shown

_MOST_FAULTS = 20


class Source(Protocol):
    """One night to be prepared: what a reader needs to open it."""

    @property
    def id(self) -> str: ...

    @property
    def files(self) -> tuple[Path, ...]: ...


@runtime_checkable
class Packed(Protocol):
    """A source whose files have to be unpacked first."""

    def at_hand(self) -> AbstractContextManager[Source]: ...


class Reader(NamedTuple):
    """How a format is read, and what its cohorts call channels of the usual roles."""

    read: Callable[[Source], Recording]
    roles: Mapping[str, tuple[str, ...]] = {}


def build_store(
    path: Path,
    sources: Sequence[Source],
    reader: Reader,
    *,
    settings: Settings,
    command: str,
    jobs: int = 1,
    faults: dict[str, str] | None = None,
) -> Store:
    """Prepare every source that the store lacks or has from other bytes, then close the store.

    ``jobs`` processes work at once (-1: one per core, or a cluster's workers inside
    :func:`on_cluster`). The store's bytes depend on ``settings`` and the files alone. Nights that
    cannot be prepared are left out and reported in ``faults``, if that is given.

    A second process that builds the same store waits, then finds the nights of the first.

    Raises:
        UserError: the folder holds its own sources, nights of other ones or settings, or files that
            are not this program's; none can be prepared, or, without ``faults``, some cannot: each
            is reported, and the store stays open until they can. Finished nights are kept.
    """
    refuse_inputs([path], [file for source in sources for file in source.files])
    for source in sources:
        # folders that begin with a dot are unfinished ones, which are swept away
        if safe_name(source.id, source.files[0]).startswith("."):
            raise UserError(
                f"{source.files[0]}: names of nights cannot begin with a dot; rename it"
            )
    with locked(path):
        return _build(path, sources, reader, settings, command, jobs, faults)


def _build(
    path: Path,
    sources: Sequence[Source],
    reader: Reader,
    settings: Settings,
    command: str,
    jobs: int,
    faults: dict[str, str] | None,
) -> Store:
    """Build the store as the one process that has its lock."""
    nights = path / "nights"
    sweep(path, depth=1)
    # refused before the nights are prepared, and not when the table is written
    for name in ("dataset.json", "recordings.csv", "left_out.csv"):
        check_file(path / name)
    _refuse_foreign(nights, {source.id for source in sources})
    refuse_other_settings(nights, settings)

    def one(source: Source) -> tuple[str, str]:
        try:
            with at_hand(source) as local:
                # here in the worker, since checksums read every source file
                if not is_current(nights / local.id, local.files):
                    check_folder(nights / local.id, STORED_NIGHT)
                    night = prepare(reader.read(local), settings, reader.roles)
                    write_night(nights, night, settings, local.files)
        except UserError as error:
            return source.id, str(error)
        return source.id, ""

    # one night needs no pool of processes
    n_jobs = 1 if len(sources) == 1 else jobs
    run = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    work = run(joblib.delayed(one)(source) for source in sources)
    try:
        bar = tqdm(work, total=len(sources), unit="night", desc="store")
        unprepared = _faults(bar, _MOST_FAULTS if faults is None else len(sources))
    finally:
        work.close()
        sweep(path, depth=1)  # nights that other workers had begun
    if faults is None:
        _refuse(unprepared)
        return finish(path, settings, command)
    faults |= unprepared
    if len(unprepared) == len(sources):
        raise UserError(f"{path}: no night can be prepared: {next(iter(unprepared.values()))}")
    return finish(path, settings, command)


def _faults(work: Iterable[tuple[str, str]], most: int) -> dict[str, str]:
    """Why nights cannot be prepared, until there are ``most``: then the flags may be at fault."""
    unprepared: dict[str, str] = {}
    for name, fault in work:
        if fault:
            unprepared[name] = fault
        if len(unprepared) == most:
            break
    return unprepared


def _refuse(faults: Mapping[str, str]) -> None:
    """Report every night that cannot be prepared.

    Raises:
        UserError: there is one; the last of them.
    """
    lines = [fault for _, fault in sorted(faults.items())]
    for line in lines[:-1]:
        print(f"error: {shown(line)}", file=sys.stderr)
    if lines:
        raise UserError(lines[-1])


def at_hand(source: Source) -> AbstractContextManager[Source]:
    """The source with its files on disk, for those that have to be unpacked first."""
    return source.at_hand() if isinstance(source, Packed) else nullcontext(source)


def _refuse_foreign(nights: Path, ids: set[str]) -> None:
    """Refuse a store with nights of other recordings: a mixture could not be made again."""
    if foreign := sorted({folder.name for folder in nights.glob("[!.]*")} - ids):
        raise UserError(
            f"{nights.parent}: holds {foreign[0]}, which is not among the recordings given "
            f"({len(foreign)} such); choose another --save_path or delete {nights / foreign[0]}"
        )


@contextmanager
def on_cluster(address: str | None) -> Iterator[None]:
    """Let :func:`build_store` use the Dask cluster at ``address``; do nothing without one.

    Raises:
        UserError: Dask is not installed, or no cluster answers.
    """
    if not address:
        yield
        return
    try:
        from dask.distributed import Client
    except ImportError:
        raise UserError('--dask needs Dask: pip install "dask[distributed]"') from None
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise UserError(f"--dask {address}: no cluster answers there ({error})") from error
    with client, joblib.parallel_config("dask", client=client, wait_for_workers_timeout=60):
        yield
