"""Stored mels of any header, field and damage are frames or one line, and cost little memory."""

from __future__ import annotations

import io
import json
import math
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavenet import MelConfig
from wavenet.features.mel_files import MelFileError, open_mel

SETTINGS = MelConfig(
    sample_rate=8000, n_fft=64, win_samples=40, hop_samples=16, n_mels=5, f_max_hz=4e3
)
MOST_BYTES = 50_000_000

sizes = st.one_of(
    st.integers(-2, 8), st.sampled_from([80, 4097, 2**31, 2**32, 2**63, 10**30, -(2**63)])
)
shapes = st.one_of(
    st.lists(sizes, max_size=4).map(tuple), sizes, st.text(max_size=3), st.just((5.0, 3))
)
types = st.sampled_from(
    [
        *("<f4", ">f8", "<f2", "<f16", "<i4", "|O", "<U9", "<U999999999", "<M8[s]", "|b1", "f"),
        *("<f3", "<c8", "|V9", [["a", "<f4"]], ("<f4", (3,)), ("<f4", (10**9,)), "", None, 7),
    ]
)


@st.composite
def arrays(draw: st.DrawFn) -> bytes:
    """A ``.npy``: a header of one's own, and bytes that need not fit it."""
    header = str({"descr": draw(types), "fortran_order": draw(orders), "shape": draw(shapes)})
    text = draw(st.one_of(st.just(header), st.text(max_size=50), st.just("(" * 300)))
    encoded = text.encode("utf-8", "surrogatepass")
    version = draw(st.sampled_from([1, 1, 1, 2, 3, 9]))
    length = draw(st.one_of(st.just(len(encoded)), st.integers(0, 65535)))
    if version == 1:
        start = struct.pack("<H", length)
    else:
        start = struct.pack("<I", draw(st.sampled_from([length, 2**32 - 1])))
    content = draw(st.one_of(st.binary(max_size=200), st.just(bytes(60))))
    return b"\x93NUMPY" + bytes([version, 0]) + start + encoded + content


orders = st.one_of(st.booleans(), st.just(3))
values = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.lists(st.integers(0, 9), max_size=3),
    st.sampled_from([3 * 16, 40, math.inf, -5]),
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner)),
    max_leaves=5,
)


@st.composite
def configs(draw: st.DrawFn) -> str:
    """Settings of which some have another value, or none."""
    found: dict[str, Any] = SETTINGS.to_dict()
    for name in draw(st.lists(st.sampled_from(sorted(found)), max_size=3, unique=True)):
        found[name] = draw(st.one_of(json_values, st.integers(-1, 10**12), st.just(10**400)))
    text = json.dumps(found)
    return draw(st.sampled_from([text, text, text[:-3], "[" * 50_000, "[]", "1e999"]))


def stored(value: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, np.asarray(value), allow_pickle=True)
    return content.getvalue()


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """An ``.npz``: members of one's own, and then some damage to its bytes."""
    content = io.BytesIO()
    how = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]))
    with zipfile.ZipFile(content, "w", how) as archive:
        mel = np.full((5, 3), -1.0, np.float32)
        archive.writestr("mel.npy", draw(st.one_of(st.just(stored(mel)), arrays())))
        archive.writestr("config.npy", draw(st.one_of(configs().map(stored), arrays())))
        archive.writestr("n_samples.npy", draw(st.one_of(values.map(stored), arrays())))
    damaged = bytearray(content.getvalue())
    for place in draw(st.lists(st.integers(0, len(damaged) - 1), max_size=4)):
        damaged[place] = draw(st.integers(0, 255))
    end = draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))))
    return bytes(damaged[:end])


def check(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            mel = open_mel(path)
            assert sum(piece.shape[1] for piece in mel.frames()) == mel.n_frames
    except MelFileError as error:
        message = str(error)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        assert len(message) < 1000
    finally:
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
        tracemalloc.stop()


def run(folder: Path, capfd: pytest.CaptureFixture[str], n_examples: int) -> None:
    given_settings = settings(
        max_examples=n_examples, derandomize=True, database=None, deadline=None
    )

    @given_settings
    @given(content=arrays())
    def every_array(content: bytes) -> None:
        check(folder / "a.npy", content)

    @given_settings
    @given(content=archives())
    def every_archive(content: bytes) -> None:
        check(folder / "a.npz", content)

    every_array()
    every_archive()
    assert capfd.readouterr() == ("", "")


def test_odd_mels_are_frames_or_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, capfd, 25)


@pytest.mark.slow
def test_many_odd_mels_are_frames_or_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, capfd, 1000)
