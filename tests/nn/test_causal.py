"""The contract of causal blocks holds for every block of ours; the convolutions are torch's."""

from __future__ import annotations

import copy
import importlib
import itertools
import math
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from causal_blocks import BLOCKS
from state_memory import shares_memory, stray_bytes
from torch import Tensor, nn
from torch.nn import functional as F

import wavenet
from wavenet import (
    Causal,
    CausalConv1d,
    CausalConvTranspose1d,
    Chain,
    DilatedStack,
    MelRefinement,
)
from wavenet.nn import (
    CausalISTFT,
    CausalSTFT,
    LinearPrediction,
    State,
    clone_state,
    flatten_state,
    map_state,
    unflatten_state,
)
from wavenet.nn.bases import InputHistory, NoParameters, Unbounded
from wavenet.nn.memoryless import Memoryless
from wavenet.testing import check_causal

EXACT = 1e-12
"""Two sums of the same few float64 terms in another order differ by less."""
each_block = pytest.mark.parametrize("name", BLOCKS)


def inputs(block: Causal, batch: int, n: int) -> tuple[Tensor, Tensor | None]:
    """x [batch, C, n] and cond of the same time, in float64, the same for the same arguments."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, block.in_channels, n, generator=generator, dtype=torch.float64)
    if block.cond_channels is None:
        return x, None
    shape = (batch, block.cond_channels, n)
    return x, torch.randn(shape, generator=generator, dtype=torch.float64)


def tensors(y: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (y,) if isinstance(y, Tensor) else y


def largest_difference(a: object, b: object) -> float:
    """Over all tensors of two outputs or states of the same structure."""
    pairs = list(zip(flatten_state((a,)), flatten_state((b,)), strict=True))
    assert all(one.shape == other.shape for one, other in pairs)
    return max(float((p - q).detach().abs().max()) if p.numel() else 0.0 for p, q in pairs)


def fresh(name: str) -> Causal:
    """A copy in float64 that a test may change."""
    return copy.deepcopy(BLOCKS[name]).double().eval()


# --- the contract -------------------------------------------------------------------------------


@each_block
def test_every_block_keeps_the_contract(name: str) -> None:
    check_causal(BLOCKS[name])


def test_no_block_of_the_package_is_missing_from_the_list() -> None:
    for module in pkgutil.walk_packages(wavenet.__path__, "wavenet."):
        if not module.name.startswith("wavenet.training"):  # slow to import, and it has no blocks
            importlib.import_module(module.name)

    def subclasses(cls: type) -> Iterator[type]:
        for one in cls.__subclasses__():
            yield one
            yield from subclasses(one)

    ours = {
        cls
        for cls in subclasses(Causal)
        if cls.__module__.startswith("wavenet.")
        and not cls.__module__.startswith("wavenet.nam.")  # tests/nam has its own list
        and not cls.__name__.startswith("_")
    }
    assert len(ours) >= 6
    # tests/nn/test_prediction.py, test_stft.py and test_refinement_block.py
    no_parameters = {LinearPrediction, CausalSTFT, CausalISTFT, MelRefinement}
    bases = {Memoryless, InputHistory, NoParameters, Unbounded}
    assert ours - no_parameters - bases == {type(block) for block in BLOCKS.values()}


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 2), (3, 2, 1)])
def test_convolutions_of_every_kernel_size_keep_the_contract(
    kernel_size: int, stride: int, dilation: int, groups: int
) -> None:
    check_causal(CausalConv1d(2, 4, kernel_size, dilation=dilation, groups=groups, stride=stride))
    check_causal(CausalConvTranspose1d(2, 4, kernel_size, groups=groups, stride=stride))


@each_block
def test_rows_of_any_batch_equal_rows_alone_and_chunks_the_whole(name: str) -> None:
    block = fresh(name)
    n = 3 * block.step
    x, cond = inputs(block, 70, n)
    with torch.no_grad():
        y = tensors(block.stream(x, block.init_state(70), cond)[0])
        for batch in (1, 2, 3, 5, 8, 13, 21, 34, 55, 69, 70):
            state = block.init_state(batch)
            for start in range(0, n, block.step):
                part = slice(start, start + block.step)
                given = None if cond is None else cond[:batch, :, part]
                got, state = block.stream(x[:batch, :, part], state, given)
                columns = slice(int(start * block.rate), int((start + block.step) * block.rate))
                expected = tuple(whole[:batch, :, columns] for whole in y)
                assert largest_difference(tensors(got), expected) < EXACT


@pytest.mark.parametrize("name", ["strided conv", "transposed conv", "gated block with cond"])
def test_the_derivatives_are_those_of_finite_differences(name: str) -> None:
    block = fresh(name)
    x, cond = inputs(block, 2, 2 * block.step)
    state = map_state(torch.randn_like, block.init_state(2))
    parts = [x, *flatten_state(state), *([] if cond is None else [cond])]
    names = [key for key, _ in block.named_parameters()]
    leaves = [p.detach().clone().requires_grad_() for p in (*parts, *block.parameters())]

    def run(*leaves: Tensor) -> tuple[Tensor, ...]:
        given, weights = leaves[: len(parts)], leaves[len(parts) :]
        before = unflatten_state(state, iter(given[1:]))
        call = (given[0], before, None if cond is None else given[-1])
        y, after = torch.func.functional_call(
            _Streaming(block), {f"block.{k}": w for k, w in zip(names, weights, strict=True)}, call
        )
        return (*tensors(y), *flatten_state(after))

    assert torch.autograd.gradcheck(run, leaves)


class _Streaming(nn.Module):
    """``stream`` as a module's forward, with the state flat: what an exporter takes."""

    def __init__(self, block: Causal) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[object, State]:
        return self.block.stream(x, state, cond)


@each_block
def test_two_streams_of_one_block_do_not_meet(name: str) -> None:
    block = fresh(name)
    n = 4 * block.step
    x, cond = inputs(block, 2, n)
    with torch.no_grad():
        alone = [block.stream(s * x, block.init_state(2), cond)[0] for s in (1.0, -1.0)]
        states = [block.init_state(2), block.init_state(2)]
        pieces: list[list[tuple[Tensor, ...]]] = [[], []]
        for start in range(0, n, block.step):
            part = slice(start, start + block.step)
            given = None if cond is None else cond[..., part]
            for i, sign in enumerate((1.0, -1.0)):
                y, states[i] = block.stream(sign * x[..., part], states[i], given)
                pieces[i].append(tensors(y))
    for own, whole in zip(pieces, alone, strict=True):
        joined = tuple(torch.cat(parts, -1) for parts in zip(*own, strict=True))
        assert largest_difference(joined, tensors(whole)) < EXACT


@each_block
def test_a_state_may_be_used_twice(name: str) -> None:
    block = fresh(name)
    x, cond = inputs(block, 2, block.step)
    state = map_state(torch.randn_like, block.init_state(2))
    kept = clone_state(state)
    first, second = block.stream(x, state, cond), block.stream(x, state, cond)
    assert largest_difference(state, kept) == 0
    assert largest_difference(first, second) == 0


@each_block
def test_a_deep_copy_is_equal_and_shares_nothing(name: str) -> None:
    block = fresh(name)
    other = copy.deepcopy(block)
    x, cond = inputs(block, 2, 2 * block.step)
    before = block.stream(x, block.init_state(2), cond)
    assert largest_difference(before, other.stream(x, other.init_state(2), cond)) == 0
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    assert largest_difference(before, block.stream(x, block.init_state(2), cond)) == 0
    assert (other.rate, other.step) == (block.rate, block.step)
    assert block.unbounded or other.past == block.past


@each_block
def test_a_state_dict_makes_another_block_the_same(name: str) -> None:
    block, other = fresh(name), fresh(name)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.normal_()
    x, cond = inputs(block, 2, 2 * block.step)
    assert not list(block.parameters()) or largest_difference(
        block.stream(x, block.init_state(2), cond), other.stream(x, other.init_state(2), cond)
    )
    assert other.load_state_dict(block.state_dict()) == ([], [])
    assert (
        largest_difference(
            block.stream(x, block.init_state(2), cond), other.stream(x, other.init_state(2), cond)
        )
        == 0
    )


# --- warm states --------------------------------------------------------------------------------


@each_block
def test_a_warm_state_is_where_silence_leads_and_stays(name: str) -> None:
    block = fresh(name)
    _, cond = inputs(block, 2, 1)
    n = 2000 if block.unbounded else 3 * (block.past + block.step) * block.step
    silence = torch.zeros(2, block.in_channels, n, dtype=torch.float64)
    with torch.no_grad():
        warm = block.warm_state(2, cond)
        streamed = block.stream(silence, block.init_state(2), cond)[1]
        assert largest_difference(warm, streamed) < EXACT
        assert largest_difference(warm, block.stream(silence, warm, cond)[1]) < EXACT


@pytest.mark.parametrize("name", ["gated block with cond", "stack with cond", "model of speakers"])
def test_a_warm_state_depends_on_the_conditioning_column_after_column(name: str) -> None:
    block = fresh(name)
    _, cond = inputs(block, 2, 9)
    assert cond is not None
    silence = torch.zeros(2, block.in_channels, 9, dtype=torch.float64)
    with torch.no_grad():
        held = block.warm_state(2, cond[..., :1])
        streamed = block.stream(silence, held, cond)[1]
        assert largest_difference(block.warm_state(2, cond), streamed) < EXACT


def test_a_warm_state_holds_what_a_gap_of_a_transposed_convolution_answers() -> None:
    # Samples in gaps depend on no input: `past` does not count them; the next layer keeps them.
    block = Chain(CausalConvTranspose1d(1, 1, 1, stride=4), CausalConv1d(1, 1, 6)).double()
    streamed = block.stream(torch.zeros(1, 1, 9).double(), block.init_state(1))[1]
    assert largest_difference(block.warm_state(1), streamed) < EXACT


def test_silence_without_biases_settles_at_zero_and_with_biases_does_not() -> None:
    block = DilatedStack(3, 2, dilations=[1, 2])
    assert largest_difference(block.warm_state(1), block.init_state(1)) > 0
    with torch.no_grad():
        for name, parameter in block.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    assert largest_difference(block.warm_state(1), block.init_state(1)) == 0


# --- the convolutions are torch's ---------------------------------------------------------------

GEOMETRIES = list(itertools.product([1, 2, 3, 4, 5], [1, 2, 3], [1, 2, 4], [1, 2]))


def test_a_causal_convolution_is_torchs_with_zeros_on_the_left() -> None:
    x = torch.randn(3, 4, 24, dtype=torch.float64)
    for kernel_size, stride, dilation, groups in GEOMETRIES:
        theirs = nn.Conv1d(
            4, 6, kernel_size, stride=stride, dilation=dilation, groups=groups, dtype=x.dtype
        )
        ours = CausalConv1d(4, 6, kernel_size, stride=stride, dilation=dilation, groups=groups)
        ours.double().load_state_dict(theirs.state_dict())
        expected = theirs(F.pad(x, ((kernel_size - 1) * dilation, 0)))
        assert largest_difference(ours(x), expected) < EXACT


def test_a_causal_transposed_convolution_is_torchs_without_what_is_not_yet_due() -> None:
    x = torch.randn(3, 4, 24, dtype=torch.float64)
    for kernel_size, stride, _, groups in GEOMETRIES:
        theirs = nn.ConvTranspose1d(4, 6, kernel_size, stride=stride, groups=groups, dtype=x.dtype)
        ours = CausalConvTranspose1d(4, 6, kernel_size, stride=stride, groups=groups)
        ours.double().load_state_dict(theirs.state_dict())
        n = 24 * stride
        due = theirs(x)[..., :n]
        bias = theirs.bias
        assert bias is not None
        silent_tail = bias[:, None].expand(3, -1, n - due.shape[-1])  # no tap reaches it
        assert largest_difference(ours(x), torch.cat([due, silent_tail], -1)) < EXACT


def test_a_tap_multiplies_the_sample_of_its_index() -> None:
    conv = CausalConv1d(1, 1, 3, dilation=4, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[100.0, 10.0, 1.0]]]))  # tap 0 is the oldest
    x = torch.zeros(1, 1, 12)
    x[..., 2] = 1
    assert conv(x)[0, 0].tolist() == [0, 0, 1, 0, 0, 0, 10, 0, 0, 0, 100, 0]


def test_new_convolutions_are_drawn_as_torchs_are() -> None:
    bound = 1 / math.sqrt(8 // 2 * 3)
    for conv in (CausalConv1d(8, 200, 3, groups=2), CausalConvTranspose1d(8, 200, 3, groups=2)):
        for parameter in (conv.weight, conv.bias):
            assert parameter is not None
            assert 0.9 * bound < float(parameter.detach().abs().max()) <= bound


# --- types, compilers ---------------------------------------------------------------------------


@each_block
def test_states_have_the_type_of_the_parameters_or_the_one_asked_for(name: str) -> None:
    block = copy.deepcopy(BLOCKS[name])
    _, cond = inputs(block, 2, 1)
    assert {part.dtype for part in flatten_state(block.init_state(2))} == {torch.float32}
    assert {p.dtype for p in flatten_state(block.init_state(2, dtype=torch.float16))} == {
        torch.float16
    }
    block = block.to(torch.bfloat16)
    given = None if cond is None else cond.bfloat16()
    assert {part.dtype for part in flatten_state(block.warm_state(2, given))} == {torch.bfloat16}
    meta = block.init_state(2, device="meta")
    assert {part.device.type for part in flatten_state(meta)} == {"meta"}


@each_block
def test_bfloat16_gives_what_float32_gives_to_its_precision(name: str) -> None:
    block = fresh(name).float()
    x, cond = inputs(block, 2, 8 * block.step)
    given = None if cond is None else cond.float()
    narrow = copy.deepcopy(block).bfloat16()
    with torch.no_grad():
        y = tensors(block.stream(x.float(), block.init_state(2), given)[0])
        state = narrow.init_state(2)
        for part in range(8):
            columns = slice(part * block.step, (part + 1) * block.step)
            some = None if given is None else given[..., columns].bfloat16()
            got, state = narrow.stream(x[..., columns].bfloat16(), state, some)
        last = tuple(whole[..., -tensors(got)[0].shape[-1] :] for whole in y)
    for a, b in zip(tensors(got), last, strict=True):
        assert a.dtype == torch.bfloat16
        # 8 bits of mantissa, through a dozen layers at most
        assert float((a.float() - b).abs().max()) < 0.1 * max(1.0, float(b.abs().max()))


@each_block
def test_autocast_streams_as_it_computes_in_parallel(name: str) -> None:
    block = fresh(name).float()
    x, cond = inputs(block, 2, 4 * block.step)
    given = None if cond is None else cond.float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        whole = tensors(block.stream(x.float(), block.init_state(2), given)[0])
        state, pieces = block.init_state(2), []
        for start in range(0, 4 * block.step, block.step):
            part = slice(start, start + block.step)
            some = None if given is None else given[..., part]
            y, state = block.stream(x[..., part].float(), state, some)
            pieces.append(tensors(y))
    joined = tuple(torch.cat(parts, -1) for parts in zip(*pieces, strict=True))
    for a, b in zip(joined, whole, strict=True):
        assert float((a.float() - b.float()).abs().max()) < 0.05 * max(1.0, float(b.abs().max()))


COMPILED = (
    "conv",
    "strided dilated conv",
    "transposed conv with gaps",
    "chain down and up",
    "gated block with cond",
    "stack with cond",
    "delay",
    "batch norm",
    "chain of norms",
    "residual",
    "u-net",
    "model of speakers",
)
"""One of each class: compilers are slow."""


SLOW_TO_COMPILE = ("u-net", "model of speakers")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW_TO_COMPILE else name
        for name in COMPILED
    ],
)
def test_torch_compile_takes_each_block_whole_at_any_length(name: str) -> None:
    block = fresh(name)
    torch._dynamo.reset()
    compiled = torch.compile(_Streaming(block), fullgraph=True, backend="eager", dynamic=True)
    for batch, steps in ((2, 6), (3, 9), (2, 12)):
        x, cond = inputs(block, batch, steps * block.step)
        state = block.init_state(batch)
        expected = block.stream(x, state, cond)
        assert largest_difference(compiled(x, state, cond), expected) < EXACT


@pytest.mark.parametrize("name", ["chain down and up", "stack with cond"])
def test_a_warm_state_is_made_in_compiled_code(name: str) -> None:
    block = fresh(name)
    _, cond = inputs(block, 2, 3)
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda given: block.warm_state(2, given), fullgraph=True, backend="eager"
    )
    assert largest_difference(compiled(cond), block.warm_state(2, cond)) < EXACT


@pytest.mark.parametrize("name", ["chain down and up", "stack with cond"])
def test_compiled_blocks_have_the_same_gradients(name: str) -> None:
    block = fresh(name)
    torch._dynamo.reset()
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    x, cond = inputs(block, 2, 6 * block.step)
    x.requires_grad_()
    gradients = []
    for run in (block, compiled):
        y = tensors(run(x) if cond is None else run(x, cond))
        total = sum((part.sin().sum() for part in y), torch.zeros(()))
        gradients.append(torch.autograd.grad(total, [x, *block.parameters()], allow_unused=True))
    for a, b in zip(*gradients, strict=True):
        assert (a is None) == (b is None)
        assert a is None or largest_difference(a, b) < EXACT


@pytest.mark.parametrize("name", COMPILED)
def test_torch_export_takes_each_block_with_its_state_at_any_length_and_batch(name: str) -> None:
    block = fresh(name)
    x, cond = inputs(block, 2, 6 * block.step)
    batch = torch.export.Dim("batch", min=1, max=512)
    steps = torch.export.Dim("steps", min=2, max=4096)
    time = steps if block.step == 1 else block.step * steps
    dynamic = {0: batch, 2: time}
    state = block.init_state(2)
    program = torch.export.export(
        _Streaming(block),
        (x, state, cond),
        dynamic_shapes={
            "x": dynamic,
            "state": _like(state, {0: batch}),
            "cond": None if cond is None else dynamic,
        },
    )
    exported = program.module()
    for rows, n in ((1, 4), (5, 10)):
        x, cond = inputs(block, rows, n * block.step)
        state = map_state(torch.randn_like, block.init_state(rows))
        expected = block.stream(x, state, cond)
        assert largest_difference(exported(x, state, cond), expected) < EXACT


def _like(state: State, leaf: object) -> State:
    return tuple(leaf if isinstance(part, Tensor) else _like(part, leaf) for part in state)


@pytest.mark.parametrize("name", ["conv", "transposed conv", "chain", "stack with cond"])
def test_torch_export_takes_the_parallel_pass(name: str) -> None:
    block = fresh(name)
    x, cond = inputs(block, 2, 6)
    batch, time = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("time", min=2)
    shapes = {"x": {0: batch, 2: time}, "cond": None if cond is None else {0: batch, 2: time}}
    exported = torch.export.export(block, (x, cond), dynamic_shapes=shapes).module()
    x, cond = inputs(block, 3, 17)
    assert largest_difference(exported(x, cond), block(x, cond)) < EXACT


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, "in_channels=0 must be an integer of at least 1"),
        ({"out_channels": -1}, "out_channels=-1 must be"),
        ({"kernel_size": 0}, "kernel_size=0 must be"),
        ({"kernel_size": 2.0}, "kernel_size=2.0 must be"),
        ({"kernel_size": True}, "kernel_size=True must be"),
        ({"stride": 0}, "stride=0 must be"),
        ({"groups": 0}, "groups=0 must be"),
        ({"groups": 3}, "groups=3 must divide in_channels=2 and out_channels=4"),
    ],
)
def test_a_convolution_that_cannot_be_built_is_an_error_with_the_reason(
    arguments: dict[str, object], message: str
) -> None:
    given = {"in_channels": 2, "out_channels": 4, "kernel_size": 2} | arguments
    for convolution in (CausalConv1d, CausalConvTranspose1d):
        with pytest.raises(ValueError, match=message):
            convolution(**given)
    with pytest.raises(ValueError, match="dilation=0 must be"):
        CausalConv1d(2, 4, 2, dilation=0)


@each_block
def test_each_block_refuses_wrong_shapes_with_the_expected_ones(name: str) -> None:
    block = fresh(name)
    kind, channels, step = type(block).__name__, block.in_channels, block.step
    x, cond = inputs(block, 2, 4 * step)
    state = block.init_state(2)

    def refused(message: str, x: Tensor, state: object, cond: Tensor | None) -> None:
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            block.stream(x, state, cond)
        assert "\n" not in str(caught.value)

    wide = torch.cat([x, x], dim=1)
    expected = f"expected [B, {channels}, T]"
    refused(f"{kind}: x has shape {tuple(wide.shape)}, {expected}", wide, state, cond)
    refused(f"{kind}: x has shape {tuple(x[0].shape)}, {expected}", x[0], state, cond)
    refused(f"positive multiple of {step}", x[..., :0], state, cond)
    if step > 1:
        refused("pad x or keep the remainder", x[..., :-1], state, cond)
    if cond is None:
        refused("build it with cond_channels=7 or pass no cond", x, state, torch.ones(2, 7, 1))
    else:
        refused(f"pass cond [B, {block.cond_channels}, T]", x, state, None)
        for wrong in (cond[:1], cond[..., :-1], cond[:, :1].repeat(1, 9, 1), cond[0]):
            refused("the time of x, or one column", x, state, wrong)


@each_block
def test_each_block_refuses_what_is_no_signal_in_one_line(name: str) -> None:
    block = fresh(name)
    x, _ = inputs(block, 2, block.step)
    for wrong in (x.numpy(), x.tolist(), None):
        with pytest.raises(TypeError, match=r"give a tensor, such as torch.from_numpy") as caught:
            block(wrong)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"x has shape \(\), expected \[B, "):
        block(x.new_zeros(()))


@each_block
def test_each_block_refuses_a_state_that_is_not_its_own_and_names_init_state(name: str) -> None:
    block = fresh(name)
    x, cond = inputs(block, 2, block.step)
    right = block.init_state(2)
    wrong: list[object] = [
        (),
        (*right, *right),
        None,
        next(flatten_state(right)),
        block.init_state(3),
        map_state(lambda part: part.repeat(1, 2, 1), right),
        map_state(lambda part: F.pad(part, (1, 0)), right),
        [*right],
    ]
    for state in wrong:
        with pytest.raises(ValueError, match=r"state = block\.init_state\(.*\)") as caught:
            block.stream(x, state, cond)
        assert "\n" not in str(caught.value)


def test_the_error_for_a_state_of_another_batch_shows_both_shapes_and_the_remedy() -> None:
    conv = CausalConv1d(2, 4, 3, dilation=2)
    with pytest.raises(ValueError, match="state") as caught:
        conv.stream(torch.zeros(5, 2, 8), conv.init_state(4))
    assert str(caught.value) == (
        "CausalConv1d: the state is of shape (4, 2, 4), expected (5, 2, 4) for x of shape (5, 2, 8)"
        "; make it with `state = block.init_state(5)` and continue with the returned one: "
        "`y, state = block.stream(x, state)`"
    )


@pytest.mark.parametrize("name", ["gated block with cond", "stack with cond", "model of speakers"])
def test_a_warm_state_refuses_conditioning_that_does_not_fit(name: str) -> None:
    block = fresh(name)
    channels = block.cond_channels
    assert channels is not None
    with pytest.raises(ValueError, match=f"pass cond \\[B, {channels}, T\\]"):
        block.warm_state(2)
    with pytest.raises(ValueError, match=f"expected \\(2, {channels}, 1\\)"):
        block.warm_state(2, torch.zeros(3, channels, 1))
    with pytest.raises(ValueError, match="build it with cond_channels=1 or pass no cond"):
        fresh("conv").warm_state(2, torch.zeros(2, 1, 1))


def test_a_block_that_defines_nothing_names_what_it_must_define() -> None:
    class Empty(Causal):
        in_channels = 1

    for use, name in (
        (lambda block: block.past, "past"),
        (lambda block: block.init_state(1), "init_state"),
        (lambda block: block.stream(torch.zeros(1, 1, 1), ()), "stream"),
    ):
        with pytest.raises(NotImplementedError, match=f"Empty must define `{name}`"):
            use(Empty())


def test_the_representation_shows_the_arguments() -> None:
    assert repr(CausalConv1d(2, 4, 3, dilation=2, groups=2, bias=False)) == (
        "CausalConv1d(2, 4, kernel_size=3, dilation=2, groups=2, bias=False)"
    )
    assert repr(CausalConvTranspose1d(2, 4, 8, stride=4)) == (
        "CausalConvTranspose1d(2, 4, kernel_size=8, stride=4)"
    )


# --- memory -------------------------------------------------------------------------------------


@each_block
def test_a_state_owns_its_memory(name: str) -> None:
    block = fresh(name)
    _, cond = inputs(block, 2, 1)
    warm = block.warm_state(2, cond)
    assert stray_bytes(warm) == 0
    for steps in (1, 500):
        x, cond = inputs(block, 2, steps * block.step)
        state = block.stream(x, warm, cond)[1]
        assert stray_bytes(state) == 0
        assert not shares_memory(state, (x, warm))


def test_a_saved_state_is_as_large_as_its_numbers(tmp_path: Path) -> None:
    conv = CausalConv1d(4, 4, 2)
    state = conv.stream(torch.zeros(1, 4, 1_000_000), conv.init_state(1))[1]
    torch.save(state, tmp_path / "state.pt")
    assert (tmp_path / "state.pt").stat().st_size < 5000  # 16 bytes, and torch's own
