"""Continuous batching: many utterances of different lengths through the rows of one engine.

A row that has ended begins the next utterance while the others go on. Rows change, and get the
frames that follow, only where a frame begins, so that all have the same phase within a frame of
their own. The samples of an utterance are those that ``generate`` makes of it alone with its seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from wavenet.generation.arguments import condition_rows, row_lengths
from wavenet.generation.engines.base import Engine, GenerationState
from wavenet.generation.frames import encode_blocks, encoded, on_device
from wavenet.generation.options import Sampling, SamplingOptions
from wavenet.generation.prompts import process_prompt
from wavenet.generation.randomness import UniformSource, row_seeds
from wavenet.generation.refining import RowRefiner, passes_of
from wavenet.model import WaveNet
from wavenet.model.conditioner import named_conditions
from wavenet.values.integers import as_integer

_UNIT = 256
"""Samples after which rows may change where nothing changes in time."""


class AudioChunk(NamedTuple):
    """Samples of one utterance.

    Attributes:
        number: which of the utterances it is, from 0.
        samples: the next ones, ``[T]`` in [-1, 1], on the CPU; none while refinement waits.
        ended: whether they are the last.
    """

    number: int
    samples: Tensor
    ended: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Utterance:
    """One utterance to synthesize; arguments as those of ``generate``, for one row.

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
    noise_shaping: float | None = None,
    engine: str = "auto",
    weights: str = "float32",
    refine: int | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Sample utterances as rows become free, and give each when it is done.

    Args:
        model: any ``WaveNet``.
        utterances: any number; the next one is taken when a row is free, and all rows wait for it.
            None means that there is none yet: the row stays empty until the next look.
        rows: that run at once; fewer if there are fewer utterances.
        chunk_samples: most that are made between two looks, at least a hop: what an utterance may
            have to wait though there is an empty row.

    The other arguments are those of ``generate``.

    Returns:
        An iterator of ``(number, samples [T])``: which utterance, counted from 0, and its samples
        in [-1, 1], on the CPU; those that end first come first.

    Raises:
        ValueError: as ``generate``; for a wrong utterance, when it is taken.
    """
    rows = as_integer("rows", rows)
    chunk_samples = as_integer("chunk_samples", chunk_samples)
    options = SamplingOptions(
        temperature=temperature,
        top_p=top_p,
        noise_shaping=noise_shaping,
        engine=engine,
        weights=weights,
        refine=refine,
    )
    sampling = options.resolve(model, from_mel=model.config.mel is not None or refine is not None)

    def begun() -> Iterator[_Row | None]:
        number = 0
        for one in utterances:
            yield None if one is None else _row_of(model, sampling, number, one, refine)
            number += one is not None

    def whole() -> Iterator[tuple[int, Tensor]]:
        parts: dict[int, list[Tensor]] = {}
        for made in _Batch(model, sampling, begun(), rows, chunk_samples):
            for number, samples, ended in made:
                parts.setdefault(number, []).append(samples.clone())
                if ended:
                    yield number, torch.cat(parts.pop(number))

    return whole()


def _row_of(
    model: WaveNet, sampling: Sampling, number: int, one: Utterance, refine: int | None
) -> _Row:
    """Make the row that generates an utterance."""
    given = condition_rows(model, named_conditions(one.mel, one.speaker, one.conditions))
    mels = given.pop("mel", None)
    if mels is not None and len(mels) != 1:
        raise ValueError(f"utterance {number} has {len(mels)} mels, expected one [M, F]")
    asked = None if one.n_samples is None else [one.n_samples]
    lengths = row_lengths(model, None, asked, mels, 1, 0)
    if lengths is None:
        raise ValueError(f"utterance {number}: how long? give n_samples or a mel")
    if mels is None:
        passes_of(model, refine, from_mel=False)
    (seed,) = row_seeds(one.seed, 1)
    row = _Row(model, number, seed, sampling.noise_shaping)
    others = {name: values[0] for name, values in given.items()}
    row.begin(sampling, None if mels is None else [mels[0][0]], others, lengths[0])
    row.left = lengths[0]
    return row


class BatchedVocoder(Iterator[list[AudioChunk]]):
    """Synthesizes audio from mels, ``batch_size`` of them at once, in order.

    Memory does not grow with their lengths. Every utterance has the same seed, so that it does not
    matter what else is synthesized.

    Args:
        model: one with local features.
        mels: for each utterance its frames ``[M, F_i]``, piece after piece; drawn from when needed.
        options: how samples are drawn; every row has their seed, so that none depends on another.
        batch_size: rows.
        chunk_samples: of what the network makes at once; it changes nothing in the samples.
        n_samples: length of each utterance, at which refinement mirrors it; default, that of its
            mel. Without refinement unused.

    Raises:
        ValueError: if an argument does not fit the model; at once, but for the mels.
    """

    def __init__(
        self,
        model: WaveNet,
        mels: Iterable[Iterable[Tensor]],
        options: SamplingOptions,
        *,
        batch_size: int = 8,
        chunk_samples: int = 2048,
        n_samples: Sequence[int] | None = None,
    ) -> None:
        batch_size = as_integer("batch_size", batch_size)
        chunk_samples = as_integer("chunk_samples", chunk_samples)
        if model.config.local is None:
            raise ValueError("the model takes no mel; choose a mel-conditioned one")
        sampling = options.resolve(model, from_mel=True)
        (seed,) = row_seeds(options.seed, 1)
        given = condition_rows(model, named_conditions(None, options.speaker, options.conditions))
        others = {name: torch.cat(values) for name, values in given.items()}

        def begun() -> Iterator[_Row]:
            for number, mel in enumerate(mels):
                row = _Row(model, number, seed, sampling.noise_shaping)
                row.begin(sampling, mel, others, None if n_samples is None else n_samples[number])
                yield row

        self._batch = _Batch(model, sampling, begun(), batch_size, chunk_samples)

    def __next__(self) -> list[AudioChunk]:
        return next(self._batch)

    def drop(self, number: int) -> None:
        """Stop an utterance; its row is free at the next segment."""
        for row in self._batch.rows:
            if row is not None and row.number == number:
                row.dropped = True


class _Batch(Iterator[list[AudioChunk]]):
    """Rows of one engine, filled from an iterator that gives None where there is no row yet."""

    def __init__(
        self,
        model: WaveNet,
        sampling: Sampling,
        waiting: Iterator[_Row | None],
        size: int,
        chunk_samples: int,
    ) -> None:
        self._model, self._waiting, self._sampling = model, waiting, sampling
        self._hop = 0 if model.config.local is None else model.frame_lift.hop_samples
        self._unit, self._chunk = self._hop or _UNIT, chunk_samples
        self.rows: list[_Row | None] = [None] * size
        self._engine: Engine | None = None
        self._exhausted = False
        self._left = 0  # samples until rows may change
        # An idle row costs nothing on a GPU, where a new engine has to be recorded.
        self._shrinks = model.input_projection.weight.device.type == "cpu"

    def __next__(self) -> list[AudioChunk]:
        if not self._left:
            self._arrange()
        assert self._engine is not None
        n = min(self._chunk, self._left)
        idle = torch.full((1, self._model.distribution.uniforms_per_sample, n), 0.5)
        given = [idle if row is None else row.uniforms.take(n) for row in self.rows]
        samples = self._engine.run(torch.cat(given))
        self._left -= n
        chunks = []
        for place, row in enumerate(self.rows):
            if row is not None and not row.dropped:
                chunks.append(row.take(samples[place]))
                if chunks[-1].ended:
                    self.rows[place] = None
        return chunks

    @torch.inference_mode()
    def _arrange(self) -> None:
        """Give free places to rows that wait, and rows the frames that follow."""
        self.rows = [None if row is None or row.dropped else row for row in self.rows]
        self._fill()
        running = {place: row for place, row in enumerate(self.rows) if row is not None}
        if not running:
            raise StopIteration
        shrinks = self._exhausted and self._shrinks and len(running) < len(self.rows)
        if self._engine is None or shrinks:
            self._engine = self._begin(running)
        else:
            self._replace({place: row for place, row in running.items() if row.start is not None})
            self._replace({place: row for place, row in running.items() if not row.span})
        for row in running.values():
            row.start = None
        n = min(min(row.span, row.left) for row in running.values())
        if not self._exhausted and len(running) < len(self.rows):  # look again after a chunk
            n = min(n, max(self._unit, self._chunk // self._unit * self._unit))
        self._left = -(-int(n) // self._unit) * self._unit

    def _fill(self) -> None:
        """Take rows while places are free; where no row runs, until there is one or the end."""
        while not self._exhausted:
            for place in [place for place, row in enumerate(self.rows) if row is None]:
                try:
                    self.rows[place] = next(self._waiting)
                except StopIteration:
                    self._exhausted = True
                    return
                if self.rows[place] is None:
                    break
            if any(self.rows):
                return

    def _begin(self, running: Mapping[int, _Row]) -> Engine:
        """An engine of the rows that run, and of empty ones while there may be more."""
        before = None if self._engine is None else self._engine.dump()
        for place, row in running.items():
            if before is not None and row.start is None:
                row.start = before.select([place])
        empty = 0 if self._exhausted else len(self.rows) - len(running)
        self.rows = [*running.values(), *[None] * empty]
        frames, start = _joined([*running.values(), *[next(iter(running.values()))] * empty])
        assert start is not None
        return self._sampling.start(self._model, frames, start, first_sample=self._hop)

    def _replace(self, rows: Mapping[int, _Row]) -> None:
        """Hand rows the frames that follow; all of them are new, or none is."""
        if rows:
            assert self._engine is not None
            self._engine.replace(list(rows), *_joined(list(rows.values())), first_frame=1)


def _joined(rows: list[_Row]) -> tuple[list[Tensor] | None, GenerationState | None]:
    """The frames of rows, and the states from which they begin; None where there are none."""
    frames = [part for row in rows if (part := row.frames()) is not None]
    states = [row.start for row in rows if row.start is not None]
    return frames or None, GenerationState.join(states) if states else None


class _Row:
    """An utterance that runs.

    Attributes:
        uniforms: that it draws with.
        left: samples still to be made; without bound while the end of its mel is not known.
        span: samples for which the engine has its frames.
        start: the state to begin from, until an engine has it.
        known: conditioning ``[C, n]``, from the frame before the next sample on; in front of the
            first frame and behind the last one, that frame again. One column where it is constant,
            None where there is none.
        dropped: whether no more of it is wanted.
    """

    start: GenerationState | None
    known: Tensor | None

    def __init__(self, model: WaveNet, number: int, seed: int, noise_shaping: float) -> None:
        self._model, self.number = model, number
        per_sample = model.distribution.uniforms_per_sample
        self.uniforms = UniformSource([seed], per_sample, shaping=noise_shaping)
        self.left, self.span, self._handed = math.inf, 0.0, 0  # frames of the span
        self.dropped = self._complete = False
        self._blocks: Iterator[Tensor] | None = None
        self._refiner: RowRefiner | None = None

    @torch.inference_mode()
    def begin(
        self,
        sampling: Sampling,
        mel: Iterable[Tensor] | None,
        others: Mapping[str, Tensor],
        n_samples: int | None,
    ) -> None:
        """Encode the first of the pieces ``[M, F_i]`` of a mel; refinement ends at n_samples."""
        given = on_device(self._model, others)
        if mel is None:
            first = self.known = encoded(self._model, given)
        else:
            if sampling.refinement is not None:
                self._refiner = RowRefiner(sampling.refinement, n_samples)
                mel = _handed_on(mel, self._refiner)
            self._blocks = encode_blocks(self._model, mel, given)
            block = next(self._blocks)
            first, self.known = block[:, :2], torch.cat((block[:, :1], block), dim=1)
        self.start = GenerationState.after(*process_prompt(self._model, first, None))

    @property
    def ready(self) -> int:
        """Number of frames that can be used: those whose successor is known."""
        return 0 if self.known is None else self.known.shape[1] - 2

    def frames(self) -> Tensor | None:
        """Return the frames that an engine needs from the next sample on; sets ``span``."""
        if self._blocks is None or self.known is None:
            self.span = math.inf
            return self.known
        hop = self._model.frame_lift.hop_samples
        self.known = self.known[:, self._handed - int(self.span) // hop :]
        while not self.ready and not self._complete:
            block = next(self._blocks, None)
            added = self.known[:, -1:] if block is None else block
            self.known = torch.cat((self.known, added), dim=1)
            if block is None:
                self._complete = True
                self.left = min(self.left, (self.known.shape[1] - 2) * hop)
        self._handed = self.ready
        self.span = float(self._handed * hop)
        return self.known

    def take(self, samples: Tensor) -> AudioChunk:
        """Consume the network's next samples ``[n]``; return those wanted, or refined by now."""
        self.span -= len(samples)
        samples = samples[: int(min(len(samples), self.left))]
        self.left -= len(samples)
        if self._refiner is not None:
            samples = self._refiner.add(samples)
            if not self.left:
                samples = torch.cat((samples, self._refiner.finish()))
        return AudioChunk(self.number, samples, not self.left)


def _handed_on(pieces: Iterable[Tensor], refiner: RowRefiner) -> Iterator[Tensor]:
    """The pieces of a mel ``[M, F_i]``, each given to the refiner as well."""
    for piece in pieces:
        refiner.add_frames(piece.detach().float().cpu())
        yield piece
