"""Exact bits per sample of a recording under a model that is fed the recording itself.

    bits = -1 / (T ln 2) * sum_t log P(x[t] | x[0 .. t - 1], conditioning)

The sum runs over the whole recording, from its first sample, which follows silence as in generation
(teacher forcing; van den Oord et al. 2016, equation 1). It is taken chunk by chunk, each going on
from the state in which the one before ended, so that the length of a recording costs time alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from wavenet.features import log_mel_rows
from wavenet.model import WaveNet

CHUNK_SAMPLES = 8192
_MEL_FRAMES = 4096  # of which spectra are held at a time


def file_bits(
    model: WaveNet,
    audio: Tensor,
    speaker: int | None = None,
    *,
    chunk_samples: int = CHUNK_SAMPLES,
) -> float:
    """Mean bits per 16-bit sample of a whole recording.

    Args:
        model: any ``WaveNet`` but one that needs features other than its mel.
        audio: ``[T]`` in [-1, 1] at the model's rate.
        speaker: index, for a model with speakers.
        chunk_samples: how much is computed at once; changes memory and rounding alone.

    Raises:
        ValueError: if the model takes other features, or the speaker does not fit it.
    """
    if model.config.features is not None:
        raise ValueError(
            "the model needs features that a recording does not give (model.features); only models "
            "with a mel, speakers or nothing can be evaluated"
        )
    like = model.input_projection.weight
    x = audio.to(like)[None]
    nats = 0.0
    with torch.inference_mode():
        pieces = _conditioning(model, audio, speaker, chunk_samples)
        first = next(pieces)
        before = None if first is None else first[..., :1]
        params, state = model.after_silence(before)
        for start in range(0, x.shape[-1], chunk_samples):
            chunk = x[:, start : start + chunk_samples]
            cond = first if start == 0 else next(pieces)
            quantized = model.distribution.quantize(chunk[:, None]).to(like)
            following, state = model.stream(quantized, state, cond)
            params = torch.cat([params, following[..., :-1]], dim=-1)
            nats -= float(model.distribution.log_prob(params, chunk).double().sum())
            params = following[..., -1:]
    return nats / x.shape[-1] / math.log(2)


def whole_mel(model: WaveNet, audio: Tensor) -> Tensor:
    """The model's own log-mel ``[M, F]`` of ``[T]`` samples, its spectra held in parts."""
    config = model.config.mel
    assert config is not None
    n_frames = config.frames(audio.shape[-1])
    rows = [
        log_mel_rows(
            audio, config, first, min(_MEL_FRAMES, n_frames - first), model.mel_filterbank.to(audio)
        )
        for first in range(0, n_frames, _MEL_FRAMES)
    ]
    return torch.cat(rows, dim=-1)


def _conditioning(
    model: WaveNet, audio: Tensor, speaker: int | None, chunk_samples: int
) -> Iterator[Tensor | None]:
    """The conditioning of each chunk, ``[1, C, chunk_samples]``; lifted a chunk at a time."""
    like = model.input_projection.weight
    mel = None if model.config.mel is None else whole_mel(model, audio).to(like)[None]
    index = None if speaker is None else torch.tensor([speaker], device=like.device)
    frames = model.condition_frames(mel, index)
    for start in range(0, audio.shape[-1], chunk_samples):
        count = min(chunk_samples, audio.shape[-1] - start)
        if frames is None or mel is None:
            yield frames
        else:
            yield model.frame_lift.part(frames, start, count)
