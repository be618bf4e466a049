"""training.window.forward: the pass over a window equals ``stream``, forward and backward."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import default_collate

from wavenet import WaveNet, WaveNetConfig
from wavenet.data import Corpus, WindowPlan, Windows, find_corpus
from wavenet.nn import DilatedStack, FrameLift, LiftedFrames
from wavenet.training.loss import window_log_prob
from wavenet.training.window import plan as window_plan
from wavenet.training.window import skip_sum_of

T, HOP = 90, 9


@pytest.fixture(autouse=True)
def _short_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles in a short window."""
    monkeypatch.setattr(window_plan, "CPU_TILE", 16)


@pytest.fixture
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def make_stack(kernel_size: int = 2, cond: int | None = 5) -> DilatedStack:
    return DilatedStack(
        6,
        4,
        kernel_size=kernel_size,
        dilations=[1, 2, 4, 8] * 2,
        gate_channels=10,
        cond_channels=cond,
    ).double()


def make_input(rows: int, cond: int | None) -> tuple[Tensor, LiftedFrames | None]:
    """x ``[rows, 6, T]``, and frames that are lifted from somewhere within a hop on."""
    x = torch.randn(rows, 6, T, dtype=torch.float64, requires_grad=True)
    if cond is None:
        return x, None
    frames = torch.randn(rows, cond, 11, dtype=torch.float64, requires_grad=True)
    return x, LiftedFrames(frames, FrameLift(HOP).double().matrix(11)[:, 3 : T + 3])


def streamed(stack: DilatedStack, x: Tensor, cond: LiftedFrames | None, length: int) -> Tensor:
    skip_sum: Tensor = stack(x, None if cond is None else cond.samples)[1]
    return skip_sum[..., T - length :]


def gradients(y: Tensor, stack: DilatedStack, x: Tensor, cond: LiftedFrames | None) -> list[Tensor]:
    """Gradients of a random linear function of y, wrt all that y depends on."""
    last = list(stack.blocks)[-1].residual_projection
    unused = {id(parameter) for parameter in last.parameters()}
    used = [parameter for parameter in stack.parameters() if id(parameter) not in unused]
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
    inputs = [x, *([cond.frames] if cond else []), *used]
    return list(torch.autograd.grad((y * weight).sum(), inputs))


def assert_same(
    stack: DilatedStack, x: Tensor, cond: LiftedFrames | None, length: int, recompute: bool = False
) -> None:
    y = skip_sum_of(stack, x, cond, length, recompute=recompute)
    expected = streamed(stack, x, cond, length)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)
    for got, want in zip(
        gradients(y, stack, x, cond), gradients(expected, stack, x, cond), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("length", [10, 50, T])
@pytest.mark.parametrize("kernel_size", [1, 2, 3])
@pytest.mark.parametrize("cond", [None, 5])
def test_a_window_has_the_skip_sum_and_the_gradients_of_stream(
    length: int, kernel_size: int, cond: int | None
) -> None:
    stack = make_stack(kernel_size, cond)
    for recompute in (False, True):
        assert_same(stack, *make_input(3, cond), length, recompute)


def test_one_frame_is_held_over_the_window() -> None:
    x, _ = make_input(2, None)
    column = torch.randn(2, 5, 1, dtype=torch.float64, requires_grad=True)
    assert_same(make_stack(), x, LiftedFrames(column, x.new_ones(1, T)), 40)


@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_threads_share_the_rows_and_add_up_their_gradients(rows: int) -> None:
    assert_same(make_stack(), *make_input(rows, 5), 50)
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("_two_threads")
def test_validation_in_inference_mode_may_use_threads() -> None:
    """The mode belongs to a thread: new ones begin without."""
    stack, (x, cond) = make_stack(), make_input(3, 5)
    expected = skip_sum_of(stack, x, cond, 50).detach()
    with torch.inference_mode():
        assert torch.equal(skip_sum_of(stack, x.clone(), cond, 50), expected)
    assert torch.get_num_threads() == 2


def test_rows_together_give_what_they_give_one_after_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compute all rows at once, as on a GPU."""
    monkeypatch.setattr(window_plan.Plan, "parts", lambda _, batch: [[slice(0, batch)]])
    assert_same(make_stack(), *make_input(3, 5), 50)
    assert_same(make_stack(), *make_input(3, 5), 50, recompute=True)


@pytest.mark.parametrize("compiled", [None, False])
def test_a_float32_window_differs_from_stream_by_rounding(compiled: bool | None) -> None:
    stack, (x, cond) = make_stack(), make_input(2, 5)
    assert cond is not None
    exact = streamed(stack, x, cond, 50)
    y = skip_sum_of(
        stack.float(),
        x.float(),
        LiftedFrames(cond.frames.float(), cond.lift.float()),
        50,
        compiled=compiled,
    )
    assert y.dtype == torch.float32
    # Eight layers, each with some 30 additions of numbers of size 1: 1e-6 was seen.
    torch.testing.assert_close(y.double(), exact, rtol=0, atol=1e-5)


def assert_same_in_float32(stack: DilatedStack, x: Tensor, cond: LiftedFrames | None) -> None:
    """Outputs and gradients, as far as float32 has digits; x is float64."""
    expected = streamed(stack, x, cond, 50)
    exact = [expected, *gradients(expected, stack, x, cond)]
    narrow = x.detach().float().requires_grad_()  # keeps the order in memory
    frames = cond and LiftedFrames(cond.frames.detach().float().requires_grad_(), cond.lift.float())
    y = skip_sum_of(stack.float(), narrow, frames, 50)
    for got, want in zip([y, *gradients(y, stack, narrow, frames)], exact, strict=True):
        scale = float(want.detach().abs().max())
        torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-5 * max(1.0, scale))


@pytest.mark.parametrize("kernel_size", [1, 2, 3])
@pytest.mark.parametrize("cond", [None, 5])
def test_compiled_code_gives_the_gradients_of_stream(kernel_size: int, cond: int | None) -> None:
    """float32 on a CPU, where numba is: two rows, tiles cut short at both ends."""
    assert_same_in_float32(make_stack(kernel_size, cond), *make_input(2, cond))


def test_the_input_need_not_be_contiguous_along_time() -> None:
    transposed = torch.randn(2, T, 6, dtype=torch.float64).transpose(1, 2).requires_grad_()
    assert_same_in_float32(make_stack(2, None), transposed, None)


def test_a_sum_has_a_gradient() -> None:
    """The gradient of a sum is a single number, expanded."""
    stack, (x, _) = make_stack(2, None).float(), make_input(2, None)
    x = x.detach().float()
    grads = []
    for run in (skip_sum_of(stack, x, None, 50), streamed(stack, x, None, 50)):
        stack.zero_grad()
        run.sum().backward()
        assert stack.blocks[0].conv.weight.grad is not None
        grads.append(stack.blocks[0].conv.weight.grad.clone())
    torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-4)  # sums of 2 x 50 numbers of size 1


@pytest.mark.parametrize("samples", [1, 2])
def test_a_window_may_be_of_one_sample(samples: int) -> None:
    stack, x = make_stack(2, None).float(), torch.randn(2, samples, 6).transpose(1, 2)
    expected: Tensor = stack(x)[1]
    torch.testing.assert_close(skip_sum_of(stack, x, None, samples), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("compiled", [None, False])
def test_under_autocast_products_are_rounded_and_sums_are_not(compiled: bool | None) -> None:
    """No farther from the truth than ``stream`` is under autocast, and the answer is float32."""
    stack, (x, cond) = make_stack(), make_input(4, 5)
    assert cond is not None
    exact = [streamed(stack, x, cond, 50)]
    exact += gradients(exact[0], stack, x, cond)
    stack.float()
    x = x.detach().float().requires_grad_()
    cond = LiftedFrames(cond.frames.detach().float().requires_grad_(), cond.lift.float())
    with torch.autocast("cpu", torch.bfloat16):
        window = [skip_sum_of(stack, x, cond, 50, compiled=compiled)]
        plain = [streamed(stack, x, cond, 50)]
    assert window[0].dtype == torch.float32
    window += gradients(window[0], stack, x, cond)
    plain += gradients(plain[0], stack, x, cond)

    def error(found: list[Tensor]) -> float:
        """Relative error of all numbers together."""
        pairs = list(zip(found, exact, strict=True))
        wrong = sum(float((got.double() - want).detach().square().sum()) for got, want in pairs)
        return (wrong / sum(float(want.detach().square().sum()) for _, want in pairs)) ** 0.5

    assert error(window) < 1.2 * error(plain)
    assert 1e-4 < error(window) < 0.01  # bfloat16 has 8 binary digits: 0.002 of a number


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_recomputing_gives_the_same_bits(dtype: torch.dtype) -> None:
    narrow, sums = dtype == torch.bfloat16, torch.promote_types(dtype, torch.float32)
    stack, (x, cond) = make_stack().to(sums), make_input(2, 5)
    assert cond is not None
    x = x.detach().to(sums).requires_grad_()
    cond = LiftedFrames(cond.frames.detach().to(sums).requires_grad_(), cond.lift.to(sums))
    with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
        kept, again = (skip_sum_of(stack, x, cond, 50, recompute=flag) for flag in (False, True))
    pairs = zip(gradients(kept, stack, x, cond), gradients(again, stack, x, cond), strict=True)
    assert all(torch.equal(a, b) for a, b in itertools.chain([(kept, again)], pairs))


def test_a_bfloat16_product_reads_no_uninitialized_memory(samples: Path) -> None:
    """torch multiplies what lies beside a strided matrix by zero, and memory may hold NaN."""
    config = WaveNetConfig.preset(
        "medium",
        layers_per_stack=4,
        stacks=2,
        distribution="logistic_mixture",
        distribution_size=4,
        linear_prediction=20,
        pitch_taps=5,
    )
    torch.manual_seed(0)
    model = WaveNet(config)
    plan = WindowPlan.of(model, 0.05)
    corpus = Corpus.read(find_corpus(str(samples / "prompts-en")), config.sample_rate)
    windows = Windows(corpus, plan, n_windows=20, seed=0)
    for i in range(len(windows)):
        _fill_free_memory_with_nan()
        batch = default_collate([windows[i]])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            narrow, _ = window_log_prob(model, batch, plan)
        with torch.no_grad():
            exact, _ = window_log_prob(model, batch, plan)
        assert float((narrow - exact).abs().max()) < 0.2


def _fill_free_memory_with_nan() -> None:
    parts = [torch.full((140, n), torch.nan) for n in (70, 128, 600, 1199) for _ in range(4)]
    del parts
