"""A network of Neural Amp Modeler as operations of ``nn.graph``, for ``wavenet.process``.

The residual path is one buffer that every layer adds to: once a layer's convolution has copied its
input to its history, the old values are not needed. The same holds for the sum to the head. Gating
uses two buffers, one for each half: each half has a convolution, and both keep the same history,
which the state contains once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from torch import nn

from wavenet.nn.exact import class_of
from wavenet.nn.graph import (
    ADD,
    CONV,
    GATE,
    MULTIPLY,
    SUBTRACT,
    Buffer,
    Graph,
    bias_of,
    dense,
)

if TYPE_CHECKING:
    from wavenet.nam.layer import Film, NamLayer, NamLayerArray
    from wavenet.nam.network import NamWaveNet


def lower_network(
    graph: Graph, model: NamWaveNet, buffers: tuple[Buffer, ...]
) -> tuple[Buffer, ...]:
    """Lower a whole network."""
    (x,) = buffers
    condition, head = x, None
    if model.condition is not None:
        (condition,) = graph.module(model.condition, (x,))
    stages = model.stages()
    for i, (array, rechannel) in enumerate(stages):
        x, total = _array(graph, array, x, condition, head)
        scale = float(model.head_scale) if i == len(stages) - 1 else 1.0
        head = graph.convolution(rechannel, total, scale=scale)
    assert head is not None
    return (head,) if model.post_head is None else graph.module(model.post_head, (head,))


def lower_array(
    graph: Graph, array: NamLayerArray, buffers: tuple[Buffer, ...]
) -> tuple[Buffer, ...]:
    """Lower an array of layers by itself."""
    assert graph.cond is not None
    return _array(graph, array, buffers[0], graph.cond, None)


def lower_layer(graph: Graph, layer: NamLayer, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
    """Lower a layer by itself."""
    assert graph.cond is not None
    return _layer(graph, layer, graph.copy(buffers[0]), graph.cond, None)


def _array(
    graph: Graph, array: NamLayerArray, x: Buffer, condition: Buffer, head: Buffer | None
) -> tuple[Buffer, Buffer]:
    (y,) = graph.module(array.rechannel, (x,))
    for layer in array.all_layers():
        y, head = _layer(graph, layer, y, condition, head)
    assert head is not None
    return y, head


def _layer(
    graph: Graph, layer: NamLayer, x: Buffer, condition: Buffer, head: Buffer | None
) -> tuple[Buffer, Buffer]:
    """Add to x, and to the head's sum if it exists already; return both."""
    graph.check(layer)
    graph.check(layer.conv)
    modulated = x
    if "conv_pre_film" in layer.films:
        modulated = _film(graph, layer, "conv_pre_film", graph.copy(x), condition)
    halves = _before_activation(graph, layer, modulated, condition)
    a = _activated(graph, layer, halves)
    a = _film(graph, layer, "activation_post_film", a, condition)
    head = _towards_head(graph, layer, a, condition, head)
    if layer.layer1x1 is None:
        graph.add(ADD, a, x)
    elif "layer1x1_post_film" in layer.films:
        (back,) = graph.module(layer.layer1x1, (a,))
        graph.add(ADD, _film(graph, layer, "layer1x1_post_film", back, condition), x)
    else:
        graph.projection(layer.layer1x1, a, x, accumulate=True)
    return x, head


def _towards_head(
    graph: Graph, layer: NamLayer, a: Buffer, condition: Buffer, head: Buffer | None
) -> Buffer:
    if layer.head1x1 is None:
        if head is None:
            return graph.copy(a)
        graph.add(ADD, a, head)
        return head
    modulated = "head1x1_post_film" in layer.films
    if head is not None and not modulated:
        graph.projection(layer.head1x1, a, head, accumulate=True)
        return head
    (own,) = graph.module(layer.head1x1, (a,))
    own = _film(graph, layer, "head1x1_post_film", own, condition)
    if head is None:
        return own
    graph.add(ADD, own, head)
    return head


def _before_activation(graph: Graph, layer: NamLayer, x: Buffer, condition: Buffer) -> list[Buffer]:
    """Compute z, or its two halves: rows of every weight that contributes to z."""
    n_halves = 1 if layer.secondary is None or _is_usual_gate(layer) else 2
    mixed = condition
    if "input_mixin_pre_film" in layer.films:
        mixed = _film(graph, layer, "input_mixin_pre_film", graph.copy(mixed), condition)
    rows = np.array_split(np.arange(layer.conv.out_channels), n_halves)
    memory, halves = [], []
    for part in rows:
        z = graph.buffer(len(part), x.rate)
        weight, bias = dense(layer.conv)[part], bias_of(layer.conv)[part]
        memory.append(graph.add(CONV, x, z, weight=weight, bias=bias, dilation=layer.conv.dilation))
        z = _film(graph, layer, "conv_post_film", z, condition, part)
        _mix(graph, layer, mixed, z, condition, part)
        halves.append(_film(graph, layer, "activation_pre_film", z, condition, part))
    graph.memories.append(memory)
    return halves


def _mix(
    graph: Graph, layer: NamLayer, mixed: Buffer, z: Buffer, condition: Buffer, part: np.ndarray
) -> None:
    """Add V c to z."""
    weight, nothing = dense(layer.mixin)[part], np.zeros(len(part), np.float32)
    if "input_mixin_post_film" not in layer.films:
        graph.add(CONV, mixed, z, weight=weight, bias=nothing, accumulate=True)
        return
    own = graph.buffer(len(part), z.rate)
    graph.add(CONV, mixed, own, weight=weight, bias=nothing)
    graph.add(ADD, _film(graph, layer, "input_mixin_post_film", own, condition, part), z)


def _activated(graph: Graph, layer: NamLayer, halves: list[Buffer]) -> Buffer:
    if _is_usual_gate(layer):
        a = graph.buffer(halves[0].channels // 2, halves[0].rate)
        graph.add(GATE, halves[0], a)
        return a
    a = graph.activation(layer.activation, halves[0])
    if layer.secondary is None:
        return a
    gate = graph.activation(layer.secondary, halves[1])
    if layer.gating == "gated":
        graph.add(MULTIPLY, gate, a)
        return a
    # g a + (1 - g) first = (a - first) g + first
    graph.add(SUBTRACT, halves[0], a)
    graph.add(MULTIPLY, gate, a)
    graph.add(ADD, halves[0], a)
    return a


def _is_usual_gate(layer: NamLayer) -> bool:
    """Return true for tanh(first) sigmoid(second), which is one operation."""
    return (
        layer.gating == "gated"
        and class_of(layer.activation) is nn.Tanh
        and class_of(layer.secondary) is nn.Sigmoid
    )


def _film(
    graph: Graph,
    layer: NamLayer,
    name: str,
    x: Buffer,
    condition: Buffer,
    part: np.ndarray | None = None,
) -> Buffer:
    """Multiply x by scale(c) and add shift(c), in place; ``part``: the channels of x."""
    if name not in layer.films:
        return x
    film = cast("Film", layer.films[name])
    weight, bias = dense(film.projection), bias_of(film.projection)
    width = len(weight) // (2 if film.shift else 1)
    part = np.arange(width) if part is None else part
    steps = [(MULTIPLY, part), (ADD, part + width)] if film.shift else [(MULTIPLY, part)]
    for kind, rows in steps:
        made = graph.buffer(len(rows), x.rate)
        graph.add(CONV, condition, made, weight=weight[rows], bias=bias[rows])
        graph.add(kind, made, x)
    return x
