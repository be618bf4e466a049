"""Signals end a command without a traceback, whatever it is doing: also amid its imports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wavenet.cli.main import COMMANDS
from wavenet.cli.signals import SIGNALS, unwound_by_signals
from wavenet.storage.files import atomic_write

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}

# Replaces what happens within the import of torch: a library catches whatever is raised there.
INTERRUPTED_IMPORT = """
import os, signal, sys, time
try:
    os.kill(os.getpid(), signal.{name})
    time.sleep(10)
except BaseException:
    raise ImportError("the library goes on without what it could not load")
"""

ARGUMENTS = {
    "train": "--corpus nowhere --out out",
    "inspect": "nowhere",
    "shard": "nowhere out",
    "generate": "a.wav",
    "vocode": "nowhere.wav a.wav",
    "mel": "nowhere.wav a.npz",
    "process": "nowhere.wav a.wav --model nowhere.nam",
    "info": "nowhere",
    "evaluate": "nowhere nowhere --out out",
    "import": "nowhere.nam out",
    "export": "nowhere a.nam",
    "receptive-field": "nowhere",
    "bench": "sample",
    "doctor": "--device cpu --out out",
    "serve": "--model nowhere",
    "play": "--model nowhere",
}


def interrupted(
    folder: Path, repository: Path, name: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run a command whose import of torch is interrupted by a signal."""
    (folder / "stub").mkdir(exist_ok=True)
    (folder / "stub" / "torch.py").write_text(INTERRUPTED_IMPORT.format(name=name))
    return subprocess.run(
        [sys.executable, "-m", "wavenet", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder / 'stub'}:{repository}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_amid_the_imports_of_a_command_is_exit_code_130_and_no_word(
    tmp_path: Path, repository: Path, command: str
) -> None:
    done = interrupted(tmp_path, repository, "SIGINT", command, *ARGUMENTS[command].split())
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    assert os.listdir(tmp_path) == ["stub"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_amid_an_import_end_the_process_as_well(
    tmp_path: Path, repository: Path, number: signal.Signals
) -> None:
    done = interrupted(tmp_path, repository, number.name, "info", "nowhere")
    assert (done.returncode, done.stderr) == (EXIT_CODES[number], "")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    before = signal.getsignal(number)
    raised: type[BaseException] = KeyboardInterrupt if number == signal.SIGINT else SystemExit
    with pytest.raises(raised) as ended, unwound_by_signals(), atomic_write(path) as temporary:
        temporary.write_text("half")
        os.kill(os.getpid(), number)
        time.sleep(10)
    if raised is SystemExit:
        assert ended.value.code == EXIT_CODES[number]
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"
    assert signal.getsignal(number) is before


def test_an_import_while_a_file_is_half_written_is_unwound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ends_amid_its_import.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(10)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    out = tmp_path / "out" / "a.txt"
    with pytest.raises(SystemExit), unwound_by_signals(), atomic_write(out) as temporary:
        temporary.write_text("half")
        import ends_amid_its_import  # type: ignore[import-not-found] # noqa: F401
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_is_ignored_stays_so(number: signal.Signals) -> None:
    """As SIGHUP is under nohup, and SIGINT in the background of a shell."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with unwound_by_signals():
            os.kill(os.getpid(), number)
            assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
