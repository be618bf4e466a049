"""The activations that torch has not are what their formulas say."""

import pytest
import torch

from wavenet.nn import FastTanh, LeakyHardtanh, Snake, Softsigmoid
from wavenet.nn.chain import Chain
from wavenet.nn.convolution import CausalConv1d
from wavenet.processing import Processor


def test_fast_tanh_is_odd_and_within_half_a_percent_of_tanh() -> None:
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    y = FastTanh()(x)
    torch.testing.assert_close(y, -y.flip(0))
    assert float((y - torch.tanh(x)).abs().max()) < 5e-3
    assert float((y - torch.tanh(x)).abs().max()) > 1e-5  # and is another function


def test_softsigmoid_runs_from_0_over_one_half_to_1() -> None:
    x = torch.tensor([-1e6, -1.0, 0.0, 1.0, 1e6])
    torch.testing.assert_close(Softsigmoid()(x), torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))


def test_leaky_hardtanh_has_the_slopes_that_were_given() -> None:
    x = torch.tensor([-3.0, -1.0, 0.0, 2.0, 4.0])
    y = LeakyHardtanh(-1.0, 2.0, 0.5, 0.25)(x)
    assert y.tolist() == [-2.0, -1.0, 0.0, 2.0, 2.5]


def test_snake_adds_a_square_of_a_sine_of_each_channels_frequency() -> None:
    snake = Snake(3).double()
    snake.alpha.data = torch.tensor([0.5, 2.0, 0.0], dtype=torch.float64)
    x = torch.linspace(-4, 4, 3 * 50, dtype=torch.float64).reshape(1, 3, 50)
    y = snake(x)
    expected = [
        x[0, 0] + torch.sin(x[0, 0] / 2) ** 2 * 2,
        x[0, 1] + torch.sin(2 * x[0, 1]) ** 2 / 2,
    ]
    torch.testing.assert_close(y[0, :2], torch.stack(expected))
    assert torch.equal(y[0, 2], x[0, 2])


def test_snake_refuses_what_has_no_frequency() -> None:
    with pytest.raises(ValueError, match="alpha=0.0 must be above 0"):
        Snake(2, alpha=0.0)
    with pytest.raises(ValueError, match="channels=0 must be an integer of at least 1"):
        Snake(0)


@pytest.mark.parametrize(
    "activation",
    [FastTanh(), Softsigmoid(), LeakyHardtanh(-0.2, 0.3, 0.5, 0.25), torch.nn.PReLU(5), Snake(5)],
    ids=lambda activation: type(activation).__name__,
)
def test_the_compiled_engine_knows_them(activation: torch.nn.Module) -> None:
    pytest.importorskip("numba", reason="process is compiled by numba")
    if isinstance(activation, torch.nn.PReLU):
        activation.weight.data = torch.linspace(-0.5, 0.5, 5)
    if isinstance(activation, Snake):
        activation.alpha.data = torch.tensor([0.0, 0.1, 1.0, 20.0, -3.0])
    chain = Chain(CausalConv1d(1, 5, 2), activation, CausalConv1d(5, 2, 1))
    processor = Processor(chain, chain.init_state(1))
    assert processor.compiled
    x = torch.randn(1, 1, 100)
    with torch.no_grad():
        torch.testing.assert_close(processor(x), chain(x), rtol=0, atol=1e-6)
