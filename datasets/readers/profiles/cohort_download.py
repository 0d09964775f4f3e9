"""Fetching a cohort as its profile declares: files from an open server, or the steps to get them.

What is here already is not fetched again, and a fetch that was interrupted is resumed by the same
command.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from datasets.readers.cohort_listing import (
    CHECKSUMS,
    Listed,
    listed_openneuro,
    listed_physionet,
    listed_zip,
    with_sizes,
)
from datasets.readers.discovery import files_below
from datasets.readers.profiles.download import Download
from datasets.readers.profiles.profile import Profile
from utils.arguments import nearest
from utils.errors import UserError
from utils.files import remove_ours
from utils.text import shown

_MOST_FAULTS = 3  # files in a row that cannot be fetched, after which the rest is not tried


def download_cohort(
    cohort: Profile, folder: Path, subjects: Sequence[str] = (), *, among: Sequence[str] = ()
) -> None:
    """Fetch what is missing of a cohort into ``folder``, each file checked before it is there.

    Args:
        cohort: its profile.
        folder: files get the paths below it that they have on the server.
        subjects: which to fetch: names, patterns (``SC40*``), or numbers in the order of names,
            from 1 (``1-3``); all without any.
        among: patterns of the only subjects that are numbered and fetched.

    Raises:
        UserError: a cohort that no program can fetch (its steps are printed), unknown subjects, no
            connection, too little room, or files that are not the published ones.
    """
    way = cohort.download
    if way is None:
        raise UserError(
            f"--download: the profile of {cohort.name} declares no download; put its files into "
            f"{folder}, and leave --download out"
        )
    print_terms(cohort)
    if way.kind == "page":
        for number, step in enumerate(way.steps, 1):
            print(f"  {number}. {step}")
        then = ", then run the same command without --download" if cohort.is_prepared else ""
        raise UserError(
            f"--download: {cohort.title} cannot be fetched by a program; follow the steps above"
            f"{then}"
        )
    files = _of(among, way, _whole(cohort, _listed(way, folder), folder))
    chosen = _chosen(way, files, subjects)
    folder.mkdir(parents=True, exist_ok=True)
    in_place = _places(folder, chosen, files)
    missing = with_sizes([f for f in chosen if not f.is_here(in_place[f.path])])
    _check_room(folder, [(file, in_place[file.path]) for file in missing])
    n_bytes = sum(file.left(in_place[file.path]) for file in missing)
    print(
        f"{len(chosen)} files, {len(chosen) - len(missing)} of them here; "
        f"{_amount(n_bytes)} to fetch into {folder}"
    )
    _fetch_all(missing, in_place, n_bytes)


def print_terms(cohort: Profile) -> None:
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


def _whole(cohort: Profile, files: list[Listed], folder: Path) -> list[Listed]:
    """The files that a server lists, if they are of all subjects that the cohort has."""
    way = cohort.download
    n_known = len({_subject(way, file.path) for file in files} - {""})
    if n_known < max(1, way.subjects):
        remove_ours(folder / CHECKSUMS)
        raise UserError(
            f"{way.addresses[0]}: lists {n_known} subjects of {cohort.title}, which has "
            f"{way.subjects}; the list was cut, or {folder} is of another cohort: try again, with "
            "a --raw_path of its own"
        )
    return files


def _of(among: Sequence[str], way: Download, files: list[Listed]) -> list[Listed]:
    """Files of subjects that fit one of the patterns, and those of no subject."""

    def fits(name: str) -> bool:
        return not (name and among) or any(fnmatchcase(name, pattern) for pattern in among)

    return [file for file in files if fits(_subject(way, file.path))]


def _chosen(way: Download, files: list[Listed], subjects: Sequence[str]) -> list[Listed]:
    """Files of the wanted subjects, and those of no subject, subject by subject."""
    subject_of = {file.path: _subject(way, file.path) for file in files}
    known = sorted({name for name in subject_of.values() if name}, key=_in_order)
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


def _places(folder: Path, chosen: Sequence[Listed], files: Sequence[Listed]) -> dict[str, Path]:
    """Where each chosen file is or will be: at its path, or where one of its name is elsewhere.

    What lies at the path of another of the server's ``files`` is that one, and none of this name.
    """
    own = {folder / file.path for file in files}
    elsewhere = {path.name: path for path in files_below(folder) if path not in own}
    places = {}
    for file in chosen:
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
