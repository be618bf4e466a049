"""``wavenet.export``: one step of any causal block, in onnxruntime and as a program of torch."""

from __future__ import annotations

import copy
import inspect
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from causal_blocks import BLOCKS
from torch import Tensor, nn

import wavenet
from wavenet import Causal, CausalConv1d, CausalConvTranspose1d, Chain
from wavenet.interop.blocks import METADATA, initial_state
from wavenet.nn import GRU, LSTM, CausalAttention, Delay, Residual, flatten_state

FLOAT32_ERROR = 1e-5
"""Of outputs of size 1: two orders of the sums of a few layers."""
ROWS = 3

_FIXED = ("attention", "lstm", "gru", "maximum")
TURNS = [name for name in BLOCKS if any(kind in name for kind in _FIXED)]
"""Blocks whose code depends on the number of samples of a call."""
FREE = [name for name in BLOCKS if name not in TURNS]


def prepared(name: str) -> Causal:
    return copy.deepcopy(BLOCKS[name]).eval()


def onnx_runtime() -> Any:
    """onnxruntime, where the extra is installed."""
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    return pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


class Session:
    """A file in onnxruntime, with its state."""

    def __init__(self, file: Path, rows: int) -> None:
        self.session = onnx_runtime().InferenceSession(file)
        self.metadata = self.session.get_modelmeta().custom_metadata_map
        self.state = initial_state(self.metadata, rows)
        self.outputs = [one.name for one in self.session.get_outputs()]

    def __call__(self, x: Tensor, cond: Tensor | None) -> list[Tensor]:
        given = {"x": x} if cond is None else {"x": x, "cond": cond}
        feeds = {name: part.numpy() for name, part in given.items()}
        found = self.session.run(None, feeds | self.state)
        named = {name: np.array(part) for name, part in zip(self.outputs, found, strict=True)}
        self.state = {name: named[f"next_{name}"] for name in self.state}
        return [torch.from_numpy(part) for name, part in named.items() if name.startswith("y")]

    def states(self) -> list[Tensor]:
        return [torch.from_numpy(part) for part in self.state.values()]


class Program:
    """A ``.pt2`` file, with its state."""

    def __init__(self, file: Path, rows: int) -> None:
        extra = {METADATA: ""}
        program = torch.export.load(file, extra_files=extra)
        # Of a strided block, newer torch guards against calls of one step.
        guarded = "check_guards" in inspect.signature(program.module).parameters
        self.step = program.module(**({"check_guards": False} if guarded else {}))
        self.metadata = json.loads(extra[METADATA])
        first = initial_state(self.metadata, rows).values()
        self.state = [torch.from_numpy(part) for part in first]

    def __call__(self, x: Tensor, cond: Tensor | None) -> list[Tensor]:
        found = self.step(x, cond, *self.state)
        n = len(found) - len(self.state)
        self.state = found[n:]
        return list(found[:n])

    def states(self) -> list[Tensor]:
        return self.state


@torch.no_grad()
def compare(block: Causal, run: Session | Program, steps: list[int]) -> None:
    """Chunks of these lengths, in steps of the block, against ``stream``."""
    generator = torch.Generator().manual_seed(0)
    state = block.init_state(ROWS)
    for n in steps:
        shape = ROWS, block.in_channels, n * block.step
        x = torch.randn(shape, generator=generator)
        channels = block.cond_channels
        cond = None
        if channels is not None:
            cond = torch.randn((ROWS, channels, n * block.step), generator=generator)
        y, state = block.stream(x, state, cond)
        expected = (y,) if isinstance(y, Tensor) else y
        for ours, theirs in zip(run(x, cond), expected, strict=True):
            assert ours.shape == theirs.shape
            assert float((ours - theirs).abs().max()) < FLOAT32_ERROR
    left = [part for part in flatten_state(state) if part.numel()]
    for ours, theirs in zip(run.states(), left, strict=True):
        assert float((ours - theirs).abs().max()) < FLOAT32_ERROR


@pytest.mark.slow
@pytest.mark.parametrize("name", FREE)
def test_a_block_in_onnxruntime_streams_chunks_of_any_length(name: str, tmp_path: Path) -> None:
    onnx_runtime()
    block = prepared(name)
    file = wavenet.export(block, tmp_path / "block.onnx")
    compare(block, Session(file, ROWS), [1, 4, 2])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TURNS, "u-net", "network", "model with features"])
def test_a_block_in_onnxruntime_streams_chunks_of_a_fixed_length(name: str, tmp_path: Path) -> None:
    onnx_runtime()
    block = prepared(name)
    chunk = 4 * block.step
    file = wavenet.export(block, tmp_path / "block.onnx", chunk=chunk, batch=ROWS)
    session = Session(file, ROWS)
    compare(block, session, [4, 4, 4])
    assert session.session.get_inputs()[0].shape == [ROWS, block.in_channels, chunk]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_as_a_program_of_torch_is_stream(name: str, tmp_path: Path) -> None:
    block = prepared(name)
    turns = name in TURNS
    file = wavenet.export(block, tmp_path / "block.pt2", chunk=4 * block.step if turns else None)
    compare(block, Program(file, ROWS), [4, 4] if turns else [1, 4, 2])


@pytest.mark.slow
@pytest.mark.parametrize("name", TURNS)
def test_a_block_whose_code_depends_on_the_length_asks_for_a_fixed_length(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="depends on the number of samples of a call") as caught:
        wavenet.export(prepared(name), tmp_path / "block.pt2")
    assert "chunk=N" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_onnx_file_names_its_axes_and_says_what_a_host_needs(tmp_path: Path) -> None:
    onnx_runtime()
    layers = CausalConv1d(1, 2, 3, stride=2), nn.Tanh(), CausalConvTranspose1d(2, 3, 6, stride=2)
    block = Chain(*layers, Delay(3, 5))
    block.train()
    file = wavenet.export(block, str(tmp_path / "block.onnx"), sample_rate=16000)
    assert block.training  # as before
    session = Session(file, 1)
    described = {one.name: one.shape for one in session.session.get_inputs()}
    assert described == {
        "x": ["batch", 1, "time"],
        "state_00": ["batch", 1, 2],
        "state_01": ["batch", 2, 2],
        "state_02": ["batch", 3, 5],
    }
    assert session.outputs == ["y", "next_state_00", "next_state_01", "next_state_02"]
    states = json.loads(session.metadata.pop("states"))
    assert states["state_02"] == [[3, 5], "float32"]
    assert session.metadata == {
        "step": "2",
        "rate": "1",
        "delay": "5",
        "chunk": "",
        "sample_rate": "16000",
    }
    assert {
        name: part.shape for name, part in initial_state({"states": json.dumps(states)}, 4).items()
    } == {"state_00": (4, 1, 2), "state_01": (4, 2, 2), "state_02": (4, 3, 5)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")
def test_an_exported_lstm_is_left_as_it_was(tmp_path: Path) -> None:
    block = Residual(LSTM(2, 2, num_layers=2))
    file = wavenet.export(block, tmp_path / "block.pt2", chunk=3)
    compare(block, Program(file, ROWS), [3, 3])
    assert "forward" not in vars(block.branches[1].rnn)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"file": "a.wav"}, "file='a.wav' ends in neither .onnx nor .pt2; rename it"),
        ({"chunk": 3}, "chunk=3 must be a multiple of 2, the block's step"),
        ({"chunk": 0}, "chunk=0"),
        ({"batch": 0}, "batch=0"),
        ({"sample_rate": -1}, "sample_rate=-1"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    block = CausalConv1d(1, 1, 3, stride=2)
    file = tmp_path / str(arguments.pop("file", "a.pt2"))
    with pytest.raises(ValueError, match=message.replace("'a.wav'", ".*a.wav'")) as caught:
        wavenet.export(block, file, **arguments)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_module_that_is_no_block_is_sent_to_causal(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"wavenet\.causal\(module\) makes one"):
        wavenet.export(nn.Conv1d(1, 1, 3), tmp_path / "a.pt2")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="block is a str, not a Causal"):
        wavenet.export("my-voice/model", tmp_path / "a.pt2")  # type: ignore[arg-type]


def test_a_block_that_torch_cannot_trace_is_refused_in_one_line(tmp_path: Path) -> None:
    class Branching(CausalConv1d):
        def stream(self, x: Tensor, state: Any, cond: Tensor | None = None) -> Any:
            return super().stream(x * float(x.sum() > 0), state, cond)

    with pytest.raises(ValueError, match="torch cannot export this Branching: ") as caught:
        wavenet.export(Branching(1, 1, 3), tmp_path / "a.pt2")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_examples_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    onnx_runtime()
    monkeypatch.chdir(tmp_path)
    page = (repository / "docs/how-to/convert-and-export.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 3
    names: dict[str, Any] = {}
    for example in examples:
        exec(example, names)
    assert names["y"].shape == (3, 1, 100)


def test_metadata_of_other_files_have_no_states() -> None:
    with pytest.raises(ValueError, match=r"metadata has no states.* wavenet\.export wrote"):
        initial_state({"config": "{}"})


def test_the_lists_of_blocks_are_complete() -> None:
    kinds = {type(BLOCKS[name]) for name in TURNS}
    assert {LSTM, GRU, CausalAttention} <= kinds
    assert len(FREE) >= 35


@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")
def test_a_compiled_block_is_exported_as_the_block_inside(tmp_path: Path) -> None:
    block = Chain(CausalConv1d(1, 2, 3), nn.Tanh())
    wrapped = torch.compile(block, backend="eager")
    file = wavenet.export(wrapped, tmp_path / "block.pt2", chunk=8)  # type: ignore[arg-type]
    x = torch.randn(1, 1, 8)
    y = torch.export.load(file).module()(x, None, *flatten_state(block.init_state(1)))[0]
    torch.testing.assert_close(y, block(x))


@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_block_in_another_type_is_a_program_in_that_type(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    block = Chain(CausalConv1d(1, 2, 3), nn.Tanh()).to(dtype)
    file = wavenet.export(block, tmp_path / "block.pt2", chunk=8)
    x = torch.randn(1, 1, 8, dtype=dtype)
    y = torch.export.load(file).module()(x, None, *flatten_state(block.init_state(1)))[0]
    assert y.dtype == dtype
    torch.testing.assert_close(y, block(x))
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match=rf"block is in {kind}, and \.onnx is written in float32"):
        wavenet.export(block, tmp_path / "block.onnx", chunk=8)
    assert not (tmp_path / "block.onnx").exists()
