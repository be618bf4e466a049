"""Distributions of the next audio sample, all of them over the same 65536 values.

The grid. Sound is 16 bit: a sample is x = i * STEP with STEP = 1/32768 and an integer i in
-32768..32767. Every `log_prob` here is the log of the probability *mass* (nats) of one of those
values and every `sample` draws one of them, so bits per sample compare between distributions:

    name               params [B, P, T], blocks of channels     P             uniforms a sample
    mu_law             logits                                   classes       1
    logistic_mixture   logits | means | log_scales, K each      3 K           2
    gaussian           mean | log_scale                         2             1
    gaussian_mixture   logits | means | log_scales, K each      3 K           2

A mu-law class spreads its probability evenly over the 16-bit values that it holds. A continuous
density is integrated over [x - STEP/2, x + STEP/2]; the first and the last value take the tails.

Drawing is by inverse CDF from given uniforms u in the open interval (0, 1). The rule that every
engine repeats (up to rounding):

    category    p = softmax(logits / temperature), cdf = cumsum(p) in the order of the classes;
                the class is the number of k with cdf[k] < u * cdf[-1]
    value       v = mean + temperature * scale * quantile(u), i = round_half_even(v / STEP),
                clamped to -32768..32767

A mixture picks the component with the first uniform and the value with the second. Arithmetic is
in float32 (float64 for float64 parameters), and the bounds below keep values and gradients finite
for every finite parameter in bfloat16 or float32.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

STEP = 1 / 32768
"""Distance of two neighbouring 16-bit samples (full scale is 1)."""
X_MIN, X_MAX = -1.0, 1.0 - STEP
"""The first and the last sample of the grid."""

MIN_LOG_SCALE = math.log(STEP / 4)
"""Floor on the log-scales. In digital silence the best scale is 0. A quarter of a step already puts
95 % of a normal's mass (76 % of a logistic's) on one sample, so a narrower density has little left
to win, while the gradient of the mean keeps growing as 1/scale."""
MAX_LOG_SCALE = 7.0
"""A scale of about 1100 full scales: flat, and exp(-log_scale) is far from underflow."""
MAX_MEAN = 64.0
"""Means are clamped here, far outside [-1, 1]: beyond a bound the gradient is 0, so that training
should never meet one."""
MIN_LOG_CLASS = -1e4
"""Floor on the log-probability of a mu-law class, for the same reason."""
INITIAL_SCALES = (0.001, 0.2)
"""The narrowest and the widest scale that training starts from: of hushed and of loud speech."""


def mu_law_compress(x: Tensor, classes: int = 256) -> Tensor:
    """sign(x) log(1 + mu |x|) / log(1 + mu) with mu = classes - 1; [-1, 1] onto [-1, 1].

    Differentiable everywhere: the slope at 0 is mu / log(1 + mu).
    Source: ITU-T G.711; van den Oord et al. 2016 (WaveNet), section 2.2.
    """
    mu = classes - 1
    sign = torch.where(x < 0, -1.0, 1.0).to(x.dtype)  # x.abs() would have the gradient 0 at 0
    return sign * torch.log1p(mu * (sign * x)) / math.log1p(mu)


def mu_law_expand(y: Tensor, classes: int = 256) -> Tensor:
    """The inverse of `mu_law_compress`: sign(y) ((1 + mu)^|y| - 1) / mu."""
    mu = classes - 1
    return y.sign() * torch.expm1(y.abs() * math.log1p(mu)) / mu


def mu_law_encode(x: Tensor, classes: int = 256) -> Tensor:
    """The mu-law class, int64 in 0..classes - 1, of samples x in [-1, 1]; any shape.

    round_half_even((compress(x) + 1) / 2 * mu); 0 falls into class classes / 2.
    """
    y = mu_law_compress(_wide(x, "x").clamp(-1, 1), classes)
    return torch.round((y + 1) / 2 * (classes - 1)).to(torch.int64)


def mu_law_decode(code: Tensor, classes: int = 256) -> Tensor:
    """The centre, float32 in [-1, 1], of each class: expand(2 code / mu - 1); any shape."""
    return mu_law_expand(2 * code.to(torch.float32) / (classes - 1) - 1, classes)


def bits_per_sample(log_prob: Tensor) -> Tensor:
    """Mean of -log_prob, from nats to bits; a scalar tensor. 16 bits is the uniform guess."""
    return -log_prob.mean() / math.log(2)


class Distribution(ABC):
    """p(x | params) over the 16-bit samples, one for each row and time step.

    Shapes: params [B, P, T] as the network puts them out (any finite float), x [B, T] in [-1, 1],
    uniforms [B, U, T] in (0, 1), U = `uniforms_per_sample`. Results are float32, or float64 where
    the parameters are. Distributions are values: frozen, comparable, without parameters.
    """

    name: ClassVar[str]
    uniforms_per_sample: ClassVar[int]

    @property
    @abstractmethod
    def n_params(self) -> int:
        """P, the channels that the network puts out."""

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """log P(x) in nats, [B, T], of the 16-bit samples nearest to x [B, T].

        Raises: ValueError for params or x of another shape, TypeError for integers.
        """
        params = self._checked(params)
        if x.shape != params[:, 0].shape:
            shape = [params.shape[0], params.shape[2]]
            raise ValueError(f"x must be [B, T] = {shape} like params, got {list(x.shape)}")
        return self._log_prob(params, _on_grid(_wide(x, "x").to(params.dtype)))

    @torch.no_grad()
    def sample(
        self,
        params: Tensor,
        uniforms: Tensor,
        *,
        temperature: float = 1.0,
        top_p: float | None = None,
    ) -> Tensor:
        """Samples [B, T] by inverse CDF (module docstring); never decreasing in the last uniform.

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
        if not 1e-30 <= temperature <= 1e30:  # what float32 can divide and multiply by
            raise ValueError(f"temperature must be above 0, such as 0.9 or 1.0, got {temperature}")
        if top_p is not None and self.name != MuLaw.name:
            raise ValueError(
                f"top_p={top_p} needs classes and {self.name} has none: lower temperature instead"
            )
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], or be None for all classes, got {top_p}")
        return self._sample(params, uniforms.to(params.dtype), temperature, top_p)

    @abstractmethod
    def mean(self, params: Tensor) -> Tensor:
        """The expected sample, [B, T]."""

    @abstractmethod
    def initial_params(self) -> Tensor:
        """[P] float32, where training starts: what may be said of speech before hearing it."""

    def quantize(self, x: Tensor) -> Tensor:
        """x, any shape, on the nearest value that `sample` can draw: what the network hears."""
        return _on_grid(_wide(x, "x"))

    def network_input(self, x: Tensor) -> Tensor:
        """x as the network likes it, pointwise and differentiable: here x itself."""
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
        return _wide(params, "params")


_CPU = torch.device("cpu")


class _MuLawTables(NamedTuple):
    code: Tensor  # [65536] int32: the class of each 16-bit sample, from -32768 on
    held: Tensor  # [classes] int32: how many 16-bit samples each class holds
    value: Tensor  # [classes] float32: the sample that a class stands for
    empty: Tensor  # [classes] bool: held == 0


@cache
def _mu_law_tables(classes: int) -> _MuLawTables:
    """In float64 on the CPU, so that a sample has the same class on every device."""
    with torch.inference_mode(False):  # or training could not use what generation built
        x = torch.arange(-32768, 32768, dtype=torch.float64, device=_CPU) * STEP
        code = mu_law_encode(x, classes)
        held = torch.bincount(code, minlength=classes)
        last = held.cumsum(0) - 1
        centres = 2 * torch.arange(classes, dtype=torch.float64, device=_CPU) / (classes - 1) - 1
        nearest = torch.round(mu_law_expand(centres, classes) / STEP).long() + 32768
        # A class stands for one of its own samples, so that encoding it gives the class again.
        own = torch.minimum(torch.maximum(nearest, last - held + 1), last)
        return _MuLawTables(code.int(), held.int(), x[own].float(), held == 0)


@dataclass(frozen=True)
class MuLaw(Distribution):
    """Categorical over mu-law classes (van den Oord et al. 2016, section 2.2).

    P(x) = softmax(logits)[class of x] / (16-bit samples in that class). A class is drawn as the
    16-bit sample of its own that lies nearest to its centre. With many classes those near 0 are
    narrower than a step, and some hold no 16-bit sample (of 1024 classes, 39; of 256, none): their
    logits count as -inf, so that the probabilities of the 65536 samples always sum to 1.

    Raises: ValueError unless 2 <= classes <= 65536.
    """

    classes: int = 256
    _tables: dict[torch.device, _MuLawTables] = field(init=False, repr=False, compare=False)
    _has_empty: bool = field(init=False, repr=False, compare=False)

    name: ClassVar[str] = "mu_law"
    uniforms_per_sample: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check_size("classes", self.classes, 2, 65536)
        tables = _mu_law_tables(self.classes)
        object.__setattr__(self, "_tables", {_CPU: tables})
        object.__setattr__(self, "_has_empty", bool(tables.empty.any()))

    @property
    def n_params(self) -> int:
        return self.classes

    def mean(self, params: Tensor) -> Tensor:
        """The expected value of what `sample` draws, [B, T]."""
        params = self._checked(params)
        value = self._on(params.device).value.to(params.dtype)
        return (_weights(self._open(params)) * value[:, None]).sum(dim=1)

    def initial_params(self) -> Tensor:
        """Zeros: all classes alike, hence quiet samples, whose classes are small, the likeliest."""
        return torch.zeros(self.classes)

    def quantize(self, x: Tensor) -> Tensor:
        x = _on_grid(_wide(x, "x"))
        return self._on(x.device).value[self._code(x)].to(x.dtype)

    def network_input(self, x: Tensor) -> Tensor:
        """x compressed to [-1, 1] by the mu-law: quiet sounds, which have most classes, fill it."""
        return mu_law_compress(_wide(x, "x"), self.classes).to(x.dtype)

    def _log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        code = self._code(x)
        log_classes = self._open(params).log_softmax(dim=1)
        log_class = log_classes.gather(1, code[:, None]).squeeze(1).clamp(min=MIN_LOG_CLASS)
        log_held = self._on(x.device).held[code].to(params.dtype).log()
        return (log_class - log_held).masked_fill(x.isnan(), math.nan)

    def _sample(
        self, params: Tensor, uniforms: Tensor, temperature: float, top_p: float | None
    ) -> Tensor:
        weights = _weights(self._open(params), temperature)
        if top_p is not None and top_p < 1:
            weights = _nucleus(weights, top_p)
        code = _draw_category(weights, uniforms).squeeze(1)
        return self._on(params.device).value[code].to(params.dtype)

    def _open(self, logits: Tensor) -> Tensor:
        if not self._has_empty:
            return logits
        return logits.masked_fill(self._on(logits.device).empty[:, None], -math.inf)

    def _code(self, x: Tensor) -> Tensor:
        index = (x / STEP).long() + 32768
        return self._on(x.device).code[index.clamp(0, 65535)].long()  # the clamp is for NaN

    def _on(self, device: torch.device) -> _MuLawTables:
        if device in self._tables:
            return self._tables[device]
        with torch.inference_mode(False):
            moved = _MuLawTables(*(table.to(device) for table in self._tables[_CPU]))
        if not torch.compiler.is_compiling():  # what a trace holds must not outlive it
            self._tables[device] = moved
        return moved


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
    and exp(-z^2/2) drawn out of both: it neither underflows nor cancels. Each branch is fed
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

    @abstractmethod
    def _quantile(self, u: Tensor) -> Tensor:
        """The inverse CDF for mean 0 and scale 1."""

    def __post_init__(self) -> None:
        _check_size("mixtures", self.mixtures, 1, 65536)

    @property
    def n_params(self) -> int:
        return 3 * self.mixtures

    def mean(self, params: Tensor) -> Tensor:
        """The mean of the density, [B, T], before it is cut to the grid."""
        logits, means, _ = self._split(self._checked(params))
        return (_weights(logits) * means).sum(dim=1)

    def initial_params(self) -> Tensor:
        """Means 0 and scales in equal ratios, which also makes the components differ."""
        narrow, wide = INITIAL_SCALES
        log_scales = torch.linspace(math.log(wide), math.log(narrow), self.mixtures)
        return torch.cat([torch.zeros(self.n_params - self.mixtures), log_scales])

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
            k = _draw_category(_weights(logits, temperature), uniforms[:, :1])
            mean, log_scale = mean.gather(1, k), log_scale.gather(1, k)
        scale = torch.exp(log_scale)
        if temperature != 1.0:
            scale = scale * temperature
        return _on_grid(mean + scale * self._quantile(uniforms[:, -1:])).squeeze(1)


@dataclass(frozen=True)
class LogisticMixture(_Mixture):
    """Discretised mixture of logistics (Salimans et al. 2017, PixelCNN++, section 2.1).

    params: logits | means | log_scales, `mixtures` channels each.
    Raises: ValueError unless mixtures >= 1.
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

    def _quantile(self, u: Tensor) -> Tensor:
        return torch.logit(u)


@dataclass(frozen=True)
class GaussianMixture(_Mixture):
    """Discretised mixture of Gaussians; laid out like `LogisticMixture`, with lighter tails."""

    mixtures: int = 10

    name: ClassVar[str] = "gaussian_mixture"

    def _log_mass(self, x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        inverse_scale = torch.exp(-log_scale)
        z, h = (x - mean) * inverse_scale, STEP * inverse_scale
        tail = _normal_log_cdf(torch.where(x < 0, z, -z) + h / 2)
        return torch.where((x <= X_MIN) | (x >= X_MAX), tail, _normal_log_step(z.abs(), h))

    def _quantile(self, u: Tensor) -> Tensor:
        return torch.special.ndtri(u)


@dataclass(frozen=True)
class Gaussian(GaussianMixture):
    """Discretised Gaussian (Ping et al. 2019, ClariNet): one component, params mean | log_scale."""

    mixtures: int = field(default=1, init=False, repr=False)

    name: ClassVar[str] = "gaussian"
    uniforms_per_sample: ClassVar[int] = 1

    @property
    def n_params(self) -> int:
        return 2

    def _split(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_scale = _bounded(params[:, :1], params[:, 1:])
        return torch.zeros_like(mean), mean, log_scale


def make_distribution(name: str, size: int | None = None) -> Distribution:
    """The distribution called `name`; `size` = classes of mu_law or mixtures, None the default.

    Raises: ValueError for an unknown name, a size out of range or one for gaussian.
    """
    if name == "gaussian":
        if size is not None:
            raise ValueError(f"gaussian has no size, got {size}: leave it out")
        return Gaussian()
    sized = {kind.name: kind for kind in (MuLaw, LogisticMixture, GaussianMixture)}
    if name not in sized:
        names = ", ".join([*sized, "gaussian"])
        raise ValueError(f"unknown distribution {name!r}: choose one of {names}")
    return sized[name]() if size is None else sized[name](size)


def _wide(tensor: Tensor, argument: str) -> Tensor:
    """float64 as it is, any other float as float32."""
    if not tensor.is_floating_point():
        raise TypeError(
            f"{argument} must be floats, got {tensor.dtype}: divide 16-bit samples by 32768"
        )
    return tensor if tensor.dtype == torch.float64 else tensor.to(torch.float32)


def _on_grid(x: Tensor) -> Tensor:
    return torch.round(x / STEP).clamp(-32768, 32767) * STEP


def _bounded(mean: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    return mean.clamp(-MAX_MEAN, MAX_MEAN), log_scale.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE)


def _weights(logits: Tensor, temperature: float = 1.0) -> Tensor:
    if temperature != 1.0:  # the largest becomes 0, so that no temperature can overflow it
        logits = (logits - logits.amax(dim=1, keepdim=True)) / temperature
    return logits.softmax(dim=1)


def _nucleus(weights: Tensor, top_p: float) -> Tensor:
    """Zero outside the smallest set of most probable classes that reaches top_p; not normalised."""
    ordered, order = weights.sort(dim=1, descending=True, stable=True)
    before = ordered.cumsum(dim=1) - ordered
    return torch.zeros_like(weights).scatter(1, order, ordered.masked_fill(before >= top_p, 0))


def _draw_category(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Index [B, 1, T] from weights [B, K, T]; one of weight 0 is never drawn."""
    cdf = weights.cumsum(dim=1)
    return (cdf < uniforms * cdf[:, -1:]).sum(dim=1, keepdim=True)


def _check_size(argument: str, value: int, least: int, most: int) -> None:
    if not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{argument} must be a whole number in {least}..{most}, got {value!r}")
