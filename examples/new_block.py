"""A causal block of one's own: in a chain, streamed in chunks, and compiled for live audio."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wavenet.nn import Causal, CausalConv1d, Chain, State
from wavenet.nn.graph import ADD, Buffer, Graph
from wavenet.processing import Processor
from wavenet.testing import check_causal


class DryWet(Causal):
    """Sum of the input and a convolution of it by a trained gain: y = x + gain conv(x).

    Args:
        channels: of x and of y, both [B, channels, T].
        kernel_size: taps of the convolution.
    """

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.in_channels = channels
        self.conv = CausalConv1d(channels, channels, kernel_size)
        self.gain = nn.Conv1d(channels, channels, 1, groups=channels, bias=False)

    @property
    def past(self) -> int:
        """Samples of the convolution."""
        return self.conv.past

    def layers(self) -> list[tuple[str, Causal]]:
        """The one child that has a state."""
        return [("conv", self.conv)]

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """[B, channels, T] to the same."""
        wet, after = self.conv.stream(x, state[0])
        return x + self.gain(wet), (after,)

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append the operations; without this method ``process`` runs ``stream``."""
        (wet,) = graph.module(self.conv, buffers)
        (y,) = graph.module(self.gain, (wet,))
        graph.add(ADD, buffers[0], y)
        return (y,)


def main() -> None:
    """Check the contract, stream and compile."""
    torch.manual_seed(0)
    block = Chain(CausalConv1d(1, 4, 3), DryWet(4, 5), nn.Tanh(), nn.Conv1d(4, 1, 1)).eval()
    check_causal(block)
    audio = torch.randn(1, 1, 2000)
    whole = block(audio)
    live = Processor(block, block.init_state(1))
    in_chunks = torch.cat([live(chunk) for chunk in audio.split(64, -1)], -1)
    difference = float((in_chunks - whole).abs().max().detach())
    compiled = "compiled" if live.compiled else "not compiled"
    print(f"past {block.past} samples, {compiled}, greatest difference {difference:.0e}")


if __name__ == "__main__":
    main()
