"""Continuous batching: many utterances of different lengths through the rows of one engine.

A row that has ended begins the next utterance while the others go on. Rows change, and get the
frames that follow, only where a frame begins, so that all have the same phase within a frame of
their own. The samples of an utterance are those that ``generate`` makes of it alone with its seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from wavenet.generation.arguments import condition_rows, of_one_row
from wavenet.generation.engines.base import Engine
from wavenet.generation.options import Sampling, SamplingOptions
from wavenet.generation.randomness import integers, row_seeds
from wavenet.generation.rows import AudioChunk, Row, joined
from wavenet.model import WaveNet
from wavenet.model.built_in_conditions import LocalFeatures
from wavenet.model.conditioner import named_conditions
from wavenet.model.exact import require_wavenet
from wavenet.values.integers import as_integer

_UNIT = 256
"""Samples after which rows may change where nothing changes in time."""


class BatchedVocoder(Iterator[list[AudioChunk]]):
    """Synthesizes audio from mels, ``batch_size`` of them at once, in order.

    Memory does not grow with their lengths. Every utterance has the same seed, so that it does not
    matter what else is synthesized.

    >>> model = wavenet.WaveNet(wavenet.WaveNetConfig.preset("tiny", mel="wavenet-16k")).eval()
    >>> mels = [[torch.zeros(80, 1)], [torch.zeros(80, 2)]]  # two utterances, each in one piece
    >>> options = SamplingOptions(seed=0, engine="eager", refine=0)
    >>> chunks = [chunk for some in BatchedVocoder(model, mels, options) for chunk in some]
    >>> [sum(len(each.samples) for each in chunks if each.number == i) for i in range(2)]
    [200, 400]

    Args:
        model: one with local features.
        mels: for each utterance its frames ``[M, F_i]``, piece after piece; drawn from when needed.
        options: how samples are drawn; every row has their seed, so that none depends on another,
            their speaker and their conditions: one of each.
        batch_size: rows.
        chunk_samples: of what the network makes at once; it changes nothing in the samples.
        n_samples: length of each utterance, which ends earlier only where its mel does; default,
            that of its mel.

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
        model = require_wavenet(model)
        batch_size = as_integer("batch_size", batch_size)
        chunk_samples = as_integer("chunk_samples", chunk_samples)
        if model.config.local is None:
            raise ValueError("the model takes no mel; choose a mel-conditioned one")
        sampling = options.resolve(model, from_mel=True)
        (seed,) = row_seeds(options.seed, 1)
        lengths = None if n_samples is None else _lengths(n_samples)
        given = condition_rows(model, named_conditions(None, options.speaker, options.conditions))
        others = of_one_row(given)

        def begun() -> Iterator[Row]:
            for number, mel in enumerate(mels):
                if lengths is not None and number == len(lengths):
                    raise ValueError(
                        f"n_samples has {number} values and mels more; give one for each utterance"
                    )
                row = Row(model, number, seed, sampling.noise_shaping)
                row.begin(
                    sampling,
                    _checked(model, mel),
                    others,
                    None if lengths is None else lengths[number],
                )
                yield row

        self._batch = Batch(model, sampling, begun(), batch_size, chunk_samples)

    def __next__(self) -> list[AudioChunk]:
        return next(self._batch)

    def drop(self, number: int) -> None:
        """Stop an utterance; its row is free at the next segment."""
        for row in self._batch.rows:
            if row.number == number:
                row.dropped = True


def _lengths(n_samples: Sequence[int]) -> list[int]:
    """Return the length of each of any number of utterances."""
    if isinstance(n_samples, Sequence) and not n_samples:
        return []
    lengths = integers("n_samples", n_samples)
    if min(lengths) < 1:
        raise ValueError(f"n_samples={min(lengths)} must be at least 1")
    return lengths


def _checked(model: WaveNet, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield the pieces of a mel ``[M, F_i]``; ValueError for one that the model does not take."""
    mel = model.conditions["mel"]
    assert isinstance(mel, LocalFeatures)
    for piece in pieces:
        if not isinstance(piece, Tensor) or piece.numel():
            mel.check(piece[None] if isinstance(piece, Tensor) else piece)
            mel.check_finite(piece)
        yield piece


class Batch(Iterator[list[AudioChunk]]):
    """Rows of one engine, filled from an iterator that gives None where there is no row yet.

    Args:
        model: of all rows.
        sampling: how the engine draws.
        waiting: the rows, each begun; the next one is taken when there is a place.
        size: most rows at once.
        chunk_samples: of each row, that are made between two looks at what waits.
        live: whether somebody waits for the samples: chunks are as short as can be while a row has
            made less than one, and on the CPU frames are encoded while the engine runs.

    Attributes:
        rows: that have a place, running or waiting for what they need.
    """

    def __init__(
        self,
        model: WaveNet,
        sampling: Sampling,
        waiting: Iterator[Row | None],
        size: int,
        chunk_samples: int,
        live: bool = False,
    ) -> None:
        self._model, self._waiting, self._sampling = model, waiting, sampling
        self._live = live
        self._hop = 0 if model.config.local is None else model.frame_lift.hop_samples
        self._unit, self._chunk, self._size = self._hop or _UNIT, chunk_samples, size
        self.rows: list[Row] = []
        self._seats: list[Row | None] = []  # the rows of the engine
        self._engine: Engine | None = None
        self._exhausted = False
        self._left = 0  # samples until rows may change
        # An idle row costs nothing on a GPU, where a new engine has to be recorded.
        self._fits = model.input_projection.weight.device.type == "cpu"
        self._beside = ThreadPoolExecutor(1) if live and self._fits else None

    @property
    def begun(self) -> bool:
        """Whether it has an engine, and that its threads."""
        return self._engine is not None

    def __next__(self) -> list[AudioChunk]:
        """The next samples of the rows that run; an empty list where all of them wait."""
        if not self._left:
            self._arrange()
        if not self._left:
            return []
        assert self._engine is not None
        n = min(self._chunk, self._left)
        shape = 1, self._model.distribution.uniforms_per_sample, n
        idle = torch.full(shape, 0.5, dtype=torch.float32)
        given = [idle if row is None else row.uniforms.take(n) for row in self._seats]
        samples = self._run(torch.cat(given))
        self._left -= n
        chunks = []
        for place, row in enumerate(self._seats):
            if row is not None and not row.dropped:
                chunks.append(row.take(samples[place]))
                if chunks[-1].ended:
                    self.rows.remove(row)
                    self._seats[place] = None
        return chunks

    def _run(self, uniforms: Tensor) -> Tensor:
        """Run the engine; meanwhile rows may encode what they need next."""
        assert self._engine is not None
        if self._beside is None:
            return self._engine.run(uniforms)
        running = self._beside.submit(self._engine.run, uniforms)
        try:
            for row in self._seats:
                if row is not None and not row.dropped:
                    row.encode_ahead(uniforms.shape[-1])
        finally:
            samples = running.result()
        return samples

    @torch.inference_mode()
    def _arrange(self) -> None:
        """Give free places to rows that wait, and rows the frames that follow."""
        self.rows = [row for row in self.rows if not row.dropped]
        self._fill()
        if not self.rows:
            raise StopIteration
        running = [row for row in self.rows if row.runs]
        self._seat(running)
        if not running:
            return
        n = min(min(row.span, row.left) for row in running)
        if self._live and any(row.made < self._chunk for row in running):
            n = min(n, self._unit)
        if not self._exhausted or len(running) < len(self.rows):  # look again after a chunk
            n = min(n, max(self._unit, self._chunk // self._unit * self._unit))
        self._left = -(-int(n) // self._unit) * self._unit

    def _fill(self) -> None:
        """Take rows while places are free; where there are none, until there is one or the end."""
        while not self._exhausted:
            while len(self.rows) < self._size:
                try:
                    row = next(self._waiting)
                except StopIteration:
                    self._exhausted = True
                    return
                if row is None:
                    break
                self.rows.append(row)
            if self.rows:
                return

    def _seat(self, running: list[Row]) -> None:
        """Let the engine's rows be those that run; the states of those that wait are kept."""
        seated = {row: place for place, row in enumerate(self._seats) if row in self.rows}
        n_seats = len(self._seats)
        if running and (self._fits or not n_seats):
            n_seats = len(running) if self._fits or self._exhausted else self._size
        resized = n_seats != len(self._seats)
        leaving = {row: place for row, place in seated.items() if resized or row not in running}
        if leaving:
            assert self._engine is not None
            state = self._engine.dump()
            for row, place in leaving.items():
                row.start = state.select([place])
        self._seats = [row if row in seated and row not in leaving else None for row in self._seats]
        if resized:
            self._begin([*running, *[None] * (n_seats - len(running))])
        else:
            self._replace(running)

    def _begin(self, seats: list[Row | None]) -> None:
        """Make an engine of the rows that run, and of empty ones while there may be more."""
        running = [row for row in seats if row is not None]
        frames, start = joined([running[0] if row is None else row for row in seats])
        assert start is not None
        if self._engine is None:
            engine = self._sampling.start(self._model, frames, start, first_sample=self._hop)
        else:
            engine = self._engine.resized(frames, start, self._hop)
        self._engine, self._seats = engine, seats
        for row in running:
            row.start = None

    def _replace(self, running: list[Row]) -> None:
        """Seat new rows, and hand rows the frames that follow."""
        free = [place for place, row in enumerate(self._seats) if row is None]
        new = dict(zip(free, [row for row in running if row not in self._seats], strict=False))
        for place, row in new.items():
            self._seats[place] = row
        self._hand(new)
        lacking = {place: row for place, row in enumerate(self._seats) if row and not row.span}
        self._hand(lacking)

    def _hand(self, rows: Mapping[int, Row]) -> None:
        """Hand rows the frames that follow; all of them are new, or none is."""
        if rows:
            assert self._engine is not None
            self._engine.replace(list(rows), *joined(list(rows.values())), first_frame=1)
        for row in rows.values():
            row.start = None
