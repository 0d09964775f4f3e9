"""Fetching real files: addresses, checksums enforced, failures in one line. No network."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from datasets.readers.sleepedf_download import BASE_URL, CASSETTE, download
from utils.errors import UserError


class _WrongFiles(BaseHTTPRequestHandler):
    """Serves the right names with the wrong bytes, or nothing."""

    asked: list[str] = []  # noqa: RUF012

    def do_GET(self):
        self.asked.append(self.path)
        if "missing" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"not the recording")

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    _WrongFiles.asked.clear()
    made = ThreadingHTTPServer(("127.0.0.1", 0), _WrongFiles)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    thread.join()
    made.server_close()


def test_the_address_has_no_trailing_slash_and_all_subjects_are_known():
    assert BASE_URL == "https://physionet.org/files/sleep-edfx/1.0.0"
    assert len(CASSETTE) == 78


@pytest.mark.parametrize(("study", "folder"), [("cassette", "SC4001E0"), ("telemetry", "ST7011J0")])
def test_a_file_with_another_checksum_is_refused_and_not_kept(tmp_path, server, study, folder):
    with pytest.raises(UserError, match=r"download of subject 0 .* failed.*continues"):
        download(tmp_path, version="2018", study=study, base_url=server)
    assert _WrongFiles.asked == [f"/sleep-{study}/{folder}-PSG.edf"]
    assert not list(tmp_path.rglob("*.edf"))


def test_a_missing_file_is_one_line(tmp_path, server):
    with pytest.raises(UserError, match="404"):
        download(tmp_path, version="2013", study="cassette", base_url=f"{server}/missing")


def test_no_connection_is_one_line(tmp_path):
    with pytest.raises(UserError, match="failed"):
        download(tmp_path, version="2013", study="cassette", base_url="http://127.0.0.1:1")


def test_what_is_asked_of_the_fetcher(tmp_path, monkeypatch):
    from mne.datasets.sleep_physionet import age

    subjects, ways = [], set()

    def fetch(subject, path, **how):
        subjects.append(subject)
        ways.add(tuple(sorted(how.items())))

    monkeypatch.setattr(age, "fetch_data", fetch)
    download(tmp_path, version="2013", study="cassette")
    assert subjects == [[i] for i in range(20)]
    # MNE's own default address is dead, and subjects 13, 36 and 52 lack a night
    assert ways == {(("base_url", f"{BASE_URL}/sleep-cassette"), ("on_missing", "ignore"))}
