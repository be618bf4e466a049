"""The device of a report: its name, driver and memory, and the versions at work."""

from __future__ import annotations

import importlib.metadata
import subprocess
from collections.abc import Iterator

import torch

from wavenet.benchmark.doctor.part import Values
from wavenet.benchmark.hardware import describe_machine


def describe(device: torch.device) -> Iterator[Values]:
    """Return ``device``: what is known of it.

    It is a part like the others: the process that runs them never touches the device, which may
    serve one process at a time.
    """
    found: Values = {"name": str(device), **describe_machine(), "cuda": torch.version.cuda}
    found["triton"] = _version("triton")
    yield {"device": found}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "card": properties.name,
            "memory_bytes": properties.total_memory,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "driver": _driver(),
        }
        yield {"device": found}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _driver() -> str | None:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()[0].strip() if done.stdout else None
