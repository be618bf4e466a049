"""Description of the machine: its processor, and versions of the packages at work."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")


def describe_machine() -> dict[str, str | int | None]:
    """``processor`` name, number of ``cores``, versions of ``torch`` and ``numba``.

    numba is None where it is missing.
    """
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "torch": _version("torch"),
        "numba": _version("numba"),
    }


def _processor() -> str:
    """The processor's name: from a file on Linux, elsewhere from Python."""
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
