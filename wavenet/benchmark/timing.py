"""Timing that compares: all candidates take turns, round after round, in one process.

A machine's speed changes with its clock and with what its neighbours do. Candidates that take turns
meet the same changes, and a median is not moved by the rounds that something disturbed.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial

import torch

from wavenet.values.integers import is_integer

ROUNDS = 9


@dataclass(frozen=True)
class Spread:
    """The smallest, the middle and the largest of some measurements."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """The spread of at least one value."""
        return cls(min(values), statistics.median(values), max(values))

    def to_dict(self) -> dict[str, float]:
        """Plain values by name."""
        return asdict(self)


def seconds_of(work: Callable[[], object]) -> float:
    """Wall-clock seconds that a call takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def take_turns(
    candidates: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Wall-clock seconds of each candidate's call in each round.

    Call every candidate once before, so that what only the first call does is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, work in candidates.items():
            seconds[name].append(seconds_of(work))
    return seconds


def repeated(loop: Callable[[int], object], seconds: float) -> int:
    """Number of repetitions ``loop`` makes in so many seconds; its first call does not count."""
    loop(1)
    times = 1
    while (taken := seconds_of(partial(loop, times))) < seconds / 5:
        times *= 4
    return max(1, round(times * seconds / taken))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows of a table as lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines


def counted(n: object, thing: str) -> str:
    """The number and the thing, in the plural where it is not 1."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def check_at_least_one(**values: object) -> None:
    """Raise ValueError unless every value is an integer of at least 1."""
    for name, value in values.items():
        if not is_integer(value) or value < 1:
            raise ValueError(f"{name}={value!r} must be an integer of at least 1")


@contextmanager
def limited_threads(n: int) -> Iterator[None]:
    """Let torch use so many threads, and afterwards as many as before.

    Raises:
        ValueError: if there are not as many cores.
    """
    check_at_least_one(threads=n)
    cores = os.cpu_count() or 1
    if n > cores:
        raise ValueError(f"threads={n} is more than the {cores} cores of this machine; give fewer")
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
