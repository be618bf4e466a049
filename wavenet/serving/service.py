"""What the endpoints share: the voice with its worker, amplifiers, limits and counters."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wavenet.features.mel_config import MelConfig
from wavenet.generation.arguments import condition_rows
from wavenet.generation.frames import BLOCK
from wavenet.generation.options import Sampling, SamplingOptions
from wavenet.model import WaveNet
from wavenet.model.conditioner import named_conditions
from wavenet.serving.limits import Limits, RequestError
from wavenet.serving.metrics import Metrics
from wavenet.serving.output import Output
from wavenet.serving.settings import Settings
from wavenet.serving.worker import Job, Worker

_HEAVY_AT_ONCE = 2


class Queued(NamedTuple):
    """An utterance that has been queued.

    Attributes:
        sampling: how it is sampled.
        ahead: requests that have to end before it begins.
    """

    sampling: Sampling
    ahead: int


@dataclass(kw_only=True)
class Service:
    """A voice that is served.

    Attributes:
        name: of the voice.
        model: a mel-conditioned ``WaveNet``.
        engine: of sampling.
        weights: what the engine rounds the weights to.
        refine: passes of refinement where a request names none; None for the model's own.
        limits: of requests.
        amplifiers: models for ``/process`` by name: one channel in, one out, with a sample rate.
        run: folder of a training run whose previews are shown, or None.
        worker: generates; begins with the service.
    """

    name: str
    model: WaveNet
    engine: str = "auto"
    weights: str = "float32"
    refine: int | None = None
    limits: Limits = field(default_factory=Limits)
    amplifiers: Mapping[str, Any] = field(default_factory=dict)
    run: Path | None = None
    metrics: Metrics = field(init=False)
    worker: Worker = field(init=False)

    def __post_init__(self) -> None:
        if self.model.config.mel is None:
            raise ValueError(f"{self.name} takes no mel; serve a mel-conditioned model")
        self._sampling = functools.lru_cache(64)(self._resolve)
        usual = self._sampling(None, self.refine)  # a wrong engine, or weights, are refused now
        self._heavy, self._n_heavy = asyncio.Semaphore(_HEAVY_AT_ONCE), 0
        self.metrics = Metrics(self.model.sample_rate)
        self.worker = Worker(self.model, self.limits, self.metrics, usual)

    @property
    def mel(self) -> MelConfig:
        """Settings of the voice's mel."""
        assert self.model.config.mel is not None
        return self.model.config.mel

    @contextlib.asynccontextmanager
    async def heavy(self) -> AsyncIterator[None]:
        """Hold one of few places, while something long is computed beside the worker.

        Raises:
            RequestError: if too many wait (429), or waiting and work take too long (504).
        """
        if self._n_heavy >= _HEAVY_AT_ONCE + self.limits.max_queue:
            raise RequestError(429, f"{self.limits.max_queue} requests wait already", 5)
        self._n_heavy += 1
        try:
            async with asyncio.timeout(self.limits.timeout_s), self._heavy:
                yield
        except TimeoutError:
            raise RequestError(504, f"not done within {self.limits.timeout_s:g} s", 5) from None
        finally:
            self._n_heavy -= 1

    def submit(
        self,
        mel: Iterable[Tensor | None],
        settings: Settings,
        output: Output,
        *,
        n_samples: int | None = None,
        block: int = BLOCK,
    ) -> Queued:
        """Queue an utterance.

        Args:
            mel: pieces, see ``Job``.
            settings: of the request.
            output: takes the samples.
            n_samples: length, if it is known.
            block: frames that are encoded at once.

        Returns:
            How it is sampled, and what it waits for.

        Raises:
            RequestError: if the model cannot do it (400), or the queue is full.
        """
        refine = self.refine if settings.refine is None else settings.refine
        try:
            given = named_conditions(None, settings.speaker, {})
            rows = condition_rows(self.model, given)
            for name, condition in self.model.conditions.items():
                if name != "mel" and condition.used and name not in rows:
                    condition.check(None)
            sampling = self._sampling(settings.temperature, refine)
        except ValueError as error:
            raise RequestError(400, str(error)) from None
        others = {name: torch.cat(values) for name, values in rows.items()}
        job = Job(
            sampling=sampling,
            seed=settings.seed,
            mel=mel,
            others=others,
            output=output,
            n_samples=n_samples,
            block=block,
        )
        return Queued(sampling, self.worker.submit(job))

    def _resolve(self, temperature: float | None, refine: int | None) -> Sampling:
        return SamplingOptions(
            temperature=temperature, refine=refine, engine=self.engine, weights=self.weights
        ).resolve(self.model, from_mel=True)
