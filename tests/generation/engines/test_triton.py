"""The fused kernel computes what the eager engine does, one launch for many samples.

Without a GPU Triton's interpreter runs it, on tiny shapes; on a GPU the same tests run there.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from wavenet import FeatureConfig, MelConfig, WaveNet, WaveNetConfig, generate
from wavenet.generation import GenerationState, Utterance, generate_queue
from wavenet.generation.engines.base import Request
from wavenet.generation.engines.eager import EagerEngine
from wavenet.generation.engines.triton import FusedEngine
from wavenet.generation.randomness import UniformSource
from wavenet.nn import State, flatten_state, map_state

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton comes with torch on Linux alone"
)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES: dict[str, Any] = {"layers_per_stack": 2, "stacks": 1, "skip_channels": 10}
MEL = MelConfig(n_fft=32, win_samples=16, hop_samples=4, n_mels=4)
MODELS: dict[str, WaveNetConfig] = {
    "classes": WaveNetConfig(**SIZES, residual_channels=5, distribution_size=300),
    "one tap": WaveNetConfig(
        **SIZES, residual_channels=17, kernel_size=1, speakers=2, distribution="gaussian"
    ),
    "four taps": WaveNetConfig(
        **SIZES,
        residual_channels=6,
        gate_channels=10,
        kernel_size=4,
        features=FeatureConfig(channels=3, hop_samples=3),
        distribution="logistic_mixture",
        distribution_size=3,
    ),
    "predictor": WaveNetConfig(
        **SIZES,
        residual_channels=7,
        mel=MEL,
        speakers=2,
        distribution="gaussian_mixture",
        distribution_size=2,
        linear_prediction=3,
        pitch_taps=3,
    ),
    "two classes a step": WaveNetConfig(
        **SIZES, residual_channels=5, distribution_size=20, samples_per_step=2
    ),
    "predictor, two samples a step": WaveNetConfig(
        **SIZES,
        residual_channels=7,
        kernel_size=3,
        mel=MEL,
        distribution="logistic_mixture",
        distribution_size=2,
        linear_prediction=3,
        pitch_taps=1,
        samples_per_step=2,
    ),
}


def begin(
    config: WaveNetConfig, rows: int, weights: torch.dtype = torch.float32, **settings: Any
) -> tuple[WaveNet, Request, GenerationState]:
    """A model with all parameters at random, and a start and frames at random."""
    model = WaveNet(config).eval().to(DEVICE)
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.normal_(std=fan_in**-0.5)
    frames = None
    if model.cond_channels is not None:
        n = 1 if config.local is None else 9
        frames = [0.5 * torch.randn(model.cond_channels, n, device=DEVICE) for _ in range(rows)]
    state = map_state(_random_like, model.init_state(rows))
    params = torch.randn(rows, model.distribution.n_params, 1)
    start = GenerationState(params, state, torch.zeros(rows, dtype=torch.int64))
    options: dict[str, Any] = {"temperature": 0.9, "top_p": None, **settings}
    return model, Request(frames, 5, **options, weights=weights), start


def _random_like(part: Tensor) -> Tensor:
    """Noise; where a state counts samples within a step, one."""
    return torch.ones_like(part) if part.ndim == 2 else torch.randn_like(part)


def largest_difference(a: State | Tensor, b: State | Tensor) -> float:
    """Relative to the larger of 1 and what is compared."""
    pairs = zip(flatten_state((a,)), flatten_state((b,)), strict=True)
    return max(
        float((p - q).abs().max() / q.abs().max().clamp(min=1)) if p.numel() else 0.0
        for p, q in pairs
    )


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_it_hears_and_draws_as_the_eager_engine(name: str) -> None:
    """1e-5: float32, whose sums run in another order. 17 rows: two programs, one nearly empty."""
    rows = 17 if name.startswith("predictor") else 2
    model, request, start = begin(MODELS[name], rows)
    eager, fused = EagerEngine(model, request, start), FusedEngine(model, request, start)
    x = model.distribution.quantize(torch.rand(rows, 5) * 2 - 1)
    assert largest_difference(fused.force(x), eager.force(x)) < 1e-5
    given = UniformSource(list(range(rows)), model.distribution.uniforms_per_sample).take(5)
    drawn, expected = fused.run(given[..., :2]), eager.run(given)
    drawn = torch.cat([drawn, fused.run(given[..., 2:])], dim=1)
    assert (drawn - expected).abs().max() < 1e-4  # a value may round to the next step
    assert largest_difference(fused.dump().model, eager.dump().model) < 1e-4
    assert fused.dump().time.tolist() == [10] * rows


@pytest.mark.parametrize("top_p", [0.2, 0.9])
@torch.no_grad()
def test_the_nucleus_is_that_of_the_eager_engine(top_p: float) -> None:
    """Among many classes of equal weight too, of which the first are kept."""
    model, request, start = begin(MODELS["classes"], 16, top_p=top_p)
    ties = start.params.mul(2).round().div(2)
    start = start._replace(params=ties)
    given = (torch.arange(16) + 0.5)[:, None, None] / 16
    drawn = FusedEngine(model, request, start).run(given)
    assert torch.equal(drawn, EagerEngine(model, request, start).run(given))
    assert len(drawn.unique()) > 10


@torch.no_grad()
def test_a_class_that_holds_no_sample_is_never_drawn() -> None:
    config = MODELS["classes"].replace(distribution_size=1024)
    model, request, start = begin(config, 16)
    start = start._replace(params=torch.zeros_like(start.params))
    given = 0.5 + (torch.arange(16) - 8)[:, None, None] / 400  # the narrow classes around 0
    drawn = FusedEngine(model, request, start).run(given)
    assert torch.equal(drawn, EagerEngine(model, request, start).run(given))


@pytest.mark.parametrize("weights", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_of_rounded_weights_the_activations_are_rounded_too(weights: torch.dtype) -> None:
    model, request, start = begin(MODELS["four taps"], 2, weights)
    x = torch.rand(2, 4)
    exact = EagerEngine(model, request, start).force(x)
    rounded = FusedEngine(model, request, start).force(x)
    assert 1e-6 < (rounded - exact).norm() / exact.norm() < 1e-2


@pytest.mark.parametrize("name", ["predictor", "predictor, two samples a step"])
def test_generate_and_the_queue_take_it(name: str) -> None:
    model = WaveNet(MODELS[name]).eval().to(DEVICE)
    speaker = 0 if model.config.speakers else None
    mels = [torch.randn(4, n) for n in (2, 1, 1)]
    utterances = [Utterance(mel=mel, speaker=speaker, seed=i) for i, mel in enumerate(mels)]
    found = dict(generate_queue(model, utterances, rows=2, engine="gpu-fused"))
    for i, mel in enumerate(mels):
        alone = generate(model, mel=mel, speaker=speaker, seed=i, engine="eager")
        assert (found[i] - alone[0]).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"residual_channels": 129}, "takes up to 128 residual, .* has 129, 258 and 128; use"),
        ({"skip_channels": 513}, "512 skip channels, this model has 64, 128 and 513; use"),
    ],
)
def test_models_that_are_too_wide_are_refused(changes: dict[str, int], message: str) -> None:
    model = WaveNet(WaveNetConfig(layers_per_stack=1, stacks=1, **changes)).to(DEVICE)
    with pytest.raises(ValueError, match=message):
        generate(model, n_samples=1, engine="gpu-fused")


def test_without_a_gpu_or_in_another_type_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    model = WaveNet(MODELS["classes"])
    with pytest.raises(ValueError, match="float32 models on a CUDA device, this one is .* on cpu"):
        generate(model, n_samples=1, engine="gpu-fused")
    with pytest.raises(ValueError, match="this one is torch.float64"):
        generate(model.double(), n_samples=1, engine="gpu-fused")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "model", "weights"),
    [
        ("80", "nv", "bfloat16"),
        ("90", "nv", "bfloat16"),
        ("90", "predictor", "bfloat16"),
        ("90", "two-samples", "bfloat16"),
        ("90", "two-samples", "float32"),
    ],
)
def test_the_kernel_compiles_without_a_gpu_and_multiplies_by_matrix_units(
    architecture: str, model: str, weights: str, tmp_path: Any
) -> None:
    """In a process of its own, where Triton does not interpret."""
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    script = os.path.join(os.path.dirname(__file__), "compile_triton.py")
    done = subprocess.run(
        [sys.executable, script, architecture, model, weights],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shared, products = map(int, done.stdout.split())
    assert shared < 227 * 1024
    assert (products > 0) == (weights == "bfloat16")  # float32 is multiplied in full precision
