"""Records fetched from a server: ranges, resuming, broken connections, damaged bytes."""

from __future__ import annotations

import re
import resource
import threading
import zipfile
import zlib
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import preprocess_dreem
from datasets.readers import remote_file, remote_zip
from datasets.readers.profiles import profile
from datasets.readers.profiles.cohort_download import download_cohort
from datasets.readers.remote_file import RemoteFile
from datasets.readers.remote_zip import _unpack, fetch, members
from datasets.store.store import Store
from tests.listing import names
from tests.test_dreem import write_record
from utils.errors import UserError

NAMES = ("aa", "bb", "cc")


class Server:
    """A zip behind range requests; ``cut_after`` bytes an answer breaks, ``sent`` counts bytes."""

    def __init__(self, archive: Path) -> None:
        self.archive, self.sent, self.cut_after, self.ranges = archive, 0, None, True
        self.damage = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *words):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/files"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if request.path != "/files/dodh.zip/content":
            request.send_error(404)
            return
        whole = bytearray(self.archive.read_bytes())
        if self.damage is not None:
            whole[self.damage] ^= 0xFF
        first, last = map(
            int, re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["Range"]).groups()
        )
        body = bytes(whole[first : last + 1]) if self.ranges else bytes(whole)
        request.send_response(206 if self.ranges else 200)
        request.send_header("Content-Range", f"bytes {first}-{last}/{len(whole)}")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.cut_after is not None and len(body) > self.cut_after:
            body = body[: self.cut_after]
            request.close_connection = True
        self.sent += len(body)
        request.wfile.write(body)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(remote_file, "_PAUSE_SECONDS", 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three records, of noise so that compression leaves something to fetch."""
    folder = tmp_path_factory.mktemp("records")
    for name in NAMES:
        write_record(folder / f"{name}.h5")
    return folder


@pytest.fixture(params=[zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def server(request, folder, tmp_path):
    archive = tmp_path / "dodh.zip"
    with zipfile.ZipFile(archive, "w", request.param) as file:
        for name in reversed(NAMES):
            file.write(folder / f"{name}.h5", f"dodh/{name}.h5")
        file.writestr("dodh/readme.txt", "hello")
    running = Server(archive)
    yield running
    running.http.shutdown()
    running.http.server_close()


def cohort_at(url: str, version: str = "dodh"):
    """DOD-H as declared, at another address, of fewer subjects."""
    cohort = profile.load(version)
    place = (f"{url}/{version}.zip/content",)
    return replace(cohort, download=replace(cohort.download, addresses=place, subjects=len(NAMES)))


def download(folder: Path, base_url: str, version: str = "dodh", subjects=()) -> None:
    download_cohort(cohort_at(base_url, version), folder, subjects)


def same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def test_all_records_arrive_whole_and_once(server, folder, tmp_path):
    out = tmp_path / "raw"
    download(out, server.url)
    assert names(out) == [f"{name}.h5" for name in NAMES]
    assert all(same(out / f"{name}.h5", folder / f"{name}.h5") for name in NAMES)
    before = server.sent
    download(out, server.url)
    assert server.sent - before < 0.2 * server.archive.stat().st_size + 2**17  # the list alone


def test_one_record_costs_its_own_bytes(server, folder, tmp_path):
    out = tmp_path / "raw"
    remote = RemoteFile(f"{server.url}/dodh.zip/content")
    listed = members(remote)
    assert [Path(m.filename).name for m in listed] == [*(f"{n}.h5" for n in NAMES), "readme.txt"]
    before = server.sent
    out.mkdir()
    fetch(remote, listed[0], out)
    assert server.sent - before < listed[0].compress_size + 1000
    assert same(out / "aa.h5", folder / "aa.h5")


def test_a_broken_connection_resumes_where_it_stopped(server, folder, tmp_path):
    out = tmp_path / "raw"
    out.mkdir()
    remote = RemoteFile(f"{server.url}/dodh.zip/content")
    member = members(remote)[0]
    server.cut_after = member.compress_size // 3
    before = server.sent
    fetch(remote, member, out)
    assert same(out / "aa.h5", folder / "aa.h5")
    assert server.sent - before < member.compress_size + 2000  # nothing came twice


def test_a_connection_that_keeps_breaking_leaves_its_part_for_the_next_time(
    server, folder, tmp_path
):
    out = tmp_path / "raw"
    out.mkdir()
    remote = RemoteFile(f"{server.url}/dodh.zip/content")
    member = members(remote)[0]
    server.cut_after = member.compress_size // 20
    with pytest.raises(UserError, match=r"broke 5 times .* resumes where it stopped"):
        fetch(remote, member, out)
    assert names(out) == ["aa.h5.part"]
    have = (out / "aa.h5.part").stat().st_size
    assert have >= 4 * (member.compress_size // 20)
    server.cut_after, before = None, server.sent
    fetch(remote, member, out)
    assert server.sent - before < member.compress_size - have + 1000
    assert same(out / "aa.h5", folder / "aa.h5")


def test_damaged_bytes_are_not_kept(server, folder, tmp_path):
    out = tmp_path / "raw"
    remote = RemoteFile(f"{server.url}/dodh.zip/content")
    member = members(remote)[0]
    server.damage = member.header_offset + member.compress_size // 2
    with pytest.raises(UserError, match="damaged on the way"):
        download(out, server.url, subjects=["1-2"])
    assert names(out) == ["bb.h5"]  # which a neighbour's damage does not keep from coming
    server.damage = None
    download(out, server.url, subjects=["1"])
    assert names(out) == ["aa.h5", "bb.h5"]


def test_files_of_the_user_count_by_their_bytes(server, folder, tmp_path):
    """A fetch that another program broke off may have the length of the whole."""
    out = tmp_path / "raw"
    out.mkdir()
    whole = (folder / "aa.h5").read_bytes()
    (out / "aa.h5").write_bytes(whole)
    before = server.sent
    download(out, server.url, subjects=["1"])
    assert server.sent - before < 2**17  # the list alone
    half = len(whole) // 2
    (out / "aa.h5").write_bytes(whole[:half] + bytes(len(whole) - half))
    with pytest.raises(UserError, match=r"aa\.h5: is there already.*remove it"):
        download(out, server.url)
    assert names(out) == ["aa.h5"]  # and nothing else was fetched


def test_servers_that_cannot_are_one_line(server, tmp_path):
    with pytest.raises(UserError, match="404"):
        download(tmp_path / "raw", server.url, "dodo")
    server.ranges = False
    with pytest.raises(UserError, match="does not send parts of files"):
        download(tmp_path / "raw", server.url)
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(UserError, match="try again later"):
        download(tmp_path / "raw", server.url)


def test_a_file_that_is_no_zip(server, tmp_path):
    server.archive.write_bytes(b"x" * 5000)
    with pytest.raises(UserError, match="cannot read the zip's list"):
        download(tmp_path / "raw", server.url)


def test_folder_zip_and_download_give_the_same_store(server, folder, tmp_path, monkeypatch):
    cohort = cohort_at(server.url)
    monkeypatch.setattr(profile, "load", lambda name: cohort)
    sources = {
        "folder": ["--raw_path", str(folder)],
        "zip": ["--raw_path", str(server.archive)],
        "download": ["--raw_path", str(tmp_path / "raw"), "--download"],
    }
    for name, words in sources.items():
        preprocess_dreem.main([*words, "--save_path", str(tmp_path / name), "--jobs", "1"])
    stores = {name: Store(tmp_path / name) for name in sources}
    for record in NAMES:
        nights = [store.night(record) for store in stores.values()]
        for night in nights[1:]:
            assert np.array_equal(night.signals(), nights[0].signals())
            assert np.array_equal(night.stages, nights[0].stages)
    texts = {(tmp_path / name / "recordings.csv").read_text() for name in sources}
    assert len(texts) == 1  # checksums too


def test_broken_zips_are_one_line(folder, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a readable zip"):
        preprocess_dreem.main(["--raw_path", str(tmp_path / "a.zip")])
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.writestr("x.txt", "")
    with pytest.raises(UserError, match=r"no \*.h5 records"):
        preprocess_dreem.main(["--raw_path", str(tmp_path / "b.zip")])
    with pytest.raises(UserError, match="names a zip"):
        preprocess_dreem.parse_args(["--raw_path", "dodh.zip", "--download"])


@pytest.mark.parametrize("promised", [0, 1000, 10**6])
def test_a_member_that_unfolds_to_more_than_promised_fills_neither_memory_nor_disk(
    tmp_path, promised
):
    """Thirty megabytes of zeros in thirty kilobytes."""
    opener = zlib.compressobj(9, zlib.DEFLATED, -15)
    (tmp_path / "part").write_bytes(
        b"".join(opener.compress(bytes(10**6)) for _ in range(30)) + opener.flush()
    )
    member = zipfile.ZipInfo("a.h5")
    member.compress_type, member.file_size, member.CRC = zipfile.ZIP_DEFLATED, promised, 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="unfolds to more"):
        _unpack(member, tmp_path / "part", tmp_path / "a.h5")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB
    assert (tmp_path / "a.h5").stat().st_size <= promised + 2**20


@pytest.mark.parametrize("name", ["../../evil.h5", "/tmp/evil.h5", "a/../../evil.h5", "a/evil.h5"])
def test_members_are_written_by_their_last_name_alone(tmp_path, name, monkeypatch):
    raw = tmp_path / "raw"
    raw.mkdir()
    monkeypatch.setattr(remote_zip, "_gather", lambda remote, member, part, arrived: part.touch())
    monkeypatch.setattr(remote_zip, "_unpack", lambda member, part, target: target.touch())
    member = zipfile.ZipInfo("x.h5")
    member.filename, member.file_size = name, 1
    remote = SimpleNamespace(url="http://x")
    assert fetch(remote, member, raw) == raw / "evil.h5"
    for bad in ("..", "a/..", "x/\x1b[2J.h5", "a\\b.h5"):
        member.filename = bad
        with pytest.raises(UserError, match="cannot be the name"):
            fetch(remote, member, raw)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
