"""One utterance in a batch: its conditioning, its uniforms, and where it is.

A row may have to wait: for frames of its mel that have not arrived yet, or until its samples are
wanted. Meanwhile its state is kept here, and the other rows go on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from wavenet.generation.engines.base import GenerationState
from wavenet.generation.frames import BLOCK, blocks_as_known, encoded, on_device
from wavenet.generation.options import Sampling
from wavenet.generation.prompts import process_prompt
from wavenet.generation.randomness import UniformSource
from wavenet.generation.refining import RowRefiner
from wavenet.model import WaveNet


class AudioChunk(NamedTuple):
    """Samples of one utterance.

    >>> model = wavenet.WaveNet(wavenet.WaveNetConfig.preset("tiny", mel="wavenet-16k")).eval()
    >>> options = SamplingOptions(seed=0, engine="eager", refine=0)
    >>> chunks = next(BatchedVocoder(model, [[torch.zeros(80, 1)]], options, chunk_samples=128))
    >>> chunks[0].number, tuple(chunks[0].samples.shape), chunks[0].ended
    (0, (128,), False)

    Attributes:
        number: which of the utterances it is, from 0.
        samples: the next ones, ``[T]`` in [-1, 1], on the CPU; none while refinement waits.
        ended: whether they are the last.
    """

    number: int
    samples: Tensor
    ended: bool


class Row:
    """An utterance that runs or waits.

    Args:
        model: any ``WaveNet``.
        number: which of the utterances it is.
        seed: of its uniforms.
        noise_shaping: filter of the sampling noise.
        wanted: returns whether more samples are wanted now; default, always.

    Attributes:
        uniforms: that it draws with.
        left: samples still to be made; without bound while the end of its mel is not known.
        span: samples for which the engine has its frames.
        start: the state to begin from, until an engine has it; None before the first frame is
            known.
        made: samples so far, of the network.
        known: conditioning ``[C, n]``, from the frame before the next sample on; in front of the
            first frame and behind the last one, that frame again. One column where it is constant,
            None where there is none.
        dropped: whether no more of it is wanted.
    """

    start: GenerationState | None
    known: Tensor | None

    def __init__(
        self,
        model: WaveNet,
        number: int,
        seed: int,
        noise_shaping: float,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._model, self.number, self._wanted = model, number, wanted
        per_sample = model.distribution.uniforms_per_sample
        self.uniforms = UniformSource([seed], per_sample, shaping=noise_shaping)
        self.left, self.span, self._handed = math.inf, 0.0, 0  # frames of the span
        self.made = 0
        self.dropped = self._complete = False
        self.start = self.known = None
        self._blocks: Iterator[Tensor | None] | None = None
        self._refiner: RowRefiner | None = None

    @torch.inference_mode()
    def begin(
        self,
        sampling: Sampling,
        mel: Iterable[Tensor | None] | None,
        others: Mapping[str, Tensor],
        n_samples: int | None,
        block: int = BLOCK,
    ) -> None:
        """Encode the first of the pieces ``[M, F_i]`` of a mel; the row ends after n_samples.

        A piece that is None has not arrived yet: the row waits until it is asked for again. Frames
        are encoded by ``block`` at once.
        """
        given = on_device(self._model, others)
        if n_samples is not None:
            self.left = n_samples
        if mel is None:
            self.known = encoded(self._model, given)
            self.start = GenerationState.after(*process_prompt(self._model, self.known, None))
            return
        if sampling.refinement is not None:
            self._refiner = RowRefiner(sampling.refinement, n_samples)
            mel = self._handed_on(mel, self._refiner)
        self._blocks = blocks_as_known(self._model, mel, given, block)
        self._encode_more()

    @property
    def ready(self) -> int:
        """Number of frames that can be used: those whose successor is known."""
        return 0 if self.known is None else self.known.shape[1] - 2

    @property
    @torch.inference_mode()
    def runs(self) -> bool:
        """Whether it can go on now: its next frame is known, and its samples are wanted."""
        if not self._wanted():
            return False
        while self._blocks is not None and self.ready <= self._consumed and not self._complete:
            if not self._encode_more():
                return False
        return True

    @torch.inference_mode()
    def encode_ahead(self, n_samples: int) -> None:
        """Encode the next block, if it is needed after so many samples and has arrived."""
        lacking = self.ready == self._handed and self.span <= n_samples
        if self._blocks is not None and lacking and not self._complete:
            self._encode_more()

    def frames(self) -> Tensor | None:
        """Return the frames that an engine needs from the next sample on; sets ``span``."""
        if self._blocks is None or self.known is None:
            self.span = math.inf
            return self.known
        self.known = self.known[:, self._consumed :]
        self._handed = self.ready
        self.span = float(self._handed * self._model.frame_lift.hop_samples)
        return self.known

    def take(self, samples: Tensor) -> AudioChunk:
        """Consume the network's next samples ``[n]``; return those wanted, or refined by now."""
        self.span -= len(samples)
        self.made += len(samples)
        samples = samples[: int(min(len(samples), self.left))]
        self.left -= len(samples)
        if self._refiner is not None:
            samples = self._refiner.add(samples)
            if not self.left:
                # Frames behind the end count too, so that no bit depends on how the mel comes.
                while self._refiner.lacks_frames and not self._complete and self._encode_more():
                    pass
                samples = torch.cat((samples, self._refiner.finish()))
        return AudioChunk(self.number, samples, not self.left)

    def _handed_on(
        self, pieces: Iterable[Tensor | None], refiner: RowRefiner
    ) -> Iterator[Tensor | None]:
        """The pieces of a mel ``[M, F_i]``, each given to the refiner as well."""
        for piece in pieces:
            if piece is not None and piece.shape[-1]:
                self._model.conditions["mel"].check(piece[None])  # before the refiner sees it
                refiner.add_frames(piece.detach().float().cpu())
            yield piece

    @property
    def _consumed(self) -> int:
        """Frames at the beginning of ``known`` whose samples have been made."""
        return self._handed - int(self.span) // self._model.frame_lift.hop_samples

    def _encode_more(self) -> bool:
        """Add the next block of frames to those known, or note their end; false for neither."""
        assert self._blocks is not None
        try:
            block = next(self._blocks)
        except StopIteration:
            assert self.known is not None
            self.known = torch.cat((self.known, self.known[:, -1:]), dim=1)
            self._complete = True
            made = self.known.shape[1] - 2 - self._consumed
            self.left = min(self.left, made * self._model.frame_lift.hop_samples)
            return True
        if block is None:
            return False
        if self.known is None:
            first, self.known = block[:, :2], torch.cat((block[:, :1], block), dim=1)
            self.start = GenerationState.after(*process_prompt(self._model, first, None))
        else:
            self.known = torch.cat((self.known, block), dim=1)
        return True


def joined(rows: list[Row]) -> tuple[list[Tensor] | None, GenerationState | None]:
    """The frames of rows, and the states from which they begin; None where there are none."""
    frames = [part for row in rows if (part := row.frames()) is not None]
    states = [row.start for row in rows if row.start is not None]
    return frames or None, GenerationState.join(states) if states else None
