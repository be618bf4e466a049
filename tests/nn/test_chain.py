"""A chain is its modules one after another, with one state each."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from wavenet import (
    Causal,
    CausalConv1d,
    CausalConvTranspose1d,
    Chain,
    DilatedStack,
    GatedResidualBlock,
    Select,
)
from wavenet.nn import Residual, State
from wavenet.testing import check_causal


def test_a_chain_is_its_modules_one_after_another() -> None:
    first, second = CausalConv1d(2, 5, 3), CausalConv1d(5, 4, 2, dilation=3)
    chain = Chain(first, nn.Tanh(), second).double()
    x = torch.randn(2, 2, 20, dtype=torch.float64)
    assert torch.equal(chain(x), second(torch.tanh(first(x))))


def test_a_layer_used_twice_has_two_memories_and_one_set_of_weights() -> None:
    shared = CausalConv1d(3, 3, 2, dilation=2)
    chain = Chain(shared, nn.Tanh(), shared).double()
    check_causal(chain)
    assert chain.past == 4
    assert len(list(chain.parameters())) == 2
    x = torch.randn(2, 3, 12, dtype=torch.float64)
    assert torch.equal(chain(x), shared(torch.tanh(shared(x))))
    (first,), _, (second,) = chain.stream(x, chain.init_state(2))[1]
    assert not torch.equal(first, second)


def test_a_gated_stack_used_twice_keeps_the_law() -> None:
    stack = DilatedStack(3, 3, dilations=[1, 2], cond_channels=2)
    check_causal(Chain(stack, Select(0), stack, Select(1)))


@pytest.mark.parametrize("seed", range(8))
def test_random_chains_of_changing_sample_rates_keep_the_law(seed: int) -> None:
    draw = random.Random(seed)
    modules: list[nn.Module] = []
    for _ in range(draw.randint(2, 4)):
        stride, kernel_size = draw.randint(1, 3), draw.randint(1, 4)
        modules += draw.choice(
            [
                [CausalConv1d(2, 2, kernel_size, stride=stride, dilation=draw.randint(1, 3))],
                [CausalConvTranspose1d(2, 2, max(kernel_size, stride), stride=stride)],
                [GatedResidualBlock(2, 2, kernel_size=kernel_size), Select(draw.randint(0, 1))],
            ]
        )
        modules.append(draw.choice([nn.Tanh(), nn.Conv1d(2, 2, 1)]))
    check_causal(Chain(*modules))


def test_a_chain_in_a_chain_keeps_the_law() -> None:
    inner = Chain(CausalConv1d(2, 2, 2), nn.Tanh(), CausalConv1d(2, 2, 4, stride=2))
    chain = Chain(inner, nn.ELU(), inner, CausalConvTranspose1d(2, 1, 6, stride=4))
    assert chain.rate == 1
    check_causal(chain)


def test_rate_and_step_follow_from_the_blocks() -> None:
    down, up = CausalConv1d(1, 1, 4, stride=4), CausalConvTranspose1d(1, 1, 3, stride=3)
    assert (Chain(down, up).rate, Chain(down, up).step) == (Fraction(3, 4), 4)
    assert (Chain(up, down).rate, Chain(up, down).step) == (Fraction(3, 4), 4)
    six = CausalConvTranspose1d(1, 1, 6, stride=6)
    assert (Chain(six, down).rate, Chain(six, down).step) == (Fraction(3, 2), 2)
    assert (Chain(down, down).rate, Chain(down, down).step) == (Fraction(1, 16), 16)


def test_past_counts_samples_of_the_first_input() -> None:
    down = CausalConv1d(1, 1, 2, stride=4)  # past of 1 sample, one output in 4 samples
    assert Chain(down, CausalConv1d(1, 1, 3)).past == 1 + 2 * 4
    up = CausalConvTranspose1d(1, 1, 4, stride=4)  # past 0
    assert Chain(up, CausalConv1d(1, 1, 2)).past == 1
    assert Chain(up, CausalConv1d(1, 1, 5)).past == 1
    assert Chain(up, CausalConv1d(1, 1, 6)).past == 2


def test_a_pointwise_convolution_in_front_determines_the_channels_of_x() -> None:
    stack = DilatedStack(16, 8, dilations=[1, 2])
    for front in (nn.Conv1d(1, 16, 1), nn.Sequential(nn.Tanh(), nn.Conv1d(1, 16, 1))):
        chain = Chain(front, stack, Select(1), nn.ReLU(), nn.Conv1d(8, 1, 1))
        assert chain.in_channels == 1
        assert chain(torch.randn(2, 1, 9)).shape == (2, 1, 9)
        check_causal(chain)


def test_conditioning_goes_to_every_block_that_takes_some() -> None:
    with_cond = GatedResidualBlock(2, 2, cond_channels=3)
    chain = Chain(with_cond, Select(0), CausalConv1d(2, 2, 2), with_cond)
    assert chain.cond_channels == 3
    cond = torch.randn(1, 3, 5, requires_grad=True)
    y, _ = chain(torch.zeros(1, 2, 5), cond)
    (gradient,) = torch.autograd.grad(y.sum(), cond)
    assert gradient.abs().amin() > 0


def test_a_pointwise_module_has_the_empty_state() -> None:
    chain = Chain(CausalConv1d(1, 1, 2), nn.Tanh())
    assert chain.init_state(3)[1] == ()
    assert chain.warm_state(3)[1] == ()


class TwoTaps(Causal):
    """A block of somebody else's: y[t] = x[t] - x[t - 1]."""

    in_channels = 2
    past = 1

    def init_state(self, batch_size: int, *, device=None, dtype=None) -> State:
        return (torch.zeros(batch_size, 2, 1, device=device, dtype=dtype),)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        if len(state) != 1 or state[0].shape != (len(x), 2, 1):
            raise ValueError("make the state with init_state")
        joined = torch.cat([state[0], x], -1)
        return joined.diff(dim=-1), (joined[..., -1:],)


def test_a_block_that_defines_the_three_and_nothing_else_works_in_a_chain() -> None:
    check_causal(TwoTaps())
    chain = Chain(CausalConv1d(1, 2, 4, stride=2), TwoTaps(), nn.Conv1d(2, 1, 1))
    assert chain.past == 3 + 2
    check_causal(chain)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv1d(2, 2, 3, padding=1),
        nn.Conv1d(2, 2, 1, stride=2),
        nn.ConvTranspose1d(2, 2, 1),
        nn.LSTM(2, 2),
        nn.MultiheadAttention(2, 1),
        nn.GroupNorm(1, 2),
        nn.InstanceNorm1d(2),
        nn.AvgPool1d(2),
        nn.MaxPool1d(3, 1, 1),
        nn.AdaptiveAvgPool1d(1),
        nn.LPPool1d(2, 2),
        nn.ConstantPad1d((1, 0), 0.0),
        nn.ReflectionPad1d((1, 0)),
        nn.Upsample(scale_factor=2),
        nn.Flatten(),
        nn.Unfold((2, 1)),
        nn.Linear(8, 8),
        nn.LayerNorm(8),
        nn.Sequential(nn.Tanh(), nn.Linear(8, 8)),
        nn.Sequential(nn.Sequential(nn.Conv1d(2, 2, 3, padding=1))),
    ],
    ids=str,
)
def test_a_module_that_looks_along_time_is_refused(module: nn.Module) -> None:
    with pytest.raises(TypeError, match="not pointwise in time and has no state here; use Causal"):
        Chain(CausalConv1d(2, 2, 2), module)


def test_a_batch_norm_trains_on_windows_and_streams_by_its_running_statistics() -> None:
    chain = Chain(CausalConv1d(1, 2, 2), nn.BatchNorm1d(2), CausalConv1d(2, 1, 2))
    chain(torch.randn(4, 1, 50)).sum().backward()
    norm = chain.blocks[1]
    learnt = norm.running_mean.clone()
    assert bool(learnt.any())
    with pytest.raises(ValueError, match=r"warm_state takes no BatchNorm1d in training mode.*eval"):
        chain.warm_state(2)
    assert torch.equal(norm.running_mean, learnt)
    check_causal(chain)
    assert len(chain.eval().warm_state(2)) == 3


def test_a_batch_norm_without_running_statistics_is_refused() -> None:
    Chain(CausalConv1d(2, 2, 2), nn.BatchNorm1d(2))
    for module in (nn.BatchNorm1d(2, track_running_stats=False),):
        with pytest.raises(TypeError, match="BatchNorm1d has no running statistics"):
            Chain(CausalConv1d(2, 2, 2), nn.Sequential(nn.Tanh(), module))


@pytest.mark.parametrize(
    "module", [nn.GLU(), nn.Softmax(2), nn.Sequential(nn.Tanh(), nn.LogSoftmax(-1))], ids=str
)
def test_a_module_along_the_axis_of_time_is_refused_and_one_over_channels_taken(
    module: nn.Module,
) -> None:
    check_causal(Chain(CausalConv1d(2, 4, 2), nn.GLU(1), nn.Softmax(-2), nn.LogSoftmax(1)))
    with pytest.raises(TypeError, match="is not pointwise in time; give it dim=1, the channels"):
        Chain(CausalConv1d(2, 2, 2), module)
    with pytest.raises(TypeError, match="give it dim=1"):
        Residual(CausalConv1d(2, 2, 2), module)


def test_a_causal_block_hidden_in_a_module_that_keeps_no_state_is_refused() -> None:
    hidden = nn.Sequential(nn.Tanh(), nn.Sequential(CausalConv1d(2, 2, 2)))
    with pytest.raises(TypeError, match="CausalConv1d would lose its state inside Sequential"):
        Chain(CausalConv1d(2, 2, 2), hidden)


def test_errors_say_what_a_chain_needs() -> None:
    with pytest.raises(ValueError, match="Chain needs at least one causal block"):
        Chain(nn.Tanh())
    with pytest.raises(ValueError, match=r"blocks take cond of different widths: \[2, 3\]"):
        Chain(*(DilatedStack(1, 1, dilations=[1], cond_channels=c) for c in (3, 2)))
    chain = Chain(GatedResidualBlock(2, 2), CausalConv1d(2, 2, 2))
    with pytest.raises(TypeError, match=r"put Select\(0\) or Select\(1\) between them"):
        chain(torch.zeros(1, 2, 3))
    with pytest.raises(TypeError, match="Select got one tensor"):
        Chain(CausalConv1d(2, 2, 2), Select(0))(torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="the state is a tuple of 1, expected a tuple of 2"):
        chain.stream(torch.zeros(1, 2, 3), chain.init_state(1)[:1])


def test_a_list_of_modules_is_refused_with_the_call_that_takes_it() -> None:
    with pytest.raises(TypeError, match=r"a list is no module; .* Chain\(\*modules\)"):
        Chain([CausalConv1d(1, 1, 2), nn.Tanh()])  # type: ignore[arg-type]
