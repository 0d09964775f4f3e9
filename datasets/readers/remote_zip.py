"""Members of a zip file on a server, fetched one by one with range requests and resumed.

The zip's directory lies at its end, so a single record costs its own bytes and not the archive's.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from utils.errors import UserError
from utils.files import check_file, claim, remove_ours, safe_name, written_whole

_PIECE = 1 << 20
_ATTEMPTS = 5
_LOCAL_HEADER = 30  # bytes before a member's name (APPNOTE 4.3.7)
_SECONDS = 60


class Unreachable(OSError):
    """The server does not answer, or not with the bytes asked for."""


BROKEN = (Unreachable, ConnectionError, TimeoutError, HTTPException)


class RemoteFile(io.RawIOBase):
    """A file on a server, of which only the bytes asked for are fetched."""

    def __init__(self, url: str, size: int | None = None) -> None:
        super().__init__()
        self.url, self.position = url, 0
        if size is None:
            # one byte: the answer's range names the size of the whole
            with _answer(url, 0, 0) as answer:
                size = int(answer.headers["Content-Range"].rpartition("/")[2])
        self.size = size

    def buffered(self, piece: int) -> io.BufferedReader:
        """The file from its start, read ``piece`` bytes at a time; closing it closes no other."""
        return io.BufferedReader(RemoteFile(self.url, self.size), piece)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        self.position = max(0, start + offset)
        return self.position

    def readinto(self, buffer) -> int:
        stop = min(self.position + len(buffer), self.size)
        if stop <= self.position:
            return 0
        with _answer(self.url, self.position, stop - 1) as answer:
            received = answer.read()
        buffer[: len(received)] = received
        self.position += len(received)
        return len(received)

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """Bytes ``[start, stop)`` as they arrive."""
        with _answer(self.url, start, stop - 1) as answer:
            while piece := answer.read(_PIECE):
                yield piece


def members(remote: RemoteFile, suffix: str) -> list[zipfile.ZipInfo]:
    """Members whose name ends with ``suffix``, by name.

    Raises:
        UserError: the server's file is no zip.
    """
    try:
        with zipfile.ZipFile(remote.buffered(_PIECE)) as archive:
            infos = [info for info in archive.infolist() if info.filename.endswith(suffix)]
    except (*BROKEN, zipfile.BadZipFile) as error:
        raise UserError(f"{remote.url}: cannot read the zip's list of files ({error})") from error
    return sorted(infos, key=lambda info: info.filename)


def fetch(remote: RemoteFile, member: zipfile.ZipInfo, folder: Path) -> Path:
    """Fetch one member into ``folder``, resuming what an earlier attempt left of it.

    Compressed bytes gather in ``<name>.part``; the file appears whole and checked.

    Raises:
        UserError: the connection keeps breaking, the bytes are not those the zip promises, or
            somebody else's file of that name is there.
    """
    target = folder / safe_name(Path(member.filename).name, remote.url)
    # its checksum was verified before the file got this name
    if target.exists() and target.stat().st_size == member.file_size:
        return target
    check_file(target)
    # compressed bytes are gathered, since a broken download can be continued with them
    part = claim(target.with_name(target.name + ".part"))
    _gather(remote, member, part)
    try:
        with written_whole(target) as temporary:
            _unpack(member, part, temporary)
    except (zlib.error, ValueError) as error:
        remove_ours(part)
        raise UserError(
            f"{target.name}: damaged on the way ({error}); the same command fetches it again"
        ) from error
    remove_ours(part)
    return target


def _gather(remote: RemoteFile, member: zipfile.ZipInfo, part: Path) -> None:
    """All compressed bytes of a member, in as many attempts as it takes."""
    failed: Exception | None = None
    for _ in range(_ATTEMPTS):
        have = part.stat().st_size if part.exists() else 0
        if have >= member.compress_size:
            return
        try:
            with remote.buffered(_LOCAL_HEADER) as file:
                file.seek(member.header_offset)
                header = file.read(_LOCAL_HEADER)
            # of name and extra field; the zip's directory may have an extra field of another length
            lengths = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:], "little")
            start = member.header_offset + _LOCAL_HEADER + sum(lengths)
            with part.open("ab") as file:
                for piece in remote.pieces(start + have, start + member.compress_size):
                    file.write(piece)
        except BROKEN as error:
            failed = error
    if part.stat().st_size < member.compress_size if part.exists() else True:
        raise UserError(
            f"{remote.url}: the connection broke {_ATTEMPTS} times ({failed}); the same command "
            "resumes where it stopped"
        )


def _unpack(member: zipfile.ZipInfo, part: Path, target: Path) -> None:
    """Decompress a member, and check its size and checksum."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"compression {member.compress_type} is unknown here")
    plain = member.compress_type == zipfile.ZIP_STORED
    # -15: members are raw deflate streams, without the header of zlib
    opener, checksum, size = None if plain else zlib.decompressobj(-15), 0, 0
    with part.open("rb") as source, target.open("wb") as file:
        while piece := source.read(_PIECE):
            data = piece if plain else opener.decompress(piece)
            checksum, size = zlib.crc32(data, checksum), size + len(data)
            file.write(data)
    if size != member.file_size or checksum != member.CRC:
        raise ValueError("its checksum is another")


def _answer(url: str, first: int, last: int):
    """The server's answer with bytes ``first`` to ``last``.

    Raises:
        Unreachable: no answer, or one without ranges.
    """
    request = Request(url, headers={"Range": f"bytes={first}-{last}"})
    try:
        answer = urlopen(request, timeout=_SECONDS)
    except URLError as error:
        raise Unreachable(f"{url}: {error}") from error
    if answer.status != 206:  # 200 would be the whole archive
        answer.close()
        raise Unreachable(f"{url}: the server does not send parts of files")
    return answer
