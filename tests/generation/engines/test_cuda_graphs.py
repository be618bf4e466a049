"""The GPU engine: what it records needs nothing from the host, and what it plays is right.

That a recorded block needs no host is tested without a GPU too, on torch's meta device: there a
tensor has no values, so whatever asks for one fails.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wavenet import FeatureConfig, MelConfig, WaveNet, WaveNetConfig, generate, stream
from wavenet.generation import GenerationState
from wavenet.generation.engines.base import Request
from wavenet.generation.engines.cuda_graphs import GpuEngine, graph_lengths
from wavenet.generation.engines.eager import EagerEngine
from wavenet.generation.options import engine_class
from wavenet.generation.randomness import UniformSource
from wavenet.nn import State, flatten_state, map_state

SIZES: dict[str, Any] = {"layers_per_stack": 3, "stacks": 2, "skip_channels": 10}
MEL = MelConfig(n_fft=32, win_samples=16, hop_samples=10, n_mels=4)
MODELS: dict[str, WaveNetConfig] = {
    "classes": WaveNetConfig(**SIZES, residual_channels=5, distribution_size=1024),
    "one tap": WaveNetConfig(**SIZES, residual_channels=5, kernel_size=1, speakers=2),
    "features": WaveNetConfig(
        **SIZES,
        residual_channels=6,
        gate_channels=10,
        kernel_size=3,
        features=FeatureConfig(channels=3, hop_samples=7),
        distribution="logistic_mixture",
        distribution_size=3,
    ),
    "gaussian": WaveNetConfig(**SIZES, residual_channels=4, mel=MEL, distribution="gaussian"),
    "predictor": WaveNetConfig(
        **SIZES,
        residual_channels=7,
        mel=MEL,
        speakers=2,
        distribution="gaussian_mixture",
        distribution_size=2,
        linear_prediction=6,
        pitch_taps=3,
    ),
}


def begin(
    config: WaveNetConfig, *, rows: int = 3, n_frames: int = 30, top_p: float | None = None
) -> tuple[WaveNet, Request, GenerationState]:
    """A model with all parameters at random, a request of random frames, and a random start."""
    model = WaveNet(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.normal_(std=fan_in**-0.5)
    frames = None
    if model.cond_channels is not None:
        n = 1 if config.local is None else n_frames
        frames = [torch.randn(model.cond_channels, n).double() for _ in range(rows)]
    state = map_state(torch.randn_like, model.init_state(rows))
    params = torch.randn(rows, model.distribution.n_params, 1).double()
    start = GenerationState(params, state, torch.zeros(rows, dtype=torch.int64))
    return model, Request(frames, 4, 0.9, top_p, torch.float32), start


def on(
    device: str, model: WaveNet, request: Request, dtype: torch.dtype
) -> tuple[WaveNet, Request]:
    frames = request.frames and [row.to(device, dtype) for row in request.frames]
    moved = Request(
        frames, request.first_sample, request.temperature, request.top_p, request.weights
    )
    return model.to(device, dtype), moved


def largest_difference(a: State | Tensor, b: State | Tensor) -> float:
    """Relative to the larger of 1 and what is compared."""
    pairs = zip(flatten_state((a,)), flatten_state((b,)), strict=True)
    pairs = ((p.double().cpu(), q.double().cpu()) for p, q in pairs)
    return max(
        float((p - q).abs().max() / max(1, q.abs().max())) if p.numel() else 0.0 for p, q in pairs
    )


class _NoHost(TorchDispatchMode):
    """Fails where an operation touches a tensor that is not on the meta device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, result)):
            on_host = isinstance(leaf, Tensor) and leaf.device.type != "meta"
            assert not on_host, f"{func} touches a tensor on {leaf.device}"
        return result


@pytest.mark.parametrize("top_p", [None, 0.8])
@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_a_block_asks_the_device_for_no_value_and_copies_none_to_it(
    name: str, forced: bool, top_p: float | None
) -> None:
    top_p = top_p if name == "classes" else None
    model, request, start = begin(MODELS[name], top_p=top_p)
    model, request = on("meta", model, request, torch.float32)
    engine = EagerEngine(model, request, start)
    with torch.inference_mode():
        engine._advance(1, forced=forced)  # brings tables to the device
        with _NoHost():
            engine._advance(3, forced=forced)


def test_what_asks_for_a_value_would_be_found() -> None:
    with pytest.raises((AssertionError, RuntimeError)), _NoHost():
        torch.zeros(2, device="meta").sum().item()
    with pytest.raises(AssertionError, match="touches a tensor on cpu"), _NoHost():
        torch.ones(2).to("meta")


def test_the_memory_of_a_block_stays_where_it_is() -> None:
    engine = EagerEngine(*begin(MODELS["predictor"]))
    memory = [engine._rings, engine._params, engine._now, engine._inputs, engine._gates]
    memory += [
        *flatten_state(engine._predictor_state),
        engine._conditioning.terms,
        engine._conditioning.columns,
    ]
    places = [part.data_ptr() for part in memory]
    engine.force(torch.rand(3, 200).double())
    engine.run(UniformSource([0, 1, 2], 2).take(70))
    after = [engine._rings, engine._params, engine._now, engine._inputs, engine._gates]
    after += [
        *flatten_state(engine._predictor_state),
        engine._conditioning.terms,
        engine._conditioning.columns,
    ]
    assert [part.data_ptr() for part in after] == places


@pytest.mark.parametrize("n_frames", [40, 4000])
def test_the_window_of_conditioning_is_as_large_for_a_minute_as_for_a_second(n_frames: int) -> None:
    engine = EagerEngine(*begin(MODELS["predictor"], n_frames=n_frames))
    assert engine._conditioning.terms.shape[0] == (64 - 1) // 10 + 4


@pytest.mark.parametrize("n", [0, 1, 7, 8, 63, 64, 200, 2048])
def test_graphs_of_few_lengths_make_any_number_of_samples(n: int) -> None:
    lengths = graph_lengths(n)
    assert sum(lengths) == n
    assert set(lengths) <= {1, 8, 64}
    assert len(lengths) <= n // 64 + 14


def test_a_model_on_the_cpu_is_refused_with_what_to_do() -> None:
    model = WaveNet(MODELS["classes"])
    message = "engine='gpu' runs models on a CUDA device, .* cpu; use engine='auto', or call"
    with pytest.raises(ValueError, match=message):
        generate(model, n_samples=4, engine="gpu")


@pytest.mark.gpu
def test_auto_takes_the_graphs_on_a_gpu() -> None:
    assert engine_class("auto", WaveNet(MODELS["classes"]).cuda()) is GpuEngine


@pytest.mark.gpu
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_on_a_gpu_graphs_equal_the_eager_engine_on_the_cpu_in_float64(name: str) -> None:
    model, request, start = begin(MODELS[name], top_p=0.8 if name == "classes" else None)
    x = model.distribution.quantize(torch.rand(3, 150).double() * 2 - 1)
    given = UniformSource([0, 1, 2], model.distribution.uniforms_per_sample).take(100)
    slow = EagerEngine(model, request, start)
    params, samples = slow.force(x), slow.run(given)
    expected = slow.dump()
    fast = GpuEngine(*on("cuda", model, request, torch.float64), start)
    assert largest_difference(fast.force(x), params) < 1e-10
    assert torch.equal(fast.run(given), samples)
    assert largest_difference(fast.dump().model, expected.model) < 1e-10


@pytest.mark.gpu
def test_on_a_gpu_chunks_equal_the_whole_and_memory_does_not_grow_with_the_length() -> None:
    model = WaveNet(MODELS["predictor"]).cuda().eval()
    mel = torch.randn(4, 300)
    whole = generate(model, mel=mel, seed=0, speaker=0, engine="gpu")
    chunks = stream(model, chunk_samples=77, mel=mel, seed=0, speaker=0, engine="gpu")
    parts = list(chunks)
    assert torch.equal(torch.cat(parts, dim=1), whole)
    peaks = []
    for n in (1000, 3000):
        torch.cuda.reset_peak_memory_stats()
        generate(model, mel=mel, seed=0, speaker=0, n_samples=n, engine="gpu")
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[1] < 1.02 * peaks[0]
