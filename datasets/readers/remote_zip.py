"""Members of a zip file on a server, fetched one by one with range requests and resumed.

The zip's directory lies at its end, so a single record costs its own bytes and not the archive's.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from datasets.readers.remote_file import BROKEN, RemoteFile, Unreachable, gather
from utils.errors import UserError
from utils.files import check_file, claim, remove_ours, safe_name, written_whole

_PIECE = 1 << 20
_LOCAL_HEADER = 30  # bytes before a member's name (APPNOTE 4.3.7)


def members(remote: RemoteFile) -> list[zipfile.ZipInfo]:
    """Members of the zip, by name.

    Raises:
        UserError: the server's file is no zip.
    """
    try:
        with zipfile.ZipFile(remote.buffered(_PIECE)) as archive:
            infos = archive.infolist()
    except (*BROKEN, zipfile.BadZipFile) as error:
        raise UserError(f"{remote.url}: cannot read the zip's list of files ({error})") from error
    return sorted(infos, key=lambda info: info.filename)


def fetch(
    remote: RemoteFile,
    member: zipfile.ZipInfo,
    folder: Path,
    arrived: Callable[[int], Any] = int,
) -> Path:
    """Fetch one member into ``folder``, resuming what an earlier attempt left of it.

    Compressed bytes gather in ``<name>.part``; the file appears whole and checked. ``arrived`` is
    given the number of compressed bytes whenever some came.

    Raises:
        UserError: the connection keeps breaking, the bytes are not those the zip promises, or
            somebody else's file of that name is there.
    """
    target = folder / safe_name(Path(member.filename).name, remote.url)
    check_file(target)
    # compressed bytes are gathered, since a broken download can be continued with them
    part = claim(target.with_name(target.name + ".part"))
    _gather(remote, member, part, arrived)
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


def _gather(
    remote: RemoteFile, member: zipfile.ZipInfo, part: Path, arrived: Callable[[int], Any]
) -> None:
    """All compressed bytes of a member, in as many attempts as it takes."""

    def pieces(have: int) -> Iterator[bytes]:
        with remote.buffered(_LOCAL_HEADER) as file:
            file.seek(member.header_offset)
            header = file.read(_LOCAL_HEADER)
        # of name and extra field; the zip's directory may have an extra field of another length
        lengths = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:], "little")
        start = member.header_offset + _LOCAL_HEADER + sum(lengths)
        return remote.pieces(start + have, start + member.compress_size)

    try:
        gather(remote.url, part, member.compress_size, pieces, arrived)
    except Unreachable as error:
        raise UserError(
            f"{remote.url}: {error}; the same command resumes where it stopped"
        ) from error


def _unpack(member: zipfile.ZipInfo, part: Path, target: Path) -> None:
    """Decompress a member, and check its size and checksum."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"compression {member.compress_type} is unknown here")
    plain = member.compress_type == zipfile.ZIP_STORED
    # -15: members are raw deflate streams, without the header of zlib
    opener, checksum, size = None if plain else zlib.decompressobj(-15), 0, 0
    with part.open("rb") as source, target.open("wb") as file:
        for data in _pieces(source, opener):
            checksum, size = zlib.crc32(data, checksum), size + len(data)
            if size > member.file_size:  # before the disk is full of it
                raise ValueError("it unfolds to more than the zip's list promises")
            file.write(data)
    if size != member.file_size or checksum != member.CRC:
        raise ValueError("its checksum is another")


def checksum_of(path: Path) -> int:
    """The checksum of a file as zips have it (CRC-32)."""
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            checksum = zlib.crc32(piece, checksum)
    return checksum


def _pieces(source: BinaryIO, opener: Any) -> Iterator[bytes]:
    """Decompressed pieces of a member; few compressed bytes may stand for gigabytes."""
    while piece := source.read(_PIECE):
        if opener is None:
            yield piece
            continue
        while piece:
            yield opener.decompress(piece, _PIECE)
            piece = opener.unconsumed_tail
    if opener is not None:
        yield opener.flush()
