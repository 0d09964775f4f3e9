"""One published file from a server that cuts, stalls or lies: whole and checked, or one line."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from datasets.readers import remote_file
from datasets.readers.remote_file import BROKEN, OtherFile, RemoteFile, Unreachable, fetch_checked
from tests.listing import names
from utils import files
from utils.errors import UserError
from utils.files import claim, is_ours, write_text

ROOT = Path(__file__).parents[1]
DATA = np.random.default_rng(0).bytes(300_000)
SIZE, SHA256 = len(DATA), hashlib.sha256(DATA).hexdigest()
WRONG = bytes([DATA[0] ^ 0xFF]) + DATA[1:]
PAGE = b"<html>log in</html>" * 50


def reply(request, data: bytes, *, length: int | None = None, begin: int | None = None) -> None:
    """Headers and ``data``: a part that begins at ``begin``, or else a whole file."""
    length = len(data) if length is None else length
    request.send_response(200 if begin is None else 206)
    request.send_header("Content-Length", str(length))
    if begin is not None:
        request.send_header("Content-Range", f"bytes {begin}-{begin + length - 1}/{SIZE}")
    request.end_headers()
    request.wfile.write(data)
    request.wfile.flush()


def parts(request, start: int) -> None:
    reply(request, DATA[start:], begin=start)


def cut_after(count: int) -> Callable:
    """Answers that break after ``count`` bytes."""
    return lambda request, start: reply(
        request, DATA[start : start + count], length=SIZE - start, begin=start
    )


class Server:
    """Answers with what ``answer`` makes of a request and the first byte asked for."""

    def __init__(self) -> None:
        self.answer, self.starts, self.stopped = parts, [], threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = re.fullmatch(rf"bytes=(\d+)-{SIZE - 1}", self.headers["Range"])
                outer.starts.append(int(asked[1]))
                outer.answer(self, outer.starts[-1])

            def log_message(self, *words):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/weights.pt"

    def stop(self) -> None:
        self.stopped.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(remote_file, "_PAUSE_SECONDS", 0)


@pytest.fixture
def server():
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "cache" / "weights.pt"


def fetch(server: Server, target: Path, **more) -> Path:
    return fetch_checked(server.url, target, **{"size": SIZE, "sha256": SHA256, **more})


def refused(server: Server, target: Path, match: str, **more) -> None:
    """One line, and nothing under the target's name."""
    with pytest.raises(UserError, match=match) as error:
        fetch(server, target, **more)
    assert "\n" not in str(error.value)
    assert not target.exists()


def leave_part(target: Path, data: bytes) -> Path:
    """What a killed attempt leaves."""
    part = claim(target.with_name("weights.pt.part"))
    part.write_bytes(data)
    return part


def test_it_arrives_once_and_is_announced_in_one_line(server, target, capsys):
    assert fetch(server, target) == target
    assert target.read_bytes() == DATA and is_ours(target) and names(target.parent) == [target.name]
    assert ".part" not in (target.parent / ".sleep-staging.json").read_text()  # nobody's name again
    host = f"127.0.0.1:{server.http.server_port}"
    assert capsys.readouterr().err == f"fetching weights.pt (0.3 MB) from {host}\n"
    fetch(server, target)
    assert server.starts == [0] and not any(capsys.readouterr())


def test_a_copy_put_in_place_by_hand_is_used_even_where_nothing_can_be_written(server, target):
    target.parent.mkdir()
    target.write_bytes(DATA)
    target.parent.chmod(0o500)
    fetch(server, target)
    target.parent.chmod(0o700)
    assert server.starts == [] and list(target.parent.iterdir()) == [target]


def test_a_broken_connection_resumes_with_the_missing_bytes_alone(server, target):
    server.answer = cut_after(100_000)
    fetch(server, target)
    assert server.starts == [0, 100_000, 200_000] and target.read_bytes() == DATA


def test_a_killed_attempt_is_resumed(server, target):
    leave_part(target, DATA[:123_456])
    fetch(server, target)
    assert server.starts == [123_456] and names(target.parent) == [target.name]


def interrupted(path: Path) -> None:
    raise KeyboardInterrupt


def test_what_was_interrupted_at_its_very_end_is_not_fetched_again(server, target, monkeypatch):
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(files, "sha256", interrupted)
        fetch(server, target)
    assert names(target.parent) == ["weights.pt.part"]
    assert fetch(server, target).read_bytes() == DATA and is_ours(target)
    assert server.starts == [0] and names(target.parent) == ["weights.pt"]


def test_a_part_that_is_whole_needs_no_server(server, target):
    leave_part(target, DATA)
    server.stop()
    assert fetch(server, target).read_bytes() == DATA


@pytest.mark.parametrize(
    "corrupted", [WRONG[:1000], WRONG, DATA + b"more"], ids=["begun", "whole", "longer"]
)
def test_corrupted_parts_are_removed_and_the_next_try_succeeds(server, target, corrupted):
    leave_part(target, corrupted)
    refused(server, target, "is not the published file .* fetches it again")
    assert names(target.parent) == []
    assert fetch(server, target).read_bytes() == DATA


def test_a_connection_that_keeps_breaking_is_resumed_by_the_next_command(server, target):
    server.answer = cut_after(10_000)
    refused(server, target, r"broke 5 times \(250000 bytes are missing\); the same command")
    assert names(target.parent) == ["weights.pt.part"]
    server.answer = parts
    fetch(server, target)
    assert server.starts == [0, 10_000, 20_000, 30_000, 40_000, 50_000]


@pytest.mark.parametrize("count", [None, 0, 1000], ids=["no_answer", "no_bytes", "some_bytes"])
def test_a_server_that_stalls_is_given_up(server, target, count):
    def stall(request, start):
        if count is not None:
            cut_after(count)(request, start)
        server.stopped.wait(10)

    server.answer = stall
    refused(server, target, r"broke 5 times \(.*timed out\); the same command", timeout=0.1)
    assert server.starts == [i * (count or 0) for i in range(5)]


def test_a_server_without_ranges_sends_the_whole(server, target):
    leave_part(target, DATA[:100_000])
    server.answer = lambda request, start: reply(request, DATA)
    assert fetch(server, target).read_bytes() == DATA


def test_a_server_that_begins_elsewhere_is_noticed(server, target):
    leave_part(target, DATA[:100_000])
    server.answer = lambda request, start: reply(request, DATA[500:], begin=500)
    refused(server, target, r"cannot be reached \(the server sends other parts")
    # from the start, and its range admits that: those bytes are as good
    server.answer = lambda request, start: reply(request, DATA, begin=0)
    assert fetch(server, target).read_bytes() == DATA


def test_a_server_that_lies_about_the_range_is_noticed_by_the_checksum(server, target):
    leave_part(target, DATA[:100_000])
    server.answer = lambda request, start: reply(request, DATA[: SIZE - start], begin=start)
    refused(server, target, "is not the published file .SHA-256")
    assert fetch(server, target).read_bytes() == DATA


def endless(request, start: int) -> None:
    request.send_response(200)
    request.end_headers()
    try:
        while True:
            request.wfile.write(PAGE)
    except ConnectionError:
        pass


def ends_unannounced(request, start: int) -> None:
    request.send_response(200)
    request.end_headers()
    request.wfile.write(PAGE)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda r, start: reply(r, WRONG, begin=0), rf"SHA-256 \w{{64}}, expected {SHA256}"),
        (lambda r, start: reply(r, PAGE), f"{len(PAGE)} bytes, expected {SIZE}"),
        (ends_unannounced, f"{len(PAGE)} bytes, expected {SIZE}"),
        (lambda r, start: reply(r, DATA, length=1000), f"1000 bytes, expected {SIZE}"),
        (lambda r, start: reply(r, DATA, length=SIZE + 1), f"{SIZE + 1} bytes, expected {SIZE}"),
        (endless, rf"SHA-256 \w{{64}}, expected {SHA256}"),
    ],
    ids=["bytes", "page", "page_without_length", "short", "long", "endless"],
)
def test_another_file_is_never_kept(server, target, answer, reason):
    server.answer = answer
    refused(server, target, rf"is not the published file \({reason}\); what came was removed")
    assert names(target.parent) == [] and server.starts == [0]
    server.answer = parts
    assert fetch(server, target).read_bytes() == DATA


def test_a_file_that_has_become_shorter_than_the_part(server, target):
    leave_part(target, DATA[:1000])
    server.answer = lambda request, start: request.send_error(416)
    refused(server, target, "is not the published file .at most 1000 bytes")
    assert names(target.parent) == []


@pytest.mark.parametrize("status", [404, 500])
def test_an_answer_that_is_an_error_is_one_line(server, target, status):
    server.answer = lambda request, start: request.send_error(status)
    advice = re.escape(f"fetch it on a machine with a network and put it at {target}")
    refused(server, target, rf"cannot be reached \(.*{status}.*\); {advice}")
    assert server.starts == [0] and names(target.parent) == []


def test_no_server_is_one_line_and_what_came_before_is_kept(server, target):
    leave_part(target, DATA[:1000])
    server.stop()
    refused(server, target, r"cannot be reached \(\[Errno \d+\] Connection refused\); fetch it on")
    assert names(target.parent) == ["weights.pt.part"]


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/hostname",
        "ftp://127.0.0.1/a",
        "weights.pt",
        "http://",
        "http://a:b/",
        "http://[",
    ],
)
def test_addresses_that_are_not_of_the_web(target, url):
    with pytest.raises(UserError, match=r"cannot be reached .* put it at"):
        fetch_checked(url, target, size=SIZE, sha256=SHA256)
    assert names(target.parent) == []


@pytest.mark.parametrize("name", ["weights.pt", "weights.pt.part"])
def test_a_file_of_the_user_is_kept(server, target, name):
    mine = target.with_name(name)
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    more = "; if it is a damaged copy .* remove it" if mine == target else ""
    with pytest.raises(UserError, match=f"{name}: is there already, .* move it away.*{more}"):
        fetch(server, target)
    assert mine.read_bytes() == b"mine" and server.starts == []


def test_an_older_publication_fetched_before_is_replaced(server, target):
    write_text(target, "last year's")
    assert fetch(server, target).read_bytes() == DATA


def test_two_processes_and_two_threads_fetch_once(server, target):
    all_ask = threading.Event()

    def slowly(request, start):
        all_ask.wait(10)
        time.sleep(0.2)
        parts(request, start)

    server.answer = slowly
    line = (
        "from pathlib import Path; from datasets.readers.remote_file import fetch_checked; "
        "print('begun', flush=True); "
        f"fetch_checked({server.url!r}, Path({str(target)!r}), size={SIZE}, sha256={SHA256!r})"
    )
    words = [sys.executable, "-c", line]
    running = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)]
    threads = [threading.Thread(target=fetch, args=(server, target)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for process in running:
        assert process.stdout.readline() == b"begun\n"
    all_ask.set()
    for thread in threads:
        thread.join()
    for process in running:
        process.communicate()
    assert [process.returncode for process in running] == [0, 0]
    assert server.starts == [0] and target.read_bytes() == DATA


def test_a_remote_file_yields_what_is_asked_for_and_not_more(server):
    server.answer = endless
    remote = RemoteFile(server.url, SIZE, takes_whole=True)
    assert sum(map(len, remote.pieces(1000, SIZE))) == SIZE - 1000
    with pytest.raises(Unreachable, match="does not send parts of files"):
        next(RemoteFile(server.url, SIZE).pieces(0, SIZE))
    assert issubclass(OtherFile, BROKEN)
