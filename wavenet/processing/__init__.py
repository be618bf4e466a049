"""Live audio through causal blocks: ``process`` and ``Processor``.

The same numbers as ``stream``, compiled for the CPU: fast enough for amplifier models, denoisers
and other networks in real time, with chunks of 32 to 512 samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from wavenet.nn import Causal, State, flatten_state
from wavenet.nn.causal import require_causal, stream_child
from wavenet.nn.chain import refuse_batch_statistics
from wavenet.nn.graph import Graph, NotCompilable

CAPACITY = 128
"""Largest chunk, in samples of the input, that is processed at once."""


def process(
    module: Causal,
    chunks: Iterable[Tensor],
    *,
    cond: Iterable[Tensor] | None = None,
    state: State | None = None,
) -> Iterator[Any]:
    """Run live audio through a network: yield the output of ``module.stream`` for each chunk.

    >>> net = wavenet.Chain(wavenet.CausalConv1d(1, 8, 3), nn.Tanh())
    >>> chunks = torch.randn(1, 1, 480).split(96, dim=2)  # as an audio interface delivers them
    >>> [tuple(y.shape) for y in process(net.eval(), chunks)]
    [(1, 8, 96), (1, 8, 96), (1, 8, 96), (1, 8, 96), (1, 8, 96)]

    Args:
        module: a ``Chain``, a ``DilatedStack`` or any other causal block.
        chunks: ``[B, in_channels, T]`` each, T a multiple of ``module.step``; lengths may change.
        cond: the conditioning of each chunk, if the module takes one.
        state: initial state; default ``init_state``. ``module.warm_state(B)`` is that of silence.

    Raises:
        TypeError: if module is no causal block, or a chunk no tensor.
        ValueError: for a chunk of a wrong shape, as ``stream`` does, if cond ends before chunks, or
            for a batch norm in training mode.
    """
    conditionings = iter(cond) if cond is not None else None
    processor: Processor | None = None
    for i, chunk in enumerate(chunks):
        given = None if conditionings is None else next(conditionings, None)
        if conditionings is not None and given is None:
            raise ValueError(f"cond has ended after {i} chunks; give one for each of chunks")
        if processor is None:
            require_causal(module, "module").check_call(chunk, given)
            start = module.init_state(chunk.shape[0]) if state is None else state
            processor = Processor(module, start)
        yield processor(chunk, given)


class Processor:
    """A network with its state, called chunk after chunk.

    On the CPU in float32 a module of this package's blocks, known activations and 1x1 convolutions
    is compiled; anything else runs through its own ``stream``, as does everything without numba.

    >>> net = wavenet.Chain(wavenet.CausalConv1d(1, 8, 3), nn.Tanh())
    >>> run = Processor(net.eval(), net.init_state(1))
    >>> tuple(run(torch.randn(1, 1, 96)).shape)
    (1, 8, 96)

    Args:
        module: a causal block, in evaluation mode; later changes of its weights have no effect.
        state: canonical, such as ``module.init_state(1)``.

    Attributes:
        compiled: whether the compiled kernel is used.

    Raises:
        TypeError: if module is no causal block.
        ValueError: if the state is not one of this module, or a batch norm is in training mode.
    """

    def __init__(self, module: Causal, state: State) -> None:
        self.module = require_causal(module, "module")
        refuse_batch_statistics(self.module, "process")
        _check_state(module, state)
        self._runner = _compiled(module, state) or _Streamed(module, state)
        self.compiled = not isinstance(self._runner, _Streamed)
        self._run = self._runner.run

    def __call__(self, x: Tensor, cond: Tensor | None = None) -> Any:
        """``[B, in_channels, T]`` to the output of ``module.stream``.

        Raises:
            ValueError: if x or cond has a wrong shape.
        """
        if self.compiled:
            return self._run(x, cond)
        self.module.check_call(x, cond)
        with torch.no_grad():
            return self._run(x, cond)

    @property
    def state(self) -> State:
        """The canonical state after all chunks so far."""
        return self._runner.state()


def _check_state(module: Causal, state: State) -> None:
    """Raise ValueError unless the state has the shapes of the module's own."""
    found = _shapes(state) if isinstance(state, tuple) else type(state).__name__
    first = next(flatten_state(state), None) if isinstance(state, tuple) else None
    rows = first.shape[0] if first is not None and first.ndim else 1
    expected = _shapes(module.init_state(rows))
    if found != expected:
        raise ValueError(
            f"{type(module).__name__}: the state is {found}, expected {expected}; make it with "
            f"`state = module.init_state({rows})`"
        )


def _shapes(state: State) -> State:
    """The state with the shape of each tensor in its place."""
    return tuple(tuple(p.shape) if isinstance(p, Tensor) else _shapes(p) for p in state)


class _Runner(Protocol):
    def run(self, x: Tensor, cond: Tensor | None) -> Any: ...

    def state(self) -> State: ...


class _Streamed:
    """Runner that calls ``stream`` of the module, or what wraps it."""

    def __init__(self, module: Causal, state: State) -> None:
        self._module, self._state = module, state

    def run(self, x: Tensor, cond: Tensor | None) -> Any:
        y, self._state = stream_child(self._module, x, self._state, cond)
        return y

    def state(self) -> State:
        return self._state


def _compiled(module: Causal, state: State) -> _Runner | None:
    """Compile the network; None if that is not possible."""
    # Buffers, too: a block without parameters has its type and device from one.
    held = [one for one in (*module.parameters(), *module.buffers()) if one.is_floating_point()]
    if any(one.device.type != "cpu" or one.dtype != torch.float32 for one in held):
        return None
    try:
        graph = Graph.of(module)
    except NotCompilable as error:
        warnings.warn(f"process: {error} is not compiled; torch runs it, slower", stacklevel=4)
        return None
    try:
        from wavenet.processing.executor import Executor
    except ModuleNotFoundError:
        warnings.warn(
            'process: numba is missing, torch runs the network, slower; pip install "wavenet-audio'
            '[audio]"',
            stacklevel=4,
        )
        return None
    return Executor(module, graph, state)
