"""What a module does to a signal, noted while the module runs on tensors without values.

A signal is a tensor on torch's meta device, so that torch computes the shapes, of a length that is
far longer than any network's field and that all common strides divide. What its length is more or
less than that is an excess at the end, and an index beyond half of it counts from the end.

Of every signal are known

- the value: which node of the network returns it, ``[B, C, T]`` always;
- the rate, in samples per sample of the network's input;
- the shift: column j of the module's signal is column ``j + shift`` of the value. A window that
  looks ahead adds to it, and zeros that are put in front subtract from it;
- the start: columns of the value before the module's first one, for which the network had no input;
- the axes, as the module has them: ``BCT``, ``BTC``, ``TBC``, or without C.

The output lags behind the input by the shift less the columns that are missing at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from wavenet.conversion.joins import CANONICAL
from wavenet.conversion.network import Node
from wavenet.conversion.onset import Onset
from wavenet.nn.delay import Delay

NOMINAL_SAMPLES = 2**10 * 3**3 * 5**2 * 7 * 11
"""Length of the input, of which all common strides are divisors; torch counts some in 32 bits."""
LONGEST_CONSTANT = 2**16
"""Largest size of a tensor that a module makes while it runs."""
BATCH = 2


class Refusal(ValueError):
    """Raised for a module that has no causal counterpart; one line, which names the layer."""


@dataclass(frozen=True)
class Timing:
    """See the top of this module.

    Attributes:
        rate, shift, start: see there.
    """

    rate: Fraction = Fraction(1)
    shift: int = 0
    start: int = 0


class Signal(Tensor):
    """A tensor without values, which notes what is done to it.

    Attributes:
        tracer: what takes the notes.
        value: number of the value; see ``Node.inputs``.
        timing: see there.
        axes: as ``("B", "C", "T")``.
    """

    tracer: Tracer
    value: int
    timing: Timing
    axes: tuple[str, ...]

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Note the call of a function of torch."""
        kwargs = kwargs or {}
        leaves = tree_flatten((args, kwargs))[0]
        tracer = next(leaf.tracer for leaf in leaves if isinstance(leaf, Signal))
        return tracer.call(Call(tracer, func, args, kwargs))

    @property
    def channels(self) -> int:
        """C, 1 where there is no such axis."""
        return int(self.shape[self.axes.index("C")]) if "C" in self.axes else 1

    @property
    def excess(self) -> int:
        """Columns more than the input has at this rate; negative for less."""
        n = int(self.shape[self.axes.index("T")])
        return n - int(NOMINAL_SAMPLES * self.timing.rate)

    @property
    def lag(self) -> int:
        """Columns by which it lags behind the input."""
        return max(0, self.timing.shift + min(self.excess, 0))


@dataclass(frozen=True)
class Call:
    """A call of a function of torch, with signals among the arguments."""

    tracer: Tracer
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the function, without the underscore of one in place."""
        name = str(getattr(self.function, "__name__", self.function))
        if name == "__get__":
            return f"get {self.function.__self__.__name__}"
        return name if name.startswith("__") else name.rstrip("_")

    @property
    def in_place(self) -> bool:
        """Whether the first argument is changed."""
        name = str(getattr(self.function, "__name__", ""))
        method = name.startswith("__i") if name.startswith("__") else name.endswith("_")
        return method or bool(self.kwargs.get("inplace")) or self._of_module_in_place

    @property
    def _of_module_in_place(self) -> bool:
        owner = self.tracer.owner
        return is_torchs(owner) and bool(getattr(owner, "inplace", False))

    @property
    def signals(self) -> list[Signal]:
        """The signals among the arguments, in order."""
        return [
            leaf for leaf in tree_flatten((self.args, self.kwargs))[0] if isinstance(leaf, Signal)
        ]

    def result(self) -> Any:
        """Return what torch returns: shapes without values."""
        with torch._C.DisableTorchFunctionSubclass(), torch.no_grad():
            args, kwargs = tree_map(_without_values, (self.args, self.kwargs))
            return self.function(*args, **kwargs)

    def argument(self, index: int, name: str, default: Any = None) -> Any:
        """Return an argument by its place or its name."""
        return self.args[index] if len(self.args) > index else self.kwargs.get(name, default)


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


Rule = Callable[[Call], Any]
"""Notes a call and returns its result."""


class Tracer:
    """Notes of a module's run.

    Args:
        names: qualified name of every submodule.
        delay: whether windows that look ahead become delays.
        exact: whether columns before a signal's first one must be zeros where windows see them.
        rules: by the name of the function.

    Attributes:
        nodes: what the signals pass.
        values: channels of every value.
        owners: the modules that are running, the innermost last.
        entries: of each of them but the first: the number of nodes when it began to run, the
            signals that it got, and their values.
        tasks: to be run when the module's own parameters are no longer needed.
    """

    def __init__(
        self, names: dict[nn.Module, str], rules: dict[str, Rule], *, delay: bool, exact: bool
    ) -> None:
        self.names, self.rules, self.delay, self.exact = names, rules, delay, exact
        self.nodes: list[Node] = []
        self.loose: set[int] = set()
        self.channels: list[int] = []
        self.owners: list[nn.Module] = []
        self.entries: list[tuple[int, list[Signal], list[int]]] = []
        self.tasks: list[Callable[[], None]] = []
        self._waiting: dict[tuple[int, int, str], int] = {}

    # --- the run ----------------------------------------------------------------------------------

    def input(self, channels: int, dtype: torch.dtype | None) -> Signal:
        """Return the signal that the module takes."""
        self.channels.append(channels)
        shape = torch.empty(BATCH, channels, NOMINAL_SAMPLES, device="meta", dtype=dtype)
        return self._signal(shape, 0, Timing(), CANONICAL)

    def call(self, call: Call) -> Any:
        """Note a call of a function of torch; return its result.

        Raises:
            Refusal: if it has no causal counterpart.
        """
        rule = self.rules.get(call.name)
        if rule is None:
            raise self.refusal(f"calls {call.name}, which has no causal counterpart here")
        found = rule(call)
        target = call.args[0] if call.args else None
        if not (call.in_place and isinstance(found, Signal) and isinstance(target, Signal)):
            return found
        target.value, target.timing, target.axes = found.value, found.timing, found.axes
        return target

    @property
    def owner(self) -> nn.Module:
        """The innermost module that runs."""
        return self.owners[-1]

    # --- notes ------------------------------------------------------------------------------------

    def note(self, module: nn.Module, *inputs: int, channels: int, loose: bool = False) -> int:
        """Append a node; return its value.

        Args:
            module: a causal block or one pointwise in time.
            inputs: values.
            channels: that it returns.
            loose: whether it stands for a function that a module calls.
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
        if made.lag and not self.delay:
            n = -int(-made.lag * call.signals[0].timing.rate // timing.rate)
            samples = f"{n} sample{'s' if n != 1 else ''}"
            raise self.refusal(
                f"looks {samples} ahead; pass delay=True to turn that into a delay of {samples}"
            )
        return made

    def _signal(self, like: Tensor, value: int, timing: Timing, axes: tuple[str, ...]) -> Signal:
        made = like.as_subclass(Signal)
        made.tracer, made.value, made.timing, made.axes = self, value, timing, axes
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

    def aligned(self, signals: list[Signal]) -> tuple[list[int], Timing]:
        """Let the earlier signals wait for the latest one; return their values and the timing.

        Raises:
            Refusal: if they have different rates.
        """
        rates = {signal.timing.rate for signal in signals}
        if len(rates) > 1:
            raise self.refusal("joins signals of different sample rates")
        shift, values = max([0, *(signal.timing.shift for signal in signals)]), []
        for signal in signals:
            padded = signal.timing.start > signal.timing.shift
            value = self.begun(signal) if padded else signal.value
            values.append(self.waiting(value, shift - signal.timing.shift))
        return values, Timing(rates.pop(), shift, shift)

    # --- refusals ---------------------------------------------------------------------------------

    def refusal(self, why: str) -> Refusal:
        """Return the error that names the innermost module and says why."""
        owner = self.owner
        name = self.names.get(owner) or "the module itself"
        return Refusal(f"{name} ({describe(owner)}) {why}")


def is_torchs(module: nn.Module) -> bool:
    """Return whether a module is one of torch without children, such as an activation."""
    return type(module).__module__.startswith("torch.nn.modules") and not module._modules


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


def _without_values(value: Any) -> Any:
    if isinstance(value, Tensor) and value.device.type != "meta":
        return torch.empty_like(value, device="meta")
    return value
