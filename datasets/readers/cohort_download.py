"""Fetching a cohort as it is declared: its files from an open server, or the steps to get them.

``datasets/cohorts/<name>.json`` declares where a cohort is, how its files are called, its licence
and what to cite. What is here already is not fetched again, and a fetch that was interrupted goes
on with the same command.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, get_args

from datasets.readers.cohort_listing import (
    CHECKSUMS,
    Listed,
    listed_openneuro,
    listed_physionet,
    listed_zip,
    with_sizes,
)
from datasets.readers.discovery import files_below
from utils.arguments import nearest
from utils.errors import UserError
from utils.files import read_json, remove_ours
from utils.text import shown

COHORTS = Path(__file__).parents[1] / "cohorts"
Kind = Literal["page", "physionet", "openneuro", "zip"]
_MOST_FAULTS = 3  # files in a row that cannot be fetched, after which the rest is not tried


@dataclass(frozen=True)
class Download:
    """How the files of a cohort are fetched.

    ``kind``: ``physionet`` (a folder with a list of checksums), ``openneuro`` (a data set in a
    public bucket), ``zip`` (members of one archive), or ``page``: by a person, in ``steps``.
    ``addresses``: of the folder, data set or archive; for PhysioNet the first that answers is used.
    ``files``: regular expressions of the paths there; the group ``subject`` names whose a file is,
    files without it are taken with any subject. ``subjects``: how many the server must list, as a
    list that was cut would go unnoticed.
    """

    kind: Kind = "page"
    addresses: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    subjects: int = 0
    steps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind: is {self.kind!r}; choose from {', '.join(get_args(Kind))}")
        fetched = {"addresses": self.addresses, "files": self.files}
        for name, values in ({"steps": self.steps} if self.kind == "page" else fetched).items():
            if not values:
                raise ValueError(f"{name}: is missing, which {self.kind} needs")
        for pattern in self.files:
            re.compile(pattern)


@dataclass(frozen=True)
class Cohort:
    """What is printed of a cohort, and how it is fetched; ``page`` is where to read about it."""

    name: str
    title: str
    access: str
    licence: str
    page: str
    cite: tuple[str, ...]
    download: Download


def declared(name: str) -> Cohort:
    """The declaration of a cohort that comes with the code.

    Raises:
        UserError: there is none, or a field of it is wrong.
    """
    path = COHORTS / f"{name}.json"
    value = read_json(path)
    try:
        download = Download(**_tuples(value.pop("download")))
        known = {field.name for field in fields(Cohort)}
        about = {key: one for key, one in _tuples(value).items() if key in known}
        return Cohort(**about, download=download)
    except (TypeError, KeyError, ValueError, re.error) as error:
        raise UserError(f"{path}: {error}; correct the declaration") from error


def _tuples(value: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(one) if isinstance(one, list) else one for name, one in value.items()}


def download_cohort(cohort: Cohort, folder: Path, subjects: Sequence[str] = ()) -> None:
    """Fetch what is missing of a cohort into ``folder``, each file checked before it is there.

    Args:
        cohort: its declaration.
        folder: files get the paths below it that they have on the server.
        subjects: which to fetch: names, patterns (``SC40*``), or numbers in the order of names,
            from 1 (``1-3``); all without any.

    Raises:
        UserError: a cohort that no program can fetch (its steps are printed), unknown subjects, no
            connection, too little room, or files that are not the published ones.
    """
    way = cohort.download
    print_terms(cohort)
    if way.kind == "page":
        for number, step in enumerate(way.steps, 1):
            print(f"  {number}. {step}")
        raise UserError(
            f"--download: {cohort.title} cannot be fetched by a program; follow the steps above, "
            "then run the same command without --download"
        )
    chosen = _chosen(cohort, _listed(way, folder), subjects, folder)
    folder.mkdir(parents=True, exist_ok=True)
    in_place = _places(folder, chosen)
    missing = with_sizes([f for f in chosen if not f.is_here(in_place[f.path])])
    _check_room(folder, [(file, in_place[file.path]) for file in missing])
    n_bytes = sum(file.left(in_place[file.path]) for file in missing)
    print(
        f"{len(chosen)} files, {len(chosen) - len(missing)} of them here; "
        f"{_amount(n_bytes)} to fetch into {folder}"
    )
    _fetch_all(missing, in_place, n_bytes)


def print_terms(cohort: Cohort) -> None:
    """Print what a cohort is, its licence, and what to cite."""
    print(f"{cohort.title}: {cohort.page}")
    print(f"  access: {cohort.access}; licence: {cohort.licence}")
    for source in cohort.cite:
        print(f"  cite: {source}")


def _listed(way: Download, folder: Path) -> list[Listed]:
    """The files of all subjects that the server has."""

    def wanted(path: str) -> bool:
        return any(re.fullmatch(pattern, path) for pattern in way.files)

    if way.kind == "physionet":
        return listed_physionet(way.addresses, folder, wanted)
    return {"openneuro": listed_openneuro, "zip": listed_zip}[way.kind](way.addresses, wanted)


def _chosen(
    cohort: Cohort, files: list[Listed], subjects: Sequence[str], folder: Path
) -> list[Listed]:
    """Files of the wanted subjects, and those of no subject, subject by subject."""
    way = cohort.download
    subject_of = {file.path: _subject(way, file.path) for file in files}
    known = sorted({name for name in subject_of.values() if name}, key=_in_order)
    if len(known) < max(1, way.subjects):
        remove_ours(folder / CHECKSUMS)
        raise UserError(
            f"{way.addresses[0]}: lists {len(known)} subjects of {cohort.title}, which has "
            f"{way.subjects}; the list was cut, or {folder} is of another cohort: try again, with "
            "a --raw_path of its own"
        )
    taken = {name: k for k, name in enumerate(wanted_subjects(subjects, known))} | {"": -1}
    some = [file for file in files if subject_of[file.path] in taken]
    return sorted(some, key=lambda file: (taken[subject_of[file.path]], file.path))


def _subject(way: Download, path: str) -> str:
    """Whose a file is; empty where it is everybody's."""
    match = next(filter(None, (re.fullmatch(pattern, path) for pattern in way.files)), None)
    return (match.groupdict().get("subject") or "") if match else ""


def _in_order(name: str) -> list[tuple[int, str]]:
    """Sorts ``n2`` before ``n10``."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def wanted_subjects(words: Sequence[str], known: Sequence[str]) -> list[str]:
    """The subjects of ``known`` that ``words`` name, in its order; all without words.

    A word is a name, a pattern with ``*``, a number from 1 on, or two of them: ``1-3``.

    Raises:
        UserError: a word that names none.
    """
    taken: set[str] = set()
    for word in words:
        numbers = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", word)
        if numbers and word not in known:
            first, last = int(numbers[1]), int(numbers[2] or numbers[1])
            if not 1 <= first <= last <= len(known):
                raise UserError(
                    f"--subjects {word}: there are {len(known)}, numbered 1 to {len(known)}"
                )
            taken |= set(known[first - 1 : last])
        else:
            named = {name for name in known if fnmatchcase(name, word)}
            if not named:
                raise UserError(
                    f"--subjects {shown(word)}: there are {len(known)}, {known[0]} to {known[-1]}"
                    f"{nearest(word, known)}"
                )
            taken |= named
    return [name for name in known if not words or name in taken]


def _places(folder: Path, files: Sequence[Listed]) -> dict[str, Path]:
    """Where each file is or will be: at its path, or where one of its name is in another folder."""
    elsewhere = {path.name: path for path in files_below(folder)}
    places = {}
    for file in files:
        place = folder / file.path
        places[file.path] = place if place.exists() else elsewhere.get(place.name, place)
    return places


def _check_room(folder: Path, missing: Sequence[tuple[Listed, Path]]) -> None:
    """Refuse to fill the disk."""
    needed = sum(file.room(place) for file, place in missing)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: {_amount(needed)} are missing, and its disk has {_amount(free)} free; name "
            "a --raw_path on a larger one, or fewer --subjects"
        )


def _amount(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def _fetch_all(missing: Sequence[Listed], places: dict[str, Path], n_bytes: int) -> None:
    """Fetch file after file; one that cannot be had does not keep the others from coming."""
    from tqdm import tqdm

    faults: list[UserError] = []
    in_a_row = 0
    with tqdm(total=n_bytes, desc="download", unit="B", unit_scale=True) as bar:
        for file in missing:
            bar.set_postfix_str(file.path, refresh=False)
            try:
                file.fetch(places[file.path], bar.update)
                in_a_row = 0
            except UserError as error:
                faults.append(error)
                in_a_row += 1
                if in_a_row == _MOST_FAULTS:
                    break
    if faults:
        others = f" ({len(faults)} files could not be fetched)" if len(faults) > 1 else ""
        raise UserError(f"{faults[0]}{others}") from faults[0]
