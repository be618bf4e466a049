"""A queue of utterances: every one sounds as if it were alone, whoever had its row before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from wavenet import FeatureConfig, MelConfig, WaveNet, WaveNetConfig, generate
from wavenet.generation import GenerationState, Utterance, generate_queue
from wavenet.generation.engines.base import Engine, Request
from wavenet.generation.engines.cpu import engine as cpu
from wavenet.generation.engines.cpu.engine import CpuEngine
from wavenet.generation.engines.eager import EagerEngine
from wavenet.nn import flatten_state

needs_numba = pytest.mark.skipif(not cpu.has_compiler(), reason="the CPU engine needs numba")
ENGINES = ["eager", pytest.param("cpu", marks=needs_numba)]
SIZES: dict[str, Any] = {"layers_per_stack": 3, "stacks": 1, "skip_channels": 6}
VOCODER = WaveNetConfig(
    **SIZES,
    residual_channels=5,
    distribution="gaussian_mixture",
    distribution_size=2,
    mel=MelConfig(n_fft=32, win_samples=16, hop_samples=10, n_mels=4),
    linear_prediction=4,
    pitch_taps=3,
    speakers=2,
)
HEARD: list[WaveNetConfig] = [
    WaveNetConfig(**SIZES, residual_channels=7, features=FeatureConfig(channels=3, hop_samples=7)),
    VOCODER,
]


def vocoder(config: WaveNetConfig, engine: str) -> WaveNet:
    """float64 on the eager engine, where a row's rounding depends on the batch."""
    model = WaveNet(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.double() if engine == "eager" else model


def some_utterances(model: WaveNet, lengths: list[int]) -> list[Utterance]:
    """Of so many frames each."""
    local = model.config.local
    assert local is not None
    draw = torch.Generator().manual_seed(1)
    return [
        Utterance(
            mel=torch.randn(local.channels, n, generator=draw),
            speaker=i % 2 if model.config.speakers else None,
            seed=100 + i,
            n_samples=None if i % 3 else n * local.hop_samples - i % 5,
        )
        for i, n in enumerate(lengths)
    ]


def alone(model: WaveNet, one: Utterance, engine: str) -> Tensor:
    made = generate(
        model,
        mel=one.mel,
        speaker=one.speaker,
        seed=one.seed,
        n_samples=one.n_samples,
        engine=engine,
    )
    return made[0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("config", HEARD)
def test_each_utterance_is_what_it_would_be_alone(engine: str, config: WaveNetConfig) -> None:
    model = vocoder(config, engine)
    utterances = some_utterances(model, [9, 2, 14, 1, 5, 7, 3])
    found = dict(generate_queue(model, utterances, rows=3, engine=engine))
    assert sorted(found) == list(range(7))
    for number, one in enumerate(utterances):
        assert torch.equal(found[number], alone(model, one, engine)), number


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_that_hears_nothing_but_itself_and_a_speaker(engine: str) -> None:
    config = WaveNetConfig(**SIZES, residual_channels=5, speakers=3, kernel_size=3)
    model = vocoder(config, engine)
    utterances = [
        Utterance(speaker=i % 3, seed=i, n_samples=n) for i, n in enumerate([300, 40, 7, 290])
    ]
    found = dict(generate_queue(model, utterances, rows=2, engine=engine))
    for number, one in enumerate(utterances):
        assert torch.equal(found[number], alone(model, one, engine)), number


def test_what_ends_first_comes_first_and_utterances_are_taken_when_a_row_is_free() -> None:
    model = vocoder(HEARD[0], "eager")
    taken = []

    def arriving() -> Iterator[Utterance]:
        for i, one in enumerate(some_utterances(model, [30, 2, 3, 1])):
            taken.append(i)
            yield one

    queue = generate_queue(model, arriving(), rows=2, engine="eager")
    assert taken == []
    assert (next(queue)[0], taken) == (1, [0, 1])
    assert (next(queue)[0], taken) == (2, [0, 1, 2])
    assert [number for number, _ in queue] == [3, 0]


def test_a_live_queue_leaves_rows_empty_until_something_arrives() -> None:
    """Two silences before the first utterance, one after each, and rows for three."""
    model = vocoder(HEARD[0], "eager")
    utterances = some_utterances(model, [8, 3, 4])
    arriving = [None, None, utterances[0], None, utterances[1], None, None, utterances[2], None]
    found = dict(generate_queue(model, arriving, rows=3, chunk_samples=7, engine="eager"))
    assert sorted(found) == [0, 1, 2]
    for number, one in enumerate(utterances):
        assert torch.equal(found[number], alone(model, one, "eager")), number


def test_no_utterances_make_no_samples() -> None:
    assert list(generate_queue(vocoder(HEARD[0], "eager"), [], engine="eager")) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 0}, "rows=0 must be an integer of at least 1"),
        ({"chunk_samples": 0}, "chunk_samples=0 must be an integer of at least 1"),
        ({"weights": "int8"}, "weights='int8' is unknown"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"engine": "tpu"}, "engine='tpu' is unknown"),
    ],
)
def test_a_wrong_setting_is_refused_before_an_utterance_is_taken(
    arguments: dict[str, Any], message: str
) -> None:
    model = vocoder(HEARD[0], "eager")

    def untouched() -> Iterator[Utterance]:
        pytest.fail("taken")
        yield Utterance()

    with pytest.raises(ValueError, match=message):
        generate_queue(model, untouched(), **arguments)


def test_an_utterance_without_an_end_is_refused() -> None:
    model = WaveNet(WaveNetConfig(**SIZES, residual_channels=5)).eval()
    with pytest.raises(ValueError, match="utterance 0: how long"):
        list(generate_queue(model, [Utterance(seed=0)], engine="eager"))


@pytest.mark.parametrize(
    "make", [EagerEngine, pytest.param(CpuEngine, marks=needs_numba)], ids=["eager", "cpu"]
)
def test_rows_are_replaced_where_a_frame_begins_and_nowhere_else(make: type[Engine]) -> None:
    model = WaveNet(VOCODER).eval()
    frames = [torch.randn(model.cond_channels or 0, 4) for _ in range(3)]
    start = GenerationState(
        torch.randn(3, 6, 1), model.init_state(3), torch.zeros(3, dtype=torch.int64)
    )
    engine = make(model, Request(frames, 0, 1.0, None, torch.float32), start)
    engine.force(torch.rand(3, 15))
    other = GenerationState(
        torch.randn(1, 6, 1), model.warm_state(1, frames[0][None, :, :1]), torch.tensor([9])
    )
    with pytest.raises(ValueError, match="position 15 lies within a frame"):
        engine.replace([1], frames[:1], other)
    engine.force(torch.rand(3, 5))
    before = engine.dump()
    engine.replace([1], frames[:1], other)
    after = engine.dump()
    assert after.time.tolist() == [20, 9, 20]
    assert torch.equal(after.params[1], other.params[0])
    parts = zip(*(flatten_state(one.model) for one in (before, after, other)), strict=True)
    for old, new, given in parts:
        assert torch.equal(new[[0, 2]], old[[0, 2]])
        assert torch.equal(new[1], given[0])
