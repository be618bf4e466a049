"""The CPU engine against what defines it: ``stream`` of the model, and the distributions' rule."""

import copy
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import special, stats
from state_memory import stray_bytes
from torch import Tensor

import wavenet
from wavenet.distributions import STEP
from wavenet.features import MelConfig
from wavenet.generation import GenerationState, generate
from wavenet.generation.engines.base import Request
from wavenet.generation.engines.cpu import engine as cpu
from wavenet.generation.engines.cpu.engine import CpuEngine
from wavenet.generation.engines.eager import EagerEngine
from wavenet.generation.options import engine_class
from wavenet.generation.randomness import uniforms
from wavenet.model import WaveNet
from wavenet.model.config import FeatureConfig, UpsamplingConfig, WaveNetConfig
from wavenet.nn import flatten_state, map_state, select_rows

pytest.importorskip("numba", reason="the CPU engine is compiled by numba")

FLOAT32_ERROR = 2e-6  # RMS over RMS: what sums of some hundred rounded products leave
BFLOAT16_ERROR = 1e-2  # weights of 8 bits: 2**-9 each, over some layers
FLOAT16_ERROR = 2e-3  # of 11 bits
TIE = 1e-5  # a cumulative sum of float32 weights, computed in two orders


class Scene:
    """A model, its conditioning, a start and what follows, for some rows."""

    def __init__(self, config: WaveNetConfig, rows: int = 1, *, first_sample: int = 0) -> None:
        self.model = WaveNet(config).eval()
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if name.endswith("bias"):
                    parameter.add_(0.1 * torch.randn_like(parameter))
            self.model.head[3].weight.mul_(5)  # what is drawn shall depend on the past
        self.rows, self.first_sample = rows, first_sample
        local = config.local
        n_frames = 0 if local is None else (first_sample + 80) // local.hop_samples + 2
        self.mel = torch.randn(rows, local.channels, n_frames) if local else None
        self.speaker = torch.arange(rows) % config.speakers if config.speakers else None
        with torch.inference_mode():
            cond = self.cond(self.model, 1)
            silence = torch.zeros(rows, 1, 1)
            state = self.model.warm_state(rows, cond)
            self.start = GenerationState.after(*self.model.stream(silence, state, cond))

    def cond(self, model: WaveNet, n: int) -> Tensor | None:
        dtype = model.input_projection.weight.dtype
        mel = None if self.mel is None else self.mel.to(dtype)
        cond = model.condition(mel, self.speaker)
        if cond is None or mel is None:
            return cond
        return cond[..., self.first_sample : self.first_sample + n]

    def request(
        self,
        rows: slice = slice(None),
        *,
        temperature: float = 1.0,
        top_p: float | None = None,
        weights: torch.dtype = torch.float32,
    ) -> Request:
        with torch.inference_mode():
            frames = self.model.condition_frames(self.mel, self.speaker)
        own = None if frames is None else list(frames[rows])
        return Request(own, self.first_sample, temperature, top_p, weights)

    def row(self, row: int) -> GenerationState:
        params, state, time = self.start
        own = select_rows(state, [row])
        return GenerationState(params[row : row + 1], own, time[row : row + 1])

    def stream(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """In float64: params and state after x ``[B, T]``, from the same start."""
        model = copy.deepcopy(self.model).double()
        state = map_state(Tensor.double, self.start.model)
        with torch.inference_mode():
            params, state = model.stream(x[:, None].double(), state, self.cond(model, x.shape[1]))
        return params, list(flatten_state(state))

    def draws(self, n: int, seed: int = 0) -> Tensor:
        per_sample = self.model.distribution.uniforms_per_sample
        rows = [uniforms(seed + row, 0, n * per_sample) for row in range(self.rows)]
        return torch.from_numpy(np.stack(rows)).view(self.rows, n, per_sample).transpose(1, 2)


def relative_error(found: Tensor, expected: Tensor) -> float:
    difference = (found.double() - expected).square().mean().sqrt()
    return float(difference / expected.square().mean().sqrt())


def random_scene(seed: int) -> Scene:
    draw = random.Random(seed)
    torch.manual_seed(seed)
    name, sizes = draw.choice(
        [
            ("mu_law", (16, 50, 256, 1024)),
            ("logistic_mixture", (1, 3, 10, 17)),
            ("gaussian_mixture", (1, 3, 10)),
            ("gaussian", (None,)),
        ]
    )
    config = WaveNetConfig(
        layers_per_stack=draw.randint(1, 5),
        stacks=draw.randint(1, 3),
        kernel_size=draw.randint(1, 4),
        residual_channels=draw.choice([1, 3, 8, 16, 17, 24, 31, 32, 40, 72]),
        gate_channels=draw.choice([None, 2, 6, 10, 32, 34, 66, 96]),
        skip_channels=draw.choice([1, 5, 16, 20, 33, 64, 90]),
        distribution=name,
        distribution_size=draw.choice(sizes),
        features=FeatureConfig(channels=draw.randint(1, 9), hop_samples=draw.randint(1, 24))
        if draw.random() < 0.5
        else None,
        speakers=draw.choice([0, 0, 3]),
    )
    if seed % 3 == 1:
        config = config.replace(one_hot_input=name == "mu_law")
    if seed % 3 == 2 and config.features is not None:
        hop = config.features.hop_samples
        scales = (2, hop // 2) if hop % 2 == 0 else (hop,)
        upsampling = UpsamplingConfig(scales=scales, context_frames=seed % 2)
        config = config.replace(features=replace(config.features, upsampling=upsampling))
    if name != "mu_law" and draw.random() < 0.6:
        hop = 2 * draw.randint(1, 12)
        mel = MelConfig(n_fft=128, win_samples=96, hop_samples=hop, n_mels=draw.randint(2, 20))
        config = config.replace(
            features=None,
            mel=mel,
            linear_prediction=draw.choice([1, 2, 15, 16, 20]),
            pitch_taps=draw.choice([0, 1, 5]),
        )
    return Scene(config, draw.choice([1, 1, 2, 3, 4, 5, 9]), first_sample=draw.choice([0, 0, 37]))


@pytest.mark.parametrize("seed", range(50))
def test_params_and_state_of_any_model_are_those_of_stream(seed: int) -> None:
    scene = random_scene(seed)
    x = torch.rand(scene.rows, 47) * 2 - 1
    engine = CpuEngine(scene.model, scene.request(), scene.start)
    found = torch.cat([engine.force(part) for part in x.split([1, 13, 33], dim=1)], dim=-1)
    params, states = scene.stream(x)
    assert relative_error(found, params) < FLOAT32_ERROR
    after = engine.dump()
    assert stray_bytes(tuple(after)) == 0
    assert torch.equal(after.params, found[..., -1:])
    assert after.time.tolist() == [47] * scene.rows
    parts = list(flatten_state(after.model))
    assert [part.shape for part in parts] == [state.shape for state in states]
    for part, state in zip(parts, states, strict=True):
        assert part.numel() == 0 or torch.allclose(part.double(), state, atol=2e-5)


@pytest.mark.parametrize("seed", range(50))
def test_the_same_uniforms_give_the_samples_of_the_eager_engine_up_to_ties(seed: int) -> None:
    scene = random_scene(seed)
    draw = random.Random(seed)
    is_mu_law = scene.model.config.distribution == "mu_law"
    top_p = draw.choice([None, 0.3, 0.9, 1.0]) if is_mu_law else None
    temperature = draw.choice([1.0, 0.3, 1.7])
    request = scene.request(temperature=temperature, top_p=top_p)
    given = scene.draws(64, seed)
    fast = CpuEngine(scene.model, request, scene.start).run(given)
    slow = EagerEngine(scene.model, request, scene.start).run(given)
    for row in range(scene.rows):
        different = (fast[row] != slow[row]).nonzero()
        if not len(different):
            continue
        t = int(different[0])
        # Up to rounding, the uniform must be one at which the value drawn changes.
        params = scene.start.params if t == 0 else scene.stream(fast[:, :t])[0][..., -1:].float()
        around = given[row, :, t].double()[None, :, None] + TIE * torch.tensor([-1.0, 1.0])
        around = around.expand(1, -1, 2).clamp(1e-9, 1 - 1e-9)
        drawn = scene.model.distribution.sample(
            params[row : row + 1].double().expand(1, -1, 2),
            around,
            temperature=temperature,
            top_p=top_p,
        )
        low, high = sorted(drawn[0].tolist())
        assert low - STEP <= min(fast[row, t], slow[row, t])
        assert max(fast[row, t], slow[row, t]) <= high + STEP
        assert high - low > 0 or abs(float(fast[row, t] - slow[row, t])) <= STEP


CONDITIONED = WaveNetConfig(
    layers_per_stack=4,
    stacks=2,
    residual_channels=20,
    skip_channels=33,
    features=FeatureConfig(channels=5, hop_samples=16),
    speakers=3,
)


@pytest.mark.parametrize(
    "weights",
    [
        torch.float32,
        pytest.param(torch.bfloat16, marks=pytest.mark.slow),
        pytest.param(torch.float16, marks=pytest.mark.slow),
    ],
)
def test_a_row_has_the_same_bits_in_any_batch(weights: torch.dtype) -> None:
    """The loop is compiled anew for each type of weights and each number of rows, for 5 s each."""
    scene = Scene(CONDITIONED, 7)
    given = scene.draws(70)
    whole = CpuEngine(scene.model, scene.request(weights=weights), scene.start).run(given)
    for row in range(7):
        request = scene.request(slice(row, row + 1), weights=weights)
        alone = CpuEngine(scene.model, request, scene.row(row)).run(given[row : row + 1])
        assert torch.equal(alone[0], whole[row])


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_threads_change_no_bit(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(CONDITIONED, rows)
    given = scene.draws(70)
    expected = CpuEngine(scene.model, scene.request(), scene.start).run(given)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(cpu, "_WORTH_A_THREAD", 0)
    assert torch.equal(CpuEngine(scene.model, scene.request(), scene.start).run(given), expected)


@pytest.mark.parametrize("chunks", [[70], [1] * 70, [15, 1, 17, 16, 21]])
def test_the_length_of_chunks_changes_no_bit(chunks: list[int]) -> None:
    scene = Scene(CONDITIONED, 3)
    given = scene.draws(70)
    expected = CpuEngine(scene.model, scene.request(), scene.start).run(given)
    engine = CpuEngine(scene.model, scene.request(), scene.start)
    parts = [engine.run(part) for part in given.split(chunks, dim=-1)]
    assert torch.equal(torch.cat(parts, dim=1), expected)


@pytest.mark.parametrize("after", [EagerEngine, CpuEngine])
def test_a_dumped_state_is_carried_on(after: type) -> None:
    scene = Scene(WaveNetConfig(layers_per_stack=5, stacks=1, residual_channels=9, kernel_size=3))
    x = torch.rand(1, 60) * 2 - 1
    first = CpuEngine(scene.model, scene.request(), scene.start)
    first.force(x[:, :23])
    second = after(scene.model, scene.request(), first.dump())
    assert relative_error(second.force(x[:, 23:]), scene.stream(x)[0][..., 23:]) < FLOAT32_ERROR
    assert second.dump().time.tolist() == [60]


@pytest.mark.parametrize(
    ("weights", "bound", "rows"),
    [
        (torch.bfloat16, BFLOAT16_ERROR, 1),
        pytest.param(torch.bfloat16, BFLOAT16_ERROR, 2, marks=pytest.mark.slow),
        pytest.param(torch.bfloat16, BFLOAT16_ERROR, 4, marks=pytest.mark.slow),
        pytest.param(torch.float16, FLOAT16_ERROR, 1, marks=pytest.mark.slow),
        pytest.param(torch.float16, FLOAT16_ERROR, 2, marks=pytest.mark.slow),
        (torch.float16, FLOAT16_ERROR, 3),  # of four, one of them idle
    ],
)
def test_narrow_weights_are_rounded_and_nothing_else(
    weights: torch.dtype, bound: float, rows: int
) -> None:
    scene = Scene(WaveNetConfig.preset("small"), rows)
    x = torch.rand(rows, 40) * 2 - 1
    found = CpuEngine(scene.model, scene.request(weights=weights), scene.start).force(x)
    assert relative_error(found, scene.stream(x)[0]) < bound
    eager = EagerEngine(scene.model, scene.request(weights=weights), scene.start).force(x)
    assert relative_error(found, eager.double()) < FLOAT32_ERROR


@pytest.mark.parametrize("preset", ["small", "medium", "nv"])
def test_float32_stays_within_two_millionths(preset: str) -> None:
    scene = Scene(WaveNetConfig.preset(preset))
    x = torch.rand(1, 60) * 2 - 1
    found = CpuEngine(scene.model, scene.request(), scene.start).force(x)
    assert relative_error(found, scene.stream(x)[0]) < FLOAT32_ERROR


def constant_scene(name: str, size: int | None) -> Scene:
    """A model whose params never change: what it draws is independent."""
    scene = Scene(
        WaveNetConfig(
            layers_per_stack=1,
            stacks=1,
            residual_channels=4,
            skip_channels=4,
            distribution=name,
            distribution_size=size,
        )
    )
    last = scene.model.head[3]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.randn(last.bias.shape))
        if name != "mu_law":
            _, means, log_scales = last.bias.split(
                [len(last.bias) - 2 * (size or 1)] + [size or 1] * 2
            )
            means.mul_(0.2)
            log_scales.sub_(3)
    params = last.bias.detach().view(1, -1, 1).clone()
    scene.start = GenerationState(params, scene.start.model, scene.start.time)
    return scene


@pytest.mark.parametrize(
    ("name", "size", "temperature", "top_p"),
    [
        ("mu_law", 256, 1.0, None),
        ("mu_law", 1024, 1.0, None),
        ("mu_law", 256, 0.7, 0.8),
        ("logistic_mixture", 10, 1.0, None),
        ("gaussian_mixture", 10, 1.0, None),
        ("gaussian", None, 1.0, None),
    ],
)
def test_a_million_draws_follow_the_distribution(
    name: str, size: int | None, temperature: float, top_p: float | None
) -> None:
    scene = constant_scene(name, size)
    n = 1_000_000
    request = scene.request(temperature=temperature, top_p=top_p)
    drawn = CpuEngine(scene.model, request, scene.start).run(scene.draws(n, seed=3))
    index = (drawn[0].double() / STEP).round().long() + 32768
    counts = torch.bincount(index, minlength=65536).numpy()
    distribution, params = scene.model.distribution, scene.start.params.double()
    grid = torch.arange(-32768, 32768, dtype=torch.float64) * STEP
    if name == "mu_law":
        logits = params[0, :, 0].clone()
        logits[distribution._tables[torch.device("cpu")].empty] = -torch.inf
        p = (logits / temperature).softmax(0)
        if top_p is not None:
            ordered, order = p.sort(descending=True)
            p[order[ordered.cumsum(0) - ordered >= top_p]] = 0
            p /= p.sum()
        value = (distribution.quantize(grid) / STEP).round().long() + 32768
        own = value.unique()
        expected = np.zeros(65536)
        codes = wavenet.distributions.mu_law_encode(grid[own], size)
        expected[own.numpy()] = p[codes].numpy()
    else:
        every = params.expand(1, -1, 65536)
        expected = distribution.log_prob(every, grid[None])[0].exp().numpy()
    assert expected.sum() == pytest.approx(1, abs=1e-9)
    assert counts[expected == 0].sum() == 0
    # Neighbours are put together until every bin expects a hundred.
    bins = (np.cumsum(expected) * n // 1000).astype(int)
    observed, wanted = np.bincount(bins, counts), np.bincount(bins, expected * n)
    kept = wanted > 100
    observed = np.append(observed[kept], observed[~kept].sum())
    wanted = np.append(wanted[kept], wanted[~kept].sum())
    used = wanted > 0
    assert stats.chisquare(observed[used], wanted[used] * n / wanted.sum()).pvalue > 1e-4


def test_quantiles_are_accurate() -> None:
    from wavenet.generation.engines.cpu.kernels import draws

    for u in [*uniforms(1, 0, 2000).tolist(), 2.0**-24, 1 - 2.0**-24]:
        assert draws.standard_normal(u) == pytest.approx(special.ndtri(u), rel=1e-13, abs=1e-15)
        assert draws.standard_logistic(u) == pytest.approx(special.logit(u), rel=1e-13, abs=1e-15)


def test_params_that_are_no_numbers_end_in_a_sample() -> None:
    scene = constant_scene("mu_law", 256)
    params = torch.full_like(scene.start.params, torch.nan)
    start = GenerationState(params, scene.start.model, scene.start.time)
    assert CpuEngine(scene.model, scene.request(top_p=0.9), start).run(scene.draws(1)).isfinite()


def test_auto_takes_the_cpu_engine_and_both_names_give_one_sound() -> None:
    model = WaveNet(WaveNetConfig(layers_per_stack=2, stacks=1, residual_channels=8)).eval()
    assert engine_class("auto", model) is CpuEngine
    auto = generate(model, n_samples=50, seed=1)
    assert torch.equal(auto, generate(model, n_samples=50, seed=1, engine="cpu"))


def test_other_types_are_left_to_the_eager_engine() -> None:
    model = WaveNet(WaveNetConfig(layers_per_stack=2, stacks=1, residual_channels=8)).double()
    assert engine_class("auto", model) is EagerEngine
    with pytest.raises(ValueError, match=r"^engine='cpu' runs float32 models on the CPU, .*64"):
        generate(model, n_samples=5, engine="cpu")


def test_without_numba_the_eager_engine_serves_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = WaveNet(WaveNetConfig(layers_per_stack=2, stacks=1, residual_channels=8)).eval()
    monkeypatch.setattr(cpu, "has_compiler", lambda: False)
    cpu.warn_without_compiler.cache_clear()
    with pytest.warns(RuntimeWarning, match="numba is missing, so the slow eager engine serves"):
        assert generate(model, n_samples=5).shape == (1, 5)
    generate(model, n_samples=5)
    with pytest.raises(ValueError, match="engine='cpu' needs numba; pip install"):
        generate(model, n_samples=5, engine="cpu")


def run_python(script: str, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **changes}
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )


def test_importing_the_package_imports_no_compiler() -> None:
    script = "import wavenet, wavenet.generation, sys; assert 'numba' not in sys.modules"
    assert run_python(script).stderr == ""


@pytest.mark.slow
def test_where_nothing_can_be_kept_the_engine_compiles_in_memory(tmp_path: Path) -> None:
    package = tmp_path / "wavenet"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(wavenet.__file__).parent, package, ignore=ignored)
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import torch, wavenet\n"
        "from wavenet.model import WaveNet, WaveNetConfig\n"
        "model = WaveNet(WaveNetConfig(layers_per_stack=2, stacks=1, residual_channels=8))\n"
        "print(wavenet.__file__, wavenet.generate(model, n_samples=9, seed=1).isfinite().all())\n"
    )
    nowhere = "/dev/null/x"
    done = run_python(
        script,
        NUMBA_CACHE_DIR=nowhere,
        HOME=nowhere,
        XDG_CACHE_HOME=nowhere,
        PYTHONDONTWRITEBYTECODE="1",
    )
    assert str(package) in done.stdout
    assert "True" in done.stdout
    line = "CPU kernels are compiled anew, as kernels in /dev/null/x/wavenet cannot be kept"
    assert done.stderr.count(line) == done.stderr.count("\n") == 1
