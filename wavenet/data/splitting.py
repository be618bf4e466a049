"""Recordings that a split keeps together: copies of one recording, and parts that overlap."""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from wavenet.data.shards import StoredSamples

if TYPE_CHECKING:
    from wavenet.data.corpus import Utterance

_GLANCE = 64
"""Samples in the middle, by which most recordings of one length are distinguished."""

OVERLAP_S = 0.1
"""Tolerance of parts of one file that overlap, for rounded manifests: more is one recording."""

_PART = re.compile(r"(.*)@(\d[\d.]*(?:e-\d+)?)-(\d[\d.]*(?:e-\d+)?)?", re.DOTALL)
"""Name of a part of a file: the file's name, start and end in seconds."""


def ranks(groups: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return a number in [0, 1) for each name; those of one group share their highest.

    So a copy that is added later may move a recording to training, but never from training to
    validation. Groups with a name in common are one.
    """
    whole: dict[str, set[str]] = {}
    for names in groups:
        if len(names) > 1:
            joined = set(names).union(*(whole.get(name, ()) for name in names))
            whole |= dict.fromkeys(joined, joined)
    found: dict[str, float] = {}
    for names in groups:
        if names[0] not in found:
            together = whole.get(names[0], names)
            found |= dict.fromkeys(together, max(map(_unit_hash, together)))
    return found


def copies(utterances: Iterable[Utterance]) -> list[list[str]]:
    """Return the names of every recording and its copies.

    Reading all of a large corpus would take minutes: only recordings of equal length and with equal
    samples in the middle are compared as a whole.
    """
    alike: dict[tuple[int, bytes], list[Utterance]] = defaultdict(list)
    found: dict[bytes, list[str]] = defaultdict(list)
    for each in utterances:
        if isinstance(each.samples, StoredSamples):
            found[each.samples.digest.encode()].append(each.name)
            continue
        middle = len(each.samples) // 2
        glance = each.samples[middle : middle + _GLANCE].tobytes()
        alike[len(each.samples), glance].append(each)
    for number, candidates in enumerate(alike.values()):
        for each in candidates:
            whole = each.samples[:] if len(candidates) > 1 else each.samples[:0]
            digest = hashlib.sha256(whole.tobytes()).digest()
            found[number.to_bytes(8, "big") + digest].append(each.name)
    return list(found.values())


def overlapping(utterances: Sequence[Utterance]) -> list[list[str]]:
    """Return the names of parts of one file that overlap, one after another."""
    parts: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for each in utterances:
        match = _PART.fullmatch(each.name)
        if match is not None:
            file, start, end = match.groups()
            parts[file].append((float(start), float(end or math.inf), each.name))
    for each in utterances:
        if each.name in parts:  # the whole file beside parts of it
            parts[each.name].append((0.0, math.inf, each.name))
    found: list[list[str]] = []
    for of_file in parts.values():
        until = -math.inf
        for start, end, name in sorted(of_file):
            if min(until, end) - start <= min(OVERLAP_S, (end - start) / 2):
                found.append([])
            found[-1].append(name)
            until = max(until, end)
    return [names for names in found if len(names) > 1]


def _unit_hash(name: str) -> float:
    """Return a number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
