"""The fused engine: the eager engine's memory, moved on by a Triton kernel. Opt-in, unmeasured."""

from __future__ import annotations

import importlib.util
import math
import os
from contextlib import nullcontext
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.distributions import (
    MAX_LOG_SCALE,
    MIN_LOG_SCALE,
    Gaussian,
    MuLaw,
)
from wavenet.distributions.mu_law import mu_law_tables
from wavenet.generation.engines.base import GenerationState, Request
from wavenet.generation.engines.eager import EagerEngine, check_refusal
from wavenet.model import WaveNet
from wavenet.model.exact import model_difference
from wavenet.nn import GatedResidualBlock

ROWS = 16
"""Rows of a program: the least that a matrix unit multiplies at once."""
MOST_CHANNELS, MOST_SKIP_CHANNELS = 128, 512
"""Filled up to powers of 2: what a program's registers and shared memory hold."""

_LAUNCH_SAMPLES = 4096
_WINDOW_BYTES = 2**29
"""Bounds on what one launch makes: samples, and bytes of conditioning for them."""


def interpreted() -> bool:
    """Return whether Triton interprets kernels, which needs no GPU (TRITON_INTERPRET=1)."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def padded(channels: int) -> int:
    """The next power of 2, at least what a matrix unit takes."""
    return max(16, 1 << (channels - 1).bit_length())


class FusedEngine(EagerEngine):
    """Runs float32 models on a CUDA device, thousands of samples in a launch.

    Args:
        model: a ``WaveNet`` in float32 of up to 128 residual channels, 256 gate channels and 512
            skip channels.
        request: conditioning and how to draw. ``weights`` are multiplied by matrix units: of
            float16 and bfloat16 the activations are rounded too, sums are float32.
        start: where to begin; its tensors are copied.

    Raises:
        ValueError: for another model, or where Triton is missing.
    """

    name: ClassVar[str] = "gpu-fused"

    def __init__(self, model: WaveNet, request: Request, start: GenerationState) -> None:
        check_refusal(self.name, refusal(model), "use engine='auto'")
        self.block_samples = _launch_samples(model, len(start.time))
        super().__init__(model, request, start)
        with torch.inference_mode():
            self._pack()

    def _make_buffers(self, rows: int) -> None:
        """Allocate nothing: a launch gets the addresses of its samples."""
        tiles = -(-rows // ROWS)
        channels = padded(self.model.config.skip_channels)
        self._scratch = torch.zeros(2, tiles * ROWS, channels, device=self.device)

    def _go(self, given: Tensor, made: Tensor, *, forced: bool) -> None:
        """Launch by launch: ``given [T, ...]`` in, ``made [T, ...]`` out."""
        with torch.inference_mode():
            for begin in range(0, len(given), self.block_samples):
                part = slice(begin, begin + self.block_samples)
                n = len(given[part])
                self._conditioning.prepare(n)
                self._launch(given[part], made[part], forced)
                self._now += n
                self._n_samples += n
                for memory in self._predictor_state:
                    if memory.shape[-1]:
                        memory.copy_(memory.roll(-(n % memory.shape[-1]), dims=-1))

    def _launch(self, given: Tensor, made: Tensor, forced: bool) -> None:
        with torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext():
            self._call(given, made, forced)

    def _call(self, given: Tensor, made: Tensor, forced: bool) -> None:
        """The kernel, for all rows, on the current device."""
        from wavenet.generation.engines.triton.kernel import advance  # loads the compiler

        nothing = self._scratch
        uniforms = quantiles = encoded = nothing
        if forced:
            encoded = self.distribution.network_input(given[..., 0]).contiguous()
        else:
            uniforms = given[:, :, 0, 0].float().contiguous()
            quantiles = self._quantiles(given[:, :, -1, 0].float()).contiguous()
        memories = self._predictor_state or (nothing, nothing)
        of_step = (*self._pairs_state, *self._outputs_state) or (nothing, nothing)
        window = self._conditioning
        ring_period = self._per_step * math.lcm(*self._ring_length.tolist())
        top_p = self.request.top_p
        grid = (self._scratch.shape[1] // ROWS,)
        advance[grid](
            self._rings if len(self._rings) else nothing,
            self._params,
            *memories,
            *of_step,
            self._scratch,
            made,
            uniforms,
            quantiles,
            encoded,
            window.terms,
            window.columns,
            window.begins,
            window.shares,
            *self._packed,
            float(self.request.temperature),
            1.0 if top_p is None else float(top_p),
            given.shape[1],
            len(given),
            (self._since_at_start + self._n_samples) % ring_period,
            (window.first_sample + self._n_samples) % (max(1, window.hop) * len(window.terms)),
            len(window.terms),
            FORCED=forced,
            SHARED_TERMS=self.request.frames is None,
            num_warps=self._warps,
            **self._constants,
        )

    def _quantiles(self, uniforms: Tensor) -> Tensor:
        """Standard quantiles of the distribution; classes have none."""
        if self.distribution.has_classes:
            return uniforms
        return self.distribution.standard_quantile(uniforms)

    def _pack(self) -> None:
        """The eager engine's weights in blocks that are filled up with zeros."""
        narrow = self.request.weights
        n_layers, _, channels = self._inputs.shape
        half, skip = self._gate_bias.shape[1] // 2, self._skip.shape[1]
        rp, hp, sp = padded(channels), padded(half), padded(skip)
        n_params = self.distribution.n_params
        n = min(64, sp, padded(n_params))
        pp = -(-n_params // n) * n
        old = self._old_taps.view(n_layers, -1, channels, 2 * half)
        taps = torch.cat([old, torch.stack(self._new_tap)[:, None]], dim=1)
        taps = taps.unflatten(-1, (2, half)).transpose(2, 3)  # [L, k, 2, R, H]
        residual = torch.stack(self._residual)
        skips = self._skip.view(n_layers, -1, skip)
        (first, first_bias), (last, last_bias) = self._head

        def block(tensor: Tensor, rows: int, columns: int, dtype: torch.dtype = narrow) -> Tensor:
            missing = (0, columns - tensor.shape[-1], 0, rows - tensor.shape[-2])
            return F.pad(tensor, missing).to(dtype).contiguous()

        def line(tensor: Tensor, columns: int) -> Tensor:
            return F.pad(tensor, (0, columns - tensor.shape[-1])).contiguous()

        entry, entry_bias = self._input
        inputs = len(entry) // self._per_step
        entry = entry.unflatten(0, (self._per_step, inputs)).flip(0)  # a copy, the newest first
        scales = torch.ones(inputs, device=self.device)
        if self.model.predictor is not None:  # the kernel scales what it keeps for the next sample
            scales = self.model.predictor.input_scales.to(entry).contiguous()
            entry[0] *= scales[:, None]
        second = second_bias = scales  # unused with one sample a step
        if self._per_step > 1:
            second, second_bias = line(self._second[0], sp), line(self._second[1], sp)
        dilations = [one.conv.dilation // self._per_step for one in self._blocks]
        self._packed = [
            line(entry, rp),
            line(entry_bias, rp),
            block(taps, rp, hp),
            block(residual[:, :half], hp, rp),
            line(residual[:, half], rp),
            block(skips[:, :half], hp, sp),
            line(skips[:, half].sum(0), sp),
            block(first, sp, sp),
            line(first_bias, sp),
            block(last, sp, pp),
            line(last_bias, pp),
            second,
            second_bias,
            scales,
            self._ring_start,
            self._ring_length,
            torch.tensor(dilations, device=self.device),
            *self._tables(),
        ]
        # What a program keeps in registers; the numbers are where the compiler begins to spill.
        self._warps = 8 if narrow == torch.float32 or max(rp * hp, hp * sp) > 2**14 else 4
        widths = {"R": channels, "H": half, "S": skip, "P": n_params}
        filled = {"RP": rp, "HP": hp, "SP": sp, "PP": pp, "N": n, "K": min(64, sp)}
        self._constants: dict[str, Any] = {
            "ROWS": ROWS,
            "LAYERS": n_layers,
            "TAPS": taps.shape[1],
            "STEP": self._per_step,
            "INPUTS": inputs,
            "HOP": self._conditioning.hop,
            "PRECISION": "widened" if interpreted() and narrow == torch.bfloat16 else "ieee",
            **widths,
            **filled,
            **self._of_distribution(),
            **self._of_predictor(),
        }

    def _tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """Tables over classes or components: -inf if closed, the value, and its encoding."""
        if not isinstance(self.distribution, MuLaw):
            zeros = torch.zeros(self.distribution.n_components, device=self.device)
            return zeros, zeros, zeros
        tables = mu_law_tables(self.distribution.classes)
        closed = torch.zeros(len(tables.empty)).masked_fill(tables.empty, -torch.inf)
        sounds = self.distribution.network_input(tables.value)
        return closed.to(self.device), tables.value.to(self.device), sounds.to(self.device)

    def _of_distribution(self) -> dict[str, Any]:
        """The distribution's kind, and the settings of drawing from it."""
        classes = isinstance(self.distribution, MuLaw)
        categories = self.distribution.n_components
        top_p = self.request.top_p
        return {
            "KIND": 0 if classes else 2 if isinstance(self.distribution, Gaussian) else 1,
            "CATEGORIES": categories,
            "BLOCK": min(256, padded(categories)),
            "NUCLEUS": top_p is not None and top_p < 1,
            "LOW": MIN_LOG_SCALE,
            "HIGH": MAX_LOG_SCALE,
        }

    def _of_predictor(self) -> dict[str, int]:
        """The linear predictor's numbers; an order of 0 without one."""
        predictor = self.model.predictor
        names = ("ORDER", "PITCH_TAPS", "MIN_LAG", "MAX_LAG", "REACH", "COLUMNS")
        if predictor is None:
            return dict.fromkeys(names, 0)
        lags = predictor.min_lag_samples, predictor.max_lag_samples
        reach, columns = predictor.excitation_past, predictor.columns
        values = (predictor.order, predictor.pitch_taps, *lags, reach, columns)
        return dict(zip(names, values, strict=True))


def _launch_samples(model: WaveNet, rows: int) -> int:
    """Samples of one launch: as many as the memory for their conditioning allows."""
    local, block = model.config.local, model.stack.blocks[0]
    if local is None:
        return _LAUNCH_SAMPLES
    gate_channels = cast(GatedResidualBlock, block).gate_channels
    frame_bytes = 4 * len(model.stack.blocks) * rows * gate_channels
    frames = max(1, _WINDOW_BYTES // frame_bytes - 4)
    return min(_LAUNCH_SAMPLES, frames * model.frame_lift.hop_samples)


def refusal(model: WaveNet) -> str | None:
    """Return why the engine cannot run a model, or None if it can."""
    weight = model.input_projection.weight
    if importlib.util.find_spec("triton") is None:
        return "needs Triton, which comes with torch on Linux"
    on_device = weight.device.type == "cuda" or interpreted()
    if not on_device or weight.dtype != torch.float32:
        return (
            f"runs float32 models on a CUDA device, this one is {weight.dtype} on {weight.device}"
        )
    found = model_difference(model)
    if found is not None:
        return f"runs only what this package defines, but {found}"
    residual, skip = model.config.residual_channels, model.config.skip_channels
    gate = model.config.gate_channels or 2 * residual
    if max(residual, gate // 2) > MOST_CHANNELS or skip > MOST_SKIP_CHANNELS:
        return (
            f"takes up to {MOST_CHANNELS} residual, {2 * MOST_CHANNELS} gate and "
            f"{MOST_SKIP_CHANNELS} skip channels, this model has {residual}, {gate} and {skip}"
        )
    return "does not support one_hot_input" if model.config.one_hot_input else None
