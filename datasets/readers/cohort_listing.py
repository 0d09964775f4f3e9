"""What a server has of a cohort: its files by path, size and checksum, and how each is fetched."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode
from xml.etree.ElementTree import Element, ParseError

from datasets.readers.remote_file import (
    BROKEN,
    OtherFile,
    RemoteFile,
    Unreachable,
    check_replaceable,
    difference,
    fetch_checked,
    persistently,
    text_at,
)
from datasets.readers.remote_zip import checksum_of, fetch, members
from datasets.readers.scorings.xml_file import parsed
from utils import manifest
from utils.errors import UserError
from utils.files import safe_name, sha256, written_whole

CHECKSUMS = "SHA256SUMS.txt"
_SUM = re.compile(r"([0-9a-f]{64}) [ *]?(\S.*)")  # PhysioNet has one blank, sha256sum two
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')
_ASKED_AT_ONCE = 8


class Listed(Protocol):
    """A file that a server has, and where it belongs below the cohort's folder."""

    path: str

    def is_here(self, target: Path) -> bool:
        """Whether ``target`` is this file. Raises ``UserError`` where another file is."""

    def left(self, target: Path) -> int:
        """Bytes that are still to be fetched."""

    def room(self, target: Path) -> int:
        """Bytes of disk that fetching takes, above those in place."""

    def fetch(self, target: Path, arrived: Callable[[int], Any]) -> None:
        """Fetch the file; ``arrived`` is given numbers of bytes."""


@dataclass(frozen=True)
class WebFile:
    """A file with an address of its own; ``size`` is -1 until the server was asked."""

    path: str
    url: str
    size: int = -1
    sha256: str = ""
    md5: str = ""

    def is_here(self, target: Path) -> bool:
        """Whether ``target`` has the published bytes; what was checked as it came is not reread."""
        if not target.is_file():
            return False
        entry = manifest.read(target.parent).files.get(target.name)
        size = target.stat().st_size
        if entry and self.sha256 and (entry.bytes, entry.sha256) == (size, self.sha256):
            return True
        if not difference(target, size if self.size < 0 else self.size, self.sha256, self.md5):
            return True
        check_replaceable(target)
        return False

    def left(self, target: Path) -> int:
        """Bytes that are still to be fetched."""
        part = target.with_name(target.name + ".part")
        return max(0, self.size - (part.stat().st_size if part.is_file() else 0))

    room = left

    def fetch(self, target: Path, arrived: Callable[[int], Any]) -> None:
        """Fetch the file, checked."""
        fetch_checked(
            self.url, target, size=self.size, sha256=self.sha256, md5=self.md5, arrived=arrived
        )


@dataclass(frozen=True)
class ZipMember:
    """A member of a zip on a server; it lands in the folder by its last name."""

    path: str
    remote: RemoteFile
    member: zipfile.ZipInfo

    def is_here(self, target: Path) -> bool:
        """Whether ``target`` has the member's bytes; what was checked as it came is not reread."""
        if not target.is_file():
            return False
        size = target.stat().st_size
        entry = manifest.read(target.parent).files.get(target.name)
        if size == self.member.file_size and (
            (entry and entry.bytes == size) or checksum_of(target) == self.member.CRC
        ):
            return True
        check_replaceable(target)
        return False

    def left(self, target: Path) -> int:
        """Compressed bytes that are still to be fetched."""
        part = target.with_name(target.name + ".part")
        return max(0, self.member.compress_size - (part.stat().st_size if part.is_file() else 0))

    def room(self, target: Path) -> int:
        """The member unfolded; its compressed bytes are removed once it is."""
        return self.member.file_size

    def fetch(self, target: Path, arrived: Callable[[int], Any]) -> None:
        """Fetch the member, checked."""
        fetch(self.remote, self.member, target.parent, arrived)


def listed_physionet(
    addresses: Sequence[str], folder: Path, wanted: Callable[[str], bool]
) -> list[Listed]:
    """Files of a PhysioNet project, which has a list of checksums; that is kept in ``folder``.

    ``wanted`` is asked for each path. Of several addresses the first that has the list is taken.

    Raises:
        UserError: no address has it, or what it has is no list of checksums.
    """
    kept = folder / CHECKSUMS
    if kept.is_file():
        text = kept.read_text(encoding="utf-8", errors="replace")
        sums = checksums_in(text, kept)
        entry = manifest.read(folder).files.get(CHECKSUMS)
        came_from = entry.origin[0] if entry and entry.origin else ""
        address = came_from if came_from in addresses else addresses[0]
    else:
        address, text = _first_with_list(addresses)
        sums = checksums_in(text, f"{address}/{CHECKSUMS}")
        # which address has the files is asked once: resumed, they come from the same
        with written_whole(kept, origin=(address, "", "")) as temporary:
            temporary.write_bytes(text.encode())
    return [
        WebFile(path, f"{address}/{quote(path)}", sha256=digest)
        for path, digest in sums.items()
        if wanted(path)
    ]


def _first_with_list(addresses: Iterable[str]) -> tuple[str, str]:
    faults = []
    for address in addresses:
        try:
            return address, text_at(f"{address}/{CHECKSUMS}")
        except BROKEN as error:
            faults.append(f"{address}/{CHECKSUMS}: {error}")
    raise UserError(f"--download: cannot be reached: {'; '.join(faults)}; try again later")


def checksums_in(text: str, where: Path | str) -> dict[str, str]:
    """SHA-256 by path, as in a PhysioNet ``SHA256SUMS.txt``.

    Raises:
        UserError: a line that is none of such a list, or a path that leads out of the folder.
    """
    sums = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _SUM.fullmatch(line)
        if match is None:
            raise UserError(
                f"{where}: line {number} is none of a list of checksums; remove the file if it is "
                "on this machine, and fetch it again"
            )
        sums[safe_path(match[2], where)] = match[1]
    return sums


def safe_path(path: str, where: Path | str) -> str:
    """A path from a server, if it stays in the folder that it is written to.

    Raises:
        UserError: it does not, or a part of it is fit for no file.
    """
    for part in path.split("/"):
        safe_name(part, where)
    return path


def listed_openneuro(addresses: Sequence[str], wanted: Callable[[str], bool]) -> list[Listed]:
    """Files of a data set in a public bucket, ``https://HOST/BUCKET/DATA_SET``.

    The bucket lists sizes and, of files that were sent in one piece, MD5 (their ``ETag``).

    Raises:
        UserError: no answer, or what came is no listing.
    """
    bucket, _, name = addresses[0].rpartition("/")
    try:
        return [
            WebFile(path, f"{bucket}/{quote(f'{name}/{path}')}", size, md5=digest)
            for path, size, digest in _keys(bucket, f"{name}/")
            if wanted(path)
        ]
    except (*BROKEN, ParseError, ValueError) as error:
        raise UserError(f"--download: {bucket}: cannot be listed ({error})") from error


def _keys(bucket: str, prefix: str) -> Iterator[tuple[str, int, str]]:
    """Path below ``prefix``, bytes and MD5 of every object, page by page (S3's ListObjectsV2)."""
    query = {"list-type": "2", "prefix": prefix}
    while True:
        root = parsed(text_at(f"{bucket}?{urlencode(query)}"))
        if _tag(root) != "ListBucketResult":
            raise ValueError("not a listing of a bucket")
        for one in (child for child in root if _tag(child) == "Contents"):
            fields = {_tag(field): field.text or "" for field in one}
            key, size = fields.get("Key", ""), int(fields.get("Size", ""))
            if key.startswith(prefix) and not key.endswith("/"):  # a folder's own mark
                digest = _MD5.fullmatch(fields.get("ETag", ""))
                path = safe_path(key.removeprefix(prefix), bucket)
                yield path, size, digest[1] if digest else ""
        top = {_tag(child): child.text for child in root}
        if top.get("IsTruncated") != "true":
            return
        token = top.get("NextContinuationToken")
        if not token or token == query.get("continuation-token"):
            raise ValueError("a list that does not go on")
        query["continuation-token"] = token


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def listed_zip(addresses: Sequence[str], wanted: Callable[[str], bool]) -> list[Listed]:
    """Members of a zip on a server.

    Raises:
        UserError: no answer, or no zip.
    """
    url = addresses[0]
    try:
        remote = RemoteFile(url)
    except BROKEN as error:
        raise UserError(f"--download: {url}: {error}; try again later") from error
    return [
        ZipMember(safe_name(Path(member.filename).name, url), remote, member)
        for member in members(remote)
        if wanted(member.filename)
    ]


def with_sizes(files: list[Listed]) -> list[Listed]:
    """The files, those of unknown size asked for it, several at a time.

    Raises:
        UserError: the server lacks a file, or does not answer.
    """

    def sized(file: Listed) -> Listed:
        if not isinstance(file, WebFile) or file.size >= 0:
            return file
        try:
            size = persistently(lambda: RemoteFile(file.url, takes_whole=True).size)
            if size is None:
                raise OtherFile("its length is not sent")
            return replace(file, size=size)
        except (Unreachable, ConnectionError) as error:
            raise UserError(f"{file.url}: cannot be reached ({error}); try again later") from error

    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        return list(pool.map(sized, files))


def check_against(listing: Path, files: Iterable[Path]) -> None:
    """Compare files with a ``SHA256SUMS.txt`` as PhysioNet ships it, by file name.

    Raises:
        UserError: the list is missing or unreadable, or a file is not in it or differs from it.
    """
    from tqdm import tqdm

    try:
        sums = checksums_in(listing.read_text(encoding="utf-8"), listing)
    except (OSError, ValueError) as error:
        raise UserError(f"{listing}: cannot read the checksums --verify needs ({error})") from error
    known = {Path(path).name: digest for path, digest in sums.items()}
    for path in tqdm(sorted(files), desc="verify", unit="file"):
        if path.name not in known:
            raise UserError(f"{path}: is not in {listing}; remove it or run without --verify")
        if sha256(path) != known[path.name]:
            raise UserError(f"{path}: differs from its checksum in {listing}; fetch it again")
