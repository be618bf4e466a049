"""Stored mels from anywhere: one line for what is wrong, and no memory but for what is there."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wavenet import MelConfig
from wavenet.features.acoustic_configs import read_mel_config
from wavenet.features.mel_files import MelFileError, open_mel

SETTINGS = MelConfig(
    sample_rate=8000, n_fft=64, win_samples=40, hop_samples=16, n_mels=5, f_max_hz=4e3
)
MEL = np.full((5, 3), -1.0, np.float32)


def npy(
    header: str, content: bytes = b"", *, version: int = 1, claimed: int | None = None
) -> bytes:
    text = header.encode("latin1")
    length = struct.pack("<H" if version == 1 else "<I", len(text) if claimed is None else claimed)
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + content


def header(shape: Any, dtype: Any = "<f4", order: bool = True) -> str:
    return str({"descr": dtype, "fortran_order": order, "shape": shape})


def array(value: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, value, allow_pickle=True)
    return content.getvalue()


def archive(path: Path, **members: Any) -> Path:
    """An ``.npz``; a member that is None is left out."""
    given = {"mel": MEL, "config": json.dumps(SETTINGS.to_dict()), **members}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, value in given.items():
            if value is not None:
                content = value if isinstance(value, bytes) else array(np.asarray(value))
                file.writestr(f"{name}.npy", content)
    return path


def refusal(path: Path, most_bytes: int = 20_000_000) -> str:
    """The one line with which a file is refused, in little memory and without a warning."""
    tracemalloc.start()
    try:
        with warnings.catch_warnings(), pytest.raises(MelFileError) as caught:
            warnings.simplefilter("error")
            open_mel(path)
        assert tracemalloc.get_traced_memory()[1] < most_bytes
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 700
    return message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (npy(header((80, 10**12))), "it is cut short: 320000000000000 bytes promised, 0 there"),
        (npy(header((10**9, 10**9), "<f8", False)), "it is cut short: 8000000000000000000 bytes"),
        (npy(header((-1, 80)), bytes(400)), "its shape is (-1, 80)"),
        (npy(header((-(10**12), -(10**12)))), "its shape is (-1000000000000, -1000000000000)"),
        (npy(header((0, 80))), "the mel has no frames"),
        (npy(header((80, 0))), "the mel has no frames"),
        (npy(header((5000, 2)), bytes(40000)), "has 5000 bands; is it [F, M]? transpose it"),
        (npy(header((80,)), bytes(320)), "it takes [M, F] of floats"),
        (npy(header((8, 4), "|O"), bytes(999)), "of object; it takes [M, F] of floats"),
        (npy(header((2, 2), "<f99")), "no mel that can be read"),
        (npy(header((2, 2), ("<f4", (10**8,)))), "cut short"),
        (npy(header("x")), "no mel that can be read"),
        (npy("[" * 3000), "no mel that can be read"),
        (
            npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2L, 2L), }", bytes(15)),
            "cut short",
        ),
        (npy("1_if 1else 2"), "no mel that can be read"),
        (npy(" ", version=2, claimed=2**32 - 1), "its header has 4294967295 bytes"),
        (npy(" ", claimed=60_000), "its header has 60000 bytes"),
        (npy("", version=77), "no mel that can be read"),
        (b"\x93NUMPY", "no mel that can be read"),
    ],
)
def test_a_header_is_compared_with_the_bytes_there_are(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    assert reason in refusal(path)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"n_samples": np.inf}, "n_samples is shape () of float64, not an integer"),
        ({"n_samples": -5}, "n_samples is -5; a mel needs at least one sample"),
        ({"n_samples": [40, 40]}, "n_samples is shape (2,) of int64, not an integer"),
        ({"n_samples": np.array({"a": 1}, object)}, "n_samples is shape () of object"),
        ({"n_samples": 2**62}, "3 frames are not the"),
        ({"config": None}, "it has no config"),
        ({"mel": None, "config": None}, "it has no mel and no config"),
        ({"config": 3}, "config is shape () of int64, not a string"),
        ({"config": ["{}"]}, "config is shape (1,) of <U2, not a string"),
        ({"config": "[]"}, "mel settings are a list"),
        ({"config": "[" * 60_000}, "nested too deeply"),
        ({"config": "x" * 70_000}, "config has 280000 bytes"),
        ({"config": npy(header((), "<U99999999"))}, "it is cut short"),
        ({"config": '{"sample_rate": [1, 2]}'}, "is missing; add it"),
        (
            {"config": json.dumps({**SETTINGS.to_dict(), "n_fft": 10**9})},
            "n_fft=1000000000",
        ),
        ({"config": json.dumps({**SETTINGS.to_dict(), "floor": [1]})}, "floor is [1]; give a num"),
        (
            {"config": json.dumps({**SETTINGS.to_dict(), "floor": 1e400})},
            "floor is inf; give a fin",
        ),
        ({"mel": MEL[:4]}, "the mel has 4 bands, its settings say n_mels=5"),
    ],
)
def test_a_field_of_the_wrong_kind_is_one_line(
    tmp_path: Path, members: dict[str, Any], reason: str
) -> None:
    assert reason in refusal(archive(tmp_path / "a.npz", **members))


@pytest.mark.parametrize("order", [True, False])
def test_what_unpacks_to_more_than_memory_takes_is_not_unpacked(
    tmp_path: Path, order: bool
) -> None:
    start = npy(header((5, 3 << 26), order=order))
    path = archive(tmp_path / "a.npz", mel=start + bytes(1 << 20))
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 2**32 - 2)  # bytes when unpacked
    path.write_bytes(content)
    assert "4026531840 bytes, compressed, are more than 268435456" in refusal(path)


def test_an_encrypted_archive_and_an_odd_compression_are_one_line(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz")
    content = bytearray(path.read_bytes())
    for start in (content.index(b"PK\x01\x02"), content.rindex(b"PK\x01\x02")):
        content[start + 8] |= 1
    path.write_bytes(content)
    assert "it is encrypted" in refusal(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as file:
        for name in ("mel", "config"):
            file.writestr(f"{name}.npy", array(MEL))
    assert "compressed in a way that numpy does not use" in refusal(path)


def test_settings_that_are_no_small_file_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    for text, reason in (("[" * 60_000, "nested too deeply"), (" " * 2_000_000, "bytes are too m")):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"mine.json: no mel settings: .*{reason}"):
            read_mel_config(str(path))
