"""What every model can, every configuration can: engines, window, checkpoints, saying no."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from configurations import (
    CONFIGURATIONS,
    QUICK,
    RATE,
    each_but_most_are_slow,
    each_configuration,
    make_model,
    some_conditioning,
)
from torch import Tensor

import wavenet
from wavenet import FeatureConfig, WaveNet, WaveNetConfig
from wavenet.cli.main import main
from wavenet.generation import GenerationState
from wavenet.generation.engines.base import Engine, Request
from wavenet.generation.engines.cpu.engine import CpuEngine
from wavenet.generation.engines.eager import EagerEngine
from wavenet.generation.engines.steps import history_of, steps_of
from wavenet.generation.engines.triton import FusedEngine
from wavenet.generation.randomness import UniformSource
from wavenet.nn import LiftedFrames, State, flatten_state, map_state
from wavenet.testing import check_causal
from wavenet.training import TrainingConfig
from wavenet.training.run import train
from wavenet.training.window import hidden_of_window

FLOAT64_ERROR, FLOAT32_ERROR = 1e-10, 1e-5
"""Of params of size 1, and of states: sums of some hundred products in another order."""
ROWS, N_SAMPLES = 2, 30
MIXTURES = ("logistic_mixture", "gaussian_mixture", "gaussian")

ENGINES: dict[str, type[Engine]] = {
    "eager": EagerEngine,
    "cpu": CpuEngine,
    "gpu-fused": FusedEngine,
}
REFUSED = {
    ("gpu-fused", "one-hot classes of speakers"): "does not support one_hot_input; use",
    (
        "gpu-fused",
        "one-hot classes, mel and speakers or none",
    ): "does not support one_hot_input; use",
}
"""What an engine cannot run, and what it says."""


def n_frames(config: WaveNetConfig) -> int:
    """Frames of N_SAMPLES samples, and the frame after them."""
    return 1 if config.local is None else -(-N_SAMPLES // config.local.hop_samples) + 1


def largest_difference(a: State | Tensor, b: State | Tensor) -> float:
    """Relative to the larger of 1 and what is compared."""
    pairs = zip(flatten_state((a,)), flatten_state((b,)), strict=True)
    differences = [
        float((p - q).detach().abs().max() / q.detach().abs().max().clamp(min=1))
        for p, q in pairs
        if p.numel()
    ]
    return max(differences, default=0.0)


def needed(model: WaveNet, state: State) -> State:
    """The state, with zeros for what the stack remembers of samples within steps."""
    if model.samples_per_step == 1:
        return state
    parts = model.split_state(state)
    since = int(parts.step_outputs[1][0])

    def within_steps(history: Tensor) -> Tensor:
        return history_of(steps_of(history, 2, since), 2, since)

    return model.join_state(parts._replace(stack=map_state(within_steps, parts.stack)))


def to_double(state: State) -> State:
    return map_state(lambda part: part.double() if part.is_floating_point() else part, state)


def begin(
    model: WaveNet, conditioning: tuple[Tensor | None, Tensor | None]
) -> tuple[Request, GenerationState, Tensor | None]:
    """A request, where it begins after silence, and its conditioning as ``stream`` takes it."""
    like = model.input_projection.weight
    mel, speaker = conditioning
    mel = None if mel is None else mel.to(like)
    frames = model.condition_frames(mel, speaker)
    cond = model.condition(mel, speaker)
    first = None if cond is None else cond[..., :1].expand(ROWS, -1, -1)
    silence = torch.zeros(ROWS, 1, 1).to(like)
    start = GenerationState.after(*model.stream(silence, model.warm_state(ROWS, first), first))
    rows = None if frames is None else list(frames.expand(ROWS, -1, -1))
    if cond is not None:
        cond = cond.expand(ROWS, -1, -1)
        cond = cond if cond.shape[-1] == 1 else cond[..., :N_SAMPLES]
    return Request(rows, 0, 1.0, None, torch.float32), start, cond


# --- the list -------------------------------------------------------------------------------------


def test_the_list_has_every_option_of_a_configuration() -> None:
    used = CONFIGURATIONS.values()
    for field in dataclasses.fields(WaveNetConfig):
        if field.name == "conditions":  # of classes that are not part of the package
            continue  # see tests/model/test_conditioner.py
        values = {repr(getattr(config, field.name)) for config in used}
        assert values - {repr(field.default)}, f"no configuration sets {field.name}"
    for predicted in (True, False):
        found = {c.distribution for c in used if bool(c.linear_prediction) == predicted}
        assert found | {"mu_law"} == {"mu_law", *MIXTURES}
        assert ("mu_law" in found) != predicted
    assert {c.kernel_size for c in used} >= {1, 2, 3, 4}
    assert {name for _, name in REFUSED} <= set(CONFIGURATIONS)


# --- stream and the training window ---------------------------------------------------------------


@each_but_most_are_slow
def test_the_model_keeps_the_law(name: str) -> None:
    check_causal(WaveNet(CONFIGURATIONS[name]))


@each_configuration
def test_the_parallel_pass_is_stream_in_chunks(name: str) -> None:
    model = make_model(name).double()
    for conditioning in some_conditioning(model.config, ROWS, n_frames(model.config)):
        _, start, cond = begin(model, conditioning)
        x, state = torch.rand(ROWS, 1, N_SAMPLES).double() * 2 - 1, start.model
        whole, after = model.stream(x, state, cond)
        begin_at = 0
        for n in (1, 1, 2, 13, 1, 12):
            part = slice(begin_at, begin_at + n)
            given = cond if cond is None or cond.shape[-1] == 1 else cond[..., part]
            params, state = model.stream(x[..., part], state, given)
            assert largest_difference(params, whole[..., part]) < FLOAT64_ERROR
            begin_at += n
        assert begin_at == N_SAMPLES
        assert largest_difference(state, after) < FLOAT64_ERROR


@pytest.mark.parametrize(
    ("name", "recompute"),
    [(name, False) for name in CONFIGURATIONS] + [(name, True) for name in QUICK],
)
def test_the_training_window_has_the_values_and_gradients_of_stream(
    name: str, recompute: bool
) -> None:
    model = make_model(name).double()
    config, length = model.config, 11
    for mel, speaker in some_conditioning(config, ROWS, n_frames(config)):
        local = None if mel is None else mel.double()
        x = torch.rand(ROWS, 1, N_SAMPLES).double() * 2 - 1
        found: list[Tensor] = []
        for window in (True, False):
            frames = model.condition_frames(local, speaker)
            lifted = None
            if frames is not None:
                lift = frames.new_ones(1, N_SAMPLES)
                if local is not None:
                    lift = model.frame_lift.matrix(frames.shape[-1])[:, :N_SAMPLES]
                lifted = LiftedFrames(frames.expand(ROWS, -1, -1), lift)
            if window:
                hidden = hidden_of_window(model, x, lifted, length, recompute=recompute)
            else:
                cond = None if lifted is None else lifted.samples
                state = model.init_state(ROWS)
                hidden = model.hidden(x, state, cond)[0].columns(slice(-length, None))
            params = model.params_of(hidden)
            weights = [p for name, p in model.named_parameters() if _is_heard(name, model)]
            slopes = torch.autograd.grad(
                params.square().sum(), weights, allow_unused=True, materialize_grads=True
            )
            found.append(torch.cat([part.flatten() for part in (params, *slopes)]))
        assert largest_difference(*found) < FLOAT64_ERROR


def _is_heard(name: str, model: WaveNet) -> bool:
    """Whether params depend on a parameter: what the last block hands on goes nowhere."""
    return not name.startswith(f"stack.blocks.{len(model.stack.blocks) - 1}.residual_projection")


# --- engines --------------------------------------------------------------------------------------


@each_configuration
@pytest.mark.parametrize(
    "engine", ["eager", "cpu", pytest.param("gpu-fused", marks=pytest.mark.slow)]
)
@torch.no_grad()
def test_every_engine_gives_the_params_and_the_state_of_stream(engine: str, name: str) -> None:
    if engine == "cpu":
        pytest.importorskip("numba", reason="the CPU engine is compiled by numba")
    if engine == "gpu-fused" and importlib.util.find_spec("triton") is None:
        pytest.skip("Triton comes with torch on Linux alone")
    narrow = make_model(name)
    wide = copy.deepcopy(narrow).double()
    model = wide if engine == "eager" else narrow
    n = 5 if engine == "gpu-fused" else N_SAMPLES  # an interpreter is slow
    for conditioning in some_conditioning(model.config, ROWS, n_frames(model.config)):
        _, exact, cond = begin(wide, conditioning)
        request, start, _ = begin(model, conditioning)
        if (engine, name) in REFUSED:
            with pytest.raises(ValueError, match=REFUSED[engine, name]) as refused:
                ENGINES[engine](model, request, start)
            assert "\n" not in str(refused.value)
            continue
        running = ENGINES[engine](model, request, start)
        x = model.distribution.quantize(torch.rand(ROWS, n) * 2 - 1)
        given = None if cond is None else cond if cond.shape[-1] == 1 else cond[..., :n]
        params, state = wide.stream(x[:, None].double(), exact.model, given)
        error = FLOAT64_ERROR if engine == "eager" else FLOAT32_ERROR
        found = torch.cat([running.force(x[:, :2]), running.force(x[:, 2:])], dim=-1)
        assert largest_difference(found.double(), params) < error
        dumped = running.dump().model
        assert largest_difference(needed(model, dumped), needed(model, state)) < error
        if model.samples_per_step > 1:  # and what needed leaves out is really needed by nothing
            more = torch.rand(ROWS, 1, 2 * model.past).double() * 2 - 1
            held = None if cond is None else cond[..., -1:]
            ahead = [wide.stream(more, one, held)[0] for one in (to_double(dumped), state)]
            assert largest_difference(*ahead) < error


@each_configuration
@torch.no_grad()
def test_engines_draw_the_same_samples_from_the_same_uniforms(name: str) -> None:
    pytest.importorskip("numba", reason="the CPU engine is compiled by numba")
    model = make_model(name)
    for conditioning in some_conditioning(model.config, ROWS, n_frames(model.config)):
        request, start, _ = begin(model, conditioning)
        given = UniformSource([0, 1], model.distribution.uniforms_per_sample).take(N_SAMPLES)
        slow, fast = (kind(model, request, start).run(given) for kind in (EagerEngine, CpuEngine))
        # A uniform may lie where the value drawn changes, and a value round to the next step.
        assert float(((slow - fast).abs() < 1e-4).double().mean()) > 0.9


# --- checkpoints and other programs ---------------------------------------------------------------


@each_configuration
def test_a_checkpoint_makes_the_same_model(name: str, tmp_path: Path) -> None:
    model = make_model(name)
    model.save(tmp_path / "model")
    again = wavenet.load(tmp_path / "model")
    assert again.config == model.config
    for conditioning in some_conditioning(model.config, ROWS, n_frames(model.config)):
        x = torch.rand(ROWS, 1, N_SAMPLES) * 2 - 1
        rows = [None if part is None else part for part in conditioning]
        assert torch.equal(again(x, *rows), model(x, *rows))


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of three speakers, a folder each."""
    folder, generator = tmp_path_factory.mktemp("speech"), np.random.default_rng(0)
    for speaker in ("anna", "bert", "carl"):
        (folder / speaker).mkdir()
        for number in range(4):
            noise = generator.normal(0, 0.1, RATE)
            soundfile.write(folder / speaker / f"{number}.wav", noise, RATE)
    return folder


def _with_features(speech: Path, folder: Path, features: FeatureConfig) -> Path:
    """Make features for the recordings of a folder; return the manifest that names both."""
    draw, lines = np.random.default_rng(1), []
    for number, path in enumerate(sorted(speech.rglob("*.wav"))):
        np.save(
            folder / f"{number}.npy",
            draw.normal(size=(features.channels, 1 + RATE // features.hop_samples)),
        )
        lines.append({"path": str(path), "speaker": path.parent.name, "features": f"{number}.npy"})
    manifest = folder / "corpus.jsonl"
    manifest.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return manifest


@each_but_most_are_slow
def test_training_stopped_halfway_and_resumed_ends_with_the_same_bits(
    name: str, speech: Path, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"speakers": 0, "speaker_names": []}
    config = TrainingConfig(
        corpus=str(speech),
        model=CONFIGURATIONS[name].to_dict() | changes,
        speakers_by_folder=CONFIGURATIONS[name].speakers > 0,
        window_s=0.03,
        batch_size=2,
        validation_windows=2,
        max_steps=4,
        checkpoint_every=2,
        listen_every=0,
        trainer={"accelerator": "cpu", "enable_progress_bar": False},
    )
    features = CONFIGURATIONS[name].features
    if features is not None and features.upsampling is not None:
        with pytest.raises(ValueError, match=r"^model\.features\.upsampling is for imported"):
            train(config, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return
    if features is not None:
        config = replace(config, corpus=str(_with_features(speech, tmp_path, features)))
    train(config, tmp_path)
    whole = (tmp_path / "model" / "model.safetensors").read_bytes()
    halfway, last = sorted((tmp_path / "checkpoints").iterdir())
    last.unlink()
    assert "00000002" in halfway.name
    assert train(config, tmp_path, resume=True).steps == 4
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == whole


@each_configuration
def test_a_speech_model_is_no_amplifier(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model(name).save(tmp_path / "model")
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "out.nam")]) == 2
    said: Any = capsys.readouterr().err
    assert said.startswith("wavenet export: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "out.nam").exists()
