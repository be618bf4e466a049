"""Fast paths compute only what they know: a foreign part goes through ``stream`` or is refused."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import wavenet
from wavenet.data import WindowPlan
from wavenet.distributions import Gaussian, register_distribution
from wavenet.generation import Utterance, generate_queue
from wavenet.generation.options import engine_class
from wavenet.model.exact import model_difference
from wavenet.nn import GatedResidualBlock, State
from wavenet.nn.exact import saved_tensors
from wavenet.processing import Processor
from wavenet.training.loss import window_log_prob
from wavenet.training.window import skip_sum_of


class LoudBlock(GatedResidualBlock):
    """A layer whose skip is twice as loud."""

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        (y, skip), after = super().stream(x, state, cond)
        return (y, 2 * skip), after


@dataclass(frozen=True)
class Shifted(Gaussian):
    """A Gaussian whose mean is moved by a quarter."""

    name: ClassVar[str] = "shifted"

    def _split(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, mean, log_scale = super()._split(params)
        return logits, mean + 0.25, log_scale


class Quiet(wavenet.WaveNet):
    """A model that takes its conditioning at half its level."""

    def condition_frames(self, *given: Any, **named: Any) -> Tensor | None:
        frames = super().condition_frames(*given, **named)
        return None if frames is None else frames / 2


def config(**changes: Any) -> wavenet.WaveNetConfig:
    sizes = {"layers_per_stack": 3, "stacks": 1, "residual_channels": 8, "skip_channels": 8}
    return wavenet.WaveNetConfig(**{**sizes, "distribution": "gaussian", **changes})


def plain() -> wavenet.WaveNet:
    model = wavenet.WaveNet(config()).eval()
    with torch.no_grad():  # an untrained head answers everything alike
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def with_foreign_block() -> wavenet.WaveNet:
    model = plain()
    own = model.stack.blocks[1]
    block = LoudBlock(8, 8, dilation=2)
    block.load_state_dict(own.state_dict())
    model.stack.blocks[1] = block
    return model.eval()


def with_foreign_distribution() -> wavenet.WaveNet:
    model = plain()
    model.distribution = Shifted()
    return model


def with_a_tanh_in_the_head() -> wavenet.WaveNet:
    model = plain()
    model.head[2] = nn.Tanh()
    return model


def with_a_hook() -> wavenet.WaveNet:
    model = plain()
    block: Any = model.stack.blocks[0]
    block.conv.register_forward_hook(lambda module, inputs, output: None)
    return model


def of_a_subclass() -> wavenet.WaveNet:
    mel = replace(wavenet.MelConfig.preset("wavenet-16k"), n_mels=8)
    return Quiet(config(mel=mel)).eval()


FOREIGN: dict[str, tuple[Callable[[], wavenet.WaveNet], str]] = {
    "block": (with_foreign_block, "stack.blocks.1 is a LoudBlock"),
    "distribution": (with_foreign_distribution, "the distribution is a Shifted"),
    "head": (with_a_tanh_in_the_head, "head.2 is a Tanh"),
    "hook": (with_a_hook, "stack.blocks.0.conv has forward hooks"),
    "subclass": (of_a_subclass, "the model is a Quiet"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_auto_generates_what_stream_defines(name: str) -> None:
    make, _ = FOREIGN[name]
    model = make()
    given: dict[str, Any] = {"n_samples": 40, "seed": 3}
    if name == "subclass":
        given = {"mel": torch.randn(8, 2) - 5, "seed": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # warned of once a process
        found = wavenet.generate(model, **given)
    expected = wavenet.generate(model, **given, engine="stream")
    torch.testing.assert_close(found, expected, rtol=0, atol=2 / 32768)


@pytest.mark.parametrize("engine", ["cpu", "gpu", "gpu-fused", "eager"])
@pytest.mark.parametrize("name", FOREIGN)
def test_an_engine_asked_for_by_name_refuses_in_one_line(name: str, engine: str) -> None:
    make, reason = FOREIGN[name]
    if engine == "eager" and name == "distribution":
        pytest.skip("the eager engine draws by calling any distribution")
    model = make()
    given = {"mel": torch.randn(8, 2)} if name == "subclass" else {"n_samples": 4}
    with pytest.raises(ValueError, match=f"engine='{engine}' ") as caught:
        wavenet.generate(model, engine=engine, seed=0, **given)
    assert "\n" not in str(caught.value)
    if engine in ("cpu", "eager"):
        assert reason in str(caught.value)


@pytest.mark.parametrize("name", ["block", "head", "hook"])
def test_training_computes_what_stream_defines(name: str) -> None:
    model = FOREIGN[name][0]()
    plan = WindowPlan.of(model, 0.01)
    x = 0.1 * torch.randn(2, 1, plan.warm_up + plan.length)
    batch = {"x": x, "mask": torch.ones_like(x)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found, _ = window_log_prob(model, batch, plan)
    inputs = model.distribution.quantize(x)[..., :-1]
    params, _ = model.stream(inputs, model.init_state(2))
    wanted = x[:, 0, -plan.length :]
    expected = model.distribution.log_prob(params[..., -plan.length :], wanted)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_registered_distribution_is_saved_and_loaded_by_name(tmp_path: Path) -> None:
    register_distribution(Shifted)
    model = wavenet.WaveNet(config(distribution="shifted"))
    model.save(tmp_path / "model")
    again = wavenet.load(tmp_path / "model")
    assert type(again.distribution) is Shifted
    found = wavenet.generate(again, n_samples=20, seed=1, engine="eager")
    assert torch.equal(found, wavenet.generate(model.eval(), n_samples=20, seed=1, engine="eager"))


def test_a_name_is_registered_once() -> None:
    @dataclass(frozen=True)
    class Other(Gaussian):
        """Another distribution of a taken name."""

    with pytest.raises(ValueError, match="name='gaussian' is taken by Gaussian"):
        register_distribution(Other)


def test_the_training_window_refuses_a_foreign_stack() -> None:
    model = with_foreign_block()
    with pytest.raises(ValueError, match="stack.blocks.1 is a LoudBlock"):
        skip_sum_of(model.stack, torch.randn(1, 8, 30), None, 5)


def test_process_runs_a_foreign_block_by_its_stream() -> None:
    stack = with_foreign_block().stack
    x = torch.randn(1, 8, 64)
    with pytest.warns(UserWarning, match="LoudBlock is not compiled"):
        processor = Processor(stack, stack.init_state(1))
    assert not processor.compiled
    for found, expected in zip(processor(x), stack(x), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["block", "distribution", "head", "subclass"])
def test_a_model_that_would_load_as_another_one_is_not_saved(name: str, tmp_path: Path) -> None:
    model = FOREIGN[name][0]()
    with pytest.raises(ValueError, match="config.json cannot describe this model"):
        model.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_parametrized_weights_are_known() -> None:
    model = plain()
    block: Any = model.stack.blocks[0]
    parametrizations.weight_norm(block.conv)
    assert model_difference(model) is None
    assert engine_class("auto", model) is not engine_class("stream", model)
    found = wavenet.generate(model, n_samples=50, seed=1)
    expected = wavenet.generate(model, n_samples=50, seed=1, engine="stream")
    torch.testing.assert_close(found, expected, rtol=0, atol=2 / 32768)


def test_a_compiled_model_generates_by_the_fast_engines_and_is_not_compiled_for_it() -> None:
    def refusing(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        raise AssertionError("compiled")

    model = plain()
    expected = wavenet.generate(model, n_samples=50, seed=1)
    wrapped: Any = torch.compile(model, backend=refusing)
    in_place = copy.deepcopy(model)
    in_place.compile(backend=refusing)
    in_place.stack.compile(backend=refusing)
    for compiled in (wrapped, in_place):
        chunks = wavenet.stream(compiled, n_samples=50, seed=1)
        assert type(chunks.engine) is engine_class("auto", model)
        assert torch.cat(list(chunks), dim=1).equal(expected)
        queue = generate_queue(compiled, [Utterance(n_samples=50, seed=1)])
        assert next(queue)[1].equal(expected[0])


def test_a_parametrized_tensor_of_the_module_itself_is_saved_in_its_own_place() -> None:
    layer = parametrizations.weight_norm(nn.Linear(3, 2))
    saved = saved_tensors(layer)
    assert saved.keys() == {"weight", "bias"}
    assert torch.equal(saved["weight"], layer.weight)


def test_parametrized_weights_are_saved_by_their_values(tmp_path: Path) -> None:
    model = plain()
    block: Any = model.stack.blocks[0]
    parametrizations.weight_norm(block.conv)
    parametrizations.spectral_norm(model.head[1])
    model.eval().save(tmp_path / "model")
    again = wavenet.load(tmp_path / "model")
    assert torch.equal(again.stack.blocks[0].conv.weight, block.conv.weight)
    found = wavenet.generate(again, n_samples=50, seed=1, engine="stream")
    assert torch.equal(found, wavenet.generate(model, n_samples=50, seed=1, engine="stream"))


def test_a_tensor_that_the_configuration_has_not_is_not_saved(tmp_path: Path) -> None:
    model = plain()
    model.register_buffer("level", torch.ones(1))
    with pytest.raises(ValueError, match="level is a tensor of one of model and configuration"):
        model.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
