"""The CPU engine: the whole sampling loop, network and draw, as one compiled function.

One sample of one row reads every weight once, so its speed is that of the memory system; what can
be done about it is to read them as one stream and to do nothing else (``kernels.products``). A
tile of rows shares what is read. Threads take whole tiles: a row never waits for another core, and
has the same bits in every batch.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from wavenet.generation.engines.base import Frames, GenerationState, Request
from wavenet.generation.engines.cpu.conditioning import CpuConditioning
from wavenet.generation.engines.cpu.kernels.packing import (
    LANES,
    Array,
    Constants,
    pack_constants,
    pack_weights,
    registers,
)
from wavenet.generation.engines.cpu.kernels.plan import make_layers, make_plan
from wavenet.generation.engines.eager import check_refusal
from wavenet.generation.engines.steps import history_of, samples_since_step, steps_of
from wavenet.model import ModelState, WaveNet
from wavenet.model.exact import model_difference
from wavenet.nn import State, flatten_state
from wavenet.simd import has_compiler
from wavenet.simd.alignment import aligned_zeros

TILES = (1, 2, 4)
"""Rows that a compiled loop takes at once; an odd number runs with an idle one."""

_WORTH_A_THREAD = 4_000_000
"""Multiply-adds, some 0.1 ms: less is done before another thread wakes up."""

_NO_SAMPLES = np.empty((1, 0), np.float32)
_NO_UNIFORMS = np.empty((1, 0, 1), np.float32)
_FLOAT = np.dtype(np.float32)


def refusal(model: WaveNet) -> str | None:
    """Return why the engine cannot run a model, or None if it can."""
    weight = model.input_projection.weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return f"runs float32 models on the CPU, this one is {weight.dtype} on {weight.device}"
    found = model_difference(model)
    return None if found is None else f"runs only what this package defines, but {found}"


@functools.cache
def warn_without_compiler() -> None:
    """Warn once why generation is slow."""
    warnings.warn(
        "numba is missing, so the slow eager engine serves; pip install 'wavenet-audio[audio]'",
        RuntimeWarning,
        stacklevel=2,
    )


@dataclass
class _Tile:
    """Rows that run together, and what the loop keeps of them."""

    first_row: int
    n_rows: int
    layers: Array
    work: Array  # [width * row_stride], width the rows with the idle ones
    rings: Array  # [n_rows * ring_stride]
    arguments: tuple[Any, ...]  # of the loop, as far as they never change


@dataclass(frozen=True)
class _Packed:
    """Weights as the loop reads them, and the threads that run it."""

    weights: Array
    constants: Constants
    threads: int
    pool: ThreadPoolExecutor

    @classmethod
    def of(cls, model: WaveNet, weights: torch.dtype) -> _Packed:
        """Pack the weights of a model; threads begin when they are first needed."""
        threads = torch.get_num_threads()
        pool = ThreadPoolExecutor(threads)
        return cls(pack_weights(model, weights), pack_constants(model, weights), threads, pool)


class CpuEngine:
    """Runs models on the CPU in float32, as many threads as torch may use (``set_num_threads``).

    Args:
        model: any ``WaveNet`` on the CPU in float32.
        request: conditioning and how to draw; ``weights`` float32, float16 or bfloat16. Biases,
            activations and the projection of the conditioning stay float32.
        start: where to begin; its tensors are copied.
        packed: those of another engine with this model and type of weights, to be shared.

    Attributes:
        weights: all that is read at every sample, as the loop reads it (``kernels.packing``).

    Raises:
        ValueError: if the model is elsewhere or of another type, or numba is missing.
    """

    name: ClassVar[str] = "cpu"

    @torch.inference_mode()
    def __init__(
        self,
        model: WaveNet,
        request: Request,
        start: GenerationState,
        packed: _Packed | None = None,
    ) -> None:
        if packed is None:
            _check(model)
            packed = _Packed.of(model, request.weights)
        from wavenet.generation.engines.cpu.kernels.loop import advance  # loads the compiler

        self._advance = advance
        self.model, self.request = model, request
        self._packed, self.weights = packed, packed.weights
        self._constants = packed.constants.values
        self._plan = make_plan(model, request.weights, packed.constants)
        self._time, self._n_samples = start.time.clone(), 0
        self._since_step = samples_since_step(model, start)
        self._threads = min(packed.threads, len(start.time))
        self._conditioning = CpuConditioning(model, request, len(start.time))
        most = TILES[-1]
        self._shares = [
            [self._tile(int(rows[i]), len(rows[i : i + most])) for i in range(0, len(rows), most)]
            for rows in np.array_split(np.arange(len(start.time)), self._threads)
        ]
        self._tiles = [tile for share in self._shares for tile in share]
        self._pool = packed.pool if self._threads > 1 else None
        self._load(list(range(len(start.time))), start)

    def run(self, uniforms: Tensor) -> Tensor:
        """``[B, U, T]`` to samples ``[B, T]``; see ``Engine.run``."""
        given = np.ascontiguousarray(uniforms.numpy().transpose(0, 2, 1))
        batch, n, _ = given.shape
        samples = np.empty((batch, n), np.float32)
        self._go(given, _NO_SAMPLES, samples, n)
        return torch.from_numpy(samples)

    def force(self, x: Tensor) -> Tensor:
        """``[B, T]`` to params ``[B, P, T]``; see ``Engine.force``."""
        with torch.inference_mode():
            forced = self.model.entry_values(x.to("cpu", torch.float32)).contiguous()
            batch, n = x.shape
            n_params = self.model.distribution.n_params
            params = torch.empty(batch, n * n_params, dtype=torch.float32)
            self._go(_NO_UNIFORMS, forced.numpy(), params.numpy(), n)
            return params.view(batch, n, -1).transpose(1, 2).contiguous()

    def dump(self) -> GenerationState:
        """Return a copy of the state; ``Engine.dump``."""
        plan = self._plan[0]
        at, n_params = int(plan["params_at"]), int(plan["params"])
        with torch.inference_mode():
            works = [
                tile.work.reshape(-1, plan["row_stride"])[: tile.n_rows] for tile in self._tiles
            ]
            params = torch.from_numpy(np.concatenate(works)[:, at : at + n_params, None].copy())
            layers: list[State] = []
            for number in range(len(self._tiles[0].layers)):
                rows = [self._ring(tile, number) for tile in self._tiles]
                slot = int(self._tiles[0].layers[number]["slot"])
                history = np.roll(np.concatenate(rows), -slot, axis=1)[..., : plan["residual"]]
                kept = torch.from_numpy(np.ascontiguousarray(history.transpose(0, 2, 1)))
                layers.append(((history_of(kept, self.model.samples_per_step, self._since_step),),))
            predictor, pairs, outputs = self._dump_memories()
            state = self.model.join_state(ModelState(predictor, pairs, tuple(layers), outputs))
            return GenerationState(params, state, self._time + self._n_samples)

    def resized(self, frames: Frames, start: GenerationState, first_sample: int) -> CpuEngine:
        """Return an engine of other rows that shares the packed weights; ``Engine.resized``."""
        request = replace(self.request, frames=frames, first_sample=first_sample)
        return CpuEngine(self.model, request, start, self._packed)

    @torch.inference_mode()
    def replace(
        self, rows: list[int], frames: Frames, start: GenerationState | None, first_frame: int = 0
    ) -> None:
        """Give rows other frames and states; ``Engine.replace``."""
        self._conditioning.replace(rows, frames, first_frame)
        if start is None:
            return
        samples_since_step(self.model, start, self._since_step)
        self._time[rows] = start.time - self._n_samples
        self._load(rows, start)

    def _dump_memories(self) -> tuple[State, State, State]:
        """States of the predictor, of the pairs and of the outputs of steps."""
        parts = zip(*(self._memories(tile) for tile in self._tiles), strict=True)
        memories = [torch.from_numpy(np.concatenate(part)) for part in parts]
        predictor: State = ()
        if self.model.predictor is not None:
            predictor = tuple(memories.pop(0)[:, None].clone() for _ in range(2))
        if not memories:
            return predictor, (), ()
        pairs, outputs = (memory[..., None].clone() for memory in memories)
        since = outputs.new_full((len(outputs), 1), self._since_step)
        return predictor, (pairs,), (outputs, since)

    def _memories(self, tile: _Tile) -> list[Array]:
        """Views of what else is remembered, as far as the model has it.

        The predictor's samples ``[n_rows, order]`` and excitation ``[n_rows, excitation_past]``,
        the last encoded sample ``[n_rows, inputs]`` and skip sum of a step ``[n_rows, S]``.
        """
        plan, rows = self._plan[0], tile.work.reshape(-1, self._plan[0]["row_stride"])
        places = []
        if self.model.predictor is not None:
            # The oldest place of each is free: it is the first to be moved out.
            places += [(plan["history_at"] + 1, plan["order"])]
            places += [(plan["excitation_at"] + 1, plan["excitation_past"])]
        if self.model.samples_per_step > 1:
            places += [(plan["encoded_from"], plan["inputs"]), (plan["kept_at"], plan["skip"])]
        return [rows[: tile.n_rows, at : at + size] for at, size in places]

    def _tile(self, first_row: int, n_rows: int) -> _Tile:
        """Memory for some rows, and the arguments that never change."""
        plan, conditioning = self._plan[0], self._conditioning
        width = min(size for size in TILES if size >= n_rows)
        stride = int(plan["row_stride"])
        layers = make_layers(self.model)
        work = aligned_zeros(width * stride, _FLOAT)
        rings = aligned_zeros(n_rows * int(plan["ring_stride"]), _FLOAT)
        part = slice(first_row, first_row + n_rows)
        terms, columns = (x[part].reshape(-1) for x in (conditioning.terms, conditioning.columns))
        top_p = self.request.top_p
        arguments = (
            (self.weights, self._constants, self._plan, layers),
            (work, rings, terms, columns),
            conditioning.lift,
            (float(self.request.temperature), 1.0 if top_p is None else float(top_p)),
            (tuple(stride * row for row in range(width)), n_rows, first_row),
        )
        return _Tile(first_row, n_rows, layers, work, rings, arguments)

    def _ring(self, tile: _Tile, number: int) -> Array:
        """A layer's ring, a view ``[n_rows, past, R]``, R whole registers."""
        layer = tile.layers[number]
        width = registers(int(self._plan[0]["residual"])) * LANES
        rows = tile.rings.reshape(tile.n_rows, -1)
        ring = rows[:, layer["ring_at"] : layer["ring_at"] + layer["past"] * width]
        return ring.reshape(tile.n_rows, int(layer["past"]), width)

    def _load(self, rows: list[int], start: GenerationState) -> None:
        """Bring a state into the memory of some rows."""
        parts, per_step = self.model.split_state(start.model), self.model.samples_per_step
        memories = [*flatten_state(parts.predictor), *parts.pairs, *parts.step_outputs[:1]]
        layers = [steps_of(one, per_step, self._since_step) for one in flatten_state(parts.stack)]

        def arrays(tensors: Iterable[Tensor]) -> list[Array]:
            return [tensor.to("cpu", torch.float32).numpy() for tensor in tensors]

        (params,), kept, histories = map(arrays, ([start.params], memories, layers))
        plan = self._plan[0]
        for i, row in enumerate(rows):
            tile = next(one for one in self._tiles if row < one.first_row + one.n_rows)
            row -= tile.first_row
            work = tile.work.reshape(-1, plan["row_stride"])
            work[row, plan["params_at"] :][: plan["params"]] = params[i, :, 0]
            for place, memory in zip(self._memories(tile), kept, strict=True):
                place[row] = memory[i].reshape(-1)
            for number, history in enumerate(histories):
                slot = int(tile.layers[number]["slot"])
                ring = self._ring(tile, number)
                ring[row, :, : plan["residual"]] = np.roll(history[i].T, slot, axis=0)

    def _go(self, uniforms: Array, forced: Array, samples: Array, n: int) -> None:
        """Run all tiles over n samples, frame by frame of the conditioning."""
        done = 0
        while done < n:
            phase, left = self._conditioning.approach()
            end = min(n, done + left)
            self._run_tiles((uniforms, forced, samples), (phase, self._since_step, done, end))
            self._conditioning.position += end - done
            self._since_step = (self._since_step + end - done) % self.model.samples_per_step
            done = end
        self._n_samples += n

    def _run_tiles(self, given: tuple[Array, ...], span: tuple[int, int, int, int]) -> None:
        """Every tile over the samples of one frame; by several threads where that is worth it."""
        if self._pool is None or self._is_little(*span[2:]):
            for tile in self._tiles:
                self._advance(*tile.arguments, given, span)
            return

        def run(share: list[_Tile]) -> None:
            for tile in share:
                self._advance(*tile.arguments, given, span)

        list(self._pool.map(run, self._shares))

    def _is_little(self, begin: int, end: int) -> bool:
        """Return whether one thread is done before another wakes up."""
        return (end - begin) * self.weights.size < _WORTH_A_THREAD


def _check(model: WaveNet) -> None:
    """Raise ValueError unless the engine can run the model here."""
    check_refusal("cpu", refusal(model), "use engine='auto', or call model.float().cpu()")
    if not has_compiler():
        raise ValueError(
            "engine='cpu' needs numba; pip install 'wavenet-audio[audio]' or use engine='eager'"
        )
