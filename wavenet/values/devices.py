"""Devices of torch: whether one of a given name is there."""

from __future__ import annotations

from collections.abc import Callable

import torch

from wavenet.values.text import short

COUNTS: dict[str, Callable[[], int]] = {
    "cpu": lambda: 1,
    "cuda": torch.cuda.device_count,
    "mps": lambda: int(torch.backends.mps.is_available()),
    "xpu": torch.xpu.device_count,
}
"""Types of device that models run on, and how many of each this machine has."""


def require_device(device: torch.device | str, name: str = "device") -> torch.device:
    """Return the device; one of a type that is not in ``COUNTS`` is not looked for.

    Args:
        device: such as ``cuda`` or ``cuda:1``.
        name: of the argument, for the message.

    Raises:
        ValueError: no such name, or none here.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"{name}={short(device)} is no device; give cpu, cuda or cuda:0") from None
    if found.type not in COUNTS:
        return found
    n_devices = COUNTS[found.type]()
    if (found.index or 0) >= n_devices:
        kind = {"cpu": "CPU", "cuda": "CUDA GPUs"}.get(found.type, f"{found.type.upper()} devices")
        raise ValueError(f"{name}={found}: found {n_devices} {kind} here; leave {name} out")
    return found
