"""The index of a corpus in a store: a JSON file with the place of every recording."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from wavenet.data.histogram import CLASSES
from wavenet.data.recordings import CorpusError
from wavenet.storage.json_files import JsonError, read_json

INDEX_NAME = "wavenet-shards.json"
FORMAT, VERSION = "wavenet shards", 1
MAX_BYTES = 2 << 30
"""Largest index that is read: of some 10 million recordings."""


@dataclass(frozen=True)
class ShardIndex:
    """Recordings in the order of their names, and the shards that they are in; columns of a table.

    Attributes:
        sample_rate: in Hz.
        trim_db: threshold at which both ends were trimmed; None: they were not.
        content: hash of what the samples were made from, equal to that of the folder's
            (``wavenet.data.cache``).
        skipped: a line for each recording that could not be used.
        class_counts: of all samples (``histogram``).
        shard_sha256: of each shard's content.
        shard_bytes: size of each shard.
        speakers: all names of speakers.
        names: of the recordings.
        speaker: index of each recording's speaker.
        shard: index of each recording's shard.
        offset: sample of the shard at which each recording begins.
        length: of each recording in samples.
        digest: of each recording's samples, equal for copies.
    """

    sample_rate: int
    trim_db: float | None
    content: str
    skipped: Sequence[str]
    class_counts: Sequence[int]
    shard_sha256: Sequence[str]
    shard_bytes: Sequence[int]
    speakers: Sequence[str]
    names: Sequence[str]
    speaker: Sequence[int]
    shard: Sequence[int]
    offset: Sequence[int]
    length: Sequence[int]
    digest: Sequence[str]

    def write(self, path: Path) -> None:
        """Write the index to a file."""
        values = asdict(self)
        head = {"format": FORMAT, "version": VERSION, "checksum": _checksum(values)}
        path.write_text(json.dumps({**head, **values}), encoding="utf-8")

    @classmethod
    def read(cls, path: Path, where: str) -> ShardIndex:
        """Read the index from a file.

        Args:
            path: of the file.
            where: its URL, for messages.

        Raises:
            CorpusError: if it is no index, or is damaged.
        """
        try:
            found = read_json(path, max_bytes=MAX_BYTES)
        except JsonError as error:
            raise CorpusError(f"{where} is no index of shards: {error}") from None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise CorpusError(f"{where} is no index of shards; write one with `wavenet shard`")
        if found.get("version") != VERSION:
            raise CorpusError(
                f"{where} has version {found.get('version')!r} of its format, and this wavenet "
                f"reads version {VERSION}; use the version of wavenet that wrote it"
            )
        values: dict[str, Any] = {each.name: found.get(each.name) for each in fields(cls)}
        if found.get("checksum") != _checksum(values):
            raise CorpusError(f"{where} is damaged; write it again with `wavenet shard`")
        index = cls(**values)
        try:
            fits = index._fits()
        except (TypeError, AttributeError):  # a list where a number should be
            fits = False
        if not fits:
            raise CorpusError(f"{where} does not fit its shards; write it with `wavenet shard`")
        return index

    def _fits(self) -> bool:
        """Return whether every recording lies within a shard."""
        columns = (self.names, self.speaker, self.shard, self.offset, self.length, self.digest)
        return (
            len({len(column) for column in columns}) == 1
            and len(self.names) > 0
            and len(self.shard_sha256) == len(self.shard_bytes)
            and len(self.class_counts) == CLASSES
            and all(len(sha256) == 64 and sha256.isalnum() for sha256 in self.shard_sha256)
            and all(0 <= speaker < len(self.speakers) for speaker in self.speaker)
            and all(0 <= shard < len(self.shard_sha256) for shard in self.shard)
            and all(
                offset >= 0 and length > 0 and 2 * (offset + length) <= self.shard_bytes[shard]
                for shard, offset, length in zip(self.shard, self.offset, self.length, strict=True)
            )
        )


def _checksum(values: dict[str, Any]) -> str:
    """Hash of all values, by which a damaged index is recognised."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
