"""``wavenet serve`` and ``wavenet play``: they say where, end well, and refuse in one line."""

from __future__ import annotations

import http.client
import importlib
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the server needs the extra serve")
from served import make_model

from wavenet import WaveNet, WaveNetConfig
from wavenet.cli.main import main


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "number"), [("serve", signal.SIGTERM), ("play", signal.SIGINT)]
)
def test_it_serves_until_a_signal_and_ends_with_0(
    tmp_path: Path, repository: Path, command: str, number: signal.Signals
) -> None:
    make_model().save(tmp_path / "small")
    given = [command, "--port", "0", "--model", str(tmp_path / "small")]
    given += ["--no-browser"] if command == "play" else []
    process = subprocess.Popen(
        [sys.executable, "-m", "wavenet", *given],
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.match(r"http://127.0.0.1:(\d+) ", process.stdout.readline())
        assert found is not None
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
        connection.request("GET", "/")
        assert b"<title>wavenet" in connection.getresponse().read()
        connection.close()
        process.send_signal(number)
        _, problems = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, problems) == (0, "")


def test_what_cannot_be_served_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    WaveNet(WaveNetConfig.preset("tiny")).save(tmp_path / "tiny")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for given, message in (
            (["--port", port], "cannot be listened on"),
            (["--port", "70000"], "must be at most 65535"),
            (["--port", "0", "--model", str(tmp_path / "tiny")], "tiny takes no mel"),
            (["--port", "0", "--rows", "0"], "rows=0 must be at least 1"),
            (["--port", "0", "--run", str(tmp_path / "none")], "is no folder"),
            (["--port", "0", "--process", str(tmp_path / "none.nam")], "none.nam"),
        ):
            assert main(["serve", *given]) == 2
            line = capsys.readouterr().err.strip()
            assert message in line
            assert "\n" not in line


def test_a_missing_extra_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.import_module

    def import_module(name: str, *more: Any) -> Any:
        if name == "uvicorn":
            raise ImportError(name)
        return found(name, *more)

    monkeypatch.setattr(importlib, "import_module", import_module)
    assert main(["serve"]) == 2
    line = 'wavenet serve: uvicorn is missing; run: pip install "wavenet-audio[serve]"\n'
    assert capsys.readouterr().err == line
