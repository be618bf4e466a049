"""Branches are added or joined at the same time, whatever their delays and rates."""

from __future__ import annotations

import copy
import doctest
import io
import random
from fractions import Fraction

import pytest
import torch
from causal_blocks import u_net
from torch import Tensor, nn

import wavenet.nn
from wavenet import (
    Causal,
    CausalConv1d,
    CausalConvTranspose1d,
    Chain,
    GatedResidualBlock,
    Select,
    receptive_field,
)
from wavenet.nn import (
    BatchNorm,
    CausalAttention,
    CausalISTFT,
    CausalSTFT,
    Concat,
    Delay,
    DepthwiseSeparableConv1d,
    FiLM,
    LayerNorm,
    Parallel,
    Residual,
    RMSNorm,
    Snake,
    TemporalBlock,
    branches,
)
from wavenet.processing import Processor
from wavenet.testing import check_causal

EXACT = 1e-12


def noise(channels: int, n: int, rows: int = 2) -> Tensor:
    return torch.randn(rows, channels, n, dtype=torch.float64)


def test_blocks_without_delays_are_added_and_joined_as_they_are() -> None:
    first, second = CausalConv1d(2, 3, 2).double(), CausalConv1d(2, 3, 3, dilation=5).double()
    x = noise(2, 20)
    assert torch.equal(Parallel(first, second)(x), first(x) + second(x))
    assert torch.equal(Concat(first, second)(x), torch.cat([first(x), second(x)], 1))
    body = nn.ModuleList([second, nn.Tanh(), CausalConv1d(3, 2, 1).double()])
    expected = x + body[2](torch.tanh(second(x)))
    assert torch.equal(Residual(*body)(x), expected)
    shortcut = nn.Conv1d(2, 3, 1).double()
    assert torch.equal(Residual(second, shortcut=shortcut)(x), shortcut(x) + second(x))


def test_delays_are_aligned_to_the_longest() -> None:
    x = noise(2, 30)
    late = Delay(2, 7)(x)
    parallel = Parallel(Delay(2, 3), nn.Identity(), Chain(Delay(2, 5), Delay(2, 2)))
    assert parallel.delay == 7
    torch.testing.assert_close(parallel(x), 3 * late, rtol=0, atol=EXACT)
    joined = Concat(nn.Identity(), Delay(2, 7))
    assert torch.equal(joined(x), torch.cat([late, late], 1))
    check_causal(parallel)


def test_a_spectrum_that_is_changed_is_added_to_the_signal_of_its_time() -> None:
    body = Chain(CausalSTFT(16, 4), CausalISTFT(16, 4))
    residual = Residual(body).double()
    assert residual.delay == body.delay == 16
    x = noise(1, 80)
    expected = 2 * Delay(1, 16)(x)
    # The first frames lack some that overlap them.
    torch.testing.assert_close(residual(x)[..., 32:], expected[..., 32:], rtol=0, atol=1e-6)


def test_a_delay_inside_a_lower_rate_counts_samples_of_x() -> None:
    body = Chain(
        CausalConv1d(1, 1, 1, stride=4), Delay(1, 2), CausalConvTranspose1d(1, 1, 4, stride=4)
    )
    assert body.delay == 8
    residual = Residual(body).double()
    nn.init.zeros_(body.blocks[2].weight)
    nn.init.zeros_(body.blocks[2].bias)
    x = noise(1, 32)
    assert torch.equal(residual(x), Delay(1, 8)(x))


def test_branches_of_a_lower_rate_are_aligned_before_they_drop_samples() -> None:
    down = CausalConv1d(1, 2, 4, stride=4).double()
    both = Concat(down, Chain(Delay(1, 3), copy.deepcopy(down)))
    assert (both.rate, both.step, both.delay) == (Fraction(1, 4), 4, 3)
    first, second = both(noise(1, 40)).chunk(2, dim=1)
    assert torch.equal(first, second)
    check_causal(both)


@pytest.mark.parametrize("stride", [2, 3])
def test_a_u_net_streams_in_chunks_what_it_computes_at_once(stride: int) -> None:
    net = u_net(2, 2, stride).double()
    n = 6 * net.step
    assert (net.rate, net.step) == (1, 2 * stride)
    x = noise(2, n)
    with torch.no_grad():
        whole = net(x)
        for length in (net.step, 2 * net.step, 4 * net.step):
            state, parts = net.init_state(2), []
            for part in x.split(length, -1):
                y, state = net.stream(part, state)
                parts.append(y)
            torch.testing.assert_close(torch.cat(parts, -1), whole, rtol=0, atol=EXACT)


def test_the_field_of_a_u_net_is_what_its_gradient_reaches() -> None:
    net = u_net(2, 2)
    field = receptive_field(net, verify=True)
    measured = receptive_field(net, method="gradient", input_shape=(1, 2, 128))
    assert field.samples == net.past + 1
    assert field.look_back == measured.look_back
    shallow = receptive_field(u_net(2, 1), verify=True).samples
    assert 3 < shallow < field.samples


def test_the_field_of_branches_is_that_of_the_longest() -> None:
    parallel = Parallel(CausalConv1d(1, 1, 3), CausalConv1d(1, 1, 5, dilation=2))
    assert receptive_field(parallel, verify=True).samples == 9
    waiting = Parallel(CausalConv1d(1, 1, 3), Delay(1, 4))
    assert receptive_field(waiting, verify=True).samples == 1 + 4 + 2


@pytest.mark.parametrize("seed", range(6))
def test_random_branches_keep_the_law(seed: int) -> None:
    draw = random.Random(seed)
    stride = draw.randint(1, 3)

    def branch() -> nn.Module:
        k, d = draw.randint(1, 4), draw.randint(0, 4)
        one: Causal = CausalConv1d(2, 2, k, stride=stride)
        body: list[nn.Module] = [one, nn.Tanh(), CausalConvTranspose1d(2, 2, k, stride=stride)]
        return Chain(Delay(2, d), *body)

    kind = draw.choice([Parallel, Concat])
    branches = [branch() for _ in range(draw.randint(1, 3))]
    check_causal(kind(*branches, draw.choice([nn.Identity(), nn.Conv1d(2, 2, 1), Delay(2, 3)])))


@pytest.mark.parametrize(
    "block",
    [
        Residual(nn.ReLU(inplace=True), CausalConv1d(2, 2, 3)),
        Residual(nn.Sequential(nn.Identity(), nn.ReLU(inplace=True)), CausalConv1d(2, 2, 3)),
        Concat(nn.Identity(), Chain(nn.Dropout(), nn.ReLU(inplace=True), CausalConv1d(2, 2, 3))),
        Parallel(nn.ELU(inplace=True), CausalConv1d(2, 2, 3)),
        Chain(nn.Hardtanh(inplace=True), CausalConv1d(2, 2, 3)),
    ],
    ids=str,
)
def test_an_activation_in_place_changes_no_x_that_others_read(block: Causal) -> None:
    block, plain, x = block.eval(), copy.deepcopy(block).eval(), torch.randn(1, 2, 20)
    for part in plain.modules():
        if hasattr(part, "inplace"):
            vars(part)["inplace"] = False
    kept = x.clone()
    with torch.inference_mode():
        y, processed = block(x), Processor(block, block.init_state(1))(x)
    assert torch.equal(x, kept)
    assert torch.equal(y, plain(x))
    assert torch.allclose(processed, y, atol=1e-6)
    check_causal(block)


def test_conditioning_goes_to_the_branches_that_take_it() -> None:
    film = FiLM(2, 3)
    parallel = Parallel(CausalConv1d(2, 2, 2), film)
    assert parallel.cond_channels == 3
    x, cond = torch.randn(1, 2, 6), torch.randn(1, 3, 6)
    expected = parallel.branches[0](x) + film(x, cond)
    torch.testing.assert_close(parallel(x, cond), expected)


@pytest.mark.parametrize(
    "block",
    [
        u_net(2, 2),
        Parallel(Delay(2, 3), CausalConv1d(2, 2, 4), nn.Conv1d(2, 2, 1)),
        Residual(CausalConv1d(2, 5, 3), nn.Tanh(), CausalConv1d(5, 2, 3, dilation=100)),
        Concat(nn.Identity(), Delay(2, 200), CausalConv1d(2, 3, 2)),
        Parallel(FiLM(2, 3), CausalConv1d(2, 2, 2)),
    ],
    ids=["u-net", "parallel", "residual", "concat", "film"],
)
def test_process_compiles_branches(block: Causal) -> None:
    pytest.importorskip("numba", reason="process is compiled by numba")
    processor = Processor(block, block.init_state(2))
    assert processor.compiled
    n = 100 * block.step
    x = torch.randn(2, block.in_channels, n)
    cond = None if block.cond_channels is None else torch.randn(2, block.cond_channels, n)
    with torch.no_grad():
        expected, after = block.stream(x, block.init_state(2), cond)
        length = 23 * block.step
        conds = [None] * 5 if cond is None else cond.split(length, -1)
        parts = [processor(*part) for part in zip(x.split(length, -1), conds, strict=True)]
    torch.testing.assert_close(torch.cat(parts, -1), expected, rtol=0, atol=4e-6)
    states = zip(
        wavenet.nn.flatten_state(processor.state), wavenet.nn.flatten_state(after), strict=True
    )
    for a, b in states:
        torch.testing.assert_close(a, b, rtol=0, atol=4e-6)


def norms() -> Chain:
    return Chain(
        CausalConv1d(2, 4, 2), LayerNorm(4), Snake(4), Delay(4, 3), RMSNorm(4), BatchNorm(4)
    )


@pytest.mark.parametrize(
    "net",
    [
        u_net(2, 2),
        norms(),
        Chain(DepthwiseSeparableConv1d(2, 3, 2), TemporalBlock(3, 4, 2, weight_norm=True)),
        CausalAttention(2, 1, 5),
    ],
    ids=["u-net", "norms", "convolutions", "attention"],
)
def test_onnxruntime_runs_a_step_with_its_state(net: Causal) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra onnx is not installed")
    import onnxruntime

    class Step(nn.Module):
        def __init__(self, block: Causal) -> None:
            super().__init__()
            self.block = block

        def forward(self, x: Tensor, state: tuple[object, ...]) -> tuple[object, ...]:
            return self.block.stream(x, state)

    step = 8
    state = net.init_state(1)
    with torch.no_grad():
        program = torch.export.export(Step(net.eval()), (torch.zeros(1, 2, step), state))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        onnx = torch.onnx.export(program, dynamo=True, verbose=False)
    assert onnx is not None
    session_bytes = io.BytesIO()
    import onnx as onnx_package

    onnx_package.save_model(onnx.model_proto, session_bytes)
    session = onnxruntime.InferenceSession(
        session_bytes.getvalue(), providers=["CPUExecutionProvider"]
    )
    names = [given.name for given in session.get_inputs()]
    held = [part.numpy() for part in wavenet.nn.flatten_state(state)]
    assert len(names) == 1 + len(held)
    x, parts = torch.randn(1, 2, 4 * step), []
    for chunk in x.split(step, -1):
        values = dict(zip(names, [chunk.numpy(), *held], strict=True))
        y, *held = session.run(None, values)
        parts.append(torch.from_numpy(y))
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(parts, -1), net(x), rtol=0, atol=1e-5)


def test_errors_name_what_branches_must_agree_in() -> None:
    conv = CausalConv1d(2, 2, 2)
    with pytest.raises(ValueError, match=r"Parallel needs a causal block; add one, as Delay"):
        Parallel(nn.Identity(), nn.Tanh())
    with pytest.raises(ValueError, match="branches take x of different channels, 2 and 3; make"):
        Concat(conv, CausalConv1d(3, 2, 2))
    message = "branches give different output samples per input sample, 1/2 and 1; make"
    with pytest.raises(ValueError, match=message):
        Residual(CausalConv1d(2, 2, 2, stride=2))
    with pytest.raises(ValueError, match="branches take cond of different widths, 1 and 3"):
        Parallel(FiLM(2, 3), FiLM(2, 1))
    with pytest.raises(ValueError, match="cannot be added; make them equal, as nn.Conv1d"):
        Residual(CausalConv1d(2, 1, 2))(torch.zeros(1, 2, 3))
    with pytest.raises(TypeError, match=r"GatedResidualBlock returns 2 tensors; put it into a C"):
        Parallel(conv, GatedResidualBlock(2, 2))(torch.zeros(1, 2, 3))
    with pytest.raises(TypeError, match="not pointwise in time"):
        Concat(conv, nn.Conv1d(2, 2, 3))
    up = Chain(
        CausalConvTranspose1d(2, 2, 4, stride=4), Delay(2, 3), CausalConv1d(2, 2, 1, stride=4)
    )
    with pytest.raises(ValueError, match="delays of two branches differ by 3/4 samples of x; put"):
        Residual(up)
    Parallel(conv, Chain(GatedResidualBlock(2, 2), Select(0)))


def test_the_examples_of_the_docstrings_are_right() -> None:
    names = {**vars(wavenet.nn), "nn": nn, "Fraction": Fraction}
    found = doctest.DocTestFinder().find(branches, extraglobs=names)
    results = [doctest.DocTestRunner().run(test) for test in found]
    assert sum(result.attempted for result in results) == 7
    assert not any(result.failed for result in results)
