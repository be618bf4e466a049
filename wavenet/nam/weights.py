"""The order of the weights in a ``.nam`` file.

For each array: rechannel; for each layer conv, mixin, layer1x1, head1x1 and the modulations, each
its weight and then its bias; the head's convolution. Then the convolutions after all arrays, and
the head scale last. Tensors are ``[out, in / groups, k]``, k fastest, tap 0 the oldest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from wavenet.nam.layer import FILMS, Film, NamLayer
from wavenet.nam.network import NamWaveNet
from wavenet.nn import CausalConv1d


def tensors_in_order(model: NamWaveNet) -> Iterator[Tensor]:
    """Yield the model's parameters in the order of the file, and the head scale."""
    for array, rechannel in model.stages():
        yield array.rechannel.weight
        for layer in array.all_layers():
            yield from _layer_tensors(layer)
        yield from _convolution(rechannel)
    if model.post_head is not None:
        for _, block in model.post_head.layers():
            yield from _convolution(cast(CausalConv1d, block))
    yield model.head_scale


def _layer_tensors(layer: NamLayer) -> Iterator[Tensor]:
    yield from _convolution(layer.conv)
    yield layer.mixin.weight
    for optional in (layer.layer1x1, layer.head1x1):
        if optional is not None:
            yield from _convolution(optional)
    for name in FILMS:
        if name in layer.films:
            yield from _convolution(cast(Film, layer.films[name]).projection)


def _convolution(conv: nn.Conv1d | CausalConv1d) -> Iterator[Tensor]:
    yield conv.weight
    if conv.bias is not None:
        yield conv.bias


def fill(model: NamWaveNet, weights: Tensor) -> None:
    """Set the model's parameters, without those of its condition.

    Args:
        model: of ``model.config.n_weights`` weights.
        weights: as many numbers, float32 ``[N]``.
    """
    at = 0
    with torch.no_grad():
        for tensor in tensors_in_order(model):
            tensor.copy_(weights[at : at + tensor.numel()].view(tensor.shape))
            at += tensor.numel()
    assert at == len(weights)


def flat(model: NamWaveNet) -> Tensor:
    """Concatenate all weights in the order of the file, float32 ``[N]``."""
    parts = [tensor.detach().float().cpu().reshape(-1) for tensor in tensors_in_order(model)]
    return torch.cat(parts)
