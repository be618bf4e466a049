"""Memory and disk that a run needs at least, computed before anything is read or written.

The bounds are lower bounds: weights with their gradients, Adam's moments and average, and what a
training step keeps of every layer for the backward pass (``training.window.forward``). A run that
passes may still need more than there is; one that is refused cannot be made on this machine.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from wavenet.distributions import make_distribution
from wavenet.model.config import WaveNetConfig
from wavenet.training.config import ConfigError, TrainingConfig

MOST_LAYERS = 10_000
HIGHEST_HZ = 1_000_000
_FLOAT_BYTES = 4
_USUAL = {
    "model.sample_rate": 16_000,
    "model.layers_per_stack": 10,
    "model.stacks": 3,
    "model.kernel_size": 2,
    "model.residual_channels": 64,
    "model.gate_channels": 128,
    "model.skip_channels": 128,
    "model.cond_channels": 80,
    "model.distribution_size": 256,
    "model.speakers": 100,
    "model.mel.n_mels": 80,
    "model.mel.n_fft": 1024,
    "window_s": 0.5,
    "batch_size": 8,
}
"""The key that is furthest above its usual value is the one that an error names."""


def check_sizes(config: TrainingConfig, model: WaveNetConfig) -> None:
    """Refuse a run that cannot fit this machine.

    Args:
        config: of the run.
        model: what it trains.

    Raises:
        ConfigError: naming the key, its value, the bytes that it needs and those that there are.
    """
    if model.sample_rate > HIGHEST_HZ:
        raise ConfigError(
            f"model.sample_rate={_count(model.sample_rate)} Hz is above all that recordings have; "
            f"{HIGHEST_HZ} Hz is the most"
        )
    layers = model.layers_per_stack * model.stacks
    if layers > MOST_LAYERS:
        key = _furthest(config, model, ("model.layers_per_stack", "model.stacks"))
        raise ConfigError(
            f"{key} makes {_count(layers)} layers; lower it, {MOST_LAYERS} are the most"
        )
    memory_bytes = machine_bytes()
    copies = 4 + bool(config.ema_decay)  # weight, gradient, two moments; average
    model_bytes = parameter_count(model) * _FLOAT_BYTES * copies
    if memory_bytes is not None and model_bytes > memory_bytes:
        sizes = [key for key in _USUAL if key.startswith("model.") and "_rate" not in key]
        key = _furthest(config, model, sizes)
        raise ConfigError(
            f"{key} makes {_count(parameter_count(model))} parameters, and training them needs at "
            f"least {_gigabytes(model_bytes)} of memory where there are "
            f"{_gigabytes(memory_bytes)}; lower it"
        )
    device_bytes = _accelerator_bytes(config) or memory_bytes
    needed = step_bytes(config, model)
    if device_bytes is not None and needed > device_bytes:
        raise ConfigError(
            f"{_furthest(config, model, list(_USUAL))} makes a training step need at least "
            f"{_gigabytes(needed)} of memory where there are {_gigabytes(device_bytes)}: windows "
            f"of {_count(_window_samples(config, model))} samples and the {_count(_past(model))} "
            "before them that the layers reach; lower it"
        )


def parameter_count(model: WaveNetConfig) -> int:
    """Values of stack, head, tables and filterbank, without building them; a few are left out.

    Args:
        model: with as many layers as it likes.
    """
    residual, skip = model.residual_channels, model.skip_channels
    gates, cond = model.gate_channels or 2 * residual, model.conditioning_channels or 0
    outputs = make_distribution(model.distribution, model.distribution_size).n_params
    taps = (model.kernel_size * residual + cond + 1) * gates
    layer = taps + (gates // 2 + 1) * (residual + skip)
    head = (skip + 1) * (skip + outputs)
    mel = model.mel
    tables = model.speakers * cond + (0 if mel is None else mel.n_mels * (mel.n_fft // 2 + 1))
    return model.layers_per_stack * model.stacks * layer + head + tables


def step_bytes(config: TrainingConfig, model: WaveNetConfig) -> int:
    """Return the bytes that a device keeps in a step: inputs of layers, gates unless recomputed.

    Layer by layer, as far back as the end of the window depends on it.
    """
    trainer = config.trainer
    parts = 1
    for key in ("accumulate_grad_batches", "devices", "num_nodes"):
        value = trainer.get(key, 1)
        value = len(value) if isinstance(value, list) else value
        is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
        parts *= value if is_count else max(1, torch.cuda.device_count())
    rows = math.ceil(config.batch_size / parts)
    value_bytes = 2 if "16" in str(trainer.get("precision", "")) else _FLOAT_BYTES
    residual = model.residual_channels
    gates = 0 if config.recompute else (model.gate_channels or 2 * residual)
    kept, wanted = 0, _window_samples(config, model)
    for dilation in reversed(model.dilations):
        kept += gates * wanted // model.samples_per_step
        wanted += (model.kernel_size - 1) * dilation
        kept += residual * wanted // model.samples_per_step
    entry = residual * wanted // model.samples_per_step
    entry += model.skip_channels * _window_samples(config, model)
    return rows * (kept * value_bytes + entry * _FLOAT_BYTES)


def machine_bytes() -> int | None:
    """Memory that this process may use at most; None where it is unknown."""
    found = list(_limits())
    return min(found) if found else None


def _limits() -> Iterator[int]:
    with contextlib.suppress(AttributeError, ValueError, OSError):
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max": there is none
            yield int(Path(limit).read_text())
    with contextlib.suppress(ModuleNotFoundError):
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            yield soft


def _accelerator_bytes(config: TrainingConfig) -> int | None:
    """Return the memory of the largest GPU, where training would use one."""
    wanted = config.trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda")
    if not wanted or not torch.cuda.is_available():
        return None
    devices = range(torch.cuda.device_count())
    return max(torch.cuda.get_device_properties(device).total_memory for device in devices)


def _window_samples(config: TrainingConfig, model: WaveNetConfig) -> int:
    return max(1, round(Fraction(config.window_s) * model.sample_rate))  # of any size


def _past(model: WaveNetConfig) -> int:
    """Reach of the layers in samples, without that of a predictor before them."""
    layers = (model.kernel_size - 1) * (2**model.layers_per_stack - 1) * model.stacks
    return layers * model.samples_per_step


def _furthest(config: TrainingConfig, model: WaveNetConfig, keys: Sequence[str]) -> str:
    """``key=value`` of the key that is furthest above its usual value."""

    def value(key: str) -> int | float:
        found: Any = config
        for name in key.split("."):
            found = model if name == "model" else getattr(found, name, None)
        return found or 0

    def excess(key: str) -> float:
        if key == "model.layers_per_stack":  # each layer doubles the reach of a stack
            return value(key) - _USUAL[key]
        return math.log2(value(key) or 1) - math.log2(_USUAL[key])

    key = max(keys, key=excess)
    return f"{key}={_count(value(key))}"


def _count(value: int | float) -> str:
    """A number in full while it can be read, else such as 2.41e+21."""
    if isinstance(value, float):
        return f"{value:g}"
    digits = str(value)
    if len(digits) < 10:
        return digits
    return f"{digits[0]}.{digits[1:3]}e+{len(digits) - 1}"


def _gigabytes(value: int) -> str:
    return f"{value / 1e9:.3g} GB" if value < 10**12 else f"{_count(value // 10**9)} GB"
