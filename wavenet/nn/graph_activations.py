"""Activations that the kernel supports: a number for each, and up to four settings.

PReLU has one slope for all channels, as a leaky ReLU has, or one per channel. Snake has a frequency
per channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from wavenet.nn.activations import FastTanh, LeakyHardtanh, Snake, Softsigmoid
from wavenet.nn.exact import class_of

TANH, SIGMOID, RELU, LEAKY_RELU, ELU, SILU, SOFTSIGN, CLAMP, HARDSWISH, GELU = range(10, 20)
FAST_TANH, SOFTSIGMOID, LEAKY_HARDTANH, PRELU = range(20, 24)
SELU, CELU, HARDSIGMOID, MISH, GELU_ERF, SNAKE = range(24, 30)

Settings = tuple[float, ...]

_KNOWN: dict[type[object], Callable[[Any], tuple[int, Settings] | None]] = {
    nn.Tanh: lambda m: (TANH, ()),
    nn.Sigmoid: lambda m: (SIGMOID, ()),
    nn.ReLU: lambda m: (RELU, ()),
    nn.LeakyReLU: lambda m: (LEAKY_RELU, (m.negative_slope,)),
    nn.PReLU: lambda m: (LEAKY_RELU if m.num_parameters == 1 else PRELU, tuple(m.weight.tolist())),
    nn.ELU: lambda m: (ELU, (m.alpha,)),
    nn.SiLU: lambda m: (SILU, ()),
    nn.Softsign: lambda m: (SOFTSIGN, ()),
    nn.Hardtanh: lambda m: (CLAMP, (m.min_val, m.max_val)),
    nn.ReLU6: lambda m: (CLAMP, (0.0, 6.0)),
    nn.Hardswish: lambda m: (HARDSWISH, ()),
    nn.GELU: lambda m: (GELU if m.approximate == "tanh" else GELU_ERF, ()),
    nn.SELU: lambda m: (SELU, ()),
    nn.CELU: lambda m: (CELU, (m.alpha,)),
    nn.Hardsigmoid: lambda m: (HARDSIGMOID, ()),
    nn.Mish: lambda m: (MISH, ()),
    FastTanh: lambda m: (FAST_TANH, ()),
    Snake: lambda m: (SNAKE, tuple(m.alpha.tolist())),
    Softsigmoid: lambda m: (SOFTSIGMOID, ()),
    LeakyHardtanh: lambda m: (LEAKY_HARDTANH, (m.min_val, m.max_val, m.min_slope, m.max_slope)),
}


def activation_of(module: nn.Module) -> tuple[int, Settings] | None:
    """Return the kernel's number for a module and its settings; None for an unsupported one."""
    known = _KNOWN.get(class_of(module))
    return None if known is None else known(module)
