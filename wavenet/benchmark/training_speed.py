"""Training speed of a model, beside the plain network and beside what the machine can do at best.

All are measured in one process, taking turns. A step is a whole one: forward, loss, backward,
clipping of the gradient, Adam.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wavenet.benchmark.hardware import describe_machine
from wavenet.benchmark.memory import peak_bytes
from wavenet.benchmark.reference_model import PlainWaveNet
from wavenet.benchmark.roofline import count_weights
from wavenet.benchmark.timing import (
    Spread,
    aligned,
    check_at_least_one,
    counted,
    limited_threads,
    take_turns,
)
from wavenet.data import WindowPlan
from wavenet.model import WaveNet
from wavenet.model.config import WaveNetConfig
from wavenet.training.config import TrainingConfig
from wavenet.training.loss import bits_per_sample, window_log_prob

ROUNDS = 5
PRECISIONS = ("32", "bf16")
_MATRIX = 2048
"""Side of the square matrices of the large product, where it takes no longer than below."""
_SMALLEST_MATRIX = 256
_LONGEST_PRODUCT_S = 2.0
_COPIED_BYTES = 2**28


@dataclass(frozen=True)
class TrainingSpeed:
    """Results of ``measure_training``. Samples are those that the loss sees, of all rows.

    Attributes:
        precision: ``32`` or ``bf16``, that is, bfloat16 autocast.
        device: where the step ran.
        batch_size: windows in a step.
        window_samples: that the loss sees of each window.
        warm_up_samples: before them.
        threads: most that were used.
        rounds: of which the medians are.
        recompute: whether gates were computed again instead of kept.
        samples_per_second: of a training step.
        plain: the same of the plain network, in float32.
        plain_same: the same of the plain network, in this precision.
        peak_bytes: that a step takes beyond the model, its optimiser and the batch.
        plain_peak_bytes: the same of the plain network, in float32.
        matrix_multiply_adds: a second, of a large product in this precision.
        copied_bytes: read and written in a second, copying a large tensor.
        multiply_adds: of a step for each sample; warm-up and what is computed twice do not count.
        machine: see ``describe_machine``.
    """

    precision: str
    device: str
    batch_size: int
    window_samples: int
    warm_up_samples: int
    threads: int
    rounds: int
    recompute: bool
    samples_per_second: Spread
    plain: Spread
    plain_same: Spread
    peak_bytes: int | None
    plain_peak_bytes: int | None
    matrix_multiply_adds: float
    copied_bytes: float
    multiply_adds: int
    machine: dict[str, str | int | None]

    @property
    def ratio_to_plain(self) -> float:
        """Speed relative to the plain network in float32."""
        return self.samples_per_second.median / self.plain.median

    @property
    def share_of_matrix(self) -> float:
        """Multiply-adds a second of the step, as a share of those of large products."""
        return self.samples_per_second.median * self.multiply_adds / self.matrix_multiply_adds

    @property
    def share_of_bandwidth(self) -> float | None:
        """Peak memory, written and read once a step, as a share of the rate of a copy."""
        if self.peak_bytes is None:
            return None
        steps = self.samples_per_second.median / (self.batch_size * self.window_samples)
        return 2 * self.peak_bytes * steps / self.copied_bytes

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values; rates are medians, and have their spread beside them."""
        values = asdict(self)
        for name in ("samples_per_second", "plain", "plain_same"):
            spread: Spread = getattr(self, name)
            key = name if name == "samples_per_second" else f"{name}_samples_per_second"
            values.pop(name)
            values |= {key: spread.median, f"{key}_spread": spread.to_dict()}
        return values | {
            "ratio_to_plain": self.ratio_to_plain,
            "share_of_matrix": self.share_of_matrix,
            "share_of_bandwidth": self.share_of_bandwidth,
        }

    def to_json(self) -> str:
        """``to_dict`` as one line of JSON."""
        return json.dumps(self.to_dict())

    def __str__(self) -> str:
        """A table, and below it what was measured."""
        rows: list[tuple[str, ...]] = [("", "samples/s", "min", "max", "x plain", "peak memory")]
        rows.append(
            self._row(f"training, {self.precision}", self.samples_per_second, self.peak_bytes)
        )
        rows.append(self._row("plain, 32", self.plain, self.plain_peak_bytes))
        if self.precision != "32":
            rows.append(self._row(f"plain, {self.precision}", self.plain_same, None))
        return "\n".join([*aligned(rows), *self._notes()])

    def _row(self, name: str, spread: Spread, peak: int | None) -> tuple[str, ...]:
        rates = (f"{rate:,.0f}" for rate in (spread.median, spread.min, spread.max))
        memory = "" if peak is None else f"{peak / 1e9:.2f} GB"
        return name, *rates, f"{spread.median / self.plain.median:.2f}", memory

    def _notes(self) -> list[str]:
        """Return the lines below the table."""
        windows = counted(self.batch_size, "window")
        rounds, threads = counted(self.rounds, "round"), counted(self.threads, "thread")
        moved = self.share_of_bandwidth
        bandwidth = (
            "" if moved is None else f", {moved:.2f} of the {self.copied_bytes / 1e9:.0f} GB/s"
        )
        return [
            f"{windows} of {self.window_samples:,} samples behind {self.warm_up_samples:,} of "
            f"warm-up, {self.device}" + (", gates computed twice" if self.recompute else ""),
            f"{self.share_of_matrix:.2f} of the {self.matrix_multiply_adds / 1e9:,.0f} G "
            f"multiply-adds/s of a large product{bandwidth} of a copy",
            f"median of {rounds}, {threads}, {self.machine['processor']}, "
            f"torch {self.machine['torch']}",
        ]


@dataclass(frozen=True)
class TrainingStep:
    """Settings of the step that is timed.

    Args:
        precision: ``32`` or ``bf16``.
        window_s: seconds of each window that the loss is computed over.
        batch_size: windows in a step.
        recompute: see ``TrainingConfig``.
        compiled: whether the model's step is compiled with ``torch.compile``.

    Raises:
        ValueError: for an unknown precision, or a batch without a window.
    """

    precision: str = "32"
    window_s: float = 1.0
    batch_size: int = 2
    recompute: bool = False
    compiled: bool = False

    def __post_init__(self) -> None:
        check_at_least_one(batch_size=self.batch_size)
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision={self.precision!r} is unknown; choose one of 32, bf16")


def measure_training(
    config: WaveNetConfig,
    step: TrainingStep | None = None,
    *,
    threads: int = 1,
    rounds: int = ROUNDS,
    device: str = "cpu",
) -> TrainingSpeed:
    """Time steps of a model and of the plain network, and the machine's ceilings, taking turns.

    The windows are noise. The first step, which makes the optimiser's state, does not count.

    Args:
        config: of the model, freshly drawn.
        step: what is timed; None is a ``TrainingStep()``.
        threads: that torch may use.
        rounds: of which the median is taken.
        device: ``cpu`` or ``cuda``.

    Raises:
        ValueError: for less than one round, more threads than cores, or a device that is not there.
    """
    check_at_least_one(rounds=rounds)
    step = step or TrainingStep()
    precision, batch_size = step.precision, step.batch_size
    with limited_threads(threads), torch.random.fork_rng():
        torch.manual_seed(0)
        where = torch.device(device)
        model = WaveNet(config).to(where)
        plan = WindowPlan.of(model, step.window_s)
        batch = {name: part.to(where) for name, part in _noise(plan, batch_size).items()}
        plain_network = PlainWaveNet(config).to(where)
        log_prob_of = torch.compile(window_log_prob) if step.compiled else None

        def own_loss() -> Tensor:
            return bits_per_sample(model, batch, plan, log_prob_of, recompute=step.recompute)

        def plain_loss() -> Tensor:
            return plain_network.bits_per_sample(batch, plan)

        steps = {
            "training": _Step(model, own_loss, precision, where),
            "plain": _Step(plain_network, plain_loss, "32", where),
        }
        if precision != "32":
            steps["plain_same"] = _Step(plain_network, plain_loss, precision, where)
        peaks = {name: _peak(one) for name, one in steps.items()}
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        side = _matrix_side(dtype, where)
        ceilings = _ceilings(dtype, where, side)
        seconds = take_turns({**steps, **ceilings}, rounds)
    n_samples = batch_size * plan.length
    rates = {name: Spread.of([n_samples / one for one in seconds[name]]) for name in steps}
    return TrainingSpeed(
        precision=precision,
        device=_device_name(where),
        batch_size=batch_size,
        window_samples=plan.length,
        warm_up_samples=plan.warm_up,
        threads=threads,
        rounds=rounds,
        recompute=step.recompute,
        samples_per_second=rates["training"],
        plain=rates["plain"],
        plain_same=rates.get("plain_same", rates["plain"]),
        peak_bytes=peaks["training"],
        plain_peak_bytes=peaks["plain"],
        matrix_multiply_adds=side**3 / min(seconds["matrix"]),
        copied_bytes=2 * _COPIED_BYTES / min(seconds["copy"]),
        multiply_adds=3 * count_weights(model),  # one product forward, two backward
        machine=describe_machine(),
    )


class _Step:
    """A step of training on one batch, again and again.

    Args:
        network: whose parameters learn.
        loss: of the batch.
        precision: ``32`` or ``bf16``.
        device: that the step waits for.
    """

    def __init__(
        self, network: nn.Module, loss: Callable[[], Tensor], precision: str, device: torch.device
    ) -> None:
        self._parameters, self._loss, self.device = list(network.parameters()), loss, device
        self._precision = precision
        self._optimizer = torch.optim.Adam(self._parameters, lr=TrainingConfig.learning_rate)

    def __call__(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            loss = self._loss()
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, TrainingConfig.gradient_clip)
        self._optimizer.step()
        _wait(self.device)

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._precision == "bf16")


def _peak(step: _Step) -> int | None:
    """Return the peak memory of the second step: the first one allocates what stays."""
    step()
    return peak_bytes(step, step.device)


def _noise(plan: WindowPlan, batch_size: int) -> dict[str, Tensor]:
    """Windows as a loader gives them."""
    n_samples = plan.warm_up + plan.length
    batch = {
        "x": torch.rand(batch_size, 1, n_samples) - 0.5,
        "mask": torch.ones(batch_size, 1, n_samples),
    }
    if plan.frame_channels:
        n_frames = n_samples // plan.hop + 2 * plan.context_frames
        batch["mel"] = torch.randn(batch_size, plan.frame_channels, n_frames)
        batch["frame"] = torch.arange(n_frames).repeat(batch_size, 1)
    if plan.speakers:
        batch["speaker"] = torch.zeros(batch_size, dtype=torch.long)
    return batch


def _matrix_side(dtype: torch.dtype, device: torch.device) -> int:
    """Return the side of matrices whose product takes no longer than ``_LONGEST_PRODUCT_S``.

    In a type for which a processor has no instructions, that of 2048 takes a minute.
    """
    matrix = torch.ones(_SMALLEST_MATRIX, _SMALLEST_MATRIX, dtype=dtype, device=device)
    matrix @ matrix
    _wait(device)
    begun = time.perf_counter()
    matrix @ matrix
    _wait(device)
    seconds, side = time.perf_counter() - begun, _MATRIX
    while side > _SMALLEST_MATRIX and seconds * (side / _SMALLEST_MATRIX) ** 3 > _LONGEST_PRODUCT_S:
        side //= 2
    return side


def _ceilings(
    dtype: torch.dtype, device: torch.device, side: int
) -> dict[str, Callable[[], object]]:
    """A product of square matrices, and a large copy; both are called once before."""
    matrix = torch.randn(side, side, device=device).to(dtype)
    product = torch.empty_like(matrix)
    memory = torch.zeros(_COPIED_BYTES, dtype=torch.uint8, device=device)
    copy = torch.zeros_like(memory)

    def multiply() -> None:
        torch.mm(matrix, matrix, out=product)
        _wait(device)

    def move() -> None:
        copy.copy_(memory)
        _wait(device)

    multiply()
    move()
    return {"matrix": multiply, "copy": move}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
