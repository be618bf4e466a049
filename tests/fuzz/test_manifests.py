"""Any content of a manifest is a listing or one line that names the file and its line."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavenet.data.manifest import COLUMNS, LATEST_S, read_manifest
from wavenet.data.recordings import CorpusError

BRIEF = settings(max_examples=60, derandomize=True, deadline=None, database=None)
LONG = settings(BRIEF, max_examples=1000)

OF_THE_WHOLE_FILE = ("lists no recording", "cannot be read")
"""What no line is to blame for."""

ANY_TEXT = st.text(st.characters(), max_size=20)  # NUL and lone surrogates as well
NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from((10**400, 1e308, -0.0, 2**63)),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, ANY_TEXT, st.just("a.wav")),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(ANY_TEXT, part, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from((*COLUMNS, "text", "ende", "Path"))
ROWS = st.one_of(
    st.dictionaries(KEYS, VALUES),
    st.fixed_dictionaries(
        {"path": st.sampled_from("abcdefgh")}, optional=dict.fromkeys(COLUMNS[1:], VALUES)
    ),
)


@st.composite
def jsonl(draw: st.DrawFn) -> bytes:
    rows = draw(st.lists(st.one_of(ROWS, VALUES), max_size=4))
    lines = [json.dumps(row).encode() for row in rows]
    deep = draw(st.sampled_from((0, 0, 0, 900, 50_000)))
    if deep:
        lines.append(b'{"path": ' + b"[" * deep + b"]" * deep + b"}")
    return b"\n".join(lines)


@st.composite
def comma_separated(draw: st.DrawFn) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(draw(st.lists(st.one_of(KEYS, KEYS, ANY_TEXT), max_size=5)))
    cells = st.one_of(ANY_TEXT, NUMBERS.map(str), st.just("a.wav"))
    for row in draw(st.lists(st.lists(cells, max_size=5), max_size=4)):
        writer.writerow(row)
    return text.getvalue().encode(errors="surrogatepass")


VALID = (
    b"path,speaker,start,end\nlong.wav,mary,0.5,0.75\n",
    b'{"path": "long.wav", "speaker": "mary", "start": 0.5, "end": 0.75}\n{"path": "b.wav"}\n',
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A manifest in which a few bytes have changed, gone or come."""
    content = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        content[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(content)


CONTENTS = st.one_of(jsonl(), comma_separated(), damaged(), st.binary(max_size=60))


def read_both_ways(content: bytes) -> None:
    for name in ("list.csv", "list.jsonl"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.write_bytes(content)
            require_listing_or_line(path)


def require_listing_or_line(path: Path) -> None:
    try:
        listing = read_manifest(path)
    except CorpusError as error:
        message = str(error)
        assert message.isprintable()
        assert len(message) < 600
        named = re.match(rf"{re.escape(str(path))}, line [1-9]\d*: ", message)
        assert named or any(words in message for words in OF_THE_WHOLE_FILE)
        return
    names = [recording.name for recording in listing.recordings]
    assert names == sorted(set(names)) != []
    for recording in listing.recordings:
        os.fsencode(recording.path)
        f"{recording.name}{recording.speaker}".encode()
        assert 0 <= recording.start_s <= LATEST_S
        assert recording.end_s is None or recording.start_s < recording.end_s <= LATEST_S


def test_any_content_is_a_listing_or_a_line() -> None:
    BRIEF(given(CONTENTS)(read_both_ways))()


@pytest.mark.slow
def test_a_thousand_contents_are_listings_or_lines() -> None:
    LONG(given(CONTENTS)(read_both_ways))()


@pytest.mark.parametrize("make", [lambda: VALID[0], lambda: VALID[1]])
def test_what_is_damaged_is_a_manifest_before(make: Callable[[], Any], tmp_path: Path) -> None:
    path = tmp_path / ("list.csv" if make() is VALID[0] else "list.jsonl")
    path.write_bytes(make())
    assert read_manifest(path).recordings
