"""Continuous batching: a row equals generate, whatever runs beside it and however its mel comes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import wavenet
from wavenet import FeatureConfig, MelConfig, WaveNet, WaveNetConfig, generate
from wavenet.generation import (
    BatchedVocoder,
    GenerationState,
    SamplingOptions,
    Utterance,
    generate_queue,
)
from wavenet.generation.engines.base import Engine, Request
from wavenet.generation.engines.cpu import engine as cpu
from wavenet.generation.engines.cpu.engine import CpuEngine
from wavenet.generation.engines.eager import EagerEngine
from wavenet.generation.frames import BLOCK, encode_blocks
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
    noise_shaping=0.5,
)
CONFIGS: list[WaveNetConfig] = [
    WaveNetConfig(**SIZES, residual_channels=7, features=FeatureConfig(channels=3, hop_samples=7)),
    VOCODER,
]
HOP = 4
LENGTHS = (2 * BLOCK + 9, 1, BLOCK, BLOCK + 1, 3, 40)


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
@pytest.mark.parametrize("config", CONFIGS)
def test_each_utterance_is_what_it_would_be_alone(engine: str, config: WaveNetConfig) -> None:
    model = vocoder(config, engine)
    utterances = some_utterances(model, [9, 2, BLOCK + 44, 1, 5, 7, 3])
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
    model = vocoder(CONFIGS[0], "eager")
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
    model = vocoder(CONFIGS[0], "eager")
    utterances = some_utterances(model, [8, 3, 4])
    arriving = [None, None, utterances[0], None, utterances[1], None, None, utterances[2], None]
    found = dict(generate_queue(model, arriving, rows=3, chunk_samples=7, engine="eager"))
    assert sorted(found) == [0, 1, 2]
    for number, one in enumerate(utterances):
        assert torch.equal(found[number], alone(model, one, "eager")), number


def test_no_utterances_make_no_samples() -> None:
    assert list(generate_queue(vocoder(CONFIGS[0], "eager"), [], engine="eager")) == []


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
    model = vocoder(CONFIGS[0], "eager")

    def untouched() -> Iterator[Utterance]:
        pytest.fail("taken")
        yield Utterance()

    with pytest.raises(ValueError, match=message):
        generate_queue(model, untouched(), **arguments)


def test_an_utterance_without_an_end_is_refused() -> None:
    model = WaveNet(WaveNetConfig(**SIZES, residual_channels=5)).eval()
    with pytest.raises(ValueError, match="utterance 0: how long"):
        list(generate_queue(model, [Utterance(seed=0)], engine="eager"))


def test_what_is_no_utterance_and_what_is_no_model_are_named() -> None:
    model = WaveNet(WaveNetConfig(**SIZES, residual_channels=5)).eval()
    with pytest.raises(TypeError, match="utterance 1 is a dict, expected an Utterance"):
        list(generate_queue(model, [Utterance(n_samples=1), {"n_samples": 3}], engine="eager"))  # type: ignore[list-item]
    with pytest.raises(TypeError, match="model='mine' is a name; load it"):
        generate_queue("mine", [])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="model='mine' is a name; load it"):
        BatchedVocoder("mine", [], SamplingOptions())  # type: ignore[arg-type]


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
    with pytest.raises(ValueError, match="position 15 is within a frame"):
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


def build(**changes: Any) -> WaveNet:
    """Its output depends much on its input: a slip would propagate."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "layers_per_stack": 2,
        "stacks": 1,
        "residual_channels": 4,
        "skip_channels": 4,
        "features": FeatureConfig(channels=3, hop_samples=HOP),
        "distribution": "logistic_mixture",
        "distribution_size": 2,
    }
    model = WaveNet(WaveNetConfig(**{**settings, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.normal_(std=1 / math.sqrt(fan_in))
        model.head[3].bias.copy_(model.distribution.initial_params())
    return model


def mels(lengths: tuple[int, ...] = LENGTHS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(3, length, generator=generator) for length in lengths]


def pieces(mel: Tensor, length: int) -> Iterator[Tensor]:
    yield from mel.split(length, dim=1)


def vocoded(
    model: WaveNet, given: list[Any], options: SamplingOptions, **settings: Any
) -> list[Tensor]:
    """Samples of each utterance; each ends exactly once."""
    parts: list[list[Tensor]] = [[] for _ in given]
    ended: list[int] = []
    for chunks in BatchedVocoder(model, given, options, **settings):
        for number, samples, last in chunks:
            assert number not in ended
            parts[number].append(samples)
            ended += [number] if last else []
    assert sorted(ended) == list(range(len(given)))
    return [torch.cat(part) for part in parts]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_vocoded_utterance_equals_generate_bit_for_bit(batch_size: int) -> None:
    pytest.importorskip("numba", reason="the CPU engine is compiled by numba")
    model, given = build(), mels()
    options = SamplingOptions(seed=5, engine="cpu", temperature=0.9)
    made = vocoded(model, [pieces(mel, 7) for mel in given], options, batch_size=batch_size)
    for mel, samples in zip(given, made, strict=True):
        alone = wavenet.generate(model, mel=mel, seed=5, engine="cpu", temperature=0.9)
        assert torch.equal(samples, alone[0])


def test_the_eager_engine_equals_generate_too() -> None:
    model, (mel,) = build().double(), mels((BLOCK + 5,))
    (samples,) = vocoded(model, [[mel]], SamplingOptions(seed=5, engine="eager"))
    assert torch.equal(samples, wavenet.generate(model, mel=mel, seed=5, engine="eager")[0])


@pytest.mark.parametrize("chunk_samples", [1, 7, 4096])
def test_an_utterance_does_not_depend_on_its_chunks_nor_on_the_pieces_of_its_mel(
    chunk_samples: int,
) -> None:
    model, (mel,) = build().double(), mels((30,))
    options = SamplingOptions(seed=2, engine="eager")
    (whole,) = vocoded(model, [[mel]], options)
    for length in (1, 13):
        given = [pieces(mel, length)]
        (samples,) = vocoded(model, given, options, chunk_samples=chunk_samples)
        assert torch.equal(samples, whole)


def test_a_speaker_applies_to_all_rows() -> None:
    model, given = build(speakers=2, speaker_names=("ann", "bob")).double(), mels((3, 5))
    made = vocoded(
        model, [[mel] for mel in given], SamplingOptions(seed=0, speaker="bob", engine="eager")
    )
    for mel, samples in zip(given, made, strict=True):
        alone = wavenet.generate(model, mel=mel, speaker=1, seed=0, engine="eager")
        assert samples.shape == alone[0].shape
        assert torch.allclose(samples[:8], alone[0, :8])  # batched sums round otherwise


def test_a_dropped_utterance_ends_and_its_place_goes_to_the_next() -> None:
    model, given = build().double(), mels((2 * BLOCK, 5, 3))
    batch = BatchedVocoder(
        model, [[mel] for mel in given], SamplingOptions(engine="eager"), batch_size=2
    )
    active = [{chunk.number for chunk in next(batch)}]
    batch.drop(0)
    active += [{chunk.number for chunk in chunks} for chunks in batch]
    assert active[0] == {0, 1}
    assert {2} in active
    assert not any(0 in numbers for numbers in active[1:])


def test_mels_are_drawn_only_when_it_is_their_turn() -> None:
    drawn = []

    def lazily() -> Iterator[list[Tensor]]:
        for number, mel in enumerate(mels((2, 2, 2))):
            drawn.append(number)
            yield [mel]

    batch = BatchedVocoder(
        build(), lazily(), SamplingOptions(engine="eager"), batch_size=1, chunk_samples=999
    )
    assert drawn == []
    next(batch)
    assert drawn == [0]


def test_blocks_of_frames_do_not_depend_on_how_the_mel_comes_and_are_the_whole_mels() -> None:
    model, (mel,) = build(), mels((2 * BLOCK + 9,))
    blocks = list(encode_blocks(model, [mel]))
    assert [block.shape[1] for block in blocks] == [BLOCK, BLOCK, 9]
    for length in (1, 50, BLOCK, 500):
        again = list(encode_blocks(model, pieces(mel, length)))
        assert all(torch.equal(a, b) for a, b in zip(blocks, again, strict=True))
    with torch.inference_mode():
        whole = model.condition_frames(mel[None])
    assert whole is not None
    torch.testing.assert_close(torch.cat(blocks, dim=1), whole[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine": "warp"}, "engine='warp' is unknown"),
        ({"weights": "int4"}, "weights='int4' is unknown"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"top_p": 0.5}, "top_p"),
        ({"seed": -1}, "seed=-1 must not be negative"),
        ({"speaker": "ann"}, "speaker='ann', but this model takes no speaker"),
    ],
)
def test_a_wrong_manner_is_refused_at_once(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchedVocoder(build(), [], SamplingOptions(**changes))


def test_speakers_for_several_rows_are_refused_and_not_all_but_one_ignored() -> None:
    model, speakers = build(speakers=2), [1, 0]
    message = "speaker has 2 values, expected one for an utterance"
    with pytest.raises(ValueError, match=message):
        BatchedVocoder(model, [], SamplingOptions(speaker=speakers))
    wrong = Utterance(mel=torch.zeros(3, 1), speaker=speakers)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        list(generate_queue(model, [wrong], engine="eager"))


def test_wrong_sizes_and_a_model_without_features_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="batch_size=0 must be an integer of at least 1"):
        BatchedVocoder(build(), [], SamplingOptions(), batch_size=0)
    with pytest.raises(ValueError, match="the model takes no mel; choose"):
        BatchedVocoder(build(features=None), [], SamplingOptions())


def test_the_length_of_an_utterance_is_kept_without_refinement_too() -> None:
    model, given = build().double(), mels((5, 3))
    options = SamplingOptions(seed=2, engine="eager")
    whole = vocoded(model, [[mel] for mel in given], options, batch_size=1)
    lengths = torch.tensor([HOP + 1, 3 * HOP])
    made = vocoded(model, [[mel] for mel in given], options, batch_size=1, n_samples=lengths)
    assert [len(samples) for samples in made] == [HOP + 1, 3 * HOP]
    assert all(torch.equal(a, b[: len(a)]) for a, b in zip(made, whole, strict=True))


@pytest.mark.parametrize(
    ("n_samples", "message"),
    [
        ([HOP], "n_samples has 1 values and mels more; give one for each utterance"),
        ([HOP, 0], "n_samples=0 must be at least 1"),
        ([HOP, -1], "n_samples=-1 must be at least 1"),
        ([HOP, 2.0], "n_samples=.* must be an integer, or one for each row"),
        ([HOP, True], "n_samples=.* must be an integer, or one for each row"),
    ],
)
def test_a_wrong_length_of_an_utterance_is_refused(n_samples: Any, message: str) -> None:
    options = SamplingOptions(engine="eager")
    with pytest.raises(ValueError, match=message):
        list(BatchedVocoder(build(), [[mel] for mel in mels((2, 2))], options, n_samples=n_samples))


@pytest.mark.parametrize(
    ("mel", "message"),
    [
        (torch.full((3, 2), math.nan), "mel has values that are not finite"),
        (np.zeros((3, 2), np.float32), r"mel is array\(.*, but this model takes mel \[B, 3, F\]"),
    ],
)
def test_a_mel_that_is_not_finite_or_no_tensor_is_refused(mel: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        next(BatchedVocoder(build(), [[mel]], SamplingOptions(engine="eager")))
    assert "\n" not in str(caught.value)


def test_a_mel_without_frames_or_of_other_bands_is_refused() -> None:
    for mel, message in ((torch.empty(3, 0), "mel has no frames"), (torch.ones(2, 3), "2 channel")):
        with pytest.raises(ValueError, match=message):
            next(BatchedVocoder(build(), [[mel]], SamplingOptions(engine="eager")))
