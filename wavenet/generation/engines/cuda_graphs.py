"""The GPU engine: blocks of samples as CUDA graphs, for any model, on any card that torch drives.

At one sample a step a GPU waits for its host: a sample takes some 150 small operations, and each
costs several microseconds to launch. The eager engine's blocks need nothing from the host, neither
a value nor an address that changes, so they are recorded once (``torch.cuda.graphs``; on AMD cards
HIP graphs, under the same names) and replayed, 64 samples at a time.

The shares of the work are small matrix products, as wide as the batch: the more rows, the better
the card is used.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from wavenet.generation.engines.base import GenerationState, Request
from wavenet.generation.engines.eager import EagerEngine, check_refusal
from wavenet.model import WaveNet
from wavenet.model.exact import model_difference
from wavenet.nn import flatten_state

_LENGTHS = (64, 8, 1)
"""Samples of the graphs that are recorded when they are needed; any number is made of these."""


def refusal(model: WaveNet) -> str | None:
    """Return why the engine cannot run a model, or None if it can.

    It runs on a CUDA device (ROCm's have this name too); of a distribution that is defined
    elsewhere its operations may not be capturable.
    """
    device = model.input_projection.weight.device
    if device.type != "cuda":
        return f"runs models on a CUDA device, this one is on {device}"
    found = model_difference(model)
    return None if found is None else f"runs only what this package defines, but {found}"


def graph_lengths(n_samples: int) -> list[int]:
    """Lengths of the graphs that make n samples, one after the other."""
    lengths = []
    for length in _LENGTHS:
        whole, n_samples = divmod(n_samples, length)
        lengths += [length] * whole
    return lengths


class GpuEngine(EagerEngine):
    """Runs models on a CUDA device, in any floating type that the model has.

    A graph is recorded when its length is first asked for, some seconds at most for the longest.

    Args:
        model: any ``WaveNet`` on a CUDA device.
        request: conditioning and how to draw.
        start: where to begin; its tensors are copied.

    Raises:
        ValueError: if the model is elsewhere.
    """

    name: ClassVar[str] = "gpu"
    block_samples = _LENGTHS[0]

    def __init__(self, model: WaveNet, request: Request, start: GenerationState) -> None:
        check_refusal(self.name, refusal(model), "use engine='auto', or call model.cuda()")
        super().__init__(model, request, start)
        self._graphs: dict[tuple[int, bool, int], torch.cuda.CUDAGraph] = {}

    def _block_lengths(self, n_samples: int) -> list[int]:
        return graph_lengths(n_samples)

    def _advance(self, n: int, *, forced: bool) -> None:
        with torch.cuda.device(self.device):
            key = n, forced, self._since_step
            if key not in self._graphs:
                self._graphs[key] = self._record(n, forced)
            self._graphs[key].replay()

    def _record(self, n: int, forced: bool) -> torch.cuda.CUDAGraph:
        """The operations of the eager engine, which are recorded and not done."""
        self._warm_up(forced)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            super()._advance(n, forced=forced)
        return graph

    def _warm_up(self, forced: bool) -> None:
        """One sample and back: what loads kernels or allocates at its first call must have done so.

        On a stream of its own, as recording is.
        """
        kept = [part.clone() for part in self._memory()]
        side, here = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(here)
        with torch.cuda.stream(side):
            super()._advance(1, forced=forced)
        here.wait_stream(side)
        for part, before in zip(self._memory(), kept, strict=True):
            part.copy_(before)

    def _memory(self) -> list[Tensor]:
        """Tensors that a sample changes and the next one reads."""
        states = self._predictor_state, self._pairs_state, self._outputs_state
        return [self._now, self._rings, self._params, *flatten_state(states)]
