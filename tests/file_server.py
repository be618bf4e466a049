"""A web server of this process with files, which breaks connections and refuses as it is told."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Serves ``files``.

    Attributes:
        files: content by path, such as ``/a.zip``.
        ranges: answer requests for a part with the part; else with the whole file.
        cuts: of the next answers, the number of bytes after which the connection breaks.
        lengths: say in an answer how long it is; else the connection ends it.
        refusals: statuses of the next answers, before ``cuts``.
        requests: path and ``Range`` of every request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges = self.lengths = True
        self.cuts: list[int] = []
        self.refusals: list[int] = []
        self.requests: list[tuple[str, str | None]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, *_: object) -> None:
        """Print nothing: a client that reads no further is no error here."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.server.requests.append((self.path, asked))
        content = self.server.files.get(self.path)
        if self.server.refusals:
            self.send_error(self.server.refusals.pop(0))
            return
        if content is None:
            self.send_error(404)
            return
        first = 0
        if asked and self.server.ranges:
            first = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if first >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            last = len(content) - 1
            total = len(content) if self.server.lengths else "*"
            self.send_header("Content-Range", f"bytes {first}-{last}/{total}")
        else:
            self.send_response(200)
        if self.server.lengths:
            self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        rest = content[first:]
        if self.server.cuts:
            rest = rest[: self.server.cuts.pop(0)]
        self.wfile.write(rest)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextlib.contextmanager
def file_server() -> Iterator[FileServer]:
    """Run a server in a thread."""
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
