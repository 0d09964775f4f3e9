"""A server of a cohort's files on this machine, which can be made to stall, cut and lie."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = b"<html>log in</html>" * 50
S3 = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def send(request, data: bytes, status: int = 200, **headers) -> None:
    """An answer; headers with ``_`` for ``-``."""
    request.send_response(status)
    for name, value in ({"Content_Length": len(data)} | headers).items():
        request.send_header(name.replace("_", "-"), str(value))
    request.end_headers()
    request.wfile.write(data)
    request.wfile.flush()


def part(request, data: bytes, start: int, stop: int) -> None:
    """The bytes asked for."""
    spread = f"bytes {start}-{stop - 1}/{len(data)}"
    send(request, data[start:stop], 206, Content_Range=spread)


class CohortServer:
    """``files`` by path; ``answers`` replace how a path is served, ``asked`` has what was asked."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.asked, self.stopped = files, [], threading.Event()
        self.answers: dict[str, Callable] = {}
        self.keys_per_page, self.tags = 3, {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.serve(self)

            def log_message(self, *words):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def serve(self, request) -> None:
        url = urlsplit(request.path)
        path = unquote(url.path)[1:]
        spread = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
        start, stop = (int(spread[1]), int(spread[2]) + 1) if spread else (0, None)
        if (start, stop) != (0, 1):  # which asks for the size alone
            self.asked.append((path, start))
        query = parse_qs(url.query)
        if "list-type" in query:
            self.listing(request, path, query)
            return
        data = self.files.get(path)
        if path in self.answers:
            self.answers[path](request, data, start, stop)
        elif data is None:
            request.send_error(404)
        elif spread:
            part(request, data, start, min(stop, len(data)))
        else:
            send(request, data)

    def listing(self, request, bucket: str, query: dict) -> None:
        """As S3 lists a bucket, a few keys per page."""
        prefix = f"{bucket}/{query['prefix'][0]}"
        begin = int(query.get("continuation-token", ["0"])[0])
        keys = sorted(path for path in self.files if path.startswith(prefix))
        shown = keys[begin : begin + self.keys_per_page]
        rows = "".join(
            f"<Contents><Key>{escape(key.removeprefix(bucket + '/'))}</Key>"
            f"<ETag>&quot;{self.tags.get(key, md5(self.files[key]))}&quot;</ETag>"
            f"<Size>{len(self.files[key])}</Size></Contents>"
            for key in shown
        )
        more = begin + len(shown) < len(keys)
        token = f"<NextContinuationToken>{begin + len(shown)}</NextContinuationToken>" * more
        top = f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}"
        text = f'<?xml version="1.0"?><ListBucketResult {S3}>{top}{rows}</ListBucketResult>'
        send(request, text.encode(), Content_Type="application/xml")

    def stop(self) -> None:
        self.stopped.set()
        self.http.shutdown()
        self.http.server_close()


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def checksums(files: dict[str, bytes], folder: str) -> bytes:
    """A list as PhysioNet has it of the files in ``folder``."""
    lines = (
        f"{hashlib.sha256(data).hexdigest()} {path.removeprefix(folder + '/')}\n"
        for path, data in files.items()
        if path.startswith(f"{folder}/")
    )
    return "".join(lines).encode()
