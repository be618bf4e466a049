"""The interface of distributions, the 16-bit grid, and categorical sampling."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from wavenet.values.integers import is_integer, is_number
from wavenet.values.text import short

STEP = 1 / 32768
"""Distance of two neighbouring 16-bit samples (full scale is 1)."""
X_MIN = -1.0
"""Smallest sample of the grid."""
X_MAX = 1.0 - STEP
"""Largest sample of the grid."""


def bits_per_sample(log_prob: Tensor) -> Tensor:
    """Mean of -log_prob, from nats to bits; a scalar tensor. The uniform distribution has 16.

    >>> uniform = torch.full((1, 100), -16 * 0.6931472)  # each of 2^16 samples alike, in nats
    >>> round(bits_per_sample(uniform).item(), 4)
    16.0
    """
    return -log_prob.mean() / math.log(2)


class Distribution(ABC):
    """p(x | params) over the 16-bit samples, one for each row and time step.

    Shapes: params [B, P, T] as the network outputs them (any finite float), x [B, T] in [-1, 1],
    uniforms [B, U, T] in (0, 1), U = `uniforms_per_sample`. Results are float32, or float64 where
    the parameters are. Distributions are values: frozen, comparable, without parameters.

    >>> distribution = make_distribution("logistic_mixture", 10)
    >>> isinstance(distribution, Distribution), distribution.n_params
    (True, 30)
    >>> params = distribution.initial_params()[None, :, None].expand(1, -1, 4)
    >>> tuple(distribution.log_prob(params, torch.zeros(1, 4)).shape)
    (1, 4)
    """

    name: ClassVar[str]
    uniforms_per_sample: ClassVar[int]
    has_classes: ClassVar[bool] = False

    @property
    @abstractmethod
    def n_params(self) -> int:
        """P, the number of output channels of the network."""

    @property
    def n_components(self) -> int:
        """Number of classes or mixture components; the first uniform chooses one."""
        return 1

    def standard_quantile(self, u: Tensor) -> Tensor:
        """Return the inverse CDF of a component of location 0 and scale 1, at u in (0, 1).

        Raises: ValueError for a distribution of classes.
        """
        raise ValueError(f"{self.name} has classes and no quantile: use a mixture")

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """log P(x) in nats, [B, T], of the 16-bit samples nearest to x [B, T].

        Raises: ValueError for params or x of another shape, TypeError for integers.
        """
        params = self._checked(params)
        if x.shape != params[:, 0].shape:
            shape = [params.shape[0], params.shape[2]]
            raise ValueError(f"x must be [B, T] = {shape} like params, got {list(x.shape)}")
        return self._log_prob(params, on_grid(wide(x, "x").to(params.dtype)))

    @torch.no_grad()
    def sample(
        self,
        params: Tensor,
        uniforms: Tensor,
        *,
        temperature: float = 1.0,
        top_p: float | None = None,
    ) -> Tensor:
        """Draw samples [B, T] by inverse CDF (module docstring), monotonic in the last uniform.

        `temperature` > 0 divides logits and multiplies scales: below 1 is less noisy, towards 0
        the most probable. `top_p` in (0, 1], mu-law only, keeps the smallest set of most probable
        classes whose probability reaches it (the nucleus; Holtzman et al. 2020, section 3.1).

        Raises: ValueError for shapes, temperature or top_p outside of these.
        """
        params = self._checked(params)
        expected = (params.shape[0], self.uniforms_per_sample, params.shape[2])
        if uniforms.shape != expected:
            raise ValueError(
                f"uniforms must be [B, U, T] = {list(expected)} for {self.name}, "
                f"got {list(uniforms.shape)}"
            )
        # What float32 can divide and multiply by.
        if not (is_number(temperature) and 1e-30 <= temperature <= 1e30):
            raise ValueError(
                f"temperature must be above 0, such as 0.9 or 1.0, got {short(temperature)}"
            )
        if top_p is not None and not self.has_classes:
            raise ValueError(
                f"top_p={top_p} needs classes and {self.name} has none: lower temperature instead"
            )
        if top_p is not None and not (is_number(top_p) and 0 < top_p <= 1):
            raise ValueError(
                f"top_p must be in (0, 1], or None for all classes, got {short(top_p)}"
            )
        return self._sample(params, uniforms.to(params.dtype), temperature, top_p)

    @abstractmethod
    def mean(self, params: Tensor) -> Tensor:
        """The expected sample, [B, T]."""

    @abstractmethod
    def initial_params(self) -> Tensor:
        """[P] float32, parameters at the start of training: a prior for speech."""

    def relocate(self, params: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
        """The params of location + exp(log_scale) y, where y has the given params.

        Args:
            params: [B, P, T]. location, log_scale: [B, 1, T].

        Raises: ValueError for a distribution of classes, whose values are fixed.
        """
        raise ValueError(f"{self.name} has classes, which cannot be moved; use a mixture")

    def quantize(self, x: Tensor) -> Tensor:
        """Round x, any shape, to the nearest value that `sample` can draw: the network's input."""
        return on_grid(wide(x, "x"))

    def network_input(self, x: Tensor) -> Tensor:
        """Transform x for the network's input, pointwise and differentiable: here the identity."""
        return x

    @abstractmethod
    def _log_prob(self, params: Tensor, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _sample(
        self, params: Tensor, uniforms: Tensor, temperature: float, top_p: float | None
    ) -> Tensor: ...

    def _checked(self, params: Tensor) -> Tensor:
        if params.ndim != 3 or params.shape[1] != self.n_params:
            raise ValueError(
                f"params must be [B, {self.n_params}, T] for {self.name}, got {list(params.shape)}"
            )
        return wide(params, "params")


def wide(tensor: Tensor, argument: str) -> Tensor:
    """Return float64 as it is, any other float as float32."""
    if not tensor.is_floating_point():
        raise TypeError(
            f"{argument} must be floats, got {tensor.dtype}: divide 16-bit samples by 32768"
        )
    return tensor if tensor.dtype == torch.float64 else tensor.to(torch.float32)


def on_grid(x: Tensor) -> Tensor:
    """Round x of any shape to the nearest 16-bit sample."""
    return torch.round(x / STEP).clamp(-32768, 32767) * STEP


def category_weights(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Convert logits [B, K, T] to weights that sum to 1 over K."""
    if temperature != 1.0:  # the largest becomes 0, so that no temperature can overflow it
        logits = (logits - logits.amax(dim=1, keepdim=True)) / temperature
    return logits.softmax(dim=1)


def draw_category(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Draw an index [B, 1, T] from weights [B, K, T]; one of weight 0 is never drawn."""
    cdf = weights.cumsum(dim=1)
    return (cdf < uniforms * cdf[:, -1:]).sum(dim=1, keepdim=True)


def check_size(argument: str, value: int, least: int, most: int) -> None:
    """Raise ValueError unless the value is an integer from least to most."""
    if not is_integer(value) or not least <= value <= most:
        raise ValueError(
            f"{argument} must be a whole number in {least}..{most}, got {short(value)}"
        )
