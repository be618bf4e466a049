"""Steps of the compiled kernel: what is fused, and that nothing that is read elsewhere is lost."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("numba", reason="process is compiled by numba")

from wavenet.nam import NamWaveNet, preset
from wavenet.nn import Causal, CausalConv1d, Chain, FastTanh, State, with_fast_tanh
from wavenet.nn.activations import FAST_TANH_ERROR
from wavenet.nn.graph import ADD, CONV, Buffer, Graph
from wavenet.nn.graph_activations import FAST_TANH, TANH
from wavenet.processing import Processor, table
from wavenet.processing.convolution import conv_tile, wide_conv_tile
from wavenet.processing.fusion import fuse
from wavenet.processing.layout import Layout
from wavenet.simd.compiling import outlined


def steps_of(module: Causal) -> list[list[int]]:
    """Kinds of the operations of each step."""
    return [[part.kind for part in step.operations] for step in fuse(Graph.of(module.eval()))]


def test_layers_of_few_channels_are_one_step_each() -> None:
    model = NamWaveNet(preset("nano"))
    steps = fuse(Graph.of(model.eval()))
    assert sum(step.is_layer for step in steps) == 20
    assert sum(len(step.operations) for step in steps) == 104


def test_layers_of_many_channels_are_three_steps() -> None:
    steps = fuse(Graph.of(NamWaveNet(preset("standard")).eval()))
    assert not any(step.is_layer for step in steps)
    assert sum(len(step.operations) == 3 for step in steps) == 20


def test_an_activation_is_fused_into_the_convolution_before_it() -> None:
    chain = Chain(CausalConv1d(1, 3, 2), nn.Tanh(), CausalConv1d(3, 1, 2), nn.ELU())
    kinds = steps_of(chain)
    assert [len(step) for step in kinds] == [2, 1, 1]


class TwoReaders(Causal):
    """tanh(conv(x)) + conv(x): the sum of the convolution is read twice."""

    in_channels = 2

    def __init__(self) -> None:
        super().__init__()
        self.conv = CausalConv1d(2, 2, 3)

    @property
    def past(self) -> int:
        """Left context of the convolution."""
        return self.conv.past

    def init_state(self, batch: int) -> State:
        """Return the state of the convolution."""
        return self.conv.init_state(batch)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """Process a chunk."""
        y, state = self.conv.stream(x, state)
        return torch.tanh(y) + y, state

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append the operations."""
        y = graph.convolution(self.conv, buffers[0])
        a = graph.activation(nn.Tanh(), y)
        graph.add(ADD, y, a)
        return (a,)


def test_a_buffer_that_another_operation_reads_is_kept() -> None:
    block = TwoReaders().eval()
    assert [len(step) for step in steps_of(block)] == [1, 1, 1]
    x = torch.randn(1, 2, 50)
    expected, _ = block.stream(x, block.init_state(1))
    got = Processor(block, block.init_state(1))(x)
    torch.testing.assert_close(got, expected.detach(), rtol=0, atol=1e-6)


def test_fast_tanh_is_near_tanh_and_leaves_the_network_as_it_was() -> None:
    model = NamWaveNet(preset("feather")).eval()
    x = torch.randn(1, 1, 400)
    fast = with_fast_tanh(model)
    kinds = Counter(part.kind for step in fuse(Graph.of(fast)) for part in step.operations)
    assert (kinds[TANH], kinds[FAST_TANH]) == (0, 20)
    with torch.inference_mode():
        got = Processor(fast, fast.init_state(1))(x)
        expected, _ = fast.stream(x, fast.init_state(1))
        exact, _ = model.stream(x, model.init_state(1))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    assert not torch.equal(expected, exact)
    everywhere = torch.linspace(-30, 30, 100_001, dtype=torch.float64)
    assert (FastTanh()(everywhere) - everywhere.tanh()).abs().max() < FAST_TANH_ERROR
    with pytest.raises(ValueError, match=r"^Chain has no nn\.Tanh to replace"):
        with_fast_tanh(Chain(CausalConv1d(1, 1, 2)))


@pytest.mark.slow
def test_tiles_of_16_and_of_32_samples_agree() -> None:
    """A machine runs one of the two: which depends on the width of its registers."""
    chain = Chain(CausalConv1d(6, 4, 3, dilation=2), nn.Tanh()).eval()
    layout = Layout(Graph.of(chain), 64)
    (entry,) = layout.table
    assert entry[table.KIND] == CONV

    @outlined
    def narrow(op, data, weights):
        for t in (0, 16):
            packed = op[table.WEIGHT], op[table.MIX_WEIGHT], op[table.BIAS]
            place = (t, 64), (0, 64), (400 + t, 64)
            conv_tile(op, data, weights, packed, *place)

    @outlined
    def wide(op, data, weights):
        packed = op[table.WEIGHT], op[table.MIX_WEIGHT], op[table.BIAS]
        place = (0, 64), (0, 64), (400, 64)
        wide_conv_tile(op, data, weights, packed, *place)

    given = np.random.default_rng(0).standard_normal(800).astype(np.float32)
    results = []
    for function in (narrow, wide):
        data = given.copy()
        function(entry, data, layout.weights)
        results.append(data[400:].reshape(-1)[:256].reshape(4, 64)[:, :32])
    np.testing.assert_array_equal(*results)
    x = torch.from_numpy(given[:384].reshape(1, 6, 64))[:, :, :36]
    expected = chain(x)[0, :, 4:].detach().numpy()
    np.testing.assert_allclose(results[0], expected, atol=2e-6)
