"""Elementwise activations that torch does not have: of amplifier models, and of vocoders."""

from __future__ import annotations

import copy
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from wavenet.nn.exact import class_of
from wavenet.values.integers import as_integer

Network = TypeVar("Network", bound=nn.Module)

# Coefficients of Neural Amp Modeler's "Fasttanh", fixed by its file format.
FAST_TANH_LINEAR = 2.45550750702956
FAST_TANH_SQUARE = 0.893229853513558
FAST_TANH_CUBE = 0.821226666969744
FAST_TANH_BELOW = 2.44506634652299
FAST_TANH_SLOPE = 0.814642734961073


class FastTanh(nn.Module):
    """A rational function near tanh:

    x (l + l|x| + (s + c|x|) x^2) / (b + (b + x^2) |x + m x|x||)

    >>> x = torch.linspace(-9, 9, 1001)
    >>> bool((FastTanh()(x) - x.tanh()).abs().max() < 0.01)
    True
    """

    def forward(self, x: Tensor) -> Tensor:
        """``[..., T]`` to the same shape."""
        size, square = x.abs(), x * x
        over = FAST_TANH_LINEAR * (1 + size) + (FAST_TANH_SQUARE + FAST_TANH_CUBE * size) * square
        under = FAST_TANH_BELOW + (FAST_TANH_BELOW + square) * (size * (1 + FAST_TANH_SLOPE * size))
        return x * over / under


FAST_TANH_ERROR = 0.0081
"""Largest difference of ``FastTanh`` from tanh, for any input."""


def with_fast_tanh(module: Network) -> Network:
    """Return a copy of a network in which every ``nn.Tanh`` is a ``FastTanh``.

    The copy is a few percent faster in ``wavenet.process`` and gives other numbers: each activation
    is off by at most ``FAST_TANH_ERROR``. The gates of a WaveNet are no ``nn.Tanh``; they stay as
    they are.

    >>> net = with_fast_tanh(nn.Sequential(nn.Conv1d(1, 8, 3), nn.Tanh()))
    >>> net[1]
    FastTanh()

    Args:
        module: any network; it is not changed.

    Raises:
        ValueError: if it has no ``nn.Tanh``.
    """
    made = nn.ModuleDict({"network": copy.deepcopy(module)})
    found = [
        (parent, name)
        for parent in made.modules()
        for name, child in parent.named_children()
        if class_of(child) is nn.Tanh
    ]
    if not found:
        raise ValueError(f"{type(module).__name__} has no nn.Tanh to replace; use it as it is")
    for parent, name in found:
        fast = FastTanh().train(parent.training)
        parent.register_module(name, fast)
    return cast(Network, made["network"])


class Softsigmoid(nn.Module):
    """(1 + x / (1 + |x|)) / 2.

    >>> Softsigmoid()(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([0.2500, 0.5000, 0.7500])
    """

    def forward(self, x: Tensor) -> Tensor:
        """``[..., T]`` to the same shape."""
        return 0.5 * (1 + x / (1 + x.abs()))


class LeakyHardtanh(nn.Module):
    """Identity between two values, and straight lines of other slopes beyond them.

    >>> LeakyHardtanh()(torch.tensor([-2.0, 0.5, 3.0]))
    tensor([-1.0100,  0.5000,  1.0200])

    Args:
        min_val: below it the slope is ``min_slope``.
        max_val: above it the slope is ``max_slope``.
        min_slope: 0 for a hard limit.
        max_slope: 0 for a hard limit.
    """

    def __init__(
        self,
        min_val: float = -1.0,
        max_val: float = 1.0,
        min_slope: float = 0.01,
        max_slope: float = 0.01,
    ) -> None:
        super().__init__()
        self.min_val, self.max_val = min_val, max_val
        self.min_slope, self.max_slope = min_slope, max_slope

    def forward(self, x: Tensor) -> Tensor:
        """``[..., T]`` to the same shape."""
        low = (x - self.min_val) * self.min_slope + self.min_val
        high = (x - self.max_val) * self.max_slope + self.max_val
        return torch.where(x > self.max_val, high, torch.where(x < self.min_val, low, x))

    def extra_repr(self) -> str:
        """Show the four numbers."""
        return f"{self.min_val}, {self.max_val}, {self.min_slope}, {self.max_slope}"


class Snake(nn.Module):
    """A periodic activation, with one frequency per channel: x + sin(alpha x)^2 / alpha.

    Ziyin et al. 2020; with a trained alpha per channel as in BigVGAN (Lee et al. 2023).
    1e-9 is added to the divisor, so that alpha 0 is the identity.

    >>> net = Chain(CausalConv1d(1, 8, 7), Snake(8, alpha=0.5), CausalConv1d(8, 1, 7))
    >>> net.past
    12

    Args:
        channels: C of ``[B, C, T]``.
        alpha: initial value, in radians per unit of x.

    Raises:
        ValueError: if channels is no positive integer, or alpha is not above 0.
    """

    def __init__(self, channels: int, *, alpha: float = 1.0) -> None:
        super().__init__()
        if not alpha > 0:
            raise ValueError(f"alpha={alpha!r} must be above 0; the default is 1.0")
        self.initial_alpha = float(alpha)
        self.alpha = nn.Parameter(torch.empty(as_integer("channels", channels)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set alpha to its initial value."""
        nn.init.constant_(self.alpha, self.initial_alpha)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T]`` to the same shape."""
        alpha = self.alpha[:, None]
        return x + torch.sin(alpha * x).square() / (alpha + 1e-9)

    def extra_repr(self) -> str:
        """Show the channels."""
        return str(len(self.alpha))
