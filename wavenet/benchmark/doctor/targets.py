"""Targets for one H100 or H200, beside what a report has measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """A target, and what was measured.

    Attributes:
        name: what is counted.
        found: what was measured.
        floor: what must be reached.
        aim: what should be reached.
    """

    name: str
    found: float
    floor: float
    aim: float


def targets(report: dict[str, Any]) -> list[Target]:
    """Return the targets whose figures a report of a CUDA device has."""
    if "card" not in report["device"]:
        return []
    parts = report["parts"]
    nv = parts.get("sampling_nv", {}).get("rows", [])
    medium = parts.get("sampling_medium", {}).get("rows", [])
    trained = parts.get("training", {}).get("rows", [])
    single = [row["samples_per_second"] for row in nv if row["batch"] == 1]
    every = [row["samples_per_second"] for row in nv]
    live = [row["batch"] for row in medium if row["real_time"] >= 1]
    steps = [row["samples_per_second"] for row in trained]
    found = []
    if single:
        found.append(Target("nv, one stream, samples/s", max(single), 30e3, 60e3))
        found.append(Target("nv, best batch, samples/s", max(every), 5e6, 25e6))
    if medium:
        found.append(Target("medium, streams in real time", max(live, default=0), 300, 1500))
    if steps:
        found.append(Target("training medium, bf16, samples/s", max(steps), 4e6, 12e6))
    return found
