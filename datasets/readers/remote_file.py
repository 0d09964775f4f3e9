"""One file on a server: fetched in parts, resumed after a break, and checked before it is used."""

from __future__ import annotations

import hashlib
import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from utils.errors import UserError
from utils.files import check_file, claim, locked, remove_ours, written_whole

_PIECE = 1 << 16
_ATTEMPTS = 5
_SECONDS = 60.0


class Unreachable(OSError):
    """The server does not answer, or not with the bytes asked for."""


class OtherFile(Unreachable):
    """The server's file is not the one expected."""


# what reading a file on a server may raise
BROKEN = (Unreachable, ConnectionError)


class RemoteFile(io.RawIOBase):
    """A file on a server, of which only the bytes asked for are fetched.

    Args:
        url: of ``http`` or ``https``.
        size: bytes of the whole; without it the server is asked.
        timeout: seconds without a byte, after which the connection counts as broken.
        takes_whole: accept a server that sends the file from its start whatever is asked for.

    Raises:
        Unreachable: another kind of address, or no ``size`` and no answer.
        ConnectionError: the connection broke while the server was asked.
    """

    def __init__(
        self,
        url: str,
        size: int | None = None,
        *,
        timeout: float = _SECONDS,
        takes_whole: bool = False,
    ) -> None:
        super().__init__()
        if not re.match("https?://", url):
            raise Unreachable("only http and https addresses are fetched")
        self.url, self.size, self.position = url, size, 0
        self._timeout, self._takes_whole = timeout, takes_whole
        if size is None:
            with self._answer(0, 1):  # one byte: the answer's range names the size of the whole
                pass

    def buffered(self, piece: int) -> io.BufferedReader:
        """The file from its start, read ``piece`` bytes at a time; closing it closes no other."""
        return io.BufferedReader(RemoteFile(self.url, self.size, timeout=self._timeout), piece)

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
        received = b"".join(self.pieces(self.position, stop))
        buffer[: len(received)] = received
        self.position += len(received)
        return len(received)

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """Bytes ``[start, stop)`` as they arrive: all of them, and not one more.

        Raises:
            Unreachable: no answer, or other bytes than those asked for.
            ConnectionError: the connection broke or stalled before the last byte.
        """
        with self._answer(start, stop) as (answer, begin):
            position = begin
            while position < stop:
                piece = answer.read1(min(_PIECE, stop - position))
                if not piece and answer.length is None:  # the server itself ended the file
                    raise OtherFile(f"{position} bytes, expected {self.size}")
                if not piece:
                    raise ConnectionError(f"{stop - position} bytes are missing")
                skipped = max(0, start - position)
                position += len(piece)
                if position > start:
                    yield piece[skipped:]

    @contextmanager
    def _answer(self, start: int, stop: int) -> Iterator[tuple[HTTPResponse, int]]:
        """The server's answer to bytes ``[start, stop)``, and where in the file it begins."""
        try:
            request = Request(self.url, headers={"Range": f"bytes={start}-{stop - 1}"})
            with urlopen(request, timeout=self._timeout) as answer:
                yield answer, self._begin(answer, start)
        except Unreachable:
            raise
        except HTTPError as error:
            error.close()
            if error.code == 416 and start:  # the file ends before
                raise OtherFile(f"at most {start} bytes, expected {self.size}") from error
            raise Unreachable(error) from error
        except (URLError, InvalidURL, ValueError) as error:
            raise Unreachable(error.reason if type(error) is URLError else error) from error
        except (OSError, HTTPException) as error:
            raise ConnectionError(str(error) or type(error).__name__) from error

    def _begin(self, answer: HTTPResponse, start: int) -> int:
        """Where an answer begins, once it is clear that it is of this file and can be used."""
        sent = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if answer.status == 206 and sent:
            begin, size = map(int, sent.groups())
        elif answer.status == 200 and self._takes_whole:
            begin, size = 0, answer.length
        else:
            raise Unreachable(f"the server does not send parts of files (status {answer.status})")
        if self.size is None:
            self.size = size
        if size not in (None, self.size):
            raise OtherFile(f"{size} bytes, expected {self.size}")
        if begin != start and not (begin == 0 and self._takes_whole):
            raise Unreachable("the server sends other parts of files than those asked for")
        return begin


def gather(url: str, part: Path, size: int, pieces: Callable[[int], Iterable[bytes]]) -> None:
    """Append to ``part`` until it has ``size`` bytes, in as many attempts as it takes.

    ``pieces``, given how many bytes are in ``part``, fetches those after them.

    Raises:
        Unreachable: from ``pieces``.
        UserError: the connection keeps breaking; what came stays in ``part``.
    """
    failed: Exception | None = None
    for _ in range(_ATTEMPTS):
        have = part.stat().st_size if part.exists() else 0
        if have >= size:
            return
        try:
            for piece in pieces(have):
                with part.open("ab") as file:  # closed at once: a kill loses nothing that came
                    file.write(piece)
            return
        except ConnectionError as error:
            failed = error
    raise UserError(
        f"{url}: the connection broke {_ATTEMPTS} times ({failed}); the same command resumes "
        "where it stopped"
    )


def fetch_checked(
    url: str, target: Path, *, size: int, sha256: str, timeout: float = _SECONDS
) -> Path:
    """``target``, fetched from ``url`` unless it is the published file already.

    Bytes gather in ``<name>.part``, where a later attempt resumes; the file appears whole, and
    only if it has ``size`` bytes of checksum ``sha256`` (hexadecimal). For files of a few
    megabytes. ``timeout``: seconds without a byte, after which the connection counts as broken.

    Raises:
        UserError: no network, no such file, a connection that keeps breaking, another file than
            the published one, or a file of somebody else under the target's name.
    """
    if not _difference(target, size, sha256):  # without a lock: the folder may be read-only
        return target
    with locked(target):
        if _difference(target, size, sha256):  # no other process fetched it meanwhile
            _check_target(target)
            part = _gather_checked(url, target, size, sha256, timeout)
            with written_whole(target) as temporary:
                temporary.write_bytes(part.read_bytes())
            remove_ours(part)
    return target


def _gather_checked(url: str, target: Path, size: int, sha256: str, timeout: float) -> Path:
    """The ``.part`` beside ``target``, once it holds the published file."""
    part = claim(target.with_name(target.name + ".part"))
    try:
        remote = RemoteFile(url, size, timeout=timeout, takes_whole=True)
        host = url.split("/")[2]
        print(f"fetching {target.name} ({size / 1e6:.1f} MB) from {host}", file=sys.stderr)
        gather(url, part, size, lambda have: remote.pieces(have, size))
        if difference := _difference(part, size, sha256):
            raise OtherFile(difference)
        return part
    except OtherFile as error:
        remove_ours(part)
        raise UserError(
            f"{url}: is not the published file ({error}); what came was removed, and the same "
            "command fetches it again"
        ) from error
    except Unreachable as error:
        raise UserError(
            f"{url}: cannot be reached ({error}); fetch it on a machine with a network and put it "
            f"at {target}"
        ) from error


def _difference(path: Path, size: int, sha256: str) -> str:
    """How a file differs from the published one; empty if it does not."""
    if not path.is_file():
        return "no file"
    if (length := path.stat().st_size) != size:
        return f"{length} bytes, expected {size}"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return "" if digest == sha256 else f"SHA-256 {digest}, expected {sha256}"


def _check_target(target: Path) -> None:
    try:
        check_file(target)
    except UserError as error:
        raise UserError(
            f"{error}; if it is a damaged copy of the published file, remove it and the same "
            "command fetches it"
        ) from error
