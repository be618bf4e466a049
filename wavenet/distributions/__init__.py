"""Distributions of the next audio sample, all of them over the same 65536 values.

The grid. Sound is 16 bit: a sample is x = i * STEP with STEP = 1/32768 and an integer i in
-32768..32767. Every `log_prob` here is the log of the probability *mass* (nats) of one of those
values and every `sample` draws one of them, so bits per sample compare between distributions:

    name               params [B, P, T], blocks of channels     P             uniforms a sample
    mu_law             logits                                   classes       1
    logistic_mixture   logits | means | log_scales, K each      3 K           2
    gaussian           mean | log_scale                         2             1
    gaussian_mixture   logits | means | log_scales, K each      3 K           2

A mu-law class spreads its probability evenly over its 16-bit values. A continuous density is
integrated over [x - STEP/2, x + STEP/2]; the first and the last value take the tails.

Sampling is by inverse CDF from given uniforms u in the open interval (0, 1). Every engine
implements (up to rounding):

    category    p = softmax(logits / temperature), cdf = cumsum(p) in the order of the classes;
                the class is the number of k with cdf[k] < u * cdf[-1]
    value       v = mean + temperature * scale * quantile(u), i = round_half_even(v / STEP),
                clamped to -32768..32767

A mixture picks the component with the first uniform and the value with the second. Arithmetic is
in float32 (float64 for float64 parameters), and the bounds below keep values and gradients finite
for every finite parameter in bfloat16 or float32.
"""

from collections.abc import Callable

from wavenet.distributions.base import STEP, X_MAX, X_MIN, Distribution, bits_per_sample
from wavenet.distributions.mixtures import (
    INITIAL_SCALES,
    MAX_LOG_SCALE,
    MAX_MEAN,
    MIN_LOG_SCALE,
    Gaussian,
    GaussianMixture,
    LogisticMixture,
)
from wavenet.distributions.mu_law import (
    MIN_LOG_CLASS,
    MuLaw,
    mu_law_compress,
    mu_law_decode,
    mu_law_encode,
    mu_law_expand,
)
from wavenet.values.integers import as_integer
from wavenet.values.text import short

KNOWN_DISTRIBUTIONS: tuple[type[Distribution], ...] = (
    MuLaw,
    LogisticMixture,
    GaussianMixture,
    Gaussian,
)
"""Distributions that engines sample from by compiled code."""

__all__ = [
    "INITIAL_SCALES",
    "KNOWN_DISTRIBUTIONS",
    "MAX_LOG_SCALE",
    "MAX_MEAN",
    "MIN_LOG_CLASS",
    "MIN_LOG_SCALE",
    "STEP",
    "X_MAX",
    "X_MIN",
    "Distribution",
    "Gaussian",
    "GaussianMixture",
    "LogisticMixture",
    "MuLaw",
    "bits_per_sample",
    "make_distribution",
    "mu_law_compress",
    "mu_law_decode",
    "mu_law_encode",
    "mu_law_expand",
    "register_distribution",
]


_REGISTRY: dict[str, type[Distribution]] = {kind.name: kind for kind in KNOWN_DISTRIBUTIONS}


def register_distribution(kind: type[Distribution]) -> type[Distribution]:
    """Register a distribution of your own by its ``name``; usable as a class decorator.

    A configuration may then name it, and its checkpoints load wherever it is registered. The class
    takes no argument, or one size. Engines that cannot sample from it are skipped.

    Raises: ValueError for a name that another distribution has.

    >>> @register_distribution
    ... class Narrow(Gaussian):
    ...     name = "narrow"
    >>> wavenet.WaveNetConfig(distribution="narrow").distribution
    'narrow'
    """
    if _REGISTRY.setdefault(kind.name, kind) is not kind:
        raise ValueError(f"name={kind.name!r} is taken by {_REGISTRY[kind.name].__name__}")
    return kind


def make_distribution(name: str, size: int | None = None) -> Distribution:
    """Return the distribution of a name; `size` = classes of mu_law or mixtures, None the default.

    Raises: ValueError for an unknown name, a size out of range or one for gaussian.

    >>> make_distribution("mu_law")
    MuLaw(classes=256)
    >>> make_distribution("gaussian_mixture", 3)
    GaussianMixture(mixtures=3)
    """
    if name not in _REGISTRY:
        names = ", ".join(_REGISTRY)
        raise ValueError(f"unknown distribution {short(name)}: choose one of {names}")
    kind: Callable[..., Distribution] = _REGISTRY[name]
    if size is None:
        return kind()
    try:
        return kind(as_integer("distribution_size", size))
    except TypeError:
        raise ValueError(f"{name} has no size, got {size}: leave it out") from None
