"""Hooks of a block run in every call of it, also where it is a part of another block."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import prune

from wavenet import (
    Causal,
    CausalConv1d,
    Chain,
    DilatedStack,
    GatedResidualBlock,
    WaveNet,
    WaveNetConfig,
)
from wavenet.nam import NamWaveNet, preset
from wavenet.nn import State
from wavenet.testing import check_causal
from wavenet.training.window import skip_sum_of

EXACT = 1e-12
"""The same operations on the same float64 numbers."""


def small_chain() -> Chain:
    return Chain(CausalConv1d(1, 4, 2), nn.Tanh(), CausalConv1d(4, 2, 3, dilation=2)).double()


def small_stack(cond: int | None = None) -> DilatedStack:
    return DilatedStack(4, 3, dilations=[1, 2, 4], cond_channels=cond).double()


def small_model(**settings: Any) -> WaveNet:
    sizes = {"layers_per_stack": 2, "stacks": 1, "residual_channels": 4, "skip_channels": 4}
    return WaveNet(WaveNetConfig(**sizes, **{"distribution": "gaussian", **settings})).double()


def noise(channels: int, n: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, channels, n, generator=generator, dtype=torch.float64)


def chunks_of(block: Causal, x: Tensor) -> Tensor:
    """Outputs of a block that streams two chunks."""
    first, state = block.stream(x[..., :5], block.init_state(len(x)))
    second, _ = block.stream(x[..., 5:], state)
    return torch.cat([first, second], dim=-1)


# --- which hooks run, and how often ---------------------------------------------------------------

NESTED: dict[str, tuple[Callable[[], Causal], str]] = {
    "chain": (small_chain, "blocks.2"),
    "chain in a chain": (lambda: Chain(small_chain()).double(), "blocks.0.blocks.0"),
    "gated block": (lambda: GatedResidualBlock(3, 2).double(), "conv"),
    "stack": (small_stack, "blocks.1"),
    "convolution in a stack": (small_stack, "blocks.1.conv"),
    "stack in a model": (small_model, "stack"),
    "one-hot entry of a model": (
        lambda: small_model(distribution="mu_law", distribution_size=16, one_hot_input=True),
        "input_projection",
    ),
    "layer of an amplifier": (lambda: NamWaveNet(preset("nano")).double(), "arrays.0.blocks.1"),
    "amplifier in a chain": (lambda: Chain(NamWaveNet(preset("nano"))).double(), "blocks.0"),
    "model in a chain": (lambda: Chain(small_model()).double(), "blocks.0"),
    "the block itself": (lambda: CausalConv1d(2, 2, 2).double(), ""),
    "the model itself": (small_model, ""),
    "the amplifier itself": (lambda: NamWaveNet(preset("nano")).double(), ""),
}


@pytest.mark.parametrize("name", NESTED)
def test_a_call_of_a_block_runs_the_hooks_of_each_part_once(name: str) -> None:
    make, path = NESTED[name]
    block, calls = make(), list[str]()
    expected = block.stream(noise(block.in_channels), block.init_state(2))
    part = block.get_submodule(path)
    part.register_forward_pre_hook(lambda *_: calls.append("before"))
    part.register_forward_hook(lambda *_: calls.append("after"))
    got = block.stream(noise(block.in_channels), block.init_state(2))
    assert calls == ["before", "after"]
    torch.testing.assert_close(got, expected, rtol=0, atol=EXACT)
    calls.clear()
    block(noise(block.in_channels))
    # From silence a model's parts are called for the state first.
    assert calls[-2:] == ["before", "after"]
    assert path or len(calls) == 2


def test_a_hook_of_a_class_that_calls_the_stream_of_its_base_runs_once() -> None:
    class Louder(CausalConv1d):
        def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> Any:
            y, after = super().stream(x, state, cond)
            return 2 * y, after

    loud, calls = Louder(1, 1, 2).double(), list[int]()
    loud.register_forward_pre_hook(lambda *_: calls.append(1))
    plain = CausalConv1d(1, 1, 2).double()
    plain.load_state_dict(loud.state_dict())
    x = noise(1)
    torch.testing.assert_close(loud(x), 2 * plain(x))
    torch.testing.assert_close(chunks_of(loud, x), 2 * plain(x))
    assert len(calls) == 3


def test_a_stream_that_a_mixin_defines_is_what_forward_runs() -> None:
    class Silenced:
        def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> Any:
            y, after = super().stream(x, state, cond)  # type: ignore[misc]
            return 0 * y, after

    class Silent(Silenced, CausalConv1d):
        pass

    assert not Silent(1, 1, 2)(torch.ones(1, 1, 4)).any()


def test_a_hook_on_a_child_sees_its_inputs_and_may_change_what_it_gives() -> None:
    chain, plain = small_chain(), small_chain()
    plain.load_state_dict(chain.state_dict())

    def double(module: nn.Module, inputs: Any, output: Any) -> Any:
        y, after = output
        return 2 * y, after

    chain.blocks[2].register_forward_hook(double)
    torch.testing.assert_close(chain(noise(1)), 2 * plain(noise(1)))


def test_hooks_of_the_backward_pass_run_in_a_child_too() -> None:
    chain, calls = small_chain(), list[int]()
    chain.blocks[2].register_full_backward_hook(lambda *_: calls.append(1))
    chain(noise(1)).sum().backward()
    assert calls == [1]


# --- what torch does by hooks ---------------------------------------------------------------------

old_norms = pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")


def weight_normed(module: nn.Module) -> nn.Module:
    return nn.utils.weight_norm(module)


@old_norms
def test_the_old_weight_norm_trains_in_a_chain_and_uses_loaded_weights() -> None:
    chain = small_chain()
    weight_normed(chain.blocks[2])
    before = chain(noise(1)).detach()
    optimizer = torch.optim.SGD(chain.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        chunks_of(chain, noise(1)).square().mean().backward()
        optimizer.step()
    trained = chain(noise(1)).detach()
    assert float((trained - before).abs().max()) > 1e-3
    other = small_chain()
    weight_normed(other.blocks[2])
    other.load_state_dict(chain.state_dict())
    torch.testing.assert_close(chunks_of(other, noise(1)), trained)


@old_norms
def test_the_old_weight_norm_on_a_block_itself_holds_in_stream() -> None:
    conv, other = (CausalConv1d(1, 2, 3).double() for _ in range(2))
    weight_normed(conv)
    weight_normed(other)
    other.load_state_dict(conv.state_dict())
    torch.testing.assert_close(chunks_of(other, noise(1)), conv(noise(1)))


def test_pruned_weights_stay_zero_in_a_stack_that_trains() -> None:
    stack = small_stack()
    prune.l1_unstructured(stack.blocks[0].conv, "weight", amount=0.5)
    optimizer = torch.optim.SGD(stack.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        stack(noise(4))[1].square().mean().backward()
        optimizer.step()
    stack(noise(4))
    weight = stack.blocks[0].conv.weight
    assert int((weight == 0).sum()) == weight.numel() // 2


def test_the_old_spectral_norm_follows_the_weights_in_training() -> None:
    chain = small_chain()
    nn.utils.spectral_norm(chain.blocks[2])
    with torch.no_grad():
        chain.blocks[2].weight_orig.normal_().mul_(100)
    for _ in range(30):  # steps of the power iteration
        chain(noise(1))
    largest = torch.linalg.matrix_norm(chain.blocks[2].weight.detach().flatten(1), 2)
    assert math.isclose(float(largest), 1, abs_tol=1e-3)


def test_check_causal_takes_blocks_with_hooks() -> None:
    chain = small_chain()
    prune.l1_unstructured(chain.blocks[2], "weight", amount=1)
    check_causal(chain)


def test_check_causal_takes_what_torch_compile_has_wrapped_and_compiles_nothing() -> None:
    def refusing(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        raise AssertionError("compiled")

    chain = small_chain()
    chain.blocks[0] = torch.compile(chain.blocks[0], backend=refusing)
    chain.blocks[2].compile(backend=refusing)
    check_causal(torch.compile(chain, backend=refusing))
    with pytest.raises(TypeError, match="takes a Causal block, not Linear"):
        check_causal(torch.compile(nn.Linear(2, 2), backend=refusing))


@pytest.fixture
def _one_process() -> Iterator[None]:
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("_one_process")
def test_a_sharded_model_gives_the_outputs_and_gradients_of_a_whole_one() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (1,))
    model, speaker = small_model(speakers=2), torch.tensor([0, 1])
    whole = copy.deepcopy(model)
    for block in model.stack.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    x = noise(1).tanh()
    for one in (model, whole):
        one(x, speaker=speaker).square().mean().backward()
    for (name, shard), parameter in zip(model.named_parameters(), whole.parameters(), strict=True):
        if parameter.grad is not None:
            found = shard.grad.full_tensor()  # type: ignore[union-attr]
            torch.testing.assert_close(found, parameter.grad, msg=name)
    cond = whole.condition(speaker=speaker)
    state = whole.warm_state(2, cond)
    torch.testing.assert_close(model.stream(x, state, cond), whole.stream(x, state, cond))


# --- wrapped and exchanged blocks -----------------------------------------------------------------


def compiled(module: nn.Module) -> nn.Module:
    torch._dynamo.reset()
    return torch.compile(module, backend="eager")  # type: ignore[return-value]


# torch.compile looks at `.grad` of tensors that have none, and torch warns of itself.
compiles = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "compiled": compiled,
    "checkpointed": checkpoint_wrapper,
    "compiled and checkpointed": lambda module: compiled(checkpoint_wrapper(module)),
}


@compiles
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapped_block_in_a_built_chain_streams_as_before(wrapper: str) -> None:
    chain = small_chain()
    whole = copy.deepcopy(chain)
    chain.blocks[2] = WRAPPERS[wrapper](chain.blocks[2])
    assert (chain.past, chain.in_channels) == (whole.past, whole.in_channels)
    assert [name for name, _ in chain.layers()] == ["0", "2"]
    x = noise(1)
    torch.testing.assert_close(chunks_of(chain, x), whole(x))
    for one in (chain, whole):
        one(x).square().sum().backward()
    for got, expected in zip(chain.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad)


@compiles
@pytest.mark.parametrize("wrapper", ["compiled", "checkpointed"])
def test_wrapped_blocks_in_a_model_stream_and_train_as_before(
    wrapper: str,
) -> None:
    model = small_model()
    whole = copy.deepcopy(model)
    model.stack.blocks[1] = WRAPPERS[wrapper](model.stack.blocks[1])
    model.stack.blocks[0].conv = WRAPPERS[wrapper](model.stack.blocks[0].conv)
    x = noise(1).tanh()
    torch.testing.assert_close(model(x), whole(x))
    for one in (model, whole):
        one(x).square().sum().backward()
    for got, expected in zip(model.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad)


@compiles
def test_a_block_compiled_in_place_runs_compiled() -> None:
    chain, runs = small_chain(), list[int]()
    whole = copy.deepcopy(chain)

    def counting(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        runs.append(1)
        return graph.forward

    torch._dynamo.reset()
    chain.blocks[2].compile(backend=counting)
    torch.testing.assert_close(chunks_of(chain, noise(1)), whole(noise(1)))
    assert runs


def test_the_attributes_of_a_chain_are_computed_at_every_access() -> None:
    chain = small_chain()
    chain.blocks[2] = CausalConv1d(4, 2, 5, dilation=3, stride=2).double()
    assert (chain.past, chain.step, chain.rate) == (1 + 12, 2, chain.blocks[2].rate)
    chain.blocks[0] = CausalConv1d(3, 4, 2).double()
    assert chain.in_channels == 3
    chain.blocks[1] = GatedResidualBlock(4, 4, cond_channels=5).double()
    assert chain.cond_channels == 5


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (small_stack, "blocks.1"),
        (lambda: GatedResidualBlock(4, 3).double(), "conv"),
        (small_model, "stack"),
        (lambda: NamWaveNet(preset("nano")).double(), "arrays.0.blocks.1"),
    ],
)
def test_no_causal_block_is_refused_where_one_stood(make: Callable[[], Causal], path: str) -> None:
    block = make()
    state = block.init_state(2)
    block.set_submodule(path, nn.Conv1d(4, 4, 3, padding=1).double())
    with pytest.raises(TypeError, match="is a Conv1d, which is no Causal block and would forget"):
        block.stream(noise(block.in_channels), state)
    with pytest.raises(TypeError, match="is a Conv1d, which is no Causal block and would forget"):
        block.init_state(2)


def test_a_convolution_put_into_a_built_chain_is_refused() -> None:
    chain = small_chain()
    chain.blocks[1] = nn.Conv1d(4, 4, 3, padding=1).double()
    with pytest.raises(TypeError, match="Conv1d is not pointwise in time and has no state here"):
        chain(noise(1))


# --- the training window --------------------------------------------------------------------------


def test_a_second_derivative_of_the_window_is_refused_by_name() -> None:
    stack, x = small_stack(), noise(4).requires_grad_()
    y = skip_sum_of(stack, x, None, 6)
    (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    (expected,) = torch.autograd.grad(stack(x)[1][..., -6:].square().sum(), x, create_graph=True)
    torch.testing.assert_close(slope, expected)
    with pytest.raises(RuntimeError, match=r"the training window .* has no second derivative"):
        slope.square().sum().backward()
    expected.square().sum().backward()  # as the message says
    assert x.grad is not None
