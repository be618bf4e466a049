"""Any file of torch.save is tensors or one line; none runs code, and none takes much memory."""

from __future__ import annotations

import collections
import io
import json
import pickle
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peak_memory import peak_kib, reset_peak

from wavenet.interop.tensors import read_saved
from wavenet.interop.wavenet_vocoder import import_checkpoint
from wavenet.interop.wavenet_vocoder_settings import read_layout
from wavenet.storage.checkpoint import CheckpointError

BRIEF = settings(max_examples=50, derandomize=True, deadline=None, database=None)
LONG = settings(BRIEF, max_examples=1000)
LONGEST_S = 3.0
"""Of processor time, which another load on the machine hardly changes."""
MOST_KIB = 200 * 1024
"""That the process may grow by: the files have some kilobytes."""

SAVED = {
    "state_dict": collections.OrderedDict(
        (f"layer.{i}.weight", torch.arange(6.0).view(2, 3)) for i in range(3)
    ),
    "optimizer": {"state": {}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}]},
    "global_step": 7,
}


def saved(old_format: bool) -> bytes:
    """What torch writes."""
    buffer = io.BytesIO()
    torch.save(SAVED, buffer, _use_new_zipfile_serialization=not old_format)
    return buffer.getvalue()


WHOLE = {"old": saved(True), "new": saved(False)}
with zipfile.ZipFile(io.BytesIO(WHOLE["new"])) as _archive:
    MEMBERS = {name: _archive.read(name) for name in _archive.namelist()}
PICKLE_NAME = next(name for name in MEMBERS if name.endswith("/data.pkl"))

# Instructions that a pickle may be made of, those that torch.save never writes among them.
names = st.sampled_from(
    [
        *("builtins eval", "builtins bytearray", "os system", "torch FloatStorage"),
        *("torch._utils _rebuild_tensor_v2", "collections OrderedDict", "numpy dtype"),
        *("torch load", "_codecs encode", "functools partial", "builtins getattr"),
    ]
)
instructions = st.one_of(
    names.map(lambda name: pickle.GLOBAL + name.replace(" ", "\n").encode() + b"\n"),
    st.sampled_from([10**12, -1, 0, 2**31 - 1]).map(
        lambda n: pickle.LONG1 + bytes([8]) + struct.pack("<q", n)
    ),
    st.integers(0, 2**31 - 1).map(lambda n: pickle.BININT + struct.pack("<i", n)),
    st.integers(0, 2**32 - 1).map(lambda n: pickle.LONG_BINPUT + struct.pack("<I", n)),
    st.integers(0, 255).map(lambda n: pickle.BINGET + bytes([n])),
    st.text(max_size=5).map(
        lambda text: (
            pickle.BINUNICODE
            + struct.pack("<I", len(text.encode("utf-8", "surrogatepass")))
            + text.encode("utf-8", "surrogatepass")
        )
    ),
    st.sampled_from(
        [
            *(pickle.REDUCE, pickle.BUILD, pickle.BINPERSID, pickle.MARK, pickle.TUPLE),
            *(pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.EMPTY_TUPLE, pickle.SETITEM),
            *(pickle.SETITEMS, pickle.APPEND, pickle.APPENDS, pickle.TUPLE1, pickle.TUPLE2),
            *(pickle.NEWOBJ, pickle.STOP, pickle.POP, pickle.DUP, pickle.NONE),
        ]
    ),
)
programs = st.lists(instructions, max_size=20).map(
    lambda parts: pickle.PROTO + b"\x02" + b"".join(parts) + pickle.STOP
)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file of torch.save with damaged bytes, or with another pickle in it."""
    kind = draw(st.sampled_from(["old", "new", "archive", "program"]))
    if kind == "program":
        return draw(programs)
    if kind == "archive":
        changed = draw(st.one_of(programs, spoilt(MEMBERS[PICKLE_NAME])))
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", draw(st.sampled_from([0, 0, zipfile.ZIP_DEFLATED]))) as z:
            for name, content in MEMBERS.items():
                z.writestr(name, changed if name == PICKLE_NAME else content)
        return buffer.getvalue()
    return draw(spoilt(WHOLE[kind]))


@st.composite
def spoilt(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes of which some are changed, left out, or cut off at the end."""
    whole = bytearray(content)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(whole) - 1))
        whole[at : at + draw(st.sampled_from([1, 1, 2, 8]))] = draw(st.binary(max_size=8))
        if not whole:
            break
    return bytes(whole[: draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))])


hparams = st.dictionaries(
    st.sampled_from(
        [
            *("layers", "stacks", "kernel_size", "residual_channels", "out_channels", "hop_size"),
            *("cin_channels", "gin_channels", "upsample_params", "input_type", "sample_rate"),
        ]
    ),
    st.one_of(
        st.integers(-2, 60),
        st.sampled_from([10**9, 10**30, 10**400, 1e300, "raw", True, None, []]),
        st.fixed_dictionaries(
            {"upsample_scales": st.lists(st.sampled_from([1, 4, 10**9, 2**20]), max_size=70)}
        ),
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where files go; what is imported once has been, which is not the time of a file."""
    folder = tmp_path_factory.mktemp("saved")
    for name, content in WHOLE.items():
        (folder / name).write_bytes(content)
        assert read_saved(folder / name)["global_step"] == 7
    return folder


def check(folder: Path, content: bytes, settings: Any) -> None:
    """Assert that a file, and settings beside it, are read or refused in one line."""
    path, beside = folder / "saved.pth", folder / "hparams.json"
    path.write_bytes(content)
    beside.write_text(json.dumps(settings))
    reset_peak()
    before_kib = peak_kib()
    started = time.process_time()
    lines = []
    for read in (lambda: read_saved(path), lambda: read_layout(beside).shapes()):
        try:
            read()
        except CheckpointError as error:
            lines.append(str(error))
    with pytest.raises(CheckpointError) as refused:
        import_checkpoint(path)  # nothing that is made here fits any settings
    lines.append(str(refused.value))
    assert time.process_time() - started < LONGEST_S
    assert peak_kib() - before_kib < MOST_KIB
    for line in lines:
        assert "\n" not in line
        assert "weights_only" not in line
        assert len(line) < 500 + len(str(path))


@BRIEF
@given(content=files(), settings=hparams)
def test_any_file_is_tensors_or_one_line(folder: Path, content: bytes, settings: Any) -> None:
    check(folder, content, settings)


@pytest.mark.slow
@LONG
@given(content=files(), settings=hparams)
def test_a_thousand_files_are_tensors_or_one_line(
    folder: Path, content: bytes, settings: Any
) -> None:
    check(folder, content, settings)
