"""Stagers by name: the default and its parts, published weights, stagers of others, checkpoints."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from evaluation.stagers import bundled, gssc_stager, yasa_stager
from evaluation.stagers.network_stager import Member, NetworkStager
from evaluation.stagers.package import Listed
from evaluation.stagers.published_files import convert
from evaluation.stagers.stager import Stager
from utils.checkpoint import FORMAT_VERSION, Checkpoint, checkpoint_from, load_checkpoint
from utils.errors import UserError
from utils.files import sha256
from utils.json_values import value_in

_TABLE = Path(__file__).with_name("published.json")
_HOST = "https://raw.githubusercontent.com"
# stagers whose weights come with an installed package
_OF_PACKAGES = {"yasa": yasa_stager, "gssc": gssc_stager}


@dataclass(frozen=True)
class PublishedFile:
    """One file of published weights: its name here, its address, size and checksum."""

    file: str
    address: str
    n_bytes: int
    sha256: str
    member: str = ""

    @property
    def path(self) -> Path:
        """Where it lies, or would lie."""
        return weights_folder() / self.file

    @property
    def is_here(self) -> bool:
        """Whether a file of that name and size is here; its checksum is compared when read."""
        return self.path.is_file() and self.path.stat().st_size == self.n_bytes


def weights_folder() -> Path:
    """Folder of published weights: ``SLEEP_WEIGHTS``, or the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SLEEP_WEIGHTS") or Path(home) / "sleep-staging" / "weights")


@cache
def table() -> Mapping[str, Any]:
    """The table of published weights: their sources, and the stagers made of them."""
    return value_in(_TABLE)


def files_of(name: str) -> list[PublishedFile]:
    """Files of the published stager ``name``."""
    about = table()["stagers"][name]
    source = table()["sources"][about["source"]]
    root = f"{_HOST}/{source['repository']}/{source['commit']}"
    return [
        PublishedFile(
            one["file"], f"{root}/{one['path']}", one["bytes"], one["sha256"], one.get("member", "")
        )
        for one in about["files"]
    ]


def names() -> list[str]:
    """Names of all stagers."""
    return [*bundled.names(), *_OF_PACKAGES, *table()["stagers"]]


def listed() -> list[Listed]:
    """Every stager, with where it comes from."""
    rows = bundled.listed()
    for name, module in _OF_PACKAGES.items():
        about = module.about()
        where = f"package {name}" if about.is_here else f"pip install {name}"
        rows.append(Listed(name=name, where=where, **asdict(about)))
    for name, about in table()["stagers"].items():
        source, files = table()["sources"][about["source"]], files_of(name)
        here = all(file.is_here for file in files)
        rows.append(
            Listed(
                name=name,
                origin=f"{source['authors']} ({source['repository']})",
                trained_on=about["trained_on"],
                reads=about["reads"],
                licence=source["licence"],
                n_bytes=sum(file.n_bytes for file in files),
                is_here=here,
                where=str(files[0].path.parent) if here else "\n  ".join(f.address for f in files),
            )
        )
    return rows


def load(name: str, device: torch.device) -> Stager:
    """The stager of a name, or of a checkpoint's path.

    Raises:
        UserError: no such stager or file, its weights are not here or not the published ones, or
            its package is not installed.
    """
    if name in bundled.names():
        return bundled.load(name, device)
    if name in _OF_PACKAGES:
        return _OF_PACKAGES[name].open_stager(device)
    if name in table()["stagers"]:
        return of_published(name, device)
    if Path(name).suffix or Path(name).exists():
        return of_checkpoint(Path(name), device)
    raise UserError(f"--model {name}: no such stager or file; there are {', '.join(names())}")


def of_checkpoint(path: Path, device: torch.device) -> NetworkStager:
    """The stager of a checkpoint in this project's format, named after its run."""
    checkpoint = load_checkpoint(path)
    # every run has a best.pt
    name = checkpoint.run.name if checkpoint.is_in_run else path.stem
    return NetworkStager(name, [Member(name, checkpoint)], device)


def of_published(name: str, device: torch.device) -> NetworkStager:
    """The stager of published weights, each file checked against its checksum."""
    about = table()["stagers"][name]
    members = [Member(file.member or name, converted(file, name)) for file in files_of(name)]
    # short, since it stands on every picture
    headline = f"{name}, trained on {about.get('short', about['trained_on'])}"
    return NetworkStager(name, members, device, headline=headline)


def converted(file: PublishedFile, name: str) -> Checkpoint:
    """The checkpoint of one file of a published stager, which is checked first."""
    checked(file, name)
    about = table()["stagers"][name]
    content = convert(file.path, about["source"], about["model"])
    content["settings"] |= about.get("settings", {})
    content["source"]["trained_on"] = about["trained_on"]
    return checkpoint_from({"format": FORMAT_VERSION, **content}, file.path)


def published_checkpoint(name: str) -> Checkpoint:
    """The checkpoint of a published stager of one file.

    Raises:
        UserError: there is none of that name, or its weights are not here.
    """
    known = [one for one, about in table()["stagers"].items() if len(about["files"]) == 1]
    if name not in known:
        raise UserError(f"published encoder {name}: there are {', '.join(known)}")
    return converted(files_of(name)[0], name)


def checked(file: PublishedFile, name: str) -> None:
    """Refuse a file that is not here, or not the published one.

    Raises:
        UserError: saying which, and what to do.
    """
    if not file.path.is_file():
        raise UserError(
            f"{name}: its weights are not here; fetch them with `predict.py --download {name}`, or "
            f"put what `--list_models` names at its place, such as {file.path}"
        )
    if (digest := sha256(file.path)) != file.sha256:
        raise UserError(
            f"{file.path}: not the published file of {name} (SHA-256 {digest[:12]}…, published "
            f"{file.sha256[:12]}…); remove it and run `predict.py --download {name}`"
        )


def download(wanted: Sequence[str]) -> None:
    """Fetch the weights of the stagers ``wanted`` that are not here, checked.

    Raises:
        UserError: a name without published weights, or a file that cannot be fetched whole.
    """
    from datasets.readers.remote_file import fetch_checked

    for name in wanted:
        if name in bundled.names():
            raise UserError(f"--download {name}: comes with this project and is here")
        if name in _OF_PACKAGES:
            raise UserError(f"--download {name}: comes with its package, by pip install {name}")
        if name not in table()["stagers"]:
            known = ", ".join(table()["stagers"])
            raise UserError(f"--download {name}: no published weights; there are {known}")
    # several stagers may share files
    files = {file.path: file for name in wanted for file in files_of(name)}
    for file in files.values():
        fetch_checked(file.address, file.path, size=file.n_bytes, sha256=file.sha256)
        print(f"{file.path}: here, {file.n_bytes:,} bytes, SHA-256 as published")
