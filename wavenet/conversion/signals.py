"""Tensors without values that a module is run on, to note what it does to them.

A signal is a tensor on torch's meta device, so that torch computes the shapes, of a length that is
far longer than any network's field and that all common strides divide. What its length is more or
less than that is an excess at the end, and an index beyond half of it counts from the end.

Of every signal are known

- the value: which node of the network returns it, ``[B, C, T]`` always;
- the rate, in samples per sample of the network's input;
- the shift: column j of the module's signal is column ``j + shift`` of the value. A window that
  looks ahead adds to it, and zeros that are put in front subtract from it;
- the start: columns of the value before the module's first one, for which the network had no input;
- the axes, as the module has them: ``BCT``, ``BTC``, ``TBC``, without C, or with several axes of
  channels, C, D and so on in this order, as ``BCDT``. The channels of the value are then in the
  order of these axes, the last one fastest.

The output lags behind the input by the shift less the columns that are missing at the end.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

if TYPE_CHECKING:
    from wavenet.conversion.tracing import Tracer

NOMINAL_SAMPLES = 2**10 * 3**3 * 5**2 * 7 * 11
"""Length of the input, of which all common strides are divisors; torch counts some in 32 bits."""
LONGEST_CONSTANT = 2**16
"""Largest size of a tensor that a module makes while it runs."""
BATCH = 2
OTHER_AXES = "or pass axes='BTC' if the module itself takes [B, T, C]"
"""Second remedy where axes come in an order that a layer cannot be converted with."""


VIEWS = (
    "transpose", "swapaxes", "swapdims", "permute", "get mT", "squeeze", "unsqueeze", "view",
    "reshape", "flatten", "unflatten", "chunk", "split", "tensor_split", "unbind", "narrow",
    "expand", "__getitem__",
)  # fmt: skip
"""Functions whose results share the memory of what they take."""


class Refusal(ValueError):
    """Raised for a module that has no causal counterpart; one line, which names the layer.

    >>> causal(nn.Sequential(nn.Conv1d(1, 8, 3), nn.GroupNorm(2, 8)))
    Traceback (most recent call last):
        ...
    wavenet.conversion.signals.Refusal: 1 (GroupNorm) normalizes over time, later ...
    """


@dataclass(frozen=True)
class Timing:
    """See the top of this module.

    Attributes:
        rate, shift, start: see there.
    """

    rate: Fraction = Fraction(1)
    shift: int = 0
    start: int = 0

    def waiting(self, samples: int) -> Timing:
        """Return the timing of the signal that many samples later."""
        shift = self.shift + samples
        return Timing(self.rate, shift, max(0, shift))

    def at_rate(self, factor: Fraction) -> Timing:
        """Return the timing behind a change of the sample rate; the shift has to stay whole."""
        shift = int(self.shift * factor)
        return Timing(self.rate * factor, shift, max(0, shift))


class Signal(Tensor):
    """A tensor without values, which notes what is done to it.

    Attributes:
        tracer: what takes the notes.
        value: number of the value; see ``Node.inputs``.
        timing: see there.
        axes: as ``("B", "C", "T")``.
        base: the signal whose memory it shares in the module, if any.
        views: signals whose base it is.
        pieces: those that the call returned which made it, no two of which share a number.
        stale: whether the module changed its memory through another signal.
    """

    tracer: Tracer
    value: int
    timing: Timing
    axes: tuple[str, ...]
    base: Signal | None = None
    views: list[Signal]
    pieces: tuple[Signal, ...] = ()
    stale: bool = False

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
        """Channels of the value, 1 where there is no such axis."""
        return math.prod(
            int(n) for axis, n in zip(self.axes, self.shape, strict=True) if axis not in "BT"
        )

    @property
    def groups(self) -> tuple[int, ...]:
        """Sizes of the axes of channels, -1 if there is one alone."""
        found = [int(n) for axis, n in zip(self.axes, self.shape, strict=True) if axis not in "BT"]
        return tuple(found) if len(found) != 1 else (-1,)

    def sharing(self) -> Iterator[Signal]:
        """The other signals that may have numbers of this one in their memory."""
        yield from self._viewing()
        one = self
        while one.base is not None:
            for view in one.base.views:
                if all(view is not piece for piece in one.pieces):
                    yield view
                    yield from view._viewing()
            one = one.base
            yield one

    def _viewing(self) -> Iterator[Signal]:
        """Its views, and theirs."""
        for view in self.views:
            yield view
            yield from view._viewing()

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
        at = place_of_inplace(self.function)
        asked = self.kwargs.get("inplace") or (at is not None and self.argument(at, "inplace"))
        return method or bool(asked) or self._of_module_in_place

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


def lettered(axes: Iterable[str | None]) -> tuple[str, ...]:
    """Return axes with their channels named C, D, ... in order.

    Args:
        axes: B, T, and anything else for channels, such as None for a new axis.
    """
    names = iter("CDEFGH")
    return tuple(axis if axis in ("B", "T") else next(names) for axis in axes)


Rule = Callable[[Call], Any]
"""Notes a call and returns its result."""


def place_of_inplace(function: Any) -> int | None:
    """Return the place of an argument ``inplace``, None if a function has none."""
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # of torch's compiled part
        return None
    return names.index("inplace") if "inplace" in names else None


def is_torchs(module: nn.Module) -> bool:
    """Return whether a module is one of torch without children, such as an activation."""
    return type(module).__module__.startswith("torch.nn.modules") and not module._modules


def _without_values(value: Any) -> Any:
    if isinstance(value, Tensor) and value.device.type != "meta":
        return torch.empty_like(value, device="meta")
    return value
