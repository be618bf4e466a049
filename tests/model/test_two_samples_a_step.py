"""Models that run their stack once for two samples: configuration, reach, sampling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from configurations import CONFIGURATIONS, RATE, make_model
from torch import Tensor

import wavenet
from wavenet import FeatureConfig, MelConfig, WaveNet, WaveNetConfig, generate
from wavenet.cli.main import main
from wavenet.data import Corpus, Utterance, WindowPlan, Windows
from wavenet.data.windows import collate
from wavenet.generation import GenerationState, generate_queue, stream
from wavenet.generation import Utterance as Waiting
from wavenet.nn import CausalConv1d, Chain, DilatedStack, Residual, State, flatten_state
from wavenet.nn.causal import Causal
from wavenet.nn.steps import Pairs, StepOutputs
from wavenet.testing import check_causal
from wavenet.training.loss import window_log_prob
from wavenet.training.window import hidden_of_window

NAME = "predictor, two samples a step, speakers or none"
TWO = [name for name, config in CONFIGURATIONS.items() if config.samples_per_step == 2]
SAMPLERS = ("stream", "eager", "cpu")


@pytest.fixture(params=SAMPLERS)
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "cpu":
        pytest.importorskip("numba", reason="the CPU engine is compiled by numba")
    return str(request.param)


def some_mel(n_frames: int) -> torch.Tensor:
    mel = CONFIGURATIONS[NAME].mel
    assert mel is not None
    return torch.randn(mel.n_mels, n_frames, generator=torch.Generator().manual_seed(3)) - 4


class OwnBlock(Causal):
    """A block that leaves its period, and what silence leads to, to the base class."""

    def __init__(self) -> None:
        super().__init__()
        self.in_channels = 1
        self.conv, self.outputs = CausalConv1d(1, 3, 3, dilation=2), StepOutputs(3)

    @property
    def past(self) -> int:
        return self.conv.past + self.outputs.past

    def layers(self) -> list[tuple[str, Causal]]:
        return [("conv", self.conv), ("outputs", self.outputs)]

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        self.check_call(x, cond)
        self._check_children(state, 2)
        y, before = self.conv.stream(x, state[0])
        y, after = self.outputs.stream(y, state[1])
        return y, (before, after)


@pytest.mark.parametrize(
    ("block", "period", "past"),
    [
        (Pairs(3), 1, 1),
        (StepOutputs(3), 2, 1),
        (Chain(CausalConv1d(1, 3, 3, dilation=2), StepOutputs(3)), 2, 5),
        (Chain(StepOutputs(2), CausalConv1d(2, 3, 2, stride=2)), 2, 1),
        (Chain(CausalConv1d(2, 3, 2, stride=2), StepOutputs(3)), 4, 3),
        (Residual(StepOutputs(3)), 2, 1),
        (OwnBlock(), 2, 5),
    ],
)
def test_its_blocks_keep_the_contract_by_themselves_and_within_others(
    block: Causal, period: int, past: int
) -> None:
    assert (block.period, block.past) == (period, past)
    check_causal(block)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"samples_per_step": 3}, r"samples_per_step=3 must be at most 2"),
        ({"samples_per_step": 0}, r"samples_per_step=0 "),
        ({"samples_per_step": 2, "one_hot_input": True}, r"one_hot_input=True with samples_per_"),
        (
            {"samples_per_step": 2, "features": FeatureConfig(channels=2, hop_samples=5)},
            r"hop_samples=5 must be a multiple of samples_per_step=2",
        ),
        (
            {"samples_per_step": 2, "mel": MelConfig(hop_samples=275, padding="center")},
            r"hop_samples=275 must be a multiple",
        ),
    ],
)
def test_what_makes_no_such_model_is_refused_in_a_line(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        WaveNetConfig(**settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", TWO)
def test_the_receptive_field_is_that_of_the_configuration(name: str) -> None:
    config = CONFIGURATIONS[name]
    model = WaveNet(config)
    assert wavenet.receptive_field(config).samples == model.past + 1
    assert wavenet.receptive_field(model).samples == model.past + 1
    one = WaveNet(config.replace(samples_per_step=1))
    assert model.stack.past == 2 * one.stack.past


def test_the_receptive_field_is_that_of_the_gradient(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model("two samples a step")
    assert wavenet.receptive_field(model, verify=True).samples == model.past + 1
    model.save(tmp_path / "model")
    for option in ([], ["--verify"]):
        assert main(["receptive-field", str(tmp_path / "model"), *option]) == 0
        assert f"receptive field: {model.past + 1} samples" in capsys.readouterr().out


@torch.no_grad()
def test_training_windows_begin_where_a_step_does() -> None:
    model = make_model("two samples a step")
    draw = np.random.default_rng(0)
    samples = draw.integers(-9000, 9000, 151, dtype=np.int16)
    plan = WindowPlan.of(model, 0.02)
    windows = Windows(Corpus((Utterance("a", samples, ""),), RATE), plan, n_windows=12, seed=0)
    x = torch.from_numpy(samples / 32768).float()[None, None]
    first, state = model.after_silence()
    inputs = model.distribution.quantize(x)
    params = torch.cat([first, model.stream(inputs, state)[0]], dim=-1)
    whole = model.distribution.log_prob(params[..., :-1], x[:, 0])
    starts = [windows.place(i)[1] for i in range(len(windows))]
    assert len(set(starts)) > 6
    for i, start in enumerate(starts):
        found, mask = window_log_prob(model, collate([windows[i]]), plan)
        expected = whole[:, start : start + plan.length]
        n = expected.shape[1]
        assert int(mask.sum()) == n
        assert float((found[:, :n] - expected).abs().max()) < 1e-4


@torch.no_grad()
def test_under_autocast_training_multiplies_narrow_numbers() -> None:
    model = make_model("two samples a step")
    x = torch.rand(2, 1, 80, generator=torch.Generator().manual_seed(0)) - 0.5
    wide = hidden_of_window(model, x, None, 40).skip_sum
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = hidden_of_window(model, x, None, 40).skip_sum
    assert narrow.dtype == torch.float32
    difference = float((narrow - wide).abs().max() / wide.abs().max())
    assert 1e-4 < difference < 0.05


def test_a_step_costs_half_of_what_two_samples_did() -> None:
    config = WaveNetConfig.preset("medium")
    one, two = (WaveNet(config.replace(samples_per_step=n)) for n in (1, 2))
    head = sum(part.weight.numel() for part in (one.head[1], one.head[3]))
    layers = one.multiply_adds - head - config.residual_channels
    assert one.multiply_adds - two.multiply_adds == layers // 2


def test_the_second_sample_of_a_step_hears_the_first_one() -> None:
    model = make_model("two samples a step").double()
    x = torch.rand(1, 1, 20).double().requires_grad_()
    params, _ = model.stream(x, model.init_state(1))
    for t in (12, 13):  # within a step, and where one is complete
        (slope,) = torch.autograd.grad(params[..., t].sum(), x, retain_graph=True)
        assert slope[0, 0, t] != 0
        assert slope[0, 0, t - 1] != 0
    with torch.no_grad():
        model.second_projection.weight.zero_()
    params, _ = model.stream(x, model.init_state(1))
    (slope,) = torch.autograd.grad(params[..., 12].sum(), x, retain_graph=True)
    assert slope[0, 0, 12] == 0
    assert slope[0, 0, 11] != 0


@torch.no_grad()
@pytest.mark.parametrize("chunk_samples", [1, 7, 64])
def test_chunks_of_any_length_are_the_whole(chunk_samples: int, engine: str) -> None:
    model = make_model(NAME)
    given: dict[str, Any] = {"mel": some_mel(5), "speaker": 1, "seed": 4, "refine": 0}
    whole = generate(model, engine=engine, **given)
    chunks = stream(model, chunk_samples=chunk_samples, engine=engine, **given)
    assert torch.equal(torch.cat(list(chunks), dim=1), whole)


@torch.no_grad()
@pytest.mark.parametrize("n_prime", [8, 9])
def test_a_prompt_of_odd_length_ends_within_a_step(n_prime: int, engine: str) -> None:
    model = make_model(NAME)
    prime = torch.rand(n_prime, generator=torch.Generator().manual_seed(1)) - 0.5
    given: dict[str, Any] = {"mel": some_mel(5), "prime": prime, "seed": 4, "refine": 0}
    made = generate(model, engine=engine, **given)
    again = generate(model, engine="stream", **given)
    assert made.shape == (1, 5 * 8 - n_prime)
    assert float((made - again).abs().max()) < 1e-3


@torch.no_grad()
def test_generation_stops_and_goes_on_within_a_step(engine: str) -> None:
    model = make_model("two samples a step")
    whole = generate(model, n_samples=30, seed=2, engine=engine)
    first, state = generate(model, n_samples=7, seed=2, engine=engine, return_state=True)
    rest = generate(model, n_samples=23, seed=2, engine=engine, state=state)
    assert torch.equal(torch.cat((first, rest), dim=1), whole)


@torch.no_grad()
def test_utterances_of_a_queue_are_those_made_alone(engine: str) -> None:
    model = make_model(NAME)
    mels = [some_mel(n)[:, :n] for n in (3, 6, 2, 4)]
    waiting = [Waiting(mel=mel, seed=number) for number, mel in enumerate(mels)]
    made = dict(generate_queue(model, waiting, rows=2, chunk_samples=8, engine=engine, refine=0))
    for number, mel in enumerate(mels):
        alone = generate(model, mel=mel, seed=number, engine=engine, refine=0)
        assert float((made[number] - alone[0]).abs().max()) < 1e-3


@torch.no_grad()
def test_rows_at_different_places_of_a_step_are_refused_by_an_engine() -> None:
    model = make_model("two samples a step")
    states = [
        generate(model, n_samples=n, seed=0, engine="eager", return_state=True)[1] for n in (6, 7)
    ]
    mixed = GenerationState.join(states)
    with pytest.raises(ValueError, match=r"^rows are \[0, 1\] samples behind a step of 2") as said:
        generate(model, n_samples=4, seed=0, engine="eager", state=mixed)
    assert "\n" not in str(said.value)
    together = generate(model, n_samples=4, seed=[0, 0], engine="stream", state=mixed)
    for row, state in enumerate(states):
        alone = generate(model, n_samples=4, seed=0, engine="stream", state=state)
        assert float((together[row] - alone[0]).abs().max()) < 1e-4


def test_a_checkpoint_of_before_makes_one_sample_a_step() -> None:
    values = CONFIGURATIONS["classes"].to_dict()
    del values["samples_per_step"]
    assert WaveNetConfig.from_dict(values).samples_per_step == 1
    assert values["sample_rate"] == RATE


class OtherStack(Causal):
    """A stack that is defined elsewhere: ``stream``, and what the base class makes of it."""

    def __init__(self, inner: DilatedStack) -> None:
        super().__init__()
        self.inner = inner
        self.in_channels, self.cond_channels = inner.in_channels, inner.cond_channels

    @property
    def past(self) -> int:
        return self.inner.past

    def init_state(self, batch_size: int, **factory: Any) -> State:
        return self.inner.init_state(batch_size, **factory)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        return self.inner.stream(x, state, cond)


@torch.no_grad()
@pytest.mark.parametrize("name", ["logistics", "two samples a step"])
def test_a_model_with_a_stack_of_ones_own_begins_after_silence(name: str) -> None:
    model = make_model(name).double()
    params, state = model.after_silence()
    warm = model.warm_state(1)
    model.stack = OtherStack(model.stack)  # type: ignore[assignment]
    again, other = model.after_silence()
    assert float((again - params).abs().max()) < 1e-10
    for found, expected in ((other, state), (model.warm_state(1), warm)):
        parts = zip(flatten_state(found), flatten_state(expected), strict=True)
        assert all(float((a - b).abs().max()) < 1e-10 for a, b in parts if a.numel())


def test_the_state_is_where_the_weights_are_loaded_into_a_model_without_memory() -> None:
    config = WaveNetConfig.preset("tiny", samples_per_step=2)
    loaded = WaveNet(config).bfloat16()
    with torch.device("meta"):
        model = WaveNet(config)
    model.load_state_dict(loaded.state_dict(), assign=True)
    state = model.init_state(1)
    assert {(part.device.type, part.dtype) for part in flatten_state(state)} == {
        ("cpu", torch.bfloat16)
    }
    x = torch.zeros(1, 1, 4, dtype=torch.bfloat16)
    expected, _ = loaded.stream(x, loaded.init_state(1))
    assert torch.equal(model.stream(x, state)[0], expected)
