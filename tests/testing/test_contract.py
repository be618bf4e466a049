"""`check_causal` lets right blocks pass and names what is wrong with every other one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet import Causal, CausalConv1d, Chain, DilatedStack, GatedResidualBlock
from wavenet.nn import GRU, State
from wavenet.nn.memoryless import Memoryless
from wavenet.testing import ContractError, check_causal


class Right(Causal):
    """y[t] = a x[t] + b x[t - 1] + c x[t - 2], with conditioning: the block that the others break.

    Its state is its last two inputs and a count of input samples, which nothing depends on.
    """

    past: int = 2

    def __init__(self) -> None:
        super().__init__()
        self.in_channels, self.cond_channels = 2, 2
        self.taps = nn.Parameter(torch.tensor([3.0, 2.0, 1.0]))
        self.bias = nn.Parameter(torch.ones(2, 1))

    def init_state(self, batch_size: int, *, device: Any = None, dtype: Any = None) -> State:
        zeros = torch.zeros(batch_size, 2, 2, device=device, dtype=dtype or self.taps.dtype)
        return zeros, (torch.zeros(batch_size, dtype=torch.int64, device=device),)

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        n_inputs = torch.zeros(len(x), dtype=torch.int64)
        return x.expand(-1, -1, 2), (n_inputs,)

    def require(self, x: Tensor, state: State) -> None:
        shapes = [tuple(part.shape) for part in (state[0], *state[1])] if len(state) == 2 else []
        if shapes != [(len(x), 2, 2), (len(x),)]:
            raise ValueError("this is no state of mine; make one with init_state")

    def taps_on(self, joined: Tensor) -> Tensor:
        n = joined.shape[-1] - 2
        return sum((tap * joined[..., i : i + n] for i, tap in enumerate(self.taps)), self.bias)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        self.check_call(x, cond)
        self.require(x, state)
        assert cond is not None
        joined = torch.cat([state[0], x], dim=-1)
        return self.taps_on(joined) * cond, (joined[..., -2:], state[1])


class LooksAhead(Right):
    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        y, after = super().stream(x, state, cond)
        return y + F.pad(x, (0, 1))[..., 1:], after


class LooksAheadWithinItsStep(Causal):
    """Swaps the samples of each pair: chunks of whole steps cannot show it."""

    past: int = 0
    in_channels, step = 1, 2

    def init_state(self, batch_size: int, *, device: Any = None, dtype: Any = None) -> State:
        return ()

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        return x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2), ()


class LooksAheadInTheConditioning(Right):
    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        y, after = super().stream(x, state, cond)
        assert cond is not None
        return y + cond.mean(-1, keepdim=True), after


class SaysTooLittlePast(Right):
    past = 1


class SaysTooMuchPast(Right):
    past = 3


class Quantizes(Right):
    """The sign of the input is all that matters, so every gradient of x is zero."""

    def taps_on(self, joined: Tensor) -> Tensor:
        return super().taps_on(torch.sign(joined))


class QuantizesAndSaysTooLittlePast(Quantizes):
    past = 1


class QuantizesAndSaysTooMuchPast(Quantizes):
    past = 3


class HearsFarBeyondItsPast(Causal):
    """Its nearest taps are within `past`, and one more is 40 samples back."""

    past: int = 1
    in_channels = 1

    def init_state(self, batch_size: int, *, device: Any = None, dtype: Any = None) -> State:
        return (torch.zeros(batch_size, 1, 40, device=device, dtype=dtype),)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        if len(state) != 1 or state[0].shape != (len(x), 1, 40):
            raise ValueError("init_state")
        joined = torch.cat([state[0], x], dim=-1)
        n = x.shape[-1]
        return x + joined[..., 39:][..., :n] + joined[..., :n], (joined[..., -40:],)


class HearsNothing(Right):
    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        y, after = super().stream(x, state, cond)
        return 0 * y, after


class Recurrent(Causal):
    """Depends on all input so far, so that no `past` is right."""

    past: int = 2
    in_channels = 1

    def init_state(self, batch_size: int, *, device: Any = None, dtype: Any = None) -> State:
        return (torch.zeros(batch_size, 1, 1, device=device, dtype=dtype),)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        columns, last = [], state[0]
        for t in range(x.shape[-1]):
            last = 0.5 * last + x[..., t : t + 1]
            columns.append(last)
        return torch.cat(columns, -1), (last,)


class ChangesItsState(Right):
    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        y, after = super().stream(x, state, cond)
        state[0].copy_(after[0])
        return y, after


class ChangesItsInput(Right):
    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        result = super().stream(x, state, cond)
        with torch.no_grad():
            x[..., 0] = 7
        return result


class ChangesItsConditioning(Right):
    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        assert cond is not None
        result = super().stream(x, state, cond.clone())
        with torch.no_grad():
            cond += 1
        return result


class CouplesRows(Right):
    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        y, after = super().stream(x, state, cond)
        return y + y.mean(dim=0, keepdim=True), after


class NormalisesOverTheChunk(Right):
    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        y, after = super().stream(x, state, cond)
        return y - y.mean(dim=-1, keepdim=True), after


class GrowsItsState(Right):
    def require(self, x: Tensor, state: State) -> None:
        pass

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        joined = torch.cat([state[0], x], dim=-1)
        y, after = super().stream(x, (state[0][..., -2:], state[1]), cond)
        return y, (joined, after[1])


class RestructuresItsState(Right):
    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        y, (last, (n_inputs,)) = super().stream(x, state, cond)
        return y, (last, n_inputs)


class ForgetsItsState(Right):
    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        y, after = super().stream(x, state, cond)
        return y, (torch.zeros_like(after[0]), after[1])


class RemembersInItself(Right):
    """A hidden memory beside the state: each call depends on the input of the call before."""

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        self.require(x, state)
        hidden = getattr(self, "hidden", state[0])
        hidden = hidden if len(hidden) == len(x) else state[0]
        y, after = super().stream(x, (hidden, state[1]), cond)
        self.hidden = after[0].detach()
        return y, after


class CutsTheGradient(Right):
    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        y, (last, n_inputs) = super().stream(x, state, cond)
        return y, (last.detach(), n_inputs)


class HasNoGradient(Right):
    @torch.no_grad()
    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        return super().stream(x, state, cond)


class StartsElsewhereInParallel(Right):
    def forward(self, x: Tensor, cond: Tensor | None = None) -> Any:
        state = self.init_state(len(x), dtype=x.dtype)
        return self.stream(x, (state[0] + 1, state[1]), cond)[0]


class RunsOtherwiseInParallel(Causal):
    """Its forward has an argument of another name, and pads by one sample too many."""

    past: int = 1
    in_channels = 1

    def init_state(self, batch_size: int, *, device: Any = None, dtype: Any = None) -> State:
        return (torch.zeros(batch_size, 1, 1, device=device, dtype=dtype),)

    def forward(self, signal: Tensor) -> Any:
        return signal + F.pad(signal, (2, 0))[..., :-2]

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        joined = torch.cat([state[0], x], dim=-1)
        return x + joined[..., :-1], (joined[..., -1:],)


class TakesAnyState(Right):
    def require(self, x: Tensor, state: State) -> None:
        pass

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        batch, last = len(x), state[0] if state else torch.zeros(1, 2, 2, dtype=x.dtype)
        last = last[:1].expand(batch, -1, -1) if len(last) != batch else last
        return super().stream(x, (last[..., :2], (torch.zeros(batch),)), cond)


class TakesAStateOfTheWrongLength(Right):
    def require(self, x: Tensor, state: State) -> None:
        if len(state) != 2 or len(state[0]) != len(x):
            raise ValueError("make the state with init_state")

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        self.require(x, state)
        return super().stream(x, (state[0][..., :2], state[1]), cond)


class RefusesAStateWithoutARemedy(Right):
    def require(self, x: Tensor, state: State) -> None:
        if len(state) != 2 or len(state[0]) != len(x) or state[0].shape[-1] != 2:
            raise ValueError("wrong state")


class FailsOnAWrongState(Right):
    def require(self, x: Tensor, state: State) -> None:
        if len(state[0]) != len(x):
            raise RuntimeError("sizes do not match")


class WarmsUpFromZeros(Chain):
    """`init_state` is no answer to silence where there is a bias."""

    def __init__(self) -> None:
        super().__init__(CausalConv1d(1, 2, 2), nn.Tanh(), CausalConv1d(2, 1, 3))

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        return self.init_state(len(x), dtype=x.dtype)


class WarmsUpWithoutItsConditioning(DilatedStack):
    def __init__(self) -> None:
        super().__init__(2, 2, dilations=[1, 2], cond_channels=2)

    def warm_state(self, batch_size: int, cond: Tensor | None = None, **factory: Any) -> State:
        return super().warm_state(batch_size, None if cond is None else 0 * cond, **factory)


class WarmsUpWithTheFirstColumnAlone(DilatedStack):
    def __init__(self) -> None:
        super().__init__(2, 2, dilations=[1, 2], cond_channels=2)

    def warm_state(self, batch_size: int, cond: Tensor | None = None, **factory: Any) -> State:
        return super().warm_state(batch_size, None if cond is None else cond[..., :1], **factory)


class RemembersItsInputByReference(Right):
    """Right until the caller writes the next samples into the same buffer."""

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        y, after = super().stream(x, state, cond)
        return y, (x[..., -2:] if x.shape[-1] > 1 else after[0], after[1])


class MakesNotANumber(Right):
    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        y, after = super().stream(x, state, cond)
        return y * torch.nan, after


class Constant(Memoryless):
    """Ones, whatever x is."""

    in_channels = 1

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        return torch.ones_like(x), self.keep(x, state)


WRONG: list[tuple[Callable[[], Causal], str]] = [
    (LooksAhead, r"output 0 of two streams taken in turns"),
    (LooksAheadWithinItsStep, r"output 0 before input sample 1 depends on samples from 1 on"),
    (LooksAheadInTheConditioning, r"output 0 of two streams taken in turns"),
    (SaysTooLittlePast, r"past is 1, but the gradient of x reaches back 2 samples"),
    (QuantizesAndSaysTooLittlePast, r"past is 1, but samples before that change the output"),
    (QuantizesAndSaysTooMuchPast, r"past is 3, but the gradient of x is zero"),
    (SaysTooMuchPast, r"past is 3, but the gradient of x reaches back 2 samples"),
    (HearsFarBeyondItsPast, r"past is 1, but the gradient of x reaches back 40 samples"),
    (HearsNothing, r"past is 2, but the gradient of x is zero"),
    (Recurrent, r"past is 2, but the gradient of x reaches back \d\d samples"),
    (ChangesItsState, r"a call changed the state it was given"),
    (ChangesItsInput, r"a call changed the x it was given"),
    (ChangesItsConditioning, r"a call changed the cond it was given"),
    (CouplesRows, r"row 0 of output 0 depends on the batch around it"),
    (NormalisesOverTheChunk, r"output 0 of two streams taken in turns"),
    (GrowsItsState, r"stream changes the state's shapes from .*2, 2.* to .*2, 26"),
    (RestructuresItsState, r"stream changes the state's shapes"),
    (ForgetsItsState, r"output 0 of two streams taken in turns"),
    (RemembersInItself, r"output 0 of two streams taken in turns"),
    (CutsTheGradient, r"gradient of x, in chunks against the whole"),
    (HasNoGradient, r"no gradient leads from the outputs back to x"),
    (StartsElsewhereInParallel, r"output 0 of forward against stream from init_state"),
    (RunsOtherwiseInParallel, r"output 0 of forward against stream from init_state"),
    (TakesAnyState, r"a state for another batch size is taken without an error"),
    (TakesAStateOfTheWrongLength, r"a state of one sample more is taken without an error"),
    (RefusesAStateWithoutARemedy, r"must name init_state, but is: wrong state"),
    (FailsOnAWrongState, r"must raise ValueError, not RuntimeError: sizes do not match"),
    (WarmsUpFromZeros, r"warm_state against streaming \d+ samples of silence, tensor 1"),
    (WarmsUpWithoutItsConditioning, r"warm_state against streaming \d+ samples of silence"),
    (WarmsUpWithTheFirstColumnAlone, r"warm_state with 2 columns of cond"),
    (RemembersItsInputByReference, r"tensor 0 of the state is a view of x or of cond, .*clone it"),
    (MakesNotANumber, r"relative difference nan"),
    (Constant, "past is 0, but the gradient of x is zero"),
]


def test_a_right_block_of_somebody_elses_passes() -> None:
    check_causal(Right())
    check_causal(Quantizes())


@pytest.mark.parametrize(("block", "message"), WRONG, ids=[block.__name__ for block, _ in WRONG])
def test_a_wrong_block_raises_what_is_wrong(block: Callable[[], Causal], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_causal(block())


def test_every_wrong_block_of_this_file_is_tried() -> None:
    def subclasses(cls: type) -> set[type]:
        return {cls}.union(*(subclasses(one) for one in cls.__subclasses__()))

    here = {cls for cls in subclasses(Causal) if cls.__module__ == __name__}
    assert here - {Right, Quantizes} == {block for block, _ in WRONG}


def test_the_block_itself_is_not_changed() -> None:
    block = GatedResidualBlock(2, 2, dilation=2).train()
    before = {name: value.clone() for name, value in block.state_dict().items()}
    check_causal(block)
    assert block.training
    for name, value in block.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name])


def test_weights_that_start_at_zero_hide_nothing() -> None:
    block = SaysTooMuchPast()
    nn.init.zeros_(block.taps)
    with pytest.raises(ContractError, match="past is 3"):
        check_causal(block)
    conv = CausalConv1d(1, 1, 3)
    nn.init.zeros_(conv.weight)
    check_causal(conv)


def test_few_channels_behind_a_relu_raise_no_false_alarm() -> None:
    narrow = Chain(CausalConv1d(1, 1, 3), nn.ReLU(), CausalConv1d(1, 1, 3, dilation=3), nn.ReLU())
    for seed in range(20):
        check_causal(narrow, seed=seed)


class Cancelling(nn.Module):
    """A product whose sums are a million times larger than what is left of them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 64))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight @ (x + 1e6) - 1e6 * self.weight.sum(1, keepdim=True)


class HearsALittleOfTheFuture(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1e-6 * F.pad(x, (0, 1))[..., 1:]


def test_rounding_of_sums_that_cancel_is_no_fault_and_hides_none() -> None:
    check_causal(Chain(CausalConv1d(2, 64, 3), Cancelling(), CausalConv1d(3, 2, 2)))
    leaking = Chain(CausalConv1d(2, 64, 3), HearsALittleOfTheFuture(), Cancelling())
    with pytest.raises(ContractError, match=r"difference \d.\d\de-0[67], allowed \de-(08|09|10)"):
        check_causal(leaking)


def test_a_long_memory_is_checked_as_well() -> None:
    check_causal(CausalConv1d(1, 1, 2, dilation=4096))
    check_causal(DilatedStack(2, 2, dilations=[2**i for i in range(10)]))


def test_the_same_seed_finds_the_same() -> None:
    messages = []
    for _ in range(2):
        torch.rand(7)  # the global generator plays no part
        with pytest.raises(ContractError) as caught:
            check_causal(CouplesRows(), seed=3)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_what_is_no_causal_block_is_refused() -> None:
    with pytest.raises(TypeError, match="takes a Causal block, not Conv1d; derive it from"):
        check_causal(nn.Conv1d(1, 1, 1))


@pytest.mark.parametrize("seed", [4, 6, 8, 9])
def test_a_recurrent_block_behind_a_relu_keeps_the_contract_whatever_is_drawn(seed: int) -> None:
    check_causal(Chain(nn.ReLU(), GRU(1, 2)), seed=seed)
