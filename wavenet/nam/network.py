"""The network of Neural Amp Modeler: audio in, audio out, feed-forward.

    condition = x, or the output of a network of the same kind for x
    (y, sum)  = array(y, condition)         y = x at first
    head      = rechannel(sum + head)       head = 0 at first; so for each array
    output    = post_head(head_scale * head)

Its convolutions are "valid" ones over the file, preceded by silence: they start at ``warm_state``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from wavenet.nam.activations import make_activation
from wavenet.nam.config import NamConfig
from wavenet.nam.layer import NamLayerArray
from wavenet.nam.lowering import lower_network
from wavenet.nam.model import FromSilence
from wavenet.nn import Causal, CausalConv1d, Chain, State
from wavenet.nn.causal import stream_child
from wavenet.nn.exact import saved_tensors
from wavenet.nn.graph import Buffer, Graph
from wavenet.storage.checkpoint import write_checkpoint
from wavenet.storage.settings import to_dict

ARCHITECTURE = "nam-wavenet"
"""Name of this architecture in ``config.json``."""

BlockPath = tuple[tuple[str, Causal], ...]
"""Blocks from the input on, with their names."""


class NamWaveNet(FromSilence):
    """A WaveNet as Neural Amp Modeler builds them: ``[B, in_channels, T]`` to the amplified sound.

    >>> model = NamWaveNet(preset("nano"))
    >>> sum(weight.numel() for weight in model.parameters()) + 1  # and the head scale
    842

    Attributes:
        config: the frozen configuration.
        metadata: of the file: the gear, its loudness and so on.

    Args:
        config: see ``NamConfig``.
        metadata: JSON values.
    """

    head_scale: Tensor

    def __init__(self, config: NamConfig, metadata: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.config, self.metadata = config, dict(metadata or {})
        self.in_channels, self.out_channels = config.in_channels, config.out_channels
        self.condition = None if config.condition is None else NamWaveNet(config.condition)
        self.arrays = nn.ModuleList(NamLayerArray(array) for array in config.arrays)
        self.rechannels = nn.ModuleList(
            CausalConv1d(
                array.head_channels,
                array.head.out_channels,
                array.head.kernel_size,
                dilation=array.head.dilation,
                bias=array.head.bias,
            )
            for array in config.arrays
        )
        self.post_head = None if config.head is None else self._make_post_head(config)
        self.register_buffer("head_scale", torch.tensor(config.head_scale))

    @staticmethod
    def _make_post_head(config: NamConfig) -> Chain:
        assert config.head is not None
        modules: list[nn.Module] = []
        for each, out, taps in config.head.sizes(config.arrays[-1].head.out_channels):
            modules += [make_activation(config.head.activation), CausalConv1d(each, out, taps)]
        return Chain(*modules)

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio, in Hz."""
        return self.config.sample_rate

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds per sample of the audio."""
        convolutions = (m for m in self.modules() if isinstance(m, nn.Conv1d | CausalConv1d))
        return sum(module.weight.numel() for module in convolutions)

    @property
    def past(self) -> int:
        """Left context along the path with the longest one."""
        return sum(block.past for _, block in self.layers())

    def layers(self) -> list[tuple[str, Causal]]:
        """Blocks along the path with the longest left context, from the input to the output."""
        head: BlockPath = ()
        path: BlockPath = ()
        condition: BlockPath = ()
        if self.condition is not None:
            condition = _within("condition", self.condition.layers())
        for i, (array, rechannel) in enumerate(self.stages()):
            heads = [head] if i else []
            for j, layer in enumerate(array.all_layers()):
                name = f"arrays.{i}.blocks.{j}"
                before = _longest(path, condition) if "conv_pre_film" in layer.films else path
                activated = _longest((*before, (name, layer)), condition)
                heads.append(activated)
                path = _longest(path, activated)
            head = (*_longest(*heads), (f"rechannels.{i}", rechannel))
        if self.post_head is not None:
            head = (*head, ("post_head", self.post_head))
        return list(head)

    def init_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """Return the states of ``children_in_order``."""
        return tuple(
            block.init_state(batch_size, device=device, dtype=dtype)
            for block in self.children_in_order()
        )

    def children_in_order(self) -> list[Causal]:
        """Children with a state: condition, array and head of each stage, post head."""
        stages = [block for stage in self.stages() for block in stage]
        return [b for b in (self.condition, *stages, self.post_head) if b is not None]

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """Settle child after child."""
        states: list[State] = []

        def settled(block: Causal, x: Tensor, cond: Tensor | None = None) -> Any:
            states.append(block.settle(x, cond))
            return stream_child(block, x, states[-1], cond)[0]

        self._run(x, settled)
        return tuple(states)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, in_channels, T]`` to ``[B, out_channels, T]``; see ``Causal.stream``."""
        self.check_call(x, cond)
        self._check_children(state, len(self.children_in_order()))
        before, states = iter(state), list[State]()

        def streamed(block: Causal, x: Tensor, cond: Tensor | None = None) -> Any:
            y, after = stream_child(block, x, next(before), cond)
            states.append(after)
            return y

        return self._run(x, streamed), tuple(states)

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append the operations of the network."""
        return lower_network(graph, self, buffers)

    def _run(self, x: Tensor, call: Any) -> Tensor:
        """Compute the equations above; ``call`` runs a block and keeps its state."""
        condition = x if self.condition is None else call(self.condition, x)
        head: Tensor | None = None
        for array, rechannel in self.stages():
            x, head_sum = call(array, x, condition)
            head = call(rechannel, head_sum if head is None else head + head_sum)
        assert head is not None
        y = self.head_scale * head
        return y if self.post_head is None else cast(Tensor, call(self.post_head, y))

    def save(self, folder: str | Path, *, provenance: dict[str, Any] | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors``; see ``wavenet.storage.checkpoint``.

        Args:
            folder: made if it is missing.
            provenance: origin of the weights (JSON values).
        """
        facts = self.description()
        facts["provenance"].update(provenance or {})
        write_checkpoint(folder, tensors=saved_tensors(self), **facts)

    def description(self) -> dict[str, Any]:
        """Return architecture, configuration and origin, as ``config.json`` has them."""
        return {
            "architecture": ARCHITECTURE,
            "config": to_dict(self.config),
            "provenance": {"nam_metadata": self.metadata},
        }

    def stages(self) -> list[tuple[NamLayerArray, CausalConv1d]]:
        """Each array with its head's convolution."""
        arrays = cast(list[NamLayerArray], list(self.arrays))
        return list(zip(arrays, cast(list[CausalConv1d], list(self.rechannels)), strict=True))


def _within(name: str, blocks: list[tuple[str, Causal]]) -> BlockPath:
    return tuple((f"{name}.{inner}", block) for inner, block in blocks)


def _longest(*paths: BlockPath) -> BlockPath:
    """Return the path with the longest left context; of equal ones that with most blocks."""
    return max(paths, key=lambda path: (sum(block.past for _, block in path), len(path)))
