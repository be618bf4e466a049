"""What a module does to its signals, noted while it runs; see ``signals``."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten

from wavenet.conversion.joins import CANONICAL
from wavenet.conversion.network import Node
from wavenet.conversion.onset import Onset
from wavenet.conversion.signals import (
    BATCH,
    LONGEST_CONSTANT,
    NOMINAL_SAMPLES,
    VIEWS,
    Call,
    Refusal,
    Rule,
    Signal,
    Timing,
)
from wavenet.nn.delay import Delay


class ShortTensors(TorchFunctionMode):
    """Within, tensors as long as the signal are refused: the nominal length would fill the memory.

    Args:
        tracer: what names the module.
    """

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the function, unless it makes such a tensor."""
        leaves = tree_flatten((args, kwargs))[0]
        if not any(isinstance(leaf, Tensor) for leaf in leaves):
            numbers = [abs(leaf) for leaf in leaves if isinstance(leaf, int | float)]
            if max(numbers, default=0) > LONGEST_CONSTANT:
                name = getattr(func, "__name__", func)
                raise self._tracer.refusal(f"calls {name} for as many samples as the signal has")
        return func(*args, **(kwargs or {}))


class Tracer:
    """Notes of a module's run.

    Args:
        names: qualified name of every submodule.
        delay: whether windows that look ahead become delays.
        exact: whether columns before a signal's first one must be zeros where windows see them.
        early: whether a function is computed before the zeros that stand in front of its input, so
            that nothing waits for them; windows then see zeros where the module has what the
            function makes of zeros.
        rules: by the name of the function.

    Attributes:
        nodes: what the signals pass.
        channels: of every value.
        delays: of every value, the longest by which blocks of the module declare to lag, in samples
            of the network's input.
        owners: the modules that are running, the innermost last.
        entries: of each of them but the first: the number of nodes when it began to run, that of
            cuts, the signals that it got, and their values.
        cuts: number of calls that moved, padded or trimmed a signal in time.
        tasks: to be run when the module's own parameters are no longer needed.
        dropped: samples at the end of the input that some signal no longer contains: padding in
            their place touches the last columns.
    """

    def __init__(
        self,
        names: dict[nn.Module, str],
        rules: dict[str, Rule],
        *,
        delay: bool,
        exact: bool,
        early: bool,
    ) -> None:
        self.names, self.rules = names, rules
        self.delay, self.exact, self.early = delay, exact, early
        self.nodes: list[Node] = []
        self.loose: set[int] = set()
        self.channels: list[int] = []
        self.delays: list[Fraction] = []
        self.owners: list[nn.Module] = []
        self.entries: list[tuple[int, int, list[Signal], list[int]]] = []
        self.cuts = 0
        self.tasks: list[Callable[[], None]] = []
        self.dropped = Fraction(0)
        self._waiting: dict[tuple[int, int, str], int] = {}

    # --- the run ----------------------------------------------------------------------------------

    def input(
        self, channels: int, dtype: torch.dtype | None, axes: tuple[str, ...] = CANONICAL
    ) -> Signal:
        """Return the signal that the module takes, with its axes in this order."""
        self.channels.append(channels)
        self.delays.append(Fraction(0))
        sizes = {"B": BATCH, "C": channels, "T": NOMINAL_SAMPLES}
        shape = torch.empty([sizes[axis] for axis in axes], device="meta", dtype=dtype)
        return self._signal(shape, 0, Timing(), axes)

    def call(self, call: Call) -> Any:
        """Note a call of a function of torch; return its result.

        Raises:
            Refusal: if it has no causal counterpart.
        """
        rule = self.rules.get(call.name)
        if rule is None:
            raise self.refusal(f"calls {call.name}, which has no causal counterpart here")
        if call.kwargs.get("out") is not None:
            raise self.refusal("writes into a tensor that it was given as out; leave it out")
        self.require_fresh(*call.signals)
        found = rule(call)
        target = call.args[0] if call.args else None
        if call.name in VIEWS and isinstance(target, Signal):
            parts = found if isinstance(found, tuple) else (found,)
            pieces = tuple(one for one in parts if one is not target)
            for one in pieces:
                one.base, one.pieces = target, pieces
            target.views += pieces
        if not (call.in_place and isinstance(found, Signal) and isinstance(target, Signal)):
            return found
        for one in target.sharing():
            one.stale = True
        target.value, target.timing, target.axes = found.value, found.timing, found.axes
        return target

    def require_fresh(self, *signals: Signal) -> None:
        """Raise Refusal for a signal whose memory was changed through another one."""
        if any(one.stale for one in signals):
            raise self.refusal("changes a tensor in place that is a part of another one; copy it")

    @property
    def owner(self) -> nn.Module:
        """The innermost module that runs."""
        return self.owners[-1]

    # --- notes ------------------------------------------------------------------------------------

    def note(
        self,
        module: nn.Module,
        *inputs: int,
        channels: int,
        loose: bool = False,
        delay: Fraction = Fraction(0),
    ) -> int:
        """Append a node; return its value.

        Args:
            module: a causal block or one pointwise in time.
            inputs: values.
            channels: that it returns.
            loose: whether it stands for a function that a module calls.
            delay: that a causal block of the module declares, in samples of the network's input.
        """
        name = self.names.get(self.owner, "").replace(".", "_") or type(self.owner).__name__
        if isinstance(module, Delay | Onset):
            name = f"{name}_{type(module).__name__.lower()}"
        taken = {node.name for node in self.nodes}
        unique, i = name, 1
        while unique in taken:
            i += 1
            unique = f"{name}_{i}"
        self.nodes.append(Node(unique, module, inputs))
        self.channels.append(channels)
        self.delays.append(max(self.delays[one] for one in inputs) + delay)
        if loose:
            self.loose.add(len(self.nodes))
        return len(self.nodes)

    def signal(
        self,
        call: Call,
        like: Tensor,
        value: int,
        timing: Timing,
        axes: tuple[str, ...] = CANONICAL,
    ) -> Signal:
        """Return the signal that a call gives, unless it lags although no delay is allowed.

        Raises:
            Refusal: see there.
        """
        if (NOMINAL_SAMPLES * timing.rate).denominator != 1:
            raise self.refusal(
                f"makes the sample rate {timing.rate} of that of the input, which "
                "is beyond what is followed here; choose strides of 2, 3, 5, 7, 11"
            )
        made = self._signal(like, value, timing, axes)
        self.dropped = max(self.dropped, -(timing.shift + made.excess) / timing.rate)
        given = call.signals[0]
        self.cuts += (given.timing, given.excess) != (timing, made.excess)
        if made.lag and not self.delay:
            n = -int(-made.lag * given.timing.rate // timing.rate)
            samples = f"{n} sample{'s' if n != 1 else ''}"
            raise self.refusal(
                f"looks {samples} ahead; pass delay=True to turn that into a delay of {samples}"
            )
        return made

    def _signal(self, like: Tensor, value: int, timing: Timing, axes: tuple[str, ...]) -> Signal:
        made = like.as_subclass(Signal)
        made.tracer, made.value, made.timing, made.axes = self, value, timing, axes
        made.views = []
        return made

    def waiting(self, value: int, samples: int) -> int:
        """Return a value that waits; the same one where it was asked for before."""
        return self._once(value, samples, Delay) if samples else value

    def begun(self, signal: Signal) -> int:
        """Return its value, with zeros before its first column where windows must see zeros."""
        start = signal.timing.start
        return self._once(signal.value, start, Onset) if self.exact and start else signal.value

    def _once(self, value: int, samples: int, kind: type[Delay] | type[Onset]) -> int:
        key = value, samples, kind.__name__
        if key not in self._waiting:
            n = self.channels[value]
            self._waiting[key] = self.note(kind(n, samples), value, channels=n)
        return self._waiting[key]

    def aligned(self, signals: list[Signal], *, of_zeros: bool = False) -> tuple[list[int], Timing]:
        """Let the earlier signals wait for the latest one; return their values and the timing.

        Args:
            signals: at least one.
            of_zeros: whether zeros may stand before what is made of them, as before themselves;
                else they wait for the zeros in front of them.

        Raises:
            Refusal: if they have different rates.
        """
        rates = {signal.timing.rate for signal in signals}
        if len(rates) > 1:
            raise self.refusal("joins signals of different sample rates")
        shift, values = max(signal.timing.shift for signal in signals), []
        shift = shift if of_zeros and self.early else max(0, shift)
        for signal in signals:
            padded = signal.timing.start > signal.timing.shift
            value = self.begun(signal) if padded else signal.value
            values.append(self.waiting(value, shift - signal.timing.shift))
        return values, Timing(rates.pop(), shift, max(0, shift))

    # --- refusals ---------------------------------------------------------------------------------

    def refusal(self, why: str) -> Refusal:
        """Return the error that names the innermost module and says why."""
        owner = self.owner
        name = self.names.get(owner) or "the module itself"
        return Refusal(f"{name} ({describe(owner)}) {why}")


def describe(module: nn.Module) -> str:
    """The class of a module, and the geometry of a window."""
    words = [type(module).__name__]
    for attribute in ("kernel_size", "stride", "dilation", "padding"):
        value = getattr(module, attribute, None)
        value = value[0] if isinstance(value, tuple) and len(value) == 1 else value
        default = {"stride": 1, "dilation": 1, "padding": 0}.get(attribute)
        if isinstance(value, int | str) and value != default:
            words.append(f"{attribute.removesuffix('_size')} {value}")
    return ", ".join(words)
