"""Mel frames into conditioning, block by block: the same bits for a whole mel and for a stream.

How a convolution sums may depend on the length that it is given. So blocks begin at fixed frames,
and each is encoded from itself and the frames of context on either side, however the mel came.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from wavenet.generation.threads import one_thread
from wavenet.model import WaveNet

BLOCK = 256
"""Frames that are encoded at once: 3.2 s at 80 frames a second."""


def encode_blocks(
    model: WaveNet, pieces: Iterable[Tensor], others: Mapping[str, Tensor] | None = None
) -> Iterator[Tensor]:
    """Yield ``model.condition_frames`` of a mel that comes in pieces, as soon as it is known.

    A block waits for the ``model.context_frames`` frames behind it, or for the end.

    Args:
        model: one with local features.
        pieces: ``[M, F_i]`` each, one after another.
        others: the conditions beside the mel, ``[1, ...]`` by name.

    Yields:
        ``[C, BLOCK]``; the last may be shorter. Features with an ``upsampling`` of their own give
        as many columns as samples.

    Raises:
        ValueError: as ``model.condition_frames``, or if there is no frame at all.
    """
    for block in blocks_as_known(model, pieces, others):
        assert block is not None  # so was every piece
        yield block


@torch.inference_mode()
def blocks_as_known(
    model: WaveNet,
    pieces: Iterable[Tensor | None],
    others: Mapping[str, Tensor] | None = None,
    block: int = BLOCK,
) -> Iterator[Tensor | None]:
    """Yield the blocks of ``encode_blocks`` of a live mel.

    Args:
        model: as for ``encode_blocks``.
        pieces: as there; None for one that has not arrived yet.
        others: as there.
        block: frames that are encoded at once.

    Yields:
        ``[C, block]``, or None where the next block lacks a piece that has not arrived yet.

    Raises:
        ValueError: as ``encode_blocks``.
    """
    assert model.config.local is not None
    like, margin = model.input_projection.weight, model.context_frames
    columns = model.config.local.hop_samples // model.frame_lift.hop_samples  # of a frame
    source = iter(pieces)
    window = torch.empty(0, 0)
    first = begin = 0  # frame that the window begins with; first one that is not encoded yet
    ended = False
    while not ended or begin < first + window.shape[-1]:
        while not ended and first + window.shape[-1] < begin + block + margin:
            try:
                piece = next(source)
            except StopIteration:
                ended = True
                break
            if piece is None:
                yield None
            else:
                window = torch.cat((window, piece), dim=-1) if window.numel() else piece
        if not begin and not window.shape[-1]:
            raise ValueError("mel has no frames; give at least one")
        stop = min(begin + block, first + window.shape[-1])
        context = window[None, :, : stop + margin - first].to(like, copy=True).contiguous()
        if stop > begin:
            with one_thread():
                frames = model.condition_frames(conditions={**(others or {}), "mel": context})
            assert frames is not None  # the mel is given
            yield frames[0, :, columns * (begin - first) : columns * (stop - first)]
        kept = max(first, stop - margin)
        window, first, begin = window[:, kept - first :], kept, stop


@torch.inference_mode()
def encoded(model: WaveNet, given: Mapping[str, Tensor]) -> Tensor | None:
    """Encode all frames ``[C, F]`` of one row's conditions ``[1, ...]``; None without any."""
    given = on_device(model, given)
    if "mel" in given and model.config.local is not None:
        others = {name: value for name, value in given.items() if name != "mel"}
        return torch.cat(list(encode_blocks(model, [given["mel"][0]], others)), dim=-1)
    frames = model.condition_frames(conditions=given)
    return None if frames is None else frames[0]


def on_device(model: WaveNet, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values of conditions where the model's weights are, floats in the weights' type."""
    like = model.input_projection.weight
    return {
        name: value.to(like if value.is_floating_point() else like.device)
        for name, value in given.items()
    }


def encoded_rows(
    model: WaveNet, conditions: Mapping[str, list[Tensor]], rows: int
) -> list[Tensor] | None:
    """Return ``[C, F]`` of each row, each alone: no row depends on another's length."""
    frames = []
    for row in range(rows):
        given = {name: values[row % len(values)] for name, values in conditions.items()}
        own = encoded(model, given)
        if own is None:
            return None
        frames.append(own)
    return frames
