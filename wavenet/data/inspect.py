"""Corpus report: contents of a corpus, problems in it, and how training handles them.

Levels are in dB of full scale (dBFS): 20 log10 of the RMS, where 1.0 is full scale. A recording is
examined as training uses it: in 16 bits, as mono, its part alone, but at the rate of its file.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from wavenet.audio import AudioError, audio_info
from wavenet.data.corpus import Progress
from wavenet.data.recordings import Listing, Recording, cut, decode, require_file
from wavenet.values.text import printable

SILENT_DBFS = -60.0
"""Level below which a recording counts as silent. Noise is about here, speech at -30 to -15."""
CLIPPED_AT = 32767
"""Level, of 32768, from which on a sample counts as full scale."""
CLIPPED_RUN = 3
"""Samples in a row at full scale that count as a clipped peak; a single one may be normal."""
SHIFTED_BY = 0.01
"""Mean from which on a recording has a DC offset, 40 dB below full scale."""
SHORT_S = 0.5
"""Duration below which a recording is too short: the default window length of training."""
PERCENTILES = (5, 50, 95)
_BLOCK = 1 << 20
"""Samples examined at once."""

ADVICE = {
    "broken": "leaves them out, with a warning; copy them again",
    "silent": f"leaves digital silence out, uses the rest below {SILENT_DBFS:g} dBFS; remove them",
    "clipped": f"uses them as they are: {CLIPPED_RUN} or more samples in a row at full scale",
    "dc_shifted": f"uses them as they are: the mean lies beyond {SHIFTED_BY:g}; filter it out",
    "duplicated": "uses every copy, all to train or all to validate; keep one",
    "too_short": f"uses them, padded and masked: shorter than {SHORT_S:g} s",
    "multichannel": "uses the mean of the channels",
}
"""Kinds of findings, and how training handles them."""


@dataclass(frozen=True)
class Inspection:
    """Contents of a corpus.

    Attributes:
        corpus: its name.
        recordings: number that are listed.
        usable: number that training would use.
        hours: of those that can be decoded.
        speakers: recordings and hours of each.
        sample_rates: recordings at each rate, in Hz.
        channels: recordings of so many channels.
        loudness_dbfs: percentiles of the RMS of usable recordings; empty if there is none.
        found: of each kind in ``ADVICE``, the names, with a reason where there is one.
    """

    corpus: str
    recordings: int
    usable: int
    hours: float
    speakers: dict[str, dict[str, float]]
    sample_rates: dict[int, int]
    channels: dict[int, int]
    loudness_dbfs: dict[str, float]
    found: dict[str, tuple[str, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; each finding with its count and how training handles it."""
        found = {
            kind: {"count": len(names), "training": ADVICE[kind], "recordings": list(names)}
            for kind, names in self.found.items()
        }
        return {**asdict(self), "found": found}

    def __str__(self) -> str:
        """Format as tables."""
        tables = [*_table(self._facts()), "", *_table(self._findings())]
        if any(len(names) > 1 for names in self.found.values()):
            tables += ["", "--json names all of them"]
        return "\n".join(tables)

    def _facts(self) -> Iterator[tuple[str, ...]]:
        yield "corpus", self.corpus
        yield "recordings", f"{self.recordings}, {self.usable} of them usable"
        yield "length", f"{self.hours:.2f} h" if self.hours >= 0.1 else f"{self.hours * 60:.2f} min"
        for name, has in list(self.speakers.items())[:_SHOWN_SPEAKERS]:
            share = f"{has['recordings']} recordings, {has['hours'] * 60:.2f} min"
            yield "speaker", f"{name or '(not said)'}: {share}"
        if len(self.speakers) > _SHOWN_SPEAKERS:
            yield "", f"... {len(self.speakers)} speakers in all"
        rates = _counts(self.sample_rates, " Hz")
        yield "sample rates", f"{rates}; training resamples to the model's"
        yield "channels", _counts(self.channels)
        if self.loudness_dbfs:
            levels = (f"{level:.1f} ({name})" for name, level in self.loudness_dbfs.items())
            yield "loudness", f"{', '.join(levels)} dBFS; training keeps it as it is"

    def _findings(self) -> Iterator[tuple[str, ...]]:
        yield "finding", "count", "training", "such as"
        for kind, names in self.found.items():
            yield kind, str(len(names)), ADVICE[kind] if names else "", next(iter(names), "")


_SHOWN_SPEAKERS = 12


@dataclass(frozen=True)
class _Facts:
    """Facts about one decoded recording. The digest is empty if it is digital silence."""

    sample_rate: int
    channels: int
    duration_s: float
    loudness_dbfs: float
    digest: bytes
    kinds: tuple[str, ...]


def inspect_corpus(corpus: str, listing: Listing, *, progress: Progress = iter) -> Inspection:
    """Decode every recording and report on the corpus.

    Args:
        corpus: its name.
        listing: of its recordings (``find_corpus``).
        progress: wraps the recordings, to show progress.
    """
    found: dict[str, list[str]] = {kind: [] for kind in ADVICE}
    facts: dict[Recording, _Facts] = {}
    for recording, result in zip(
        listing.recordings, _examine_all(progress(listing.recordings)), strict=True
    ):
        if isinstance(result, _Facts):
            facts[recording] = result
            for kind in result.kinds:
                found[kind].append(recording.name)
        else:
            found["broken"].append(result)
    found["duplicated"] = list(_duplicates(facts))
    loudness = [each.loudness_dbfs for each in facts.values() if each.digest]
    levels = np.percentile(loudness, PERCENTILES).round(2).tolist() if loudness else []
    return Inspection(
        corpus=corpus,
        recordings=len(listing.recordings),
        usable=sum(bool(each.digest) for each in facts.values()),
        hours=sum(each.duration_s for each in facts.values()) / 3600,
        speakers=_speakers(facts),
        sample_rates=_tally(each.sample_rate for each in facts.values()),
        channels=_tally(each.channels for each in facts.values()),
        loudness_dbfs={f"{p}%": level for p, level in zip(PERCENTILES, levels, strict=False)},
        found={kind: tuple(names) for kind, names in found.items()},
    )


def _examine_all(recordings: Iterable[Recording]) -> Iterator[_Facts | str]:
    """Yield facts of each recording, or the reason why it cannot be decoded."""
    whole = functools.lru_cache(maxsize=1)(decode)  # neighbouring parts share their file
    for recording in recordings:
        try:
            require_file(recording.path)
            info = audio_info(recording.path)
            samples = whole(recording.path, info.sample_rate)
            yield _examine(
                cut(recording, samples, info.sample_rate), info.sample_rate, info.channels
            )
        except AudioError as error:
            yield str(error)
        except UnicodeEncodeError:
            yield f"{str(recording.path)!a}: the name is not UTF-8; rename the file"


def _examine(samples: np.ndarray, rate: int, channels: int) -> _Facts:
    total = energy = 0
    clipped = False
    for first in range(0, len(samples), _BLOCK):  # long recordings in little memory
        x = samples[first : first + _BLOCK + CLIPPED_RUN - 1].astype(np.int64)
        clipped = clipped or _has_run(np.abs(x) >= CLIPPED_AT, CLIPPED_RUN)
        total += int(x[:_BLOCK].sum())
        energy += int(np.square(x[:_BLOCK]).sum())
    loudness_dbfs = 10 * math.log10(energy / len(samples) / 32768**2) if energy else -math.inf
    is_so = {
        "silent": loudness_dbfs < SILENT_DBFS,
        "clipped": clipped,
        "dc_shifted": abs(total / len(samples) / 32768) > SHIFTED_BY,
        "too_short": len(samples) < SHORT_S * rate,
        "multichannel": channels > 1,
    }
    return _Facts(
        sample_rate=rate,
        channels=channels,
        duration_s=len(samples) / rate,
        loudness_dbfs=loudness_dbfs,
        digest=_digest(samples, rate) if energy else b"",
        kinds=tuple(kind for kind, so in is_so.items() if so),
    )


def _digest(samples: np.ndarray, rate: int) -> bytes:
    digest = hashlib.sha256(rate.to_bytes(4, "little"))
    digest.update(samples.data)
    return digest.digest()


def _has_run(flags: np.ndarray, length: int) -> bool:
    """Return true if that many in a row are true."""
    at = np.flatnonzero(flags)
    return bool((at[length - 1 :] - at[: len(at) - length + 1] == length - 1).any())


def _duplicates(facts: dict[Recording, _Facts]) -> Iterator[str]:
    """Yield every copy but the first, with its original."""
    first: dict[bytes, str] = {}
    for recording, each in facts.items():
        if each.digest:
            original = first.setdefault(each.digest, recording.name)
            if original != recording.name:
                yield f"{recording.name} = {original}"


def _speakers(facts: dict[Recording, _Facts]) -> dict[str, dict[str, float]]:
    totals: dict[str, dict[str, float]] = defaultdict(lambda: {"recordings": 0, "hours": 0.0})
    for recording, each in facts.items():
        totals[recording.speaker]["recordings"] += 1
        totals[recording.speaker]["hours"] += each.duration_s / 3600
    return {name: totals[name] for name in sorted(totals)}


def _tally(values: Iterable[int]) -> dict[int, int]:
    return dict(sorted(Counter(values).items()))


def _counts(tally: dict[int, int], unit: str = "") -> str:
    return ", ".join(f"{value}{unit} ({n})" for value, n in tally.items()) or "none"


def _table(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a table; columns are as wide as their widest cell."""
    cells = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield line.rstrip()
