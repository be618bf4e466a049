"""One layer of a NAM network, and an array of them.

With x the residual path, c the condition, and W, V, R, S convolutions (all but W of kernel size 1):

    z    = W * x + V c
    a    = activation(z)                    or, of the two halves of z, gated or blended
    y    = x + R a, or x + a                the next layer's x
    head = S a                              or a itself; summed over the layers

Eight tensors may be modulated by the condition, p -> scale(c) p + shift(c) (Perez et al. 2018).
The layer is the residual block of van den Oord et al. (2016, figure 4) with the extensions of
amplifier models (Wright et al. 2020, section 3, and the program's own releases).
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from wavenet.nam.activations import make_activation
from wavenet.nam.config import ArrayConfig, FilmConfig, LayerConfig
from wavenet.nam.lowering import lower_array, lower_layer
from wavenet.nn import Causal, CausalConv1d, State
from wavenet.nn.causal import require_causal, stream_child
from wavenet.nn.graph import Buffer, Graph

FILMS = (
    "conv_pre_film",
    "conv_post_film",
    "input_mixin_pre_film",
    "input_mixin_post_film",
    "activation_pre_film",
    "activation_post_film",
    "layer1x1_post_film",
    "head1x1_post_film",
)
"""Modulations by the condition, in the order of the weights."""


class Film(nn.Module):
    """x ``[B, C, T]`` to scale(c) x + shift(c), both linear in the condition c."""

    def __init__(self, condition_size: int, channels: int, config: FilmConfig) -> None:
        super().__init__()
        self.shift = config.shift
        out = channels * (2 if config.shift else 1)
        self.projection = nn.Conv1d(condition_size, out, 1, groups=config.groups)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``[B, C, T]``, with the condition ``[B, condition_size, T]`` of the same samples."""
        made = self.projection(condition)
        if not self.shift:
            return made * x
        scale, shift = made.chunk(2, dim=1)
        return scale * x + shift


class NamLayer(Causal):
    """One layer: ``[B, channels, T]`` and the condition to ``(y, head)``.

    Args:
        array: the widths, groups and modulations.
        layer: kernel size, dilation, activations.
    """

    def __init__(self, array: ArrayConfig, layer: LayerConfig) -> None:
        super().__init__()
        middle = array.middle(layer)
        self.in_channels, self.cond_channels = array.channels, array.condition_size
        self.gating = layer.gating
        self.conv = CausalConv1d(
            array.channels,
            middle,
            layer.kernel_size,
            dilation=layer.dilation,
            groups=array.groups_input,
        )
        self.mixin = nn.Conv1d(
            array.condition_size, middle, 1, groups=array.groups_input_mixin, bias=False
        )
        self.activation = make_activation(layer.activation)
        self.secondary = None if layer.secondary is None else make_activation(layer.secondary)
        self.layer1x1: nn.Conv1d | None = None
        if array.layer1x1_groups is not None:
            self.layer1x1 = nn.Conv1d(
                array.bottleneck, array.channels, 1, groups=array.layer1x1_groups
            )
        self.head1x1: nn.Conv1d | None = None
        if array.head1x1 is not None:
            self.head1x1 = nn.Conv1d(
                array.bottleneck, array.head_channels, 1, groups=array.head1x1.groups
            )
        self.films = nn.ModuleDict()
        for name, width in array.film_widths(layer).items():
            film = getattr(array, name)
            if film is not None:
                self.films[name] = Film(array.condition_size, width, film)

    @property
    def past(self) -> int:
        """Left context of the dilated convolution."""
        return self.conv.past

    def layers(self) -> list[tuple[str, Causal]]:
        """The dilated convolution."""
        return [("conv", require_causal(self.conv, "NamLayer: conv"))]

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append the operations of the layer."""
        return lower_layer(graph, self, buffers)

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """Settle the convolution, on its modulated input."""
        assert cond is not None
        return (self.conv.settle(self._film("conv_pre_film", x, cond)),)

    def stream(
        self, x: Tensor, state: State, cond: Tensor | None = None
    ) -> tuple[tuple[Tensor, Tensor], State]:
        """``((y, head), state')``; see ``Causal.stream``."""
        self.check_call(x, cond)
        self._check_children(state, 1)
        assert cond is not None
        # The state of the convolution is its modulated input, with the condition of that time.
        z, after = stream_child(self.conv, self._film("conv_pre_film", x, cond), state[0])
        z = self._film("conv_post_film", z, cond)
        mixed = self.mixin(self._film("input_mixin_pre_film", cond, cond))
        z = z + self._film("input_mixin_post_film", mixed, cond)
        a = self._activate(self._film("activation_pre_film", z, cond))
        a = self._film("activation_post_film", a, cond)
        head = a
        back = a if self.layer1x1 is None else self.layer1x1(a)
        x = x + self._film("layer1x1_post_film", back, cond)
        if self.head1x1 is not None:
            head = self._film("head1x1_post_film", self.head1x1(a), cond)
        return (x, head), (after,)

    def _activate(self, z: Tensor) -> Tensor:
        if self.secondary is None:
            return cast(Tensor, self.activation(z))
        first, second = z.chunk(2, dim=1)
        a, gate = self.activation(first), self.secondary(second)
        return a * gate if self.gating == "gated" else gate * a + (1 - gate) * first

    def _film(self, name: str, x: Tensor, condition: Tensor) -> Tensor:
        if name not in self.films:
            return x
        return cast(Tensor, self.films[name](x, condition))


class NamLayerArray(Causal):
    """Layers of the same widths: ``[B, input_size, T]`` and the condition to ``(y, head_sum)``.

    ``y`` is ``[B, channels, T]``, ``head_sum`` ``[B, head_channels, T]``.

    Args:
        config: see ``ArrayConfig``; the head's convolution is not part of this block.
    """

    def __init__(self, config: ArrayConfig) -> None:
        super().__init__()
        self.in_channels, self.cond_channels = config.input_size, config.condition_size
        self.rechannel = nn.Conv1d(config.input_size, config.channels, 1, bias=False)
        self.blocks = nn.ModuleList(NamLayer(config, layer) for layer in config.layers)

    @property
    def past(self) -> int:
        """Sum of the layers' left contexts."""
        return sum(layer.past for layer in self.all_layers())

    def layers(self) -> list[tuple[str, Causal]]:
        """The layers."""
        return [(f"blocks.{i}", layer) for i, layer in enumerate(self.all_layers())]

    def all_layers(self) -> list[NamLayer]:
        """Every layer, in order."""
        for i, layer in enumerate(self.blocks):
            require_causal(layer, f"NamLayerArray: blocks.{i}")
        return cast(list[NamLayer], list(self.blocks))

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append the operations of all layers."""
        return lower_array(graph, self, buffers)

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """Settle layer after layer."""
        x = self.rechannel(x)
        states: list[State] = []
        for layer in self.all_layers():
            states.append(layer.settle(x, cond))
            (x, _), _ = stream_child(layer, x, states[-1], cond)
        return tuple(states)

    def stream(
        self, x: Tensor, state: State, cond: Tensor | None = None
    ) -> tuple[tuple[Tensor, Tensor], State]:
        """``((y, head_sum), state')``; see ``Causal.stream``."""
        self.check_call(x, cond)
        self._check_children(state, len(self.blocks))
        x = self.rechannel(x)
        head_sum: Tensor | None = None
        states: list[State] = []
        for layer, before in zip(self.all_layers(), state, strict=True):
            (x, head), after = stream_child(layer, x, before, cond)
            head_sum = head if head_sum is None else head_sum + head
            states.append(after)
        assert head_sum is not None
        return (x, head_sum), tuple(states)
