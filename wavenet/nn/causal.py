"""The contract of causal blocks.

A causal block is one equation, ``stream(x, state) -> (y, state')``: it takes the next samples and
what it remembers, and gives their outputs and what it remembers now. Everything else follows:

- the parallel pass is ``stream`` from a fresh state;
- one sample at a time is ``stream`` with T = 1;
- streaming ``a`` and then ``b`` equals streaming ``a ++ b``, outputs and gradients, because the
  state is exactly what the next output can still need.

``block.stream(x, state, cond)`` runs the block's hooks, as ``block(x, cond)`` does: a block that
has any is run by ``nn.Module.__call__``, whose ``forward(x, cond, state=state)`` is the definition.
So whatever torch does by hooks (weight normalisation, pruning, FSDP) works in a child of another
block, too. A forward hook then gets what ``stream`` returns, ``(y, state')``.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any, cast

import torch
from torch import Tensor, nn

from wavenet.nn.gradients import calls_with_gradients, count_call, through_states
from wavenet.nn.hooks import has_hooks, unwrapped
from wavenet.nn.state import State
from wavenet.values.integers import as_integer

Stream = Callable[..., tuple[Any, State]]


class UnboundedPastError(ValueError):
    """Raised where a finite ``past`` is needed of a block that depends on all its past.

    >>> GRU(1, 8).past
    Traceback (most recent call last):
        ...
    wavenet.nn.causal.UnboundedPastError: GRU depends on its whole past, which no ...

    Args:
        name: of the block's class.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} depends on its whole past, which no number of samples bounds; ask "
            "`block.unbounded` first, or use convolutions where a finite past is needed"
        )


class Causal(nn.Module):
    """Base class of blocks in which no output depends on a later input.

    A subclass sets ``in_channels`` (and ``cond_channels`` where it takes conditioning), and defines
    ``past``, ``init_state`` and ``stream``; ``wavenet.testing.check_causal`` verifies that the
    three belong together. One that is made of others names them in ``layers``, and then
    ``init_state`` is given; it runs them by ``stream_child``. ``forward`` is given, and is never
    overridden inside a block. A model that overrides it all the same takes ``cond`` and ``state``
    as keywords, and answers with ``(y, state')`` where a state is given.

    States returned own their memory: a slice of a longer tensor is cloned, or it keeps all of the
    tensor alive.

    >>> block = CausalConv1d(1, 4, 3)
    >>> isinstance(block, Causal), block.past
    (True, 2)
    >>> state = block.init_state(1)
    >>> for chunk in torch.randn(1, 1, 30).split(10, dim=2):
    ...     y, state = block.stream(chunk, state)
    >>> tuple(y.shape)
    (1, 4, 10)

    Attributes:
        in_channels: channels of ``x``.
        cond_channels: channels of ``cond``, or None for a block that takes none.
        rate: output samples per input sample (1 unless the block changes the sample rate).
        step: calls take a multiple of this many input samples (1 unless the block decimates).
        delay: input samples by which the output lags behind the input, as the block declares: 0
            for a convolution, whose output j belongs to input sample ``stride * j``. ``Parallel``
            aligns branches by it, and ``latency`` reports it.
    """

    in_channels: int
    cond_channels: int | None = None
    rate: Fraction = Fraction(1)
    step: int = 1
    delay: Fraction = Fraction(0)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let ``stream`` run the block's hooks."""
        super().__init_subclass__(**kwargs)
        if not hasattr(cls.stream, "definition"):
            cls.stream = _running_hooks(cls.stream)  # type: ignore[method-assign]

    @property
    def past(self) -> int:
        """Reach of the input in samples: an output at time t depends on ``x[t - past .. t]``."""
        raise NotImplementedError(f"{type(self).__name__} must define `past`")

    @property
    def period(self) -> int:
        """Input samples after which the equation is the same again: ``step`` or a multiple of it.

        A multiple where a state counts samples, so that an output depends on how many there were
        before it (``StepOutputs``). Of a block that names ``layers``, their common period.
        """
        return common_period(self.step, behind_rates([layer for _, layer in self.layers()]))

    @property
    def unbounded(self) -> bool:
        """Whether outputs depend on all the past; ``past`` then raises ``UnboundedPastError``."""
        return any(layer.unbounded for _, layer in self.layers())

    def init_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """The state before the first sample, with zeros at the input of every layer.

        A block made of others has a tuple of theirs, in the order of ``layers``.

        Args:
            batch_size: rows B.
            device: default, that of the block's parameters.
            dtype: default, that of the block's parameters.
        """
        layers = self.layers()
        if not layers:
            raise NotImplementedError(f"{type(self).__name__} must define `init_state`")
        # Layers without parameters cannot know where the others' weights are.
        factory = self._factory(device, dtype)
        return tuple(layer.init_state(batch_size, **factory) for _, layer in layers)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        """The next outputs and the state after them.

        Args:
            x: ``[B, in_channels, T]``, the next T samples, T a multiple of ``step``.
            state: from ``init_state``, ``warm_state`` or the call before. It is not changed.
                A loop of calls with gradients enabled gives a ``StateGradientWarning``, once.
            cond: ``[B, cond_channels, T]``, or ``[B, cond_channels, 1]`` to hold one column.

        Returns:
            ``(y, state')`` with y ``[B, out_channels, T * rate]``, or a tuple of such tensors.

        Raises:
            ValueError: if x, the state or cond do not fit; the message names the remedy.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `stream`")

    def forward(self, x: Tensor, cond: Tensor | None = None, *, state: State | None = None) -> Any:
        """The parallel pass: ``stream`` from ``init_state``. ``[B, C, T]`` to ``[B, C', T']``.

        With a state it is ``stream`` itself, and returns ``(y, state')``.
        """
        if state is not None:
            return self._defined_stream(x, state, cond)
        self._check_rows(x)
        state = self.init_state(x.shape[0], device=x.device, dtype=x.dtype)
        return self._defined_stream(x, state, cond)[0]

    def _defined_stream(
        self, x: Tensor, state: State, cond: Tensor | None = None
    ) -> tuple[Any, State]:
        """``stream`` for ``forward``, where the hooks of this block have run."""
        stream: Stream = type(self).stream
        return getattr(stream, "definition", stream)(self, x, state, cond)

    def warm_state(
        self,
        batch_size: int,
        cond: Tensor | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """The state that streaming silence leads to: zeros at the input of the block alone.

        It differs from ``init_state``, which has zeros at the input of *every* layer, as soon as a
        layer answers silence with something else than zero (a bias, a conditioning).

        Args:
            batch_size: rows B.
            cond: the conditioning during the silence, ``[B, cond_channels, T]``. Its first column
                is held through all the silence before these T samples.
            device: default, that of the block's parameters.
            dtype: default, that of the block's parameters.

        Raises:
            ValueError: if cond does not fit; the message names the expected shape.
        """
        factory = self._factory(device, dtype)
        silence = torch.zeros(batch_size, self.in_channels, self.step, **factory)
        first = None if cond is None else cond[..., :1]
        self.check_call(silence, first)
        with through_states():
            state = self.settle(silence, first)
            if cond is not None and cond.shape[-1] > 1:
                state = self.stream(silence[..., :1].expand(-1, -1, cond.shape[-1]), state, cond)[1]
        return state

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """The state that an endless repetition of x leads to.

        This definition repeats x for as long as the block remembers. The blocks of this package
        override it: one period is enough, as the output is again periodic.

        Args:
            x: ``[B, in_channels, step]``, one period of the input.
            cond: ``[B, cond_channels, 1]``.
        """
        whole = math.lcm(x.shape[-1], self.period)  # the state after it is that of a whole period
        repeats = max(1, math.ceil(self.past / whole)) * whole // x.shape[-1]
        state = self.init_state(x.shape[0], device=x.device, dtype=x.dtype)
        return self.stream(x.repeat(1, 1, repeats), state, cond)[1]

    def oldest_input(self, n: int) -> int:
        """Index of the earliest input that output ``n`` depends on (negative: before the start)."""
        return math.floor(n / self.rate) - self.past

    def layers(self) -> list[tuple[str, Causal]]:
        """The named causal blocks that the signal passes one after another; none in a leaf."""
        return []

    def _factory(
        self, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> dict[str, Any]:
        """Device and type of the block's parameters, or else buffers, unless others are given."""
        if device is None or dtype is None:
            buffers = (one for one in self.buffers() if one.is_floating_point())
            for own in itertools.chain(self.parameters(), buffers):
                device = own.device if device is None else device
                dtype = own.dtype if dtype is None else dtype
                break
        return {"device": device, "dtype": dtype}

    def check_call(self, x: Tensor, cond: Tensor | None) -> None:
        """Raise ValueError unless x and cond are what this block takes."""
        check_inputs(type(self).__name__, x, cond, self.in_channels, self.step, self.cond_channels)

    def _check_rows(self, x: Tensor) -> None:
        """Raise as ``check_call`` does for an x that has no rows, which a state is made for."""
        if not isinstance(x, Tensor) or x.ndim == 0:
            self.check_call(x, None)

    def _check_children(self, state: State, n_children: int) -> None:
        """Raise ValueError unless the state is a tuple with one entry per child."""
        if not isinstance(state, tuple) or len(state) != n_children:
            found = f"a tuple of {len(state)}" if isinstance(state, tuple) else type(state).__name__
            raise ValueError(
                f"{type(self).__name__}: the state is {found}, expected a tuple of {n_children}, "
                "one per layer; make it with `state = block.init_state(batch_size)` and carry on "
                "with what the call returns: `y, state = block.stream(x, state)`"
            )


def behind_rates(blocks: Sequence[Causal]) -> list[tuple[Fraction, Causal]]:
    """Return blocks one after another, each behind its number of samples for one input sample."""
    rates = itertools.accumulate(
        (block.rate for block in blocks), operator.mul, initial=Fraction(1)
    )
    return list(zip(rates, blocks, strict=False))


def common_period(step: int, blocks: Iterable[tuple[Fraction, Causal]]) -> int:
    """Return the smallest multiple of ``step`` input samples that is whole periods of all blocks.

    Args:
        step: that of the block that contains them.
        blocks: each behind its number of samples for one input sample.
    """
    return math.lcm(step, *((block.period / rate).numerator for rate, block in blocks))


def check_inputs(
    name: str,
    x: Tensor,
    cond: Tensor | None,
    in_channels: int,
    step: int,
    cond_channels: int | None,
) -> None:
    """Raise ValueError unless x and cond are what a block of this kind takes, TypeError for x."""
    if not isinstance(x, Tensor):
        found = type(x).__name__
        raise TypeError(f"{name}: x is a {found}; give a tensor, such as torch.from_numpy(array)")
    if x.ndim != 3 or x.shape[1] != in_channels:
        raise ValueError(f"{name}: x has shape {tuple(x.shape)}, expected [B, {in_channels}, T]")
    if x.shape[-1] == 0 or (step > 1 and x.shape[-1] % step):
        raise ValueError(
            f"{name}: x has {x.shape[-1]} samples, but a call takes a positive multiple of "
            f"{step}; pad x or keep the remainder for the next call"
        )
    if cond is None:
        if cond_channels is not None:
            raise ValueError(
                f"{name}: cond is None, but the block was built with cond_channels="
                f"{cond_channels}; pass cond [B, {cond_channels}, T]"
            )
    elif cond_channels is None:
        raise ValueError(
            f"{name}: cond was given, but the block was built without cond_channels and would "
            f"ignore it; build it with cond_channels={cond.shape[1]} or pass no cond"
        )
    elif (
        cond.ndim != 3
        or cond.shape[:2] != (x.shape[0], cond_channels)
        or (cond.shape[-1] != 1 and cond.shape[-1] != x.shape[-1])
    ):
        raise ValueError(
            f"{name}: cond has shape {tuple(cond.shape)}, expected "
            f"({x.shape[0]}, {cond_channels}, {x.shape[-1]}), the time of x, or one column"
        )


def _running_hooks(definition: Stream) -> Stream:
    """``stream`` of a class: as defined, through the block's call where that runs more."""

    @functools.wraps(definition)
    def stream(self: Causal, x: Tensor, state: State, cond: Tensor | None = None) -> Any:
        calls = calls_with_gradients(type(self).__name__, state)
        # It is another one where a subclass calls `super().stream(...)`: its hooks have run.
        if type(self).stream is stream and has_hooks(self):
            answer = self(x, cond=cond, state=state)
        else:
            answer = definition(self, x, state, cond)
        if calls is not None:
            count_call(answer[1], calls + 1)
        return answer

    stream.definition = definition  # type: ignore[attr-defined]
    return stream


def is_causal(module: nn.Module) -> bool:
    """Return whether a module is a causal block, or a wrapper (such as torch.compile's) of one."""
    return isinstance(module, Causal) or isinstance(unwrapped(module), Causal)


def require_causal(module: nn.Module, name: str) -> Causal:
    """Return the module, checked to be a causal block or a wrapper around one.

    Args:
        module: a causal block or a wrapper around one, which answers for its attributes.
        name: its place, for the message.

    Raises:
        TypeError: if it is neither.
    """
    if not is_causal(module):
        raise TypeError(
            f"{name} is a {type(module).__name__}, which is no Causal block and would forget its "
            "input between two chunks; put a Causal block there, such as CausalConv1d"
        )
    return cast(Causal, module)


def stream_child(
    block: nn.Module, x: Tensor, state: State, cond: Tensor | None = None
) -> tuple[Any, State]:
    """``block.stream(x, state, cond)``, of a block inside another one.

    It runs the block's hooks, and what a wrapper around the block does: torch.compile, activation
    checkpointing.

    Raises:
        TypeError: if the module is no causal block.
    """
    if isinstance(block, Causal):
        return block.stream(x, state, cond)
    return cast("tuple[Any, State]", require_causal(block, "a layer")(x, cond=cond, state=state))


def check_positive(name: str, value: int) -> int:
    """Return value as Python's int; raise ValueError unless it is an integer of at least 1."""
    return as_integer(name, value)
