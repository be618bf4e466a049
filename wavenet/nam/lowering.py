"""The network as operations of the engine behind ``wavenet.process``.

The residual path is one wire that every layer adds to: once a layer's convolution has remembered
its input, nobody needs it any more. So is the sum towards the head. Gating works on two wires, a
half each: every half has a convolution, and both keep the history that the state names once.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from torch import nn

from wavenet.nam.layer import Film, NamLayer, NamLayerArray
from wavenet.nam.network import NamWaveNet
from wavenet.processing.graph import (
    ADD,
    CONV,
    COPY,
    GATE,
    MULTIPLY,
    SUBTRACT,
    Program,
    Wire,
    add_activation,
    add_block,
    add_causal_conv,
    add_projection,
    bias_of,
    dense,
    lowers,
)


@lowers(NamWaveNet, children=lambda model: model.children_in_order())
def _network(program: Program, model: NamWaveNet, wires: tuple[Wire, ...]) -> tuple[Wire, ...]:
    (x,) = wires
    condition, head = x, None
    if model.condition is not None:
        (condition,) = add_block(program, model.condition, (x,))
    stages = model.stages()
    for i, (array, rechannel) in enumerate(stages):
        x, total = _array(program, array, x, condition, head)
        scale = float(model.head_scale) if i == len(stages) - 1 else 1.0
        head = add_causal_conv(program, rechannel, total, scale=scale)
    assert head is not None
    return (head,) if model.post_head is None else add_block(program, model.post_head, (head,))


@lowers(NamLayerArray, children=lambda array: array.all_layers())
def _lone_array(
    program: Program, array: NamLayerArray, wires: tuple[Wire, ...]
) -> tuple[Wire, ...]:
    assert program.cond is not None
    return _array(program, array, wires[0], program.cond, None)


@lowers(NamLayer, children=lambda layer: [layer.conv])
def _lone_layer(program: Program, layer: NamLayer, wires: tuple[Wire, ...]) -> tuple[Wire, ...]:
    assert program.cond is not None
    return _layer(program, layer, _copy(program, wires[0]), program.cond, None)


def _array(
    program: Program, array: NamLayerArray, x: Wire, condition: Wire, head: Wire | None
) -> tuple[Wire, Wire]:
    (y,) = add_block(program, array.rechannel, (x,))
    for layer in array.all_layers():
        y, head = _layer(program, layer, y, condition, head)
    assert head is not None
    return y, head


def _layer(
    program: Program, layer: NamLayer, x: Wire, condition: Wire, head: Wire | None
) -> tuple[Wire, Wire]:
    """Adds to x, and to the head's sum if there is one yet; gives both."""
    heard = x
    if "conv_pre_film" in layer.films:
        heard = _film(program, layer, "conv_pre_film", _copy(program, x), condition)
    halves = _before_activation(program, layer, heard, condition)
    a = _activated(program, layer, halves)
    a = _film(program, layer, "activation_post_film", a, condition)
    head = _towards_head(program, layer, a, condition, head)
    if layer.layer1x1 is None:
        program.add(ADD, a, x)
    elif "layer1x1_post_film" in layer.films:
        (back,) = add_block(program, layer.layer1x1, (a,))
        program.add(ADD, _film(program, layer, "layer1x1_post_film", back, condition), x)
    else:
        add_projection(program, layer.layer1x1, a, x, accumulate=True)
    return x, head


def _towards_head(
    program: Program, layer: NamLayer, a: Wire, condition: Wire, head: Wire | None
) -> Wire:
    if layer.head1x1 is None:
        if head is None:
            return _copy(program, a)
        program.add(ADD, a, head)
        return head
    modulated = "head1x1_post_film" in layer.films
    if head is not None and not modulated:
        add_projection(program, layer.head1x1, a, head, accumulate=True)
        return head
    (own,) = add_block(program, layer.head1x1, (a,))
    own = _film(program, layer, "head1x1_post_film", own, condition)
    if head is None:
        return own
    program.add(ADD, own, head)
    return head


def _before_activation(program: Program, layer: NamLayer, x: Wire, condition: Wire) -> list[Wire]:
    """z, or its two halves: rows of every weight that leads to z."""
    n_halves = 1 if layer.secondary is None or _is_usual_gate(layer) else 2
    mixed = condition
    if "input_mixin_pre_film" in layer.films:
        mixed = _film(program, layer, "input_mixin_pre_film", _copy(program, mixed), condition)
    rows = np.array_split(np.arange(layer.conv.out_channels), n_halves)
    memory, halves = [], []
    for part in rows:
        z = program.wire(len(part), x.rate)
        weight, bias = dense(layer.conv)[part], bias_of(layer.conv)[part]
        memory.append(
            program.add(CONV, x, z, weight=weight, bias=bias, dilation=layer.conv.dilation)
        )
        z = _film(program, layer, "conv_post_film", z, condition, part)
        _mix(program, layer, mixed, z, condition, part)
        halves.append(_film(program, layer, "activation_pre_film", z, condition, part))
    program.memories.append(memory)
    return halves


def _mix(
    program: Program, layer: NamLayer, mixed: Wire, z: Wire, condition: Wire, part: np.ndarray
) -> None:
    """z += V c."""
    weight, nothing = dense(layer.mixin)[part], np.zeros(len(part), np.float32)
    if "input_mixin_post_film" not in layer.films:
        program.add(CONV, mixed, z, weight=weight, bias=nothing, accumulate=True)
        return
    own = program.wire(len(part), z.rate)
    program.add(CONV, mixed, own, weight=weight, bias=nothing)
    program.add(ADD, _film(program, layer, "input_mixin_post_film", own, condition, part), z)


def _activated(program: Program, layer: NamLayer, halves: list[Wire]) -> Wire:
    if _is_usual_gate(layer):
        a = program.wire(halves[0].channels // 2, halves[0].rate)
        program.add(GATE, halves[0], a)
        return a
    a = add_activation(program, layer.activation, halves[0])
    if layer.secondary is None:
        return a
    gate = add_activation(program, layer.secondary, halves[1])
    if layer.gating == "gated":
        program.add(MULTIPLY, gate, a)
        return a
    # g a + (1 - g) first = (a - first) g + first
    program.add(SUBTRACT, halves[0], a)
    program.add(MULTIPLY, gate, a)
    program.add(ADD, halves[0], a)
    return a


def _is_usual_gate(layer: NamLayer) -> bool:
    """tanh(first) sigmoid(second), which is one operation."""
    return (
        layer.gating == "gated"
        and type(layer.activation) is nn.Tanh
        and type(layer.secondary) is nn.Sigmoid
    )


def _film(
    program: Program,
    layer: NamLayer,
    name: str,
    x: Wire,
    condition: Wire,
    part: np.ndarray | None = None,
) -> Wire:
    """x times scale(c), plus shift(c), in place; ``part`` says which channels x holds."""
    if name not in layer.films:
        return x
    film = cast(Film, layer.films[name])
    weight, bias = dense(film.projection), bias_of(film.projection)
    width = len(weight) // (2 if film.shift else 1)
    part = np.arange(width) if part is None else part
    steps = [(MULTIPLY, part), (ADD, part + width)] if film.shift else [(MULTIPLY, part)]
    for kind, rows in steps:
        made = program.wire(len(rows), x.rate)
        program.add(CONV, condition, made, weight=weight[rows], bias=bias[rows])
        program.add(kind, made, x)
    return x


def _copy(program: Program, x: Wire) -> Wire:
    y = program.wire(x.channels, x.rate)
    program.add(COPY, x, y)
    return y
