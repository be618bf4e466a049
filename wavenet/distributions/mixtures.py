"""Continuous densities integrated over the 16-bit step: logistics, Gaussians and their mixtures."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from wavenet.distributions.base import (
    STEP,
    X_MAX,
    X_MIN,
    Distribution,
    category_weights,
    check_size,
    draw_category,
    on_grid,
)

MIN_LOG_SCALE = math.log(STEP / 4)
"""Lower bound of the log-scales. In digital silence the best scale is 0. A quarter of a step
already puts 95 % of a normal's mass (76 % of a logistic's) on one sample, so a narrower density
gains little, while the gradient of the mean grows as 1/scale."""
MAX_LOG_SCALE = 7.0
"""Upper bound of the log-scales, about 1100 full scales: exp(-log_scale) does not underflow."""
MAX_MEAN = 64.0
"""Bound of the means, far outside [-1, 1]: beyond a bound the gradient is 0, so training should
never reach it."""
INITIAL_SCALES = (0.001, 0.2)
"""Smallest and largest initial scale: those of quiet and of loud speech."""


# Gauss-Legendre with 5 points on [-1/2, 1/2]: the middle, then pairs (Abramowitz & Stegun 25.4.30).
_MIDDLE_WEIGHT = 64 / 225
_PAIRS = tuple(
    (math.sqrt(5 + sign * 2 * math.sqrt(10 / 7)) / 6, (322 - sign * 13 * math.sqrt(70)) / 900)
    for sign in (-1, 1)
)


def _normal_log_step(z: Tensor, h: Tensor) -> Tensor:
    """log of the standard normal's mass in [z - h/2, z + h/2], z >= 0, to float accuracy.

    The mass is phi(z) times the integral of exp(-z u - u^2/2) over |u| < h/2. Where that exponent
    is small (`fine`) the integrand is nearly a polynomial: 5 points leave a relative error under
    1e-12. Elsewhere it is Q(z - h/2) - Q(z + h/2), with Q(a) = exp(-a^2/2) erfcx(a / sqrt 2) / 2
    and exp(-z^2/2) factored out of both: it neither underflows nor cancels. Each branch gets
    harmless numbers where the other is taken, since NaN gradients pass through `torch.where`.
    """
    fine = (h <= 0.5) & (z * h <= 1)

    z_fine, h_fine = z.masked_fill(~fine, 0), h.masked_fill(~fine, 0.5)
    integral = torch.full_like(z_fine, _MIDDLE_WEIGHT)
    for node, weight in _PAIRS:
        u = node * h_fine
        integral = integral + weight * torch.exp(-(u**2) / 2) * torch.cosh(z_fine * u)
    log_fine = torch.log(h_fine * integral / math.sqrt(2 * math.pi))

    z_wide, h_wide = z.masked_fill(fine, 1), h.masked_fill(fine, 1)
    low, high = (z_wide - h_wide / 2) / math.sqrt(2), (z_wide + h_wide / 2) / math.sqrt(2)
    tails = torch.special.erfcx(low) - torch.exp(-z_wide * h_wide) * torch.special.erfcx(high)
    log_wide = z_wide * h_wide / 2 - h_wide**2 / 8 + torch.log(tails / 2)

    return torch.where(fine, log_fine, log_wide) - z**2 / 2


def _normal_log_cdf(t: Tensor) -> Tensor:
    """log Phi(t); `torch.special.log_ndtr` has wrong gradients below t = -1e4 in float32."""
    left = t < 0
    t_left, t_right = t.masked_fill(~left, -1), t.masked_fill(left, 1)
    log_left = torch.log(torch.special.erfcx(-t_left / math.sqrt(2)) / 2) - t_left**2 / 2
    return torch.where(left, log_left, torch.log1p(-torch.erfc(t_right / math.sqrt(2)) / 2))


class _Mixture(Distribution):
    """K locations and scales; a family of them is a log-mass and a standard quantile."""

    mixtures: int
    uniforms_per_sample: ClassVar[int] = 2

    @abstractmethod
    def _log_mass(self, x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        """log of a component's mass in the step around x, or in the tail from there on."""

    def __post_init__(self) -> None:
        check_size("mixtures", self.mixtures, 1, 65536)

    @property
    def n_params(self) -> int:
        return 3 * self.mixtures

    @property
    def n_components(self) -> int:
        return self.mixtures

    def mean(self, params: Tensor) -> Tensor:
        """The mean of the density, [B, T], before rounding to the grid."""
        logits, means, _ = self._split(self._checked(params))
        return (category_weights(logits) * means).sum(dim=1)

    def initial_params(self) -> Tensor:
        """Means 0 and scales in equal ratios, which also makes the components differ."""
        narrow, wide = INITIAL_SCALES
        log_scales = torch.linspace(math.log(wide), math.log(narrow), self.mixtures)
        return torch.cat([torch.zeros(self.n_params - self.mixtures), log_scales])

    def relocate(self, params: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
        """Shift the means by location and scale them, and the scales, by exp(log_scale)."""
        n = self.mixtures
        before, means, log_scales = params.split([self.n_params - 2 * n, n, n], dim=1)
        means = location + log_scale.exp() * means
        return torch.cat([before.to(means.dtype), means, log_scale + log_scales], dim=1)

    def _split(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, means, log_scales = params.chunk(3, dim=1)
        return logits, *_bounded(means, log_scales)

    def _log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        logits, means, log_scales = self._split(params)
        log_mass = self._log_mass(x[:, None], means, log_scales)
        return (logits.log_softmax(dim=1) + log_mass).logsumexp(dim=1)

    def _sample(
        self, params: Tensor, uniforms: Tensor, temperature: float, top_p: float | None
    ) -> Tensor:
        logits, mean, log_scale = self._split(params)
        if self.mixtures > 1:
            k = draw_category(category_weights(logits, temperature), uniforms[:, :1])
            mean, log_scale = mean.gather(1, k), log_scale.gather(1, k)
        scale = torch.exp(log_scale)
        if temperature != 1.0:
            scale = scale * temperature
        return on_grid(mean + scale * self.standard_quantile(uniforms[:, -1:])).squeeze(1)


@dataclass(frozen=True)
class LogisticMixture(_Mixture):
    """Discretised mixture of logistics (Salimans et al. 2017, PixelCNN++, section 2.1).

    params: logits | means | log_scales, `mixtures` channels each.
    Raises: ValueError unless mixtures >= 1.

    >>> distribution = LogisticMixture(mixtures=4)
    >>> distribution.n_params, distribution.uniforms_per_sample
    (12, 2)
    """

    mixtures: int = 10

    name: ClassVar[str] = "logistic_mixture"

    def _log_mass(self, x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)) cancels nothing, with
        # a, b = z +- h/2. A tail has one limit: one sigmoid and no third factor.
        inverse_scale = torch.exp(-log_scale)
        z, h = (x - mean) * inverse_scale, STEP * inverse_scale
        first, last = x <= X_MIN, x >= X_MAX
        up_to = logsigmoid(h / 2 + z).masked_fill(last, 0)
        from_on = logsigmoid(h / 2 - z).masked_fill(first, 0)
        width = torch.log(-torch.expm1(-h)).masked_fill(first | last, 0)
        return up_to + from_on + width

    def standard_quantile(self, u: Tensor) -> Tensor:
        """Return log(u / (1 - u)), the quantile of the standard logistic."""
        return torch.logit(u)


@dataclass(frozen=True)
class GaussianMixture(_Mixture):
    """Discretised mixture of Gaussians; laid out like `LogisticMixture`, with lighter tails.

    >>> GaussianMixture(mixtures=5).n_params
    15
    """

    mixtures: int = 10

    name: ClassVar[str] = "gaussian_mixture"

    def _log_mass(self, x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        inverse_scale = torch.exp(-log_scale)
        z, h = (x - mean) * inverse_scale, STEP * inverse_scale
        tail = _normal_log_cdf(torch.where(x < 0, z, -z) + h / 2)
        return torch.where((x <= X_MIN) | (x >= X_MAX), tail, _normal_log_step(z.abs(), h))

    def standard_quantile(self, u: Tensor) -> Tensor:
        """Return the inverse of the standard normal CDF."""
        return torch.special.ndtri(u)


@dataclass(frozen=True)
class Gaussian(GaussianMixture):
    """Discretised Gaussian (Ping et al. 2019, ClariNet): one component, params mean | log_scale.

    >>> params = torch.tensor([0.1, -4.0]).reshape(1, 2, 1)  # mean, log of the deviation
    >>> Gaussian().sample(params, torch.full((1, 1, 1), 0.5))
    tensor([[0.1000]])
    """

    mixtures: int = field(default=1, init=False, repr=False)

    name: ClassVar[str] = "gaussian"
    uniforms_per_sample: ClassVar[int] = 1

    @property
    def n_params(self) -> int:
        return 2

    def _split(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_scale = _bounded(params[:, :1], params[:, 1:])
        return torch.zeros_like(mean), mean, log_scale


def _bounded(mean: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    return mean.clamp(-MAX_MEAN, MAX_MEAN), log_scale.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE)
