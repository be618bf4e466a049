"""Sampling options: those of a request, and their values for a model."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wavenet.generation.engines.base import Engine, GenerationState, Request
from wavenet.generation.engines.eager import EagerEngine
from wavenet.generation.engines.stream import StreamEngine
from wavenet.generation.refining import make_refinement, passes_of
from wavenet.model import WaveNet
from wavenet.nn import MelRefinement
from wavenet.values.integers import is_number
from wavenet.values.text import short

ENGINES = ("auto", "stream", "eager", "cpu", "gpu", "gpu-fused")
WEIGHTS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """Options of sampling, each as in ``generate``.

    >>> options = SamplingOptions(seed=3, temperature=0.8)
    >>> options.engine, options.weights
    ('auto', 'float32')

    Attributes:
        speaker: index or name, one for all rows or one each.
        seed: of the first row, or one per row; None draws one.
        temperature: below 1 less noisy; None for the model's own.
        top_p: nucleus sampling, mu-law models only.
        noise_shaping: filter of the sampling noise; None for the model's own.
        engine: one of ``ENGINES``.
        weights: one of ``WEIGHTS``, what the weights are rounded to.
        refine: passes of refinement towards the mel; None for the model's own.
        conditions: further conditions, by name.
    """

    speaker: int | str | Sequence[int | str] | Tensor | None = None
    seed: int | Sequence[int] | None = None
    temperature: float | None = None
    top_p: float | None = None
    noise_shaping: float | None = None
    engine: str = "auto"
    weights: str = "float32"
    refine: int | None = None
    conditions: Mapping[str, Any] | None = None

    def resolve(self, model: WaveNet, *, from_mel: bool) -> Sampling:
        """Return what the options mean for a model; those that are None are the model's own.

        Args:
            model: any ``WaveNet``.
            from_mel: whether a mel is given, towards which samples can be refined.

        Raises:
            ValueError: if an option is unknown or does not fit the model.
        """
        self.require_weights()
        self._require_numbers()
        own = model.config.temperature
        temperature = own if self.temperature is None else self.temperature
        _check_draw(model, temperature, self.top_p)
        shaping = model.config.noise_shaping if self.noise_shaping is None else self.noise_shaping
        if not -1 <= shaping <= 1:
            raise ValueError(f"noise_shaping={shaping} must be from -1 to 1, such as 0.5")
        return Sampling(
            temperature=temperature,
            top_p=self.top_p,
            noise_shaping=shaping,
            engine=engine_class(self.engine, model),
            weights=WEIGHTS[self.weights],
            refinement=make_refinement(model, passes_of(model, self.refine, from_mel=from_mel)),
        )

    def _require_numbers(self) -> None:
        """Raise ValueError for a quantity that is no number, such as text or a bool."""
        for name in ("temperature", "top_p", "noise_shaping"):
            value = getattr(self, name)
            if value is not None and not is_number(value):
                raise ValueError(f"{name}={short(value)} must be a number, such as 0.9")

    def require_weights(self) -> None:
        """Raise ValueError unless there are such weights."""
        if self.weights not in WEIGHTS:
            known = ", ".join(WEIGHTS)
            raise ValueError(f"weights={self.weights!r} is unknown; choose one of {known}")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Options that were resolved for a model.

    Attributes:
        temperature: see ``Distribution.sample``.
        top_p: see ``Distribution.sample``.
        noise_shaping: see ``shaped_uniforms``.
        engine: that runs the model.
        weights: type that the weights are rounded to.
        refinement: block that refines the samples, or None.
    """

    temperature: float
    top_p: float | None
    noise_shaping: float
    engine: type[Engine]
    weights: torch.dtype
    refinement: MelRefinement | None

    def start(
        self,
        model: WaveNet,
        frames: list[Tensor] | None,
        state: GenerationState,
        *,
        first_sample: int = 0,
    ) -> Engine:
        """Return an engine that goes on from a state; see ``Request`` for frames and sample."""
        request = Request(frames, first_sample, self.temperature, self.top_p, self.weights)
        return self.engine(model, request, state)


def engine_class(name: str, model: WaveNet) -> type[Engine]:
    """Return the engine of this name, or the fastest that runs the model.

    Raises:
        ValueError: for a name that is not one of ``ENGINES``.
    """
    from wavenet.generation.engines import cuda_graphs, eager, triton
    from wavenet.generation.engines.cpu import engine as cpu

    if name not in ENGINES:
        raise ValueError(f"engine={name!r} is unknown; choose one of {', '.join(ENGINES)}")
    named: dict[str, type[Engine]] = {
        "stream": StreamEngine,
        "eager": EagerEngine,
        "cpu": cpu.CpuEngine,
        "gpu": cuda_graphs.GpuEngine,
        "gpu-fused": triton.FusedEngine,
    }
    if name != "auto":
        return named[name]
    if cuda_graphs.refusal(model) is None:
        return cuda_graphs.GpuEngine
    if cpu.refusal(model) is None:
        if cpu.has_compiler():
            return cpu.CpuEngine
        cpu.warn_without_compiler()
    reason = eager.refusal(model)
    if reason is None:
        return EagerEngine
    _warn_of_stream(reason)
    return StreamEngine


@functools.cache
def _warn_of_stream(reason: str) -> None:
    """Warn once why generation is slow."""
    warnings.warn(
        f"model.stream generates, one sample a call and slowly: the fast engine {reason}",
        RuntimeWarning,
        stacklevel=5,
    )


def _check_draw(model: WaveNet, temperature: float, top_p: float | None) -> None:
    """Refuse a wrong temperature or top_p before any work: draw once from zeros."""
    params = torch.zeros(1, model.distribution.n_params, 1)
    middle = torch.full((1, model.distribution.uniforms_per_sample, 1), 0.5)
    model.distribution.sample(params, middle, temperature=temperature, top_p=top_p)
