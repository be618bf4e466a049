"""Many mels of any length, spoken in one batch, in memory that does not grow with them.

A batch advances in segments. In between, rows whose mel is over leave it and others take their
places; the state is a value, so a row goes on as if nothing had happened. What it says is what
``generate`` says to its mel and its seed alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wavenet.generation.arguments import condition_rows
from wavenet.generation.engines.base import Engine, GenerationState
from wavenet.generation.frames import encode_blocks
from wavenet.generation.options import SamplingOptions
from wavenet.generation.prompts import listen
from wavenet.generation.randomness import UniformSource, row_seeds
from wavenet.generation.refining import RowRefiner
from wavenet.model import WaveNet
from wavenet.model.conditioner import named_conditions
from wavenet.nn import select_rows
from wavenet.values.integers import as_integer


class AudioChunk(NamedTuple):
    """Samples of one speech.

    Attributes:
        number: which of the speeches it is, from 0.
        samples: the next ones, ``[T]`` in [-1, 1], on the CPU; none while refinement waits.
        ended: whether they are the last.
    """

    number: int
    samples: Tensor
    ended: bool


class BatchedVocoder(Iterator[list[AudioChunk]]):
    """Speaks mels, ``batch_size`` of them at once, each when it is its turn.

    Every speech has the same seed, so that it does not matter what else is spoken.

    Args:
        model: one with local features.
        mels: for each speech its frames ``[M, F_i]``, piece after piece; drawn from when needed.
        options: how samples are drawn; every row has their seed, so that none depends on another.
        batch_size: rows.
        chunk_samples: of what the network makes at once; it changes nothing in the samples.
        n_samples: length of each speech, at which refinement mirrors it; default, that of its mel.
            Without refinement unused.

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
        self._model = model
        self._sampling = options.resolve(model, from_mel=True)
        self._hop = model.config.local.hop_samples
        self._size, self._chunk = batch_size, chunk_samples
        self._seed = row_seeds(options.seed, 1)[0]
        others = named_conditions(None, options.speaker, options.conditions)
        given = condition_rows(model, others)
        like = model.input_projection.weight
        self._others = {
            name: torch.cat(values).to(like if values[0].is_floating_point() else like.device)
            for name, values in given.items()
        }
        self._lengths = n_samples
        self._waiting = enumerate(mels)
        self._rows: list[_Row] = []
        self._engine: Engine | None = None
        self._left = 0  # samples of this segment

    def __next__(self) -> list[AudioChunk]:
        if not self._left:
            self._begin()
        assert self._engine is not None
        n = min(self._chunk, self._left)
        samples = self._engine.run(self._uniforms.take(n))
        self._left -= n
        return [
            row.chunk(samples[i], row.ended and not self._left)
            for i, row in enumerate(self._rows)
            if not row.dropped
        ]

    def drop(self, number: int) -> None:
        """Say no more of a speech; its place is free at the next segment."""
        for row in self._rows:
            row.dropped |= row.number == number

    @torch.inference_mode()
    def _begin(self) -> None:
        """The next segment, as long as the frames last that every row knows; or StopIteration."""
        states = self._remaining()
        while len(self._rows) < self._size and (following := next(self._waiting, None)):
            row = self._begun(*following)
            self._rows.append(row)
            states.append(GenerationState.after(*listen(self._model, row.first, None)))
        if not self._rows:
            self._engine = None
            raise StopIteration
        state = GenerationState.join(states)
        n_frames = min(row.ready for row in self._rows)
        frames = [row.take(n_frames) for row in self._rows]
        self._engine = self._sampling.start(self._model, frames, state, first_sample=self._hop)
        self._left = n_frames * self._hop
        self._uniforms = UniformSource(
            [self._seed] * len(self._rows),
            self._model.distribution.uniforms_per_sample,
            state.time.tolist(),
        )

    def _begun(self, number: int, mel: Iterable[Tensor]) -> _Row:
        """A row for the next speech; what refines it gets the frames as the network does."""
        refiner = None
        if self._sampling.refinement is not None:
            length = None if self._lengths is None else self._lengths[number]
            refiner = RowRefiner(self._sampling.refinement, length)
            mel = _handed_on(mel, refiner)
        return _Row(number, encode_blocks(self._model, mel, self._others), refiner)

    def _remaining(self) -> list[GenerationState]:
        """The state of the rows that go on; the others leave."""
        going_on = [i for i, row in enumerate(self._rows) if not (row.ended or row.dropped)]
        self._rows = [self._rows[i] for i in going_on]
        if self._engine is None or not going_on:
            return []
        state = self._engine.dump()
        return [
            GenerationState(
                state.params[going_on], select_rows(state.model, going_on), state.time[going_on]
            )
        ]


class _Row:
    """A speech that is being spoken.

    Attributes:
        first: the first two encoded frames, or the only one.
        known: encoded frames ``[C, n]`` from the one before the next to be spoken; in front of the
            first frame and behind the last one, that frame again.
        ended: whether all its frames have been taken.
        dropped: whether nobody listens any more.
    """

    def __init__(
        self, number: int, blocks: Iterator[Tensor], refiner: RowRefiner | None = None
    ) -> None:
        self.number, self._blocks, self._refiner = number, blocks, refiner
        block = next(blocks)
        self.first = block[:, :2]
        self.known = torch.cat((block[:, :1], block), dim=1)
        self.ended = self.dropped = self._complete = False
        self._read_on()

    @property
    def ready(self) -> int:
        """Frames that can be spoken: those whose successor is known."""
        return self.known.shape[1] - 2

    def take(self, n_frames: int) -> Tensor:
        """The next frames with one more on each side, ``[C, n_frames + 2]``."""
        taken = self.known[:, : n_frames + 2]
        self.known = self.known[:, n_frames:]
        self._read_on()
        self.ended = not self.ready
        return taken

    def chunk(self, samples: Tensor, ended: bool) -> AudioChunk:
        """The samples that the network made, or those that are refined by now."""
        if self._refiner is not None:
            samples = self._refiner.add(samples)
            if ended:
                samples = torch.cat((samples, self._refiner.finish()))
        return AudioChunk(self.number, samples, ended)

    def _read_on(self) -> None:
        while not self.ready and not self._complete:
            block = next(self._blocks, None)
            self._complete = block is None
            added = self.known[:, -1:] if block is None else block
            self.known = torch.cat((self.known, added), dim=1)


def _handed_on(pieces: Iterable[Tensor], refiner: RowRefiner) -> Iterator[Tensor]:
    """The pieces of a mel ``[M, F_i]``, each given to the refiner as well."""
    for piece in pieces:
        refiner.add_frames(piece.detach().float().cpu())
        yield piece
