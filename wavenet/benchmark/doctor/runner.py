"""Runs the parts of ``wavenet doctor``, each in a process of its own, under a time limit.

The report is written after every part: a part that is killed, hangs or raises leaves the others.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import wavenet
from wavenet.benchmark.doctor.parts import PARTS
from wavenet.benchmark.doctor.report import write_report
from wavenet.benchmark.hardware import describe_machine

LEAST_SECONDS = 30.0
"""A part gets at least this long, as it imports torch first."""


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
        progress: is told a line about every part.

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
        "device": describe_device(device),
        "parts": {},
    }
    end = time.monotonic() + 60 * minutes
    for i, name in enumerate(parts):
        shares = [PARTS[later].seconds for later in parts[i:]]
        limit = max(least_seconds, (end - time.monotonic()) * shares[0] / sum(shares))
        found = _run_part([*command, name, device], limit)
        report["parts"][name] = {"title": PARTS[name].title, **found}
        progress(f"{name}: {found['status']}, {found['seconds']:.1f} s")
        write_report(report, out)
    return report


def describe_device(device: str) -> dict[str, Any]:
    """Return the name of a device, its driver and memory, and the versions at work."""
    found: dict[str, Any] = {"name": device, **describe_machine(), "cuda": torch.version.cuda}
    if torch.device(device).type == "cuda" and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "card": properties.name,
            "memory_bytes": properties.total_memory,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "driver": _driver(),
        }
    return found


def _driver() -> str | None:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()[0].strip() if done.stdout else None


def _commit() -> str | None:
    """The commit of the checkout that the package is imported from, if it is one."""
    folder = Path(wavenet.__file__).parents[1]
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


def _run_part(command: list[str], limit_s: float) -> dict[str, Any]:
    """One part: its ``status`` (ok, failed, missing, raised, killed or timeout) and its values."""
    begin = time.monotonic()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that its own processes can be ended with it
    )
    try:
        output, errors = process.communicate(timeout=limit_s)
        status = None
    except subprocess.TimeoutExpired:
        _kill(process)
        output, errors = process.communicate()
        status = "timeout"
    found: dict[str, Any] = {"seconds": time.monotonic() - begin, "limit_seconds": limit_s}
    if status is not None:
        return {"status": status, **found}
    if process.returncode < 0:
        return {"status": "killed", "signal": -process.returncode, **found}
    last = errors.strip().splitlines()[-1:] or ["no message"]
    if process.returncode:
        return {"status": "raised", "error": last[0][:500], **found}
    try:
        values = json.loads(output.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        return {"status": "raised", "error": "the part printed no values", **found}
    if "missing" in values:
        return {"status": "missing", **values, **found}
    checks = values.get("checks", {}).values()
    passed = all(check.get("passed", True) for check in checks)
    return {"status": "ok" if passed else "failed", **values, **found}


def _kill(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
