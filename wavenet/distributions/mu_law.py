"""The mu-law, and the categorical distribution over its classes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from wavenet.distributions.base import (
    STEP,
    Distribution,
    category_weights,
    check_size,
    draw_category,
    on_grid,
    wide,
)

MIN_LOG_CLASS = -1e4
"""Lower bound of the log-probability of a mu-law class, which keeps gradients finite."""

_CPU = torch.device("cpu")


def mu_law_compress(x: Tensor, classes: int = 256) -> Tensor:
    """sign(x) log(1 + mu |x|) / log(1 + mu) with mu = classes - 1; [-1, 1] onto [-1, 1].

    Differentiable everywhere: the slope at 0 is mu / log(1 + mu).
    Source: ITU-T G.711; van den Oord et al. 2016 (WaveNet), section 2.2.

    >>> mu_law_compress(torch.tensor([-1.0, 0.0, 0.01, 1.0]))
    tensor([-1.0000,  0.0000,  0.2285,  1.0000])
    """
    mu = classes - 1
    sign = torch.where(x < 0, -1.0, 1.0).to(x.dtype)  # x.abs() would have the gradient 0 at 0
    return sign * torch.log1p(mu * (sign * x)) / math.log1p(mu)


def mu_law_expand(y: Tensor, classes: int = 256) -> Tensor:
    """The inverse of `mu_law_compress`: sign(y) ((1 + mu)^|y| - 1) / mu.

    >>> x = torch.tensor([-0.5, 0.0, 0.25])
    >>> torch.allclose(mu_law_expand(mu_law_compress(x)), x)
    True
    """
    mu = classes - 1
    return y.sign() * torch.expm1(y.abs() * math.log1p(mu)) / mu


def mu_law_encode(x: Tensor, classes: int = 256) -> Tensor:
    """Encode samples x in [-1, 1] as mu-law classes, int64 in 0..classes - 1; any shape.

    round_half_even((compress(x) + 1) / 2 * mu); 0 has class classes / 2.

    >>> mu_law_encode(torch.tensor([-1.0, 0.0, 0.01, 1.0]))
    tensor([  0, 128, 157, 255])
    """
    y = mu_law_compress(wide(x, "x").clamp(-1, 1), classes)
    return torch.round((y + 1) / 2 * (classes - 1)).to(torch.int64)


def mu_law_decode(code: Tensor, classes: int = 256) -> Tensor:
    """The centre, float32 in [-1, 1], of each class: expand(2 code / mu - 1); any shape.

    >>> mu_law_decode(torch.tensor([0, 128, 255]))
    tensor([-1.0000e+00,  8.6213e-05,  1.0000e+00])
    """
    return mu_law_expand(2 * code.to(torch.float32) / (classes - 1) - 1, classes)


class MuLawTables(NamedTuple):
    """Tables that map between classes and 16-bit samples."""

    code: Tensor  # [65536] int32: the class of each 16-bit sample, from -32768 on
    held: Tensor  # [classes] int32: number of 16-bit samples in each class
    value: Tensor  # [classes] float32: the sample that represents a class
    empty: Tensor  # [classes] bool: held == 0


@cache
def mu_law_tables(classes: int) -> MuLawTables:
    """Compute the tables in float64 on the CPU, so that they are equal on every device."""
    with torch.inference_mode(
        False
    ):  # else tables made by generation could not be used in training
        x = torch.arange(-32768, 32768, dtype=torch.float64, device=_CPU) * STEP
        code = mu_law_encode(x, classes)
        held = torch.bincount(code, minlength=classes)
        last = held.cumsum(0) - 1
        centres = 2 * torch.arange(classes, dtype=torch.float64, device=_CPU) / (classes - 1) - 1
        nearest = torch.round(mu_law_expand(centres, classes) / STEP).long() + 32768
        # A class is represented by one of its own samples, so that encoding it gives the class.
        own = torch.minimum(torch.maximum(nearest, last - held + 1), last)
        return MuLawTables(code.int(), held.int(), x[own].float(), held == 0)


@dataclass(frozen=True)
class MuLaw(Distribution):
    """Categorical over mu-law classes (van den Oord et al. 2016, section 2.2).

    P(x) = softmax(logits)[class of x] / (16-bit samples in that class). A class is drawn as the
    16-bit sample of its own that is nearest to its centre. With many classes those near 0 are
    narrower than a step, and some have no 16-bit sample (of 1024 classes, 39; of 256, none): their
    logits count as -inf, so that the probabilities of the 65536 samples always sum to 1.

    Raises: ValueError unless 2 <= classes <= 65536.

    >>> distribution = MuLaw()
    >>> flat = torch.zeros(1, 256, 8)  # equal logits
    >>> samples = distribution.sample(flat, torch.rand(1, 1, 8))
    >>> tuple(samples.shape), bool(samples.abs().max() <= 1)
    ((1, 8), True)
    """

    classes: int = 256
    _tables: dict[torch.device, MuLawTables] = field(init=False, repr=False, compare=False)
    _has_empty: bool = field(init=False, repr=False, compare=False)

    name: ClassVar[str] = "mu_law"
    uniforms_per_sample: ClassVar[int] = 1
    has_classes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_size("classes", self.classes, 2, 65536)
        tables = mu_law_tables(self.classes)
        object.__setattr__(self, "_tables", {_CPU: tables})
        object.__setattr__(self, "_has_empty", bool(tables.empty.any()))

    @property
    def n_params(self) -> int:
        return self.classes

    @property
    def n_components(self) -> int:
        return self.classes

    def mean(self, params: Tensor) -> Tensor:
        """The expected sample, [B, T]."""
        params = self._checked(params)
        value = self._on(params.device).value.to(params.dtype)
        return (category_weights(self._open(params)) * value[:, None]).sum(dim=1)

    def initial_params(self) -> Tensor:
        """Zeros: equal classes, so quiet samples, whose classes are small, are the likeliest."""
        return torch.zeros(self.classes)

    def quantize(self, x: Tensor) -> Tensor:
        x = on_grid(wide(x, "x"))
        return self._on(x.device).value[self._code(x)].to(x.dtype)

    def network_input(self, x: Tensor) -> Tensor:
        """Compress x to [-1, 1] by the mu-law, which expands the range of quiet sounds."""
        return mu_law_compress(wide(x, "x"), self.classes).to(x.dtype)

    def classify(self, x: Tensor) -> Tensor:
        """Classify the 16-bit samples nearest to x: int64 in 0..classes - 1; any shape."""
        return self._code(on_grid(wide(x, "x")))

    def _log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        code = self._code(x)
        log_classes = self._open(params).log_softmax(dim=1)
        log_class = log_classes.gather(1, code[:, None]).squeeze(1).clamp(min=MIN_LOG_CLASS)
        log_held = self._on(x.device).held[code].to(params.dtype).log()
        return (log_class - log_held).masked_fill(x.isnan(), math.nan)

    def _sample(
        self, params: Tensor, uniforms: Tensor, temperature: float, top_p: float | None
    ) -> Tensor:
        weights = category_weights(self._open(params), temperature)
        if top_p is not None and top_p < 1:
            weights = _nucleus(weights, top_p)
        code = draw_category(weights, uniforms).squeeze(1)
        return self._on(params.device).value[code].to(params.dtype)

    def _open(self, logits: Tensor) -> Tensor:
        if not self._has_empty:
            return logits
        return logits.masked_fill(self._on(logits.device).empty[:, None], -math.inf)

    def _code(self, x: Tensor) -> Tensor:
        index = (x / STEP).long() + 32768
        return self._on(x.device).code[index.clamp(0, 65535)].long()  # the clamp is for NaN

    def _on(self, device: torch.device) -> MuLawTables:
        if device in self._tables:
            return self._tables[device]
        with torch.inference_mode(False):
            moved = MuLawTables(*(table.to(device) for table in self._tables[_CPU]))
        if not torch.compiler.is_compiling():  # tensors of a trace must not outlive it
            self._tables[device] = moved
        return moved


def _nucleus(weights: Tensor, top_p: float) -> Tensor:
    """Zero outside the smallest set of most probable classes that reaches top_p; not normalised."""
    ordered, order = weights.sort(dim=1, descending=True, stable=True)
    before = ordered.cumsum(dim=1) - ordered
    return torch.zeros_like(weights).scatter(1, order, ordered.masked_fill(before >= top_p, 0))
