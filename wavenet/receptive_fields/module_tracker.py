"""Tracking a network through one run: every function that it calls, and in which module.

``ModuleTracker`` is a ``TorchFunctionMode``: while it is on, each call of a torch function passes
through it, whoever makes it: a module, the network's own ``forward``, an operator. That is why this
package runs a network instead of reading it with torch.fx, whose symbolic trace refuses every `if`
on a shape. The tracer and the measurement by gradient share it, so both name layers alike.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from wavenet.nn.causal import Causal
from wavenet.nn.hooks import unreadable


def words(text: str) -> frozenset[str]:
    """The words of a text, as a set of names."""
    return frozenset(text.split())


ALONG_TIME = words(
    """conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d max_pool1d
    max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices
    max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d lp_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
    adaptive_max_pool2d adaptive_max_pool3d interpolate upsample upsample_nearest
    upsample_bilinear pixel_shuffle pixel_unshuffle stft repeat_interleave"""
)
"""Functions that make a layer of their own in the table."""

CONSTANTS = words(
    """zeros_like ones_like empty_like full_like rand_like randn_like randint_like new_zeros
    new_ones new_empty new_full new_tensor bernoulli"""
)
"""Functions that take only the shape of a signal."""

LIKE_ANOTHER: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "to": lambda x, other: x.to(other.dtype),
    "type_as": lambda x, other: x.to(other.dtype),
    "expand_as": lambda x, other: x.expand(other.shape),
    "view_as": lambda x, other: x.view(other.shape),
    "reshape_as": lambda x, other: x.reshape(other.shape),
}
"""Functions that take only the type or the shape of their second argument."""

TO_VALUES = words("__bool__ __complex__ __float__ __index__ __int__ item tolist")
"""Functions that make Python's numbers of a tensor."""


class ModuleTracker(TorchFunctionMode):
    """Tracks which module runs at every call, and gives each layer a unique name.

    Args:
        module: a private copy (see ``private_copy``); hooks are put on it.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._stack: list[tuple[str, nn.Module]] = [("", module)]
        self._calls: dict[str, int] = {}
        for path, part in module.named_modules():
            if path or isinstance(part, Causal):
                part.register_forward_pre_hook(self._entering(path))
                part.register_forward_hook(self._leaving(path), with_kwargs=True)

    @property
    def path(self) -> str:
        """Path of the module that runs."""
        return self._stack[-1][0]

    @property
    def running(self) -> nn.Module:
        """The module that runs."""
        return self._stack[-1][1]

    def place(self, function: str) -> str:
        """Describe the current module and function: ``encoder.attention (MultiheadAttention)``."""
        if self.path and self._is_leaf():
            return f"{self.path} ({type(self.running).__name__})"
        inside = self.path or type(self.running).__name__
        return f"{inside}: {function}"

    def layer(self, function: str) -> tuple[str, str]:
        """Name and kind of the layer of this call: those of the module, if it is a leaf."""
        if self.path and self._is_leaf():
            name, kind = self.path, type(self.running).__name__
        else:
            name, kind = (f"{self.path}.{function}" if self.path else function), function
        self._calls[name] = self._calls.get(name, 0) + 1
        times = self._calls[name]
        return (name if times == 1 else f"{name} ({times})"), kind

    def finished(self, path: str, output: Any) -> None:
        """Handle the output of the module at ``path``; subclasses override this."""

    def _is_leaf(self) -> bool:
        """Return true for a module without children or one of torch's own."""
        own = type(self.running).__module__.startswith("torch.nn.modules")
        return own or next(self.running.children(), None) is None

    def _entering(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            self._stack.append((path, module))

        return hook

    def _leaving(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, settings: dict[str, Any], output: Any) -> None:
            self._stack.pop()
            streamed = isinstance(module, Causal) and settings.get("state") is not None
            self.finished(path, output[0] if streamed else output)

        return hook


def function_name(function: Callable[..., Any]) -> str:
    """``relu`` for ``relu_``, ``add`` for ``__radd__`` and ``__iadd__``."""
    name = getattr(function, "__name__", type(function).__name__)
    if name in ("__get__", "__set__"):
        return f"{name}:{getattr(getattr(function, '__self__', None), '__name__', '')}"
    if name in ("__float__", "__int__", "__bool__", "__index__", "__complex__"):
        return name
    if name.startswith("__") and name.endswith("__"):
        name = name[2:-2]
        if name in _OPERATORS:
            return name
        return name[1:] if name[1:] in _OPERATORS and name[0] in "ri" else name
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def is_in_place(function: Callable[..., Any]) -> bool:
    """Return true if the function changes its first argument."""
    name = getattr(function, "__name__", "")
    if name.startswith("__"):
        return name in ("__setitem__", "__set__") or (name[2] == "i" and name[3:-2] in _OPERATORS)
    return name.endswith("_")


_OPERATORS = words("""add sub mul truediv floordiv mod pow matmul div and or xor lshift rshift""")


def private_copy(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose hooks are its own; the parameters' memory is shared.

    Raises:
        ValueError: if the module cannot be copied, is TorchScript, on which there are no hooks, or
            has lazy parts without weights.
    """
    found = unreadable(module)
    if found is not None:
        raise ValueError(found)
    memo: dict[int, Any] = {}
    for tensor in _tensors_of(module):
        if isinstance(tensor, nn.Parameter):
            memo[id(tensor)] = nn.Parameter(tensor.detach(), requires_grad=False)
        else:
            memo[id(tensor)] = tensor.detach().clone()
    try:
        copied = copy.deepcopy(module, memo)
    except (TypeError, RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{type(module).__name__} cannot be copied: {reason}") from error
    return copied.eval()


def precision(module: nn.Module) -> torch.dtype:
    """float32, unless all of a copy is float64; another precision is brought to float32.

    Sums of positive numbers are zero where all of them are, in float32 as well. Where more digits
    are needed, float64 is taken for one function (``LinearTracker._in_double``).
    """
    found = {p.dtype for p in module.parameters() if p.is_floating_point()}
    dtype = torch.float64 if found == {torch.float64} else torch.float32
    if found - {dtype}:
        module.to(dtype)
    return dtype


def _tensors_of(module: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers and tensors that are plain attributes (old weight normalisation)."""
    yield from module.parameters()
    yield from module.buffers()
    for part in module.modules():
        yield from (value for value in vars(part).values() if isinstance(value, Tensor))


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors anywhere within nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, tuple | list):
        return []
    return [tensor for part in value for tensor in tensors_in(part)]


def named_outputs(output: Any) -> list[tuple[str, Tensor]]:
    """The tensors that a network returns, each with a name: ``output``, ``0``, ``logits``."""
    if isinstance(output, Tensor):
        return [("output", output)]
    if isinstance(output, dict):
        pairs = list(output.items())
    elif isinstance(output, tuple | list):
        pairs = list(enumerate(output))
    elif hasattr(output, "__dict__"):
        pairs = list(vars(output).items())
    else:
        return []
    found = []
    for key, value in pairs:
        inner = named_outputs(value)
        found += [
            (str(key) if name == "output" else f"{key}.{name}", tensor) for name, tensor in inner
        ]
    return found


def spatial_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """``[B, C, T]`` has time at 2, ``[B, C, H, W]`` an image at 2 and 3, ``[B, T]`` time at 1."""
    return tuple(range(2, len(shape))) if len(shape) > 2 else (len(shape) - 1,)


def constant_like(name: str, args: Sequence[Any], of_signal: Callable[[Tensor], bool]) -> Any:
    """A constant in the type or the shape of a signal; None for other calls.

    Args:
        name: of the function.
        args: that it is given.
        of_signal: whether a tensor depends on the input.
    """
    if name not in LIKE_ANOTHER or len(args) < 2 or not isinstance(args[1], Tensor):
        return None
    return None if of_signal(args[0]) else LIKE_ANOTHER[name](args[0], args[1])


def convert(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The same nested value with every tensor replaced."""
    return tree_map(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, value)


def describe_error(error: Exception) -> str:
    """The first line of an error's text, or its class."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
