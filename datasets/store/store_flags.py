"""Flags that the preprocess scripts share, each worded once, and the values that they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets.store.preparation import DTYPES
from utils.arguments import add_flag, add_list, positive
from utils.errors import UserError

RESUMES = (
    "After an interruption the same command continues; finished nights are not prepared again."
)


def add_download(group: Any, size: str = "") -> None:
    """Add ``--download``; ``size`` is how much that fetches."""
    what = "first fetch what is missing into --raw_path"
    add_flag(group, "--download", help=f"{what}{size and f', {size}'}")


def add_subjects(group: Any) -> None:
    """Add ``--subjects``, which are of ``--download``."""
    add_list(
        group,
        "--subjects",
        default=[],
        help="subjects to download: names, patterns with *, or numbers in the order of names (1-3)",
    )


def add_salvage(group: Any) -> None:
    """Add ``--salvage``."""
    add_flag(
        group,
        "--salvage",
        help="take the whole records of files that were cut or never closed, with a note",
    )


def add_skip_faulty(group: Any) -> None:
    """Add ``--skip_faulty``."""
    add_flag(
        group,
        "--skip_faulty",
        help="leave out recordings that cannot be read, and list them, instead of stopping at "
        "the first",
    )


def add_exclusions(group: Any, where: str) -> None:
    """Add ``--exclusions``; ``where`` is who lists them."""
    add_flag(group, "--exclusions", default=True, help=f"leave out recordings that {where}")


def add_roles(group: Any, roles: Sequence[str], which: str) -> None:
    """Add ``--roles`` and ``--required``, which name channels by role."""
    add_list(group, "--roles", default=roles, help=f"channels to keep, by role{which}")
    add_list(
        group,
        "--required",
        default=["EEG"],
        help="roles that every recording must have; the others may be absent",
    )


def add_channels(group: Any, channels: Sequence[str], roles: str) -> None:
    """Add ``--channels``, which name those of a recording."""
    add_list(
        group,
        "--channels",
        default=channels,
        help=f"channels to keep: labels, differences (A-B), roles ({roles}), or 'all'",
    )


def add_bandpass(group: Any, default: str = "") -> None:
    """Add ``--bandpass``; ``default`` is where there is one."""
    add_list(
        group,
        "--bandpass",
        item=float,
        help="zero-phase FIR band-pass in Hz, as in 0.3 35; only channels in a unit of voltage are "
        f"filtered{default}",
    )


def add_resample(group: Any, rate: int | None = None, kind: type = positive) -> None:
    """Add ``--resample``."""
    own = "" if rate else " (default: each its own)"
    group.add_argument(
        "--resample", type=kind, default=rate, help=f"rate of all channels in Hz{own}"
    )


def add_dtype(group: Any, *names: str, default: str | None = None) -> None:
    """Add ``--store_dtype``, behind other ``names`` of it."""
    group.add_argument(
        *names,
        "--store_dtype",
        dest="store_dtype",
        choices=DTYPES,
        default=default,
        help="type of stored samples; float16 and int16 halve the size, and int16 keeps what the "
        f"recorder wrote where nothing is filtered (default: {DTYPES[0]})",
    )


def add_folds(group: Any) -> None:
    """Add ``--folds`` of any cohort."""
    add_list(
        group,
        "--folds",
        default=["kfold:5:0"],
        help="fold tables by subject: kfold:N:seed, usleep:seed, or published ones "
        "(preprocess.py --list_cohorts)",
    )


def add_jobs(group: Any) -> None:
    """Add ``--jobs``."""
    group.add_argument(
        "--jobs", type=int, default=-1, help="nights prepared at once; -1: one per core"
    )


def add_dask(group: Any) -> None:
    """Add ``--dask``."""
    group.add_argument("--dask", metavar="ADDRESS", help="Dask cluster to prepare on instead")


def check_jobs(jobs: int) -> None:
    """Refuse no process at all."""
    if jobs == 0:
        raise UserError("--jobs takes a number of processes, or -1 for one per core")


def check_subjects(subjects: Sequence[str], download: bool) -> None:
    """Refuse subjects that nobody downloads."""
    if subjects and not download:
        raise UserError("--subjects is of --download; add that, or leave it out")


def check_bandpass(bandpass: Sequence[float] | None) -> None:
    """Refuse other than two edges."""
    if bandpass is not None and len(bandpass) != 2:
        raise UserError("--bandpass takes two frequencies in Hz, such as --bandpass 0.3 35")


def check_required(required: Sequence[str], roles: Sequence[str]) -> None:
    """Refuse required roles that are not kept."""
    if foreign := sorted(set(required) - set(roles)):
        raise UserError(f"--required {', '.join(foreign)}: not among --roles")
