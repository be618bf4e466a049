"""Many utterances of different lengths through a few rows: continuous batching.

A batch ends with its longest row; until then the others run for nothing. Here a row that has ended
begins the next utterance of the queue, while the rest go on: the device stays full as long as there
is something to say. Rows change places only where a frame begins, so that all rows lie at the same
place between two frames of their own; at most one hop of a row is made for nothing.

Every utterance sounds as if it had been generated alone with its seed, on every engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wavenet.generation.arguments import condition_rows, row_lengths
from wavenet.generation.engines.base import Engine, GenerationState
from wavenet.generation.options import SamplingOptions
from wavenet.generation.randomness import UniformSource, row_seeds
from wavenet.generation.refining import RowRefiner, make_refinement, passes_of
from wavenet.model import WaveNet
from wavenet.model.conditioner import named_conditions
from wavenet.values.integers import as_integer

_UNIT = 256
"""Samples after which rows may change where nothing changes in time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Utterance:
    """What one row is to say; arguments as those of ``generate``, for one row.

    Attributes:
        mel: ``[M, F]``, or None for a model without local features.
        speaker: index or name.
        seed: None draws one.
        n_samples: length; default, that of the mel.
        conditions: further conditions, by name.
    """

    mel: Tensor | None = None
    speaker: int | str | None = None
    seed: int | None = None
    n_samples: int | None = None
    conditions: Mapping[str, Tensor] = field(default_factory=dict)


def generate_queue(
    model: WaveNet,
    utterances: Iterable[Utterance | None],
    *,
    rows: int = 16,
    chunk_samples: int = 2048,
    temperature: float | None = None,
    top_p: float | None = None,
    engine: str = "auto",
    weights: str = "float32",
    refine: int | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Sample utterances as rows become free, and give each when it is done.

    Args:
        model: any ``WaveNet``.
        utterances: any number; the next one is taken when a row is free, and all rows wait for it.
            None says that there is none yet: the row stays empty until the next look.
        rows: that run at once; fewer if there are fewer utterances.
        chunk_samples: most that are made between two looks, at least a hop: what an utterance may
            have to wait though there is an empty row.
        temperature: see ``generate``.
        top_p: see ``generate``.
        engine: see ``generate``.
        weights: see ``generate``.
        refine: see ``generate``.

    Returns:
        An iterator of ``(number, samples [T])``: which utterance, counted from 0, and its samples
        in [-1, 1], on the CPU; those that end first come first.

    Raises:
        ValueError: as ``generate``; what is wrong with an utterance is said when it is taken.
    """
    rows = as_integer("rows", rows)
    chunk_samples = as_integer("chunk_samples", chunk_samples)
    options = SamplingOptions(
        temperature=temperature, top_p=top_p, engine=engine, weights=weights, refine=refine
    )
    has_mel = model.config.mel is not None
    sampling = options.resolve(model, from_mel=has_mel or refine is not None)

    def begin(first: list[_Row]) -> Engine:
        return sampling.start(model, _frames(first), _starts(first))

    local = model.config.local
    unit = _UNIT if local is None else local.hop_samples
    step = max(1, chunk_samples // unit) * unit
    return _serve(_Waiting(model, utterances, refine), rows, begin, unit, step)


def _serve(
    waiting: _Waiting, rows: int, begin: Callable[[list[_Row]], Engine], unit: int, step: int
) -> Iterator[tuple[int, Tensor]]:
    """Run the rows, whole units and at most ``step`` samples at a time, until all has been said."""
    first: list[_Row] = []
    while not first and not waiting.ended:
        first = waiting.take(rows)
    if not first:
        return
    running: list[_Row | None] = [*first]
    if not waiting.ended:
        running += [None] * (rows - len(first))
    engine = begin([row or first[0] for row in running])
    idle = torch.full((1, first[0].uniforms.per_sample, step), 0.5)
    while any(running) or not waiting.ended:
        free = [place for place, row in enumerate(running) if row is None]
        begun = waiting.take(len(free))
        if begun:
            engine.replace(free[: len(begun)], _frames(begun), _starts(begun))
        for place, new in zip(free, begun, strict=False):  # some may stay free
            running[place] = new
        left = [row.left for row in running if row is not None]
        if not left:
            continue
        n = min(step, -(-min(left) // unit) * unit)
        given = [idle[..., :n] if row is None else row.uniforms.take(n) for row in running]
        samples = engine.run(torch.cat(given))
        for place, row in enumerate(running):
            if row is not None and row.take(samples[place]):
                running[place] = None
                yield row.number, torch.cat(row.parts)


class _Waiting:
    """The utterances that no row has begun.

    Attributes:
        ended: whether there will be no more.
    """

    def __init__(
        self, model: WaveNet, utterances: Iterable[Utterance | None], refine: int | None
    ) -> None:
        self._model, self._utterances, self._refine = model, iter(utterances), refine
        self._number, self.ended = 0, False

    def take(self, n: int) -> list[_Row]:
        """At most n of them: as many as there are by now."""
        rows: list[_Row] = []
        while len(rows) < n:
            try:
                utterance = next(self._utterances)
            except StopIteration:
                self.ended = True
                break
            if utterance is None:
                break
            rows.append(_Row(self._model, self._number, utterance, self._refine))
            self._number += 1
        return rows


class _Row:
    """An utterance that runs.

    Attributes:
        number: of the utterance.
        frames: its conditioning ``[C, F]``, or None.
        start: after silence.
        uniforms: that it draws with.
        left: samples still to be made.
        parts: those that are.
        refiner: what refines them, or None.
    """

    @torch.inference_mode()
    def __init__(
        self, model: WaveNet, number: int, utterance: Utterance, refine: int | None
    ) -> None:
        self.number, self.parts = number, list[Tensor]()
        weight = model.input_projection.weight
        named = named_conditions(utterance.mel, utterance.speaker, utterance.conditions)
        given = condition_rows(model, named)
        mels = given.get("mel")
        if mels is not None and len(mels) != 1:
            raise ValueError(f"utterance {number} has {len(mels)} mels, expected one [M, F]")
        cond = model.condition_frames(
            conditions={
                name: value.to(weight if value.is_floating_point() else weight.device)
                for name, (value, *_) in given.items()
            }
        )
        self.frames = None if cond is None else cond[0]
        asked = None if utterance.n_samples is None else [utterance.n_samples]
        lengths = row_lengths(model, None, asked, mels, 1, 0)
        if lengths is None:
            raise ValueError(f"utterance {number}: how long? give n_samples or a mel")
        self.left = lengths[0]
        block = make_refinement(model, passes_of(model, refine, from_mel=mels is not None))
        self.refiner = None if block is None else RowRefiner(block)
        if self.refiner is not None and mels is not None:
            self.refiner.add_frames(mels[0][0].detach().float().cpu())
        first = model.frame_lift(cond, 1) if cond is not None and cond.shape[-1] > 1 else cond
        silence = torch.zeros(1, 1, 1).to(weight)
        self.start = GenerationState.after(
            *model.stream(silence, model.warm_state(1, first), first)
        )
        (seed,) = row_seeds(utterance.seed, 1)
        self.uniforms = UniformSource([seed], model.distribution.uniforms_per_sample)

    def take(self, samples: Tensor) -> bool:
        """Keep what is wanted of ``[n]``; whether that was the end."""
        wanted = samples[: self.left]
        self.left -= len(wanted)
        if self.refiner is None:
            self.parts.append(wanted.clone())
            return self.left == 0
        self.parts.append(self.refiner.add(wanted))
        if self.left == 0:
            self.parts.append(self.refiner.finish())
        return self.left == 0


def _frames(rows: list[_Row]) -> list[Tensor] | None:
    """The rows' conditioning; None for an unconditional model."""
    frames = [row.frames for row in rows if row.frames is not None]
    return frames or None


def _starts(rows: list[_Row]) -> GenerationState:
    return GenerationState.join([row.start for row in rows])
