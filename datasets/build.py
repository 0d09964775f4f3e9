"""Building a store: many nights prepared at once, each whole or absent, the finished skipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Protocol

import joblib
from tqdm import tqdm

from datasets.preparation import Settings, prepare
from datasets.recording import Recording
from datasets.store import Store, finish, is_current, write_night
from utils.errors import UserError
from utils.files import sweep


class Source(Protocol):
    """What a reader needs to find one night."""

    @property
    def id(self) -> str: ...

    @property
    def files(self) -> tuple[Path, ...]: ...


def build_store(
    path: Path,
    sources: Sequence[Source],
    read: Callable[[Source], Recording],
    *,
    settings: Settings,
    roles: Mapping[str, tuple[str, ...]],
    command: str,
    jobs: int = 1,
    dask: str | None = None,
) -> Store:
    """Prepare every source that the store lacks, then close the store.

    ``jobs`` processes work on this machine (-1: one per core), or the cluster at address ``dask``
    does. The store's bytes depend on ``settings`` and the files alone.

    Raises:
        UserError: the first night that cannot be prepared; nights finished before it are kept.
    """
    nights = path / "nights"
    sweep(nights)
    sweep(path)
    todo = [s for s in sources if not is_current(nights / s.id, settings, s.files)]

    def one(source: Source) -> None:
        write_night(nights, prepare(read(source), settings, roles), settings, source.files)

    # one thread of BLAS a process comes from loky itself; no process at all for a single job
    jobs = max(1, min(joblib.cpu_count() if jobs < 0 else jobs, len(todo)))
    with _cluster(dask):
        run = joblib.Parallel(n_jobs=jobs if not dask else -1, return_as="generator_unordered")
        bar = tqdm(total=len(sources), initial=len(sources) - len(todo), unit="night", desc="store")
        with bar:
            for _ in run(joblib.delayed(one)(source) for source in todo):
                bar.update()
    return finish(path, settings, command)


def _cluster(address: str | None):
    """joblib's Dask backend on the cluster at ``address``; nothing without one."""
    if not address:
        return nullcontext()
    try:
        from dask.distributed import Client
    except ImportError:
        raise UserError('--dask needs Dask: pip install "dask[distributed]"') from None
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise UserError(f"--dask {address}: no cluster answers there ({error})") from error
    return joblib.parallel_config("dask", client=client, wait_for_workers_timeout=60)
