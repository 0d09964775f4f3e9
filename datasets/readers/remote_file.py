"""One file on a server: fetched in parts, resumed after a break, and checked before it is used."""

from __future__ import annotations

import hashlib
import io
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from utils.errors import UserError
from utils.files import check_file, claim, finish, locked, remove_ours

_PIECE = 1 << 16
_ATTEMPTS = 5
_SECONDS = 60.0
_PAUSE_SECONDS = 1.0  # before the second attempt, twice as long before each later one
_MUCH = 1 << 20  # bytes: an attempt that brought as many is no failed one
_LARGEST_TEXT = 1 << 26
_BUSY = (429, 502, 503, 504)  # a server that asks to come back
_Value = TypeVar("_Value")


class Unreachable(OSError):
    """The server does not answer, or not with the bytes asked for."""


class OtherFile(Unreachable):
    """The server's file is not the one expected."""


class _EndsBefore(Unreachable):
    """The server's file ends before the bytes asked for."""


# what reading a file on a server may raise
BROKEN = (Unreachable, ConnectionError)


class _Redirects(HTTPRedirectHandler):
    """Redirects to other places of the web, and from an encrypted one to encrypted ones alone."""

    def redirect_request(self, req: Request, *others: Any) -> Request | None:
        new = super().redirect_request(req, *others)
        kept = ("https",) if req.type == "https" else ("http", "https")
        if new is not None and new.type not in kept:
            raise Unreachable(f"the server leads to {new.type}://{new.host}, which is not followed")
        return new


@contextmanager
def _asked(url: str, timeout: float, **headers: str) -> Iterator[HTTPResponse]:
    """The answer of a server; whatever goes wrong while it is read is one of ``BROKEN``."""
    try:
        request = Request(url, headers=headers)
        with build_opener(_Redirects).open(request, timeout=timeout) as answer:
            if answer.headers.get_content_type() == "text/html":
                raise Unreachable("the server sends a page of text, such as one to log in")
            yield answer
    except Unreachable:
        raise
    except HTTPError as error:
        error.close()
        kind = _EndsBefore if error.code == 416 else Unreachable
        words = " ".join(str(error).split())  # some have several lines
        raise (ConnectionError if error.code in _BUSY else kind)(words) from error
    except (URLError, InvalidURL, ValueError) as error:
        raise Unreachable(error.reason if type(error) is URLError else error) from error
    except (OSError, HTTPException) as error:
        raise ConnectionError(str(error) or type(error).__name__) from error


def persistently(ask: Callable[[], _Value]) -> _Value:
    """What ``ask`` returns, once the connection holds.

    Raises:
        Unreachable: from ``ask``.
        ConnectionError: it broke in every attempt.
    """
    for attempt in range(_ATTEMPTS - 1):
        try:
            return ask()
        except ConnectionError:
            _pause(attempt)
    return ask()


def text_at(url: str, *, timeout: float = _SECONDS) -> str:
    """A text of a few megabytes at most.

    Raises:
        Unreachable: no such text, or no text.
        ConnectionError: the connection keeps breaking.
    """

    def ask() -> bytes:
        with _asked(url, timeout) as answer:
            data = answer.read(_LARGEST_TEXT)
            if answer.length:
                raise ConnectionError(f"{answer.length} bytes are missing")
            return data

    try:
        return persistently(ask).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreachable(f"not a text ({error})") from error


def _pause(attempt: int) -> None:
    time.sleep(_PAUSE_SECONDS * 2**attempt)


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
            with _asked(self.url, self._timeout, Range=f"bytes={start}-{stop - 1}") as answer:
                yield answer, self._begin(answer, start)
        except _EndsBefore as error:
            if start:
                raise OtherFile(f"at most {start} bytes, expected {self.size}") from error
            raise

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


def gather(
    url: str,
    part: Path,
    size: int,
    pieces: Callable[[int], Iterable[bytes]],
    arrived: Callable[[int], Any] = int,
) -> None:
    """Append to ``part`` until it has ``size`` bytes, in as many attempts as it takes.

    ``pieces``, given how many bytes are in ``part``, fetches those after them; ``arrived`` is
    given the length of each. An attempt that brought a megabyte does not count.

    Raises:
        Unreachable: from ``pieces``.
        UserError: the connection keeps breaking; what came stays in ``part``.
    """
    attempt = 0
    while True:
        have = part.stat().st_size if part.exists() else 0
        if have >= size:
            return
        try:
            for piece in pieces(have):
                with part.open("ab") as file:  # closed at once: a kill loses nothing that came
                    file.write(piece)
                arrived(len(piece))
            return
        except ConnectionError as error:
            came = (part.stat().st_size if part.exists() else 0) - have
            attempt = 0 if came >= _MUCH else attempt + 1
            if attempt == _ATTEMPTS:
                raise UserError(
                    f"{url}: the connection broke {_ATTEMPTS} times ({error}); the same command "
                    "resumes where it stopped"
                ) from error
            _pause(attempt)


def fetch_checked(
    url: str,
    target: Path,
    *,
    size: int,
    sha256: str = "",
    md5: str = "",
    timeout: float = _SECONDS,
    arrived: Callable[[int], Any] | None = None,
) -> Path:
    """``target``, fetched from ``url`` unless it is the published file already.

    Bytes gather in ``<name>.part``, where a later attempt resumes; the file appears whole, and
    only if it has ``size`` bytes of the published checksum (hexadecimal), if there is one.
    ``timeout``: seconds without a byte, after which the connection counts as broken. ``arrived``
    is given the number of bytes whenever some came; without it the fetching is announced.

    Raises:
        UserError: no network, no such file, a connection that keeps breaking, another file than
            the published one, or a file of somebody else under the target's name.
    """
    if not difference(target, size, sha256, md5):  # without a lock: the folder may be read-only
        return target
    with locked(target):
        if difference(target, size, sha256, md5):  # no other process fetched it meanwhile
            check_replaceable(target)
            part = claim(target.with_name(target.name + ".part"))
            with _explained(url, target, part):
                remote = RemoteFile(url, size, timeout=timeout, takes_whole=True)
                if arrived is None:
                    about = f"{target.name} ({size / 1e6:.1f} MB) from {url.split('/')[2]}"
                    print(f"fetching {about}", file=sys.stderr)
                gather(url, part, size, lambda have: remote.pieces(have, size), arrived or int)
                if other := difference(part, size, sha256, md5):
                    raise OtherFile(other)
            finish(part, target)
    return target


@contextmanager
def _explained(url: str, target: Path, part: Path) -> Iterator[None]:
    """What is wrong with a fetched file, in words; bytes that are not the file's are removed."""
    try:
        yield
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


def difference(path: Path, size: int, sha256: str = "", md5: str = "") -> str:
    """How a file differs from the published one; empty if it does not."""
    if not path.is_file():
        return "no file"
    if (length := path.stat().st_size) != size:
        return f"{length} bytes, expected {size}"
    for name, expected in (("SHA-256", sha256), ("MD5", md5)):
        if expected:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, name.replace("-", "").lower()).hexdigest()
            if digest != expected:
                return f"{name} {digest}, expected {expected}"
    return ""


def check_replaceable(target: Path) -> None:
    """Refuse a target that holds a file of somebody else.

    Raises:
        UserError: naming it and what to do.
    """
    try:
        check_file(target)
    except UserError as error:
        raise UserError(
            f"{error}; if it is a damaged copy of the published file, remove it and the same "
            "command fetches it"
        ) from error
