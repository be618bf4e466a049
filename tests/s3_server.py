"""An S3 server on this machine, and a proxy before it that fails as networks and stores do.

The server is moto's. Its packages need other versions than ours (botocore wants
python-dateutil < 3), so it has an environment of its own, which ``make s3-server`` makes.
"""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MISSING = "no moto_server: `make s3-server` installs it"


def find_moto() -> str | None:
    """The program, beside this interpreter's environment or on the path."""
    own = Path(sys.prefix, "s3-server", "bin", "moto_server")
    return str(own) if own.exists() else shutil.which("moto_server")


@contextlib.contextmanager
def moto(program: str, log: Path) -> Iterator[int]:
    """Run the server; yields its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [program, "-H", "127.0.0.1", "-p", str(port)], stdout=file, stderr=file
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()


class Proxy(ThreadingHTTPServer):
    """Passes requests on to the server.

    Attributes:
        fail: answer this many requests for shards with 503.
        cut: close the connection in the middle of the body of this many.
        works: answer only this many requests for shards, and all others with 503; None: no limit.
        delay_s: wait so long before each answer.
        requests: for shards so far.
    """

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.port = port
        self.lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Pass everything on."""
        self.fail = self.cut = self.requests = 0
        self.delay_s = 0.0
        self.works: int | None = None

    @property
    def url(self) -> str:
        """For ``AWS_ENDPOINT_URL``."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def takes(self, fault: str) -> bool:
        """Whether this request has the fault, of which there is one fewer then."""
        with self.lock:
            left: int = getattr(self, fault)
            setattr(self, fault, max(0, left - 1))
        return left > 0

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet about clients that left: some tests kill them."""


def environment(proxy: Proxy) -> dict[str, str]:
    """What names the server, to this process and to those of a fork server."""
    return {
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_ACCESS_KEY_ID": "anybody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_shard = self.command == "GET" and "/shards/" in self.path
        if is_shard:
            self.server.requests += 1
            time.sleep(self.server.delay_s)
            works = self.server.works
            if self.server.takes("fail") or (works is not None and self.server.requests > works):
                self.send_error(503, "Slow Down")
                return
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        n_bytes = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
        self.send_header("Content-Length", str(n_bytes))
        self.end_headers()
        if is_shard and self.server.takes("cut"):
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        else:
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextlib.contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    """Run a proxy before the server on that port."""
    with Proxy(port) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
