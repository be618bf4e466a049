"""Runs the parts of ``wavenet doctor``, each in a process of its own, under a time limit.

The report is written after every part: a part that is killed, hangs or raises leaves the others,
and what it had found before.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import wavenet
from wavenet.benchmark.doctor.parts import PARTS
from wavenet.benchmark.doctor.report import write_report

LEAST_SECONDS = 30.0
"""A part gets at least this long, as it imports torch first."""
AT_ONCE_ON_A_CPU = 2
"""Parts that run at a time on a CPU, where they are checked and not timed; on a GPU one."""
_KEPT_CHARACTERS = 4000
"""Length of the standard error that is kept of a part that fails, its end."""
_ERROR = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)\b.*")


def run_doctor(
    device: str,
    out: Path,
    *,
    minutes: float = 8.0,
    parts: Sequence[str] = tuple(PARTS),
    command: Sequence[str] = (sys.executable, "-m", "wavenet.benchmark.doctor.parts"),
    least_seconds: float = LEAST_SECONDS,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Run parts one after another and write ``out/report.json`` and ``out/report.md``.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        out: folder of the report; made if it is missing.
        minutes: for all parts together; each has its share of what is left.
        parts: names of ``PARTS``.
        command: runs one part, given its name and the device.
        least_seconds: that a part gets, however little time is left.
        progress: gets a line about every part.

    Returns:
        The report.

    Raises:
        ValueError: for an unknown part, or minutes that are not positive.
    """
    unknown = [name for name in parts if name not in PARTS]
    if unknown:
        raise ValueError(f"parts={unknown[0]!r} is unknown; choose from {', '.join(PARTS)}")
    if not 0 < minutes < 24 * 60:
        raise ValueError(f"minutes={minutes} must be positive and less than a day")
    report: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": wavenet.__version__,
        "commit": _commit(),
        "device": {"name": device},
        "parts": {},
    }
    write_report(report, out)  # a folder that cannot be written is an error before the work
    waiting, running = list(parts), list[_Running]()
    end = time.monotonic() + 60 * minutes
    try:
        while waiting or running:
            if waiting and len(running) < (AT_ONCE_ON_A_CPU if device == "cpu" else 1):
                shares = [PARTS[name].seconds for name in waiting]
                limit = max(least_seconds, (end - time.monotonic()) * shares[0] / sum(shares))
                running.append(_Running(waiting.pop(0), device, command, limit))
                continue
            time.sleep(0.02)
            for part in [part for part in running if part.has_ended()]:
                running.remove(part)
                _add(report, part, parts)
                found = report["parts"][part.name]
                progress(f"{part.name}: {found['status']}, {found['seconds']:.1f} s")
                write_report(report, out)
    finally:
        for part in running:
            part.close()
    return report


def _add(report: dict[str, Any], part: _Running, order: Sequence[str]) -> None:
    """Put the results of a part into the report, at its place."""
    found = part.results()
    report["device"] |= found.pop("device", {})
    parts = {**report["parts"], part.name: {"title": PARTS[part.name].title, **found}}
    report["parts"] = {name: parts[name] for name in order if name in parts}


def _environment(device: str) -> dict[str, str]:
    """Variables of a part: it imports this package, and on a CPU it has one thread.

    Threads that wait for each other slow small tensors down where other processes are at work.
    """
    folder = str(Path(wavenet.__file__).parents[1])
    path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
    threads = {"OMP_NUM_THREADS": "1"} if device == "cpu" else {}
    return {**os.environ, "PYTHONPATH": path, **threads}


def _commit() -> str | None:
    """The commit of the checkout that the package is imported from, if it is one."""
    folder = Path(wavenet.__file__).parents[1]
    if not (folder / "pyproject.toml").exists():  # installed, perhaps below another checkout
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


class _Running:
    """A part in a process of its own, which writes to files: no reader is needed meanwhile.

    Args:
        name: of the part.
        device: as the user named it.
        command: runs one part, given its name and the device.
        limit_s: the time after which it is killed.
    """

    def __init__(self, name: str, device: str, command: Sequence[str], limit_s: float) -> None:
        self.name, self._limit_s = name, limit_s
        self._folder = tempfile.TemporaryDirectory()
        self._out, self._err = (Path(self._folder.name) / stream for stream in ("out", "err"))
        self._begin = time.monotonic()
        with open(self._out, "wb") as out, open(self._err, "wb") as err:
            self._process = subprocess.Popen(
                [*command, name, device],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=_environment(device),
                start_new_session=True,  # so that its own processes can be ended with it
            )

    def has_ended(self) -> bool:
        """Return whether it has ended, or has used up its time."""
        return self._process.poll() is not None or self._seconds() > self._limit_s

    def results(self) -> dict[str, Any]:
        """End it, and return its ``status`` (ok, failed, missing, raised, killed, timeout).

        What it had found before is kept, and of a failure the end of its standard error.
        """
        code, times = self._process.poll(), {"seconds": self._seconds()}
        self._kill()
        values = _last_values(self._out.read_text(errors="replace"))
        errors = self._err.read_text(errors="replace").strip()
        outcome = {"status": "timeout"} if code is None else _outcome(code, values, errors)
        if outcome["status"] not in ("ok", "missing") and errors:
            outcome["stderr"] = errors[-_KEPT_CHARACTERS:]
        self.close()
        return {**(values or {}), **outcome, **times, "limit_seconds": self._limit_s}

    def close(self) -> None:
        """End it, and remove its files."""
        self._kill()
        self._folder.cleanup()

    def _seconds(self) -> float:
        return time.monotonic() - self._begin

    def _kill(self) -> None:
        """End the process and all that it has started; one that a driver holds is left behind."""
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:  # Windows
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)


def _outcome(code: int, values: dict[str, Any] | None, errors: str) -> dict[str, Any]:
    """The status of a process that has ended, and why."""
    if code < 0:
        return {"status": "killed", "signal": -code}
    if code:
        return {"status": "raised", "error": _error_line(errors)[:500]}
    if values is None:
        return {"status": "raised", "error": "the part printed no values"}
    if "missing" in values:
        return {"status": "missing"}
    passed = all(check.get("passed", True) for check in values.get("checks", {}).values())
    return {"status": "ok" if passed else "failed"}


def _error_line(errors: str) -> str:
    """The line of a traceback that names the error; drivers add advice below it."""
    lines = errors.strip().splitlines() or ["no message"]
    named = [line for line in lines if _ERROR.fullmatch(line)]
    return (named or lines)[-1]


def _last_values(output: str) -> dict[str, Any] | None:
    """The last line that is a JSON object; libraries may print others."""
    for line in reversed(output.splitlines()):
        with contextlib.suppress(json.JSONDecodeError):
            values = json.loads(line)
            if isinstance(values, dict):
                return values
    return None
