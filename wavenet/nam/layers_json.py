"""The ``config`` of a ``.nam`` file, in all spellings from version 0.5.0 on, as ``NamConfig``.

Keys of older versions are accepted: ``gated`` for ``gating_mode``, ``head_size`` and
``head_bias`` for ``head``, ``kernel_size`` for ``kernel_sizes``, one activation for all layers.
"""

from __future__ import annotations

import logging
from typing import Any

from wavenet.nam.activations import SETTINGS, SLOPES, ActivationConfig
from wavenet.nam.config import (
    MAX_LAYERS,
    ArrayConfig,
    FilmConfig,
    HeadConfig,
    LayerConfig,
    PointwiseConfig,
    PostHeadConfig,
)
from wavenet.nam.layer import FILMS
from wavenet.nam.values import FormatError, Node, integer, number, short, text

logger = logging.getLogger("wavenet")

SIGMOID = ActivationConfig("Sigmoid")
_PRELU_SLOPE = 0.01  # the program's own default
_KNOWN = (
    *("input_size", "condition_size", "channels", "bottleneck", "dilations", "kernel_size"),
    *("kernel_sizes", "activation", "gated", "gating_mode", "secondary_activation", "head"),
    *("head_size", "head_bias", "groups_input", "groups_input_mixin", "head1x1", "head_1x1"),
    *("layer1x1", "slimmable", *FILMS),
)


def parse_arrays(config: Node) -> tuple[ArrayConfig, ...]:
    """Parse all layer arrays, in order.

    Raises:
        ValueError: where something is missing, of a wrong type, or does not fit the rest.
    """
    found = config.items("layers")
    if len(found) > MAX_LAYERS:
        raise FormatError(f"{config.path('layers')} has {len(found)} arrays; {MAX_LAYERS} at most")
    return tuple(
        _array(Node(values, f"{config.path('layers')}[{i}]")) for i, values in enumerate(found)
    )


def parse_post_head(config: Node) -> PostHeadConfig | None:
    """Parse the convolutions after the arrays, if any."""
    if not config.has("head"):
        return None
    head = config.node("head")
    sizes = _integers(head, "kernel_sizes")
    activation = parse_activation(head.get("activation"), head.path("activation"))
    return PostHeadConfig(head.integer("channels"), head.integer("out_channels"), sizes, activation)


def parse_activation(value: Any, where: str) -> ActivationConfig:
    """Parse a name, or an object of ``type`` (``name`` in some files) and settings."""
    node = Node({"type": value} if isinstance(value, str) else value, where)
    kind = node.text("name" if node.has("name") and not node.has("type") else "type")
    kind = "LeakyHardtanh" if kind == "LeakyHardTanh" else kind  # both are in use
    if kind == "Softsign" and node.number("alpha", 1.0) != 1:
        raise FormatError(f"{node.path('alpha')} is not 1, and no other Softsign can be read")
    if kind == SLOPES:
        slopes = node.get("negative_slopes", None)
        if slopes is None:
            return ActivationConfig(kind, (node.number("negative_slope", _PRELU_SLOPE),))
        listed = node.items("negative_slopes")
        path = node.path("negative_slopes")
        return ActivationConfig(kind, tuple(number(slope, path) for slope in listed))
    defaults = SETTINGS.get(kind, {})
    return ActivationConfig(kind, tuple(node.number(key, own) for key, own in defaults.items()))


def _array(node: Node) -> ArrayConfig:
    unknown = node.unknown(*_KNOWN)
    if unknown:
        logger.warning("%s: ignored %s", node.where, ", ".join(map(short, unknown[:5])))
    channels = node.integer("channels")
    layer1x1 = node.node("layer1x1") if node.has("layer1x1") else None
    try:
        return ArrayConfig(
            input_size=node.integer("input_size"),
            condition_size=node.integer("condition_size"),
            channels=channels,
            bottleneck=node.integer("bottleneck", channels),
            layers=_layers(node),
            head=_head(node),
            layer1x1_groups=_groups_if_active(layer1x1),
            head1x1=_head1x1(node),
            groups_input=node.integer("groups_input", 1),
            groups_input_mixin=node.integer("groups_input_mixin", 1),
            **{name: _film(node, name) for name in FILMS},
        )
    except FormatError:
        raise
    except ValueError as error:
        raise FormatError(f"{node.where}: {error}") from None


def _layers(node: Node) -> tuple[LayerConfig, ...]:
    dilations = _integers(node, "dilations")
    n = len(dilations)
    if not n:
        raise FormatError(f"{node.path('dilations')} is empty; an array has one or more layers")
    if node.has("kernel_size") and node.has("kernel_sizes"):
        raise FormatError(f"{node.where} has kernel_size and kernel_sizes; one of them is too many")
    sizes_key = "kernel_sizes" if node.has("kernel_sizes") else "kernel_size"
    sizes = [integer(v, node.path(sizes_key)) for v in _each(node, sizes_key, n)]
    activations = [
        parse_activation(value, node.path("activation")) for value in _each(node, "activation", n)
    ]
    gatings = _gatings(node, n)
    seconds = _each(node, "secondary_activation", n, None)
    return tuple(
        LayerConfig(size, dilation, activation, gating, _secondary(node, gating, second))
        for size, dilation, activation, gating, second in zip(
            sizes, dilations, activations, gatings, seconds, strict=True
        )
    )


def _secondary(node: Node, gating: str, value: Any) -> ActivationConfig | None:
    if gating == "none":
        return None
    return SIGMOID if value is None else parse_activation(value, node.path("secondary_activation"))


def _gatings(node: Node, n: int) -> list[str]:
    if node.has("gating_mode"):
        return [text(v, node.path("gating_mode")) for v in _each(node, "gating_mode", n)]
    return ["gated" if node.flag("gated", False) else "none"] * n


def _each(node: Node, key: str, n: int, *default: Any) -> list[Any]:
    """Return a value for each of n layers, from a list of n or one for all."""
    value = node.get(key, *default)
    if not isinstance(value, list):
        return [value] * n
    if len(value) != n:
        raise FormatError(
            f"{node.path(key)} has {len(value)} entries for {n} dilations; give one for each"
        )
    return value


def _integers(node: Node, key: str) -> tuple[int, ...]:
    values = node.items(key)
    if len(values) > MAX_LAYERS:
        raise FormatError(f"{node.path(key)} has {len(values)} entries; {MAX_LAYERS} at most")
    return tuple(integer(value, node.path(key)) for value in values)


def _head(node: Node) -> HeadConfig:
    if not node.has("head"):
        return HeadConfig(node.integer("head_size"), bias=node.flag("head_bias", False))
    head = node.node("head")
    return HeadConfig(
        head.integer("out_channels"),
        head.integer("kernel_size", 1),
        head.flag("bias"),
        head.integer("head_dilation", 1),
    )


def _groups_if_active(layer1x1: Node | None) -> int | None:
    if layer1x1 is None:
        return 1
    return layer1x1.integer("groups", 1) if layer1x1.flag("active", True) else None


def _head1x1(node: Node) -> PointwiseConfig | None:
    key = "head1x1" if node.has("head1x1") else "head_1x1"  # the latter in some files of 0.6.0
    if not node.has(key) or not node.node(key).flag("active", False):
        return None
    found = node.node(key)
    return PointwiseConfig(found.integer("out_channels"), found.integer("groups", 1))


def _film(node: Node, name: str) -> FilmConfig | None:
    value = node.get(name, False)
    if value is False:
        return None
    film = Node(value, node.path(name))
    if not film.flag("active", True):
        return None
    return FilmConfig(film.flag("shift", True), film.integer("groups", 1))
