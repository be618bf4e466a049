"""Any ``.nam`` file is a network that runs, or one line, in little time and memory."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peak_memory import peak_kib, reset_peak

from wavenet.nam import NamWaveNet, preset, read_nam, write_nam

BRIEF = settings(max_examples=25, derandomize=True, deadline=None, database=None)
LONG = settings(BRIEF, max_examples=1000)
LONGEST_S = 3.0
"""Of processor time, which another load on the machine hardly changes."""
MOST_KIB = 300 * 1024
"""That the process may grow by: the files have some kilobytes."""

FILES: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "nam" / "data" / "nam_golden.json").read_text()
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 70),
    st.floats(),
    st.sampled_from([2**31, 10**9, 10**30, 10**400, 1e-320]),
    st.sampled_from(["", "Tanh", "PReLU", "WaveNet", "gated", "blended", "0.7.0", "\x1b[31m"]),
    st.text(max_size=8),
)
anything = st.recursive(
    scalars,
    lambda part: st.one_of(
        st.lists(part, max_size=4),
        st.dictionaries(
            st.one_of(st.sampled_from(["type", "name", "active", "groups"]), st.text(max_size=4)),
            part,
            max_size=3,
        ),
    ),
    max_leaves=6,
)


def nested(levels: int) -> Any:
    """Lists within lists."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """A file with up to three values changed, taken away or doubled, and perhaps damaged bytes."""
    content = copy.deepcopy(FILES[draw(st.sampled_from(sorted(FILES)))])
    for _ in range(draw(st.integers(0, 3))):
        at: Any = content
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(min(len(at), 40)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(at[key], dict | list) and draw(st.integers(0, 3)):
                at = at[key]
                continue
            kind = draw(st.sampled_from(["change", "change", "remove", "double", "nest"]))
            if kind == "change":
                at[key] = draw(anything)
            elif kind == "remove":
                del at[key]
            elif kind == "nest":
                at[key] = nested(draw(st.sampled_from([1, 60, 900])))
            elif isinstance(at, list):
                at.insert(key, copy.deepcopy(at[key]))
            break
    text = json.dumps(content).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 3)):
        return text
    at_byte = draw(st.integers(0, len(text)))
    added = draw(st.one_of(st.binary(max_size=9), st.sampled_from([b"[" * 10**5, b"9" * 5000])))
    end = draw(st.sampled_from([at_byte, at_byte + 1, at_byte + 20, len(text)]))
    return text[:at_byte] + added + text[end:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where files go; what is imported once has been, which is not the time of a file."""
    folder = tmp_path_factory.mktemp("nam")
    write_nam(folder / "first.nam", NamWaveNet(preset("nano")))
    run(read_nam(folder / "first.nam"))
    return folder


def run(model: NamWaveNet) -> None:
    """Assert that a network makes sound of sound."""
    with torch.no_grad():
        assert model(torch.zeros(1, model.in_channels, 4)).shape == (1, model.out_channels, 4)


def check(folder: Path, content: bytes) -> None:
    """Assert that a file is read and written again, or refused in one line."""
    path = folder / "model.nam"
    path.write_bytes(content)
    reset_peak()
    before_kib = peak_kib()
    started = time.process_time()
    line = ""
    try:
        model = read_nam(path)
    except ValueError as error:
        line = str(error)
    else:
        run(model)
        write_nam(folder / "again.nam", model)
        model.save(folder / "checkpoint")
    assert time.process_time() - started < LONGEST_S
    assert peak_kib() - before_kib < MOST_KIB
    assert "\n" not in line
    assert len(line) < 500 + len(str(path))


@BRIEF
@given(content=contents())
def test_any_nam_file_is_a_network_or_one_line(folder: Path, content: bytes) -> None:
    check(folder, content)


@pytest.mark.slow
@LONG
@given(content=contents())
def test_a_thousand_nam_files_are_networks_or_one_line(folder: Path, content: bytes) -> None:
    check(folder, content)
