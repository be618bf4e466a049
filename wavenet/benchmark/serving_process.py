"""A server under test as a process of its own, and what it holds: memory, threads, files, rows."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from wavenet.benchmark.serving_clients import ask

_STARTS_WITHIN_S, _ENDS_WITHIN_S = 120.0, 30.0


@dataclass(frozen=True)
class Held:
    """What a server holds at a moment; NaN where the system does not tell.

    Attributes:
        seconds: since it was first looked at.
        resident_mb: memory.
        threads: of the process.
        files: that are open, with connections.
        rows: that are taken.
        waiting: requests that wait for a row.
    """

    seconds: float
    resident_mb: float
    threads: float
    files: float
    rows: float
    waiting: float

    def __str__(self) -> str:
        return (
            f"{self.seconds:7.0f} s {self.resident_mb:7.0f} MB {self.threads:5.0f} threads "
            f"{self.files:5.0f} files {self.rows:4.0f} rows {self.waiting:4.0f} waiting"
        )


class ServerProcess:
    """A running server.

    Attributes:
        port: on this machine.

    Args:
        port: see above.
        pid: of the process.
    """

    def __init__(self, port: int, pid: int) -> None:
        self.port, self._pid, self._began = port, pid, time.monotonic()

    def held(self) -> Held:
        """Return what it holds now."""
        text = ask(self.port, "GET", "/metrics")[1].decode()
        rows, waiting = (
            float(text.split(f"\n{name} ")[1].split("\n")[0])
            for name in ("wavenet_active_streams", "wavenet_queue_length")
        )
        status = {}
        files = float("nan")
        with contextlib.suppress(OSError), open(f"/proc/{self._pid}/status") as lines:
            status = dict(line.rstrip().split(":", 1) for line in lines)
            files = float(len(os.listdir(f"/proc/{self._pid}/fd")))
        resident_kb = float(status.get("VmRSS", "nan").split()[0])
        threads = float(status.get("Threads", "nan"))
        seconds = time.monotonic() - self._began
        return Held(seconds, resident_kb / 1024, threads, files, rows, waiting)

    def wait_until_idle(self) -> None:
        """Wait until no row is taken and nothing waits; ValueError if that does not come."""
        deadline = time.monotonic() + _ENDS_WITHIN_S
        while (held := self.held()).rows or held.waiting:
            if time.monotonic() > deadline:
                raise ValueError(f"rows are still taken after all clients have left: {held}")
            time.sleep(0.2)


@contextlib.contextmanager
def server_process(options: Sequence[str]) -> Iterator[ServerProcess]:
    """Start ``wavenet serve`` with options on a free port, and stop it in the end.

    Raises:
        ValueError: if it does not start, or does not end when it is asked to.
    """
    command = [sys.executable, "-m", "wavenet", "serve", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        found = re.match(r"http://[^ ]*:(\d+) ", process.stdout.readline())
        if found is None:
            raise ValueError("the server did not start; its message is above")
        _wait_until_ready(int(found[1]))
        yield ServerProcess(int(found[1]), process.pid)
    finally:
        process.stdout.close()
        process.terminate()
        try:
            process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise ValueError(f"the server did not end within {_ENDS_WITHIN_S:g} s") from None


def _wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            status, content = ask(port, "GET", "/healthz")
            if status == 200 and json.loads(content)["ready"]:
                return
        time.sleep(0.1)
    raise ValueError(f"the server was not ready within {_STARTS_WITHIN_S:g} s")
