"""`process` gives the numbers of `stream`, compiled."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import Tensor, nn

import wavenet
from wavenet.nn import (
    GRU,
    LSTM,
    Causal,
    CausalConv1d,
    CausalConvTranspose1d,
    Chain,
    Delay,
    DilatedStack,
    GatedResidualBlock,
    Select,
    Snake,
    flatten_state,
)
from wavenet.processing import CAPACITY, Processor

pytest.importorskip("numba", reason="process is compiled by numba")

FLOAT32 = 2e-6
"""Relative to the largest value: float32 rounding, summed over some twenty layers."""


def amplifier() -> Chain:
    """A guitar-amplifier network: 10 layers of 16 channels, 10 of 8, kernel size 3."""
    return Chain(
        CausalConv1d(1, 16, 1),
        DilatedStack(16, 8, kernel_size=3, dilations=[2**i for i in range(10)]),
        Select(1),
        DilatedStack(8, 8, kernel_size=3, dilations=[2**i for i in range(10)]),
        Select(1),
        nn.LeakyReLU(0.1),
        CausalConv1d(8, 1, 1),
    )


def blocks() -> dict[str, Causal]:
    """The same weights in every run: how much their sums round depends on them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {
            "conv": CausalConv1d(3, 5, 3, dilation=7),
            "conv of kernel size 1": CausalConv1d(3, 5, 1),
            "grouped": CausalConv1d(6, 4, 4, groups=2, bias=False),
            "strided": CausalConv1d(4, 6, 5, dilation=3, groups=2, stride=3),
            "transposed": CausalConvTranspose1d(4, 6, 7, stride=3),
            "transposed with gaps": CausalConvTranspose1d(4, 6, 2, stride=3, groups=2),
            "residual block": GatedResidualBlock(5, 7, kernel_size=3, dilation=4, gate_channels=6),
            "stack": DilatedStack(16, 8, kernel_size=3, dilations=[1, 2, 4, 8, 512]),
            "amplifier": amplifier(),
            "resampling chain": Chain(
                CausalConv1d(2, 3, 4),
                nn.Tanh(),
                CausalConv1d(3, 3, 3, stride=2),
                CausalConvTranspose1d(3, 2, 5, stride=4),
                CausalConv1d(2, 2, 3, dilation=2),
                CausalConv1d(2, 1, 2, stride=2),
            ),
            "LSTM": LSTM(3, 5),
            "LSTM of two layers without biases": LSTM(2, 20, num_layers=2, bias=False),
            "GRU": GRU(3, 5),
            "GRU of two layers without biases": GRU(2, 20, num_layers=2, bias=False),
            "GRU between convolutions": Chain(
                CausalConv1d(1, 16, 2, stride=2), GRU(16, 16), CausalConv1d(16, 1, 3)
            ),
            "LSTM between convolutions": Chain(
                CausalConv1d(1, 16, 2, stride=2), LSTM(16, 16), CausalConv1d(16, 1, 3)
            ),
            "nested": Chain(
                Chain(CausalConv1d(1, 4, 2), nn.ReLU()), nn.Sequential(nn.Conv1d(4, 2, 1))
            ),
        }


BLOCKS = blocks()
ACTIVATIONS = [
    nn.Tanh(),
    nn.Sigmoid(),
    nn.ReLU(),
    nn.ReLU6(),
    nn.LeakyReLU(0.3),
    nn.PReLU(),
    nn.ELU(0.7),
    nn.SiLU(),
    nn.Softsign(),
    nn.Hardtanh(-0.5, 0.25),
    nn.Hardswish(),
    nn.GELU("tanh"),
    nn.GELU(),
    nn.SELU(),
    nn.CELU(0.7),
    nn.Hardsigmoid(),
    nn.Mish(),
    Snake(1, alpha=3.0),
    nn.Identity(),
]


def tensors(y: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (y,) if isinstance(y, Tensor) else y


def compare(block: Causal, lengths: list[int], batch: int = 2) -> None:
    """Outputs of all chunks, and the state behind them, against one call of `stream`."""
    lengths = [length * block.step for length in lengths]
    x = 0.5 * torch.randn(batch, block.in_channels, sum(lengths))
    width = block.cond_channels
    cond = None if width is None else torch.randn(batch, width, sum(lengths))
    start = block.init_state(batch)
    with torch.no_grad():
        expected, after = block.stream(x, start, cond)
    processor = Processor(block, start)
    assert processor.compiled
    pieces = zip(
        x.split(lengths, -1),
        [None] * len(lengths) if cond is None else cond.split(lengths, -1),
        strict=True,
    )
    got = [tensors(processor(chunk, part)) for chunk, part in pieces]
    for parts, whole in zip(zip(*got, strict=True), tensors(expected), strict=True):
        torch.testing.assert_close(
            torch.cat(parts, -1), whole, rtol=0, atol=FLOAT32 * float(whole.abs().max())
        )
    for a, b in zip(flatten_state(processor.state), flatten_state(after), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", BLOCKS)
def test_chunks_equal_stream(name: str) -> None:
    compare(BLOCKS[name], [1, 64, 7, 33, 512, 2, 3 * CAPACITY + 5, 31, 32, 96])


def test_conditioning_reaches_the_blocks() -> None:
    compare(DilatedStack(6, 8, dilations=[1, 2, 4], cond_channels=3), [5, 200, 64])


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: type(a).__name__)
def test_every_known_activation_equals_torch(activation: nn.Module) -> None:
    compare(Chain(CausalConv1d(1, 5, 2), activation, CausalConv1d(5, 2, 2)), [64, 100])


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: type(a).__name__)
def test_every_known_activation_equals_torch_for_large_and_small_values(
    activation: nn.Module,
) -> None:
    through = CausalConv1d(1, 1, 1, bias=False)
    nn.init.ones_(through.weight)
    chain = Chain(through, activation)
    x = torch.cat([torch.linspace(-40, 40, 4001), torch.linspace(-1e-3, 1e-3, 101)])[None, None]
    with torch.no_grad():
        got = Processor(chain, chain.init_state(1))(x)
        torch.testing.assert_close(got, activation(x), rtol=1e-6, atol=1e-6)


def test_history_survives_being_moved_to_the_front() -> None:
    compare(CausalConv1d(1, 1, 2, dilation=1000), [64] * 100, batch=1)


def test_single_samples_equal_the_whole() -> None:
    compare(BLOCKS["stack"], [1] * 50)


def test_process_yields_a_chunk_for_each_chunk() -> None:
    block = BLOCKS["conv"]
    x = torch.randn(1, 3, 96)
    got = list(wavenet.process(block, x.split(32, -1)))
    assert [chunk.shape for chunk in got] == [(1, 5, 32)] * 3
    torch.testing.assert_close(torch.cat(got, -1), block(x).detach())


def test_processing_starts_at_the_given_state() -> None:
    block = BLOCKS["stack"]
    warm = block.warm_state(1)
    x = torch.randn(1, 16, 50)
    (got,) = wavenet.process(block, [x], state=warm)
    with torch.no_grad():
        expected = block.stream(x, warm)[0]
    torch.testing.assert_close(got[1], expected[1], rtol=1e-5, atol=1e-5)


def test_a_module_that_cannot_be_compiled_runs_through_stream_with_a_warning() -> None:
    chain = Chain(CausalConv1d(1, 4, 3), nn.Softplus(), CausalConv1d(4, 1, 1))
    with pytest.warns(UserWarning, match="Softplus is not compiled"):
        processor = Processor(chain, chain.init_state(1))
    assert not processor.compiled
    x = torch.randn(1, 1, 20)
    torch.testing.assert_close(processor(x), chain(x).detach())


@pytest.mark.parametrize(
    ("block", "replaced", "line"),
    [
        (LSTM(1, 2), nn.LSTM(1, 2, proj_size=1), "LSTM: a layer with dropout, projections or"),
        (LSTM(1, 2), nn.GRU(1, 2), "a layer is a GRU, not a LSTM"),
        (GRU(1, 2), nn.LSTM(1, 2), "a layer is a LSTM, not a GRU"),
    ],
)
def test_another_recurrent_layer_is_not_compiled(
    block: LSTM | GRU, replaced: nn.Module, line: str
) -> None:
    block.rnn = replaced
    with pytest.warns(UserWarning, match=line):
        assert not Processor(block, block.init_state(1)).compiled


def test_float64_of_a_block_without_parameters_stays_float64() -> None:
    block = Chain(Delay(2, 3), nn.Tanh()).double()
    x = torch.randn(1, 2, 50, dtype=torch.float64)
    processor = Processor(block, block.init_state(1))
    assert not processor.compiled
    assert torch.equal(processor(x), block(x))


def test_float64_runs_through_stream() -> None:
    block = CausalConv1d(1, 2, 3).double()
    processor = Processor(block, block.init_state(1))
    assert not processor.compiled
    assert processor(torch.zeros(1, 1, 4, dtype=torch.float64)).dtype == torch.float64


def test_wrong_chunks_raise_one_line() -> None:
    block = CausalConv1d(2, 3, 2, stride=2)
    processor = Processor(block, block.init_state(1))
    with pytest.raises(ValueError, match=r"x has shape \(1, 3, 4\), expected \[B, 2, T\]"):
        processor(torch.zeros(1, 3, 4))
    with pytest.raises(ValueError, match="positive multiple of 2"):
        processor(torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="x has 5 rows, but the initial state has 1"):
        processor(torch.zeros(5, 2, 4))


def test_a_chunk_may_be_a_view_of_another_type_or_ask_for_a_gradient() -> None:
    block = blocks()["conv"].eval()
    x = torch.randn(2, 3, 300)
    expected = Processor(block, block.init_state(2))(x)
    long = torch.zeros(2, 600, 3)
    long[:, ::2] = x.transpose(1, 2)
    for given in (long[:, ::2].transpose(1, 2), x.double(), x.clone().requires_grad_()):
        assert torch.equal(Processor(block, block.init_state(2))(given), expected)


def test_processors_do_not_disturb_each_other() -> None:
    block = BLOCKS["amplifier"]
    x = torch.randn(2, 1, 256)
    first, second = (Processor(block, block.init_state(1)) for _ in range(2))
    got = [(first(x[:1, :, i : i + 64]), second(x[1:, :, i : i + 64])) for i in range(0, 256, 64)]
    together = torch.cat([torch.cat(pair) for pair in got], -1)
    torch.testing.assert_close(together, block(x).detach(), rtol=1e-5, atol=1e-6)


def test_a_copy_of_a_processor_goes_on_by_itself() -> None:
    block = BLOCKS["amplifier"]
    first = Processor(block, block.init_state(1))
    x = torch.randn(1, 1, 192)
    expected = Processor(block, block.init_state(1))(x)
    first(x[..., :64])
    for second in (copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        second(torch.randn(1, 1, 64))
        second(torch.randn(1, 1, 64))
    got = torch.cat([first(x[..., 64:128]), first(x[..., 128:])], -1)
    torch.testing.assert_close(got, expected[..., 64:], rtol=0, atol=0)


def test_a_chunk_of_the_same_shape_is_still_checked() -> None:
    block = BLOCKS["conv"]
    processor = Processor(block, block.init_state(1))
    x = torch.randn(1, 3, 64)
    processor(x)
    with pytest.raises(ValueError, match="cond was given, but the block was built without"):
        processor(x, torch.zeros(1, 1, 64))
    again, double = (Processor(block, block.init_state(1)) for _ in range(2))
    for given in (x, x, x.double(), x.transpose(1, 2).contiguous().transpose(1, 2)):
        assert torch.equal(again(given), double(given.clone().float().contiguous()))


def test_nothing_is_warned_of_when_all_is_compiled() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Processor(amplifier(), amplifier().init_state(1))


def test_what_torch_compile_has_wrapped_is_compiled_as_the_module_itself() -> None:
    chain = Chain(CausalConv1d(1, 4, 3), nn.Tanh(), CausalConv1d(4, 1, 1))
    x = torch.randn(1, 1, 20)
    expected = chain(x).detach()
    chain.blocks[1] = torch.compile(chain.blocks[1], backend="eager")
    chain.blocks[2].compile(backend="eager")
    for module in (chain, torch.compile(chain, backend="eager")):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            processor = Processor(module, module.init_state(1))
        assert processor.compiled
        torch.testing.assert_close(processor(x), expected)


def test_a_hook_of_what_torch_compile_has_wrapped_is_run() -> None:
    module = torch.compile(Chain(CausalConv1d(1, 4, 3), nn.Tanh()), backend="eager")
    module.register_forward_hook(lambda _, args, out: (2 * out[0], out[1]))
    with pytest.warns(UserWarning, match="with forward hooks is not compiled"):
        processor = Processor(module, module.init_state(1))
    x = torch.randn(1, 1, 20)
    torch.testing.assert_close(processor(x), 2 * module._orig_mod(x).detach())


def test_a_batch_norm_in_training_mode_is_refused() -> None:
    chain = Chain(CausalConv1d(1, 2, 3), nn.BatchNorm1d(2))
    with pytest.raises(ValueError, match="process takes no BatchNorm1d in training mode"):
        next(wavenet.process(chain, torch.randn(1, 1, 64).split(32, dim=-1)))
    assert int(chain.blocks[1].num_batches_tracked) == 0


def assert_compiled_as_it_is(chain: Chain) -> None:
    """Compiled, and in pieces, a chain of two channels computes what it computes as a whole."""
    processor = Processor(chain, chain.init_state(2))
    assert processor.compiled
    x = torch.randn(2, 2, 60)
    made = torch.cat([processor(part) for part in x.split(20, dim=-1)], dim=-1)
    with torch.no_grad():
        torch.testing.assert_close(made, chain(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dim", [1, -2])
def test_a_glu_over_channels_is_compiled(dim: int) -> None:
    chain = Chain(CausalConv1d(2, 6, 3), nn.GLU(dim=dim), CausalConv1d(3, 2, 2)).eval()
    assert_compiled_as_it_is(chain)


@pytest.mark.parametrize("affine", [True, False])
def test_a_batch_norm_of_torch_is_compiled_by_its_running_statistics(affine: bool) -> None:
    norm = nn.BatchNorm1d(6, affine=affine)
    norm.running_mean.normal_()  # type: ignore[union-attr]
    norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    inside = nn.Sequential(norm, nn.ReLU(), nn.Dropout1d(0.5))
    chain = Chain(CausalConv1d(2, 6, 3), inside, CausalConv1d(6, 3, 2)).eval()
    assert_compiled_as_it_is(chain)


def test_a_processor_refuses_a_list_in_one_line() -> None:
    block = CausalConv1d(1, 1, 3)
    processor = Processor(block, block.init_state(1))
    for chunk in ([0.0], torch.zeros(1, 1, 4), [0.0]):
        if isinstance(chunk, Tensor):
            assert processor(chunk).shape == (1, 1, 4)
        else:
            with pytest.raises(TypeError, match="x is a list; give a tensor"):
                processor(chunk)


def test_what_process_cannot_run_is_said_in_one_line() -> None:
    block = CausalConv1d(1, 1, 3)
    with pytest.raises(TypeError, match="module is a Conv1d, which is no Causal block"):
        list(wavenet.process(nn.Conv1d(1, 1, 1), [torch.zeros(1, 1, 4)]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"x has shape \(\), expected \[B, 1, T\]"):
        list(wavenet.process(block, torch.zeros(4)))
    array = torch.zeros(1, 1, 4).numpy()
    with pytest.raises(TypeError, match=r"a chunk is torch.int16; give floats in \[-1, 1\]"):
        list(wavenet.process(amplifier(), [torch.zeros(1, 1, 8, dtype=torch.int16)]))
    with pytest.raises(TypeError, match=r"x is a ndarray; give a tensor.*torch\.from_numpy"):
        list(wavenet.process(block, [array]))  # type: ignore[list-item]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_state_of_another_module_is_refused_in_one_line(dtype: torch.dtype) -> None:
    def chain(channels: int, taps: int) -> Chain:
        return Chain(CausalConv1d(1, channels, 3), CausalConv1d(channels, 4, taps)).to(dtype)

    net = chain(4, 3)
    for other in (chain(1, 3), chain(4, 4), CausalConv1d(1, 1, 3).to(dtype)):
        with pytest.raises(ValueError, match=r"^Chain: the state is .*`state = module.init_state"):
            Processor(net, other.init_state(2))
    with pytest.raises(ValueError, match=r"the state is NoneType, expected \(\(\(1, 1, 2\),\)"):
        Processor(net, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="module is a Conv1d, which is no Causal block"):
        Processor(nn.Conv1d(1, 1, 1), ())  # type: ignore[arg-type]


def test_conditioning_that_ends_before_the_audio_is_an_error() -> None:
    block = DilatedStack(2, 2, dilations=[1], cond_channels=3)
    chunks, cond = [torch.zeros(1, 2, 4)] * 3, [torch.zeros(1, 3, 4)] * 2
    with pytest.raises(ValueError, match="cond has ended after 2 chunks; give one for each"):
        list(wavenet.process(block, chunks, cond=cond))
