"""Audio that a model carries on: taken in piece by piece, so that its length costs no memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wavenet.generation.threads import one_thread
from wavenet.model import WaveNet
from wavenet.nn import State
from wavenet.nn.hooks import uncompiled

PIECE_SAMPLES = 4096
"""Of a prompt that pass through the model at once: some 40 MB for the larger presets."""


@dataclass(frozen=True)
class Prompt:
    """Audio to carry on that need not be in memory.

    >>> model = wavenet.WaveNet(wavenet.WaveNetConfig.preset("tiny")).eval()
    >>> prompt = Prompt(n_samples=600, pieces=lambda: torch.zeros(600).split(200))
    >>> tuple(generate(model, n_samples=5, prime=prompt, engine="eager").shape)
    (1, 5)

    Attributes:
        n_samples: length, at least 1.
        pieces: gives the samples ``[n_i]`` in [-1, 1] at the model's rate, one piece after another,
            each time it is called.
    """

    n_samples: int
    pieces: Callable[[], Iterable[Tensor]]

    @classmethod
    def of(cls, samples: Tensor) -> Prompt:
        """The prompt of samples ``[T]``."""
        return cls(len(samples), lambda: (samples,))

    def samples(self) -> Tensor:
        """Return all samples ``[T]``, on the CPU."""
        return torch.cat([piece.cpu() for piece in self.pieces()])


def process_prompt(
    model: WaveNet, frames: Tensor | None, prompt: Prompt | None
) -> tuple[Tensor, State]:
    """Return params ``[1, P, 1]`` and state of one row after silence and its prompt.

    Both depend on the last ``model.past + 1`` samples alone, so only the pieces that hold those
    pass through the model; all are read.

    Args:
        model: any ``WaveNet``.
        frames: conditioning ``[C, F]`` from the first sample on; None for none.
        prompt: None for silence alone.
    """
    with uncompiled():
        return _processed(model, frames, prompt)


def _processed(
    model: WaveNet, frames: Tensor | None, prompt: Prompt | None
) -> tuple[Tensor, State]:
    like = model.input_projection.weight
    with one_thread():  # the lift, too: its product is small, and threads would wait for each other
        held = _conditioning(model, frames, 0, 1)
        if prompt is None:
            return model.after_silence(held)
        state = model.warm_state(1, held)
    begin = 0
    params = like.new_zeros(1, model.distribution.n_params, 1)
    for piece in _of_equal_length(prompt.pieces()):
        begin, first = begin + len(piece), begin
        if begin < prompt.n_samples - model.past:
            continue
        x = model.distribution.quantize(piece[None, None]).to(like)
        cond = _conditioning(model, frames, first, len(piece))
        params, state = model.stream(x, state, cond)
    if begin != prompt.n_samples:
        raise ValueError(f"the prompt gave {begin} samples, not its n_samples={prompt.n_samples}")
    return params[..., -1:], state


def _of_equal_length(pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """``[PIECE_SAMPLES]`` each but the last: what is summed at once decides how it is rounded."""
    waiting = torch.empty(0)
    for piece in pieces:
        *whole, waiting = torch.cat((waiting.to(piece), piece)).split(PIECE_SAMPLES)
        yield from whole
    if len(waiting):
        yield waiting


def _conditioning(
    model: WaveNet, frames: Tensor | None, begin: int, n_samples: int
) -> Tensor | None:
    """``[1, C, n_samples]`` of samples from ``begin`` on, lifted from the frames around them."""
    if frames is None or frames.shape[-1] == 1:  # a single frame is held anyway
        return None if frames is None else frames[None]
    return model.frame_lift.part(frames[None], begin, n_samples)
