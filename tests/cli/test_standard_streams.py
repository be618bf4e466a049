"""A command whose standard output or standard error is closed, full, or not read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wavenet.cli.standard_streams import print_message, print_result

needs_full = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs /dev/full, a disk without space"
)
# None of these waits for torch; the last is a mistake.
HELP, VERSION, MISTAKE = "bench --help", "--version", "import model.xyz folder"
CLOSED = "standard output is closed; send it to a file, or to /dev/null"
FULL = "[Errno 28] No space left on device"


def shell(folder: Path, repository: Path, line: str) -> tuple[int, str]:
    """Exit code and standard error of ``wavenet`` in a shell; what it prints is not looked at."""
    command = f"{sys.executable} -m wavenet"
    done = subprocess.run(
        ["/bin/sh", "-c", line.replace("wavenet", command, 1)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(repository)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (f"wavenet {HELP} >&-", 2, f"wavenet bench: {CLOSED}\n"),
        (f"wavenet {VERSION} >&-", 2, f"wavenet: {CLOSED}\n"),
        (f"wavenet {MISTAKE} >&-", 2, f"wavenet import: {CLOSED}\n"),
        (f"wavenet {HELP} 2>&-", 0, ""),
        (f"wavenet {MISTAKE} 2>&-", 2, ""),
        (f"wavenet {HELP} >&- 2>&-", 2, ""),
        (f"wavenet {HELP} <&- >&- 2>&-", 2, ""),
        (f"wavenet {HELP} | head -c 10 >/dev/null", 0, ""),
        (f"wavenet {MISTAKE} 2>&1 | true", 0, ""),
        pytest.param(f"wavenet {HELP} >/dev/full", 2, f"wavenet bench: {FULL}\n", marks=needs_full),
        pytest.param(f"wavenet {VERSION} >/dev/full", 2, f"wavenet: {FULL}\n", marks=needs_full),
        pytest.param(f"wavenet {HELP} 2>/dev/full", 0, "", marks=needs_full),
        pytest.param(f"wavenet {MISTAKE} 2>/dev/full", 2, "", marks=needs_full),
        pytest.param(f"wavenet {HELP} >/dev/full 2>/dev/full", 2, "", marks=needs_full),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_stream_that_takes_nothing_is_one_line_or_none_and_an_exit_code(
    tmp_path: Path,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    code: int,
    message: str,
    unbuffered: str,
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    assert shell(tmp_path, repository, line) == (code, message)
    assert os.listdir(tmp_path) == []


def test_a_file_opened_after_a_closed_stream_does_not_become_that_stream(
    tmp_path: Path, repository: Path
) -> None:
    """The system gives a new file the lowest free number: 2, if standard error was closed."""
    program = (
        "from wavenet.cli.standard_streams import open_closed_descriptors, print_message\n"
        "open_closed_descriptors()\n"
        "with open('file', 'w') as file:\n"
        "    assert file.fileno() > 2\n"
        "    print_message('a line that is not read')\n"
    )
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} program.py <&- >&- 2>&-"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repository)},
        check=False,
    )
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == ""


def test_what_cannot_be_encoded_is_written_out(tmp_path: Path, repository: Path) -> None:
    program = (
        "from wavenet.cli.standard_streams import print_result\n"
        "print_result('Stra\\u00dfe \\udcff')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(repository), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"Stra\\xdfe \\udcff\n")


def test_lines_are_shown_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_result("one\x1b[2J\ntwo\ttabs\r")
    print_message("three\nfour\x07\u2028")
    assert capsys.readouterr() == (
        "one\\x1b[2J\ntwo\\ttabs\\r\n",
        "three\\nfour\\x07\\u2028\n",
    )
