"""BatchedVocoder: a row equals generate, whatever runs beside it and however its mel comes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import wavenet
from wavenet import FeatureConfig, WaveNet, WaveNetConfig
from wavenet.generation import BatchedVocoder, SamplingOptions
from wavenet.generation.frames import BLOCK, encode_blocks

HOP = 4
LENGTHS = (2 * BLOCK + 9, 1, BLOCK, BLOCK + 1, 3, 40)


def build(**changes: Any) -> WaveNet:
    """Its output depends much on what it hears: a slip would be heard on."""
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


def spoken(
    model: WaveNet, given: list[Any], options: SamplingOptions, **settings: Any
) -> list[Tensor]:
    """What each speech says, and that it ends once."""
    parts: list[list[Tensor]] = [[] for _ in given]
    ended: list[int] = []
    for said in BatchedVocoder(model, given, options, **settings):
        for number, samples, last in said:
            assert number not in ended
            parts[number].append(samples)
            ended += [number] if last else []
    assert sorted(ended) == list(range(len(given)))
    return [torch.cat(part) for part in parts]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_speech_is_what_generate_says_bit_for_bit(batch_size: int) -> None:
    pytest.importorskip("numba", reason="the CPU engine is compiled by numba")
    model, given = build(), mels()
    options = SamplingOptions(seed=5, engine="cpu", temperature=0.9)
    said = spoken(model, [pieces(mel, 7) for mel in given], options, batch_size=batch_size)
    for mel, samples in zip(given, said, strict=True):
        alone = wavenet.generate(model, mel=mel, seed=5, engine="cpu", temperature=0.9)
        assert torch.equal(samples, alone[0])


def test_the_eager_engine_says_the_same_as_generate_too() -> None:
    model, (mel,) = build().double(), mels((BLOCK + 5,))
    (samples,) = spoken(model, [[mel]], SamplingOptions(seed=5, engine="eager"))
    assert torch.equal(samples, wavenet.generate(model, mel=mel, seed=5, engine="eager")[0])


@pytest.mark.parametrize("chunk_samples", [1, 7, 4096])
def test_a_speech_does_not_depend_on_its_chunks_nor_on_the_pieces_of_its_mel(
    chunk_samples: int,
) -> None:
    model, (mel,) = build().double(), mels((30,))
    options = SamplingOptions(seed=2, engine="eager")
    (whole,) = spoken(model, [[mel]], options)
    for length in (1, 13):
        given = [pieces(mel, length)]
        (samples,) = spoken(model, given, options, chunk_samples=chunk_samples)
        assert torch.equal(samples, whole)


def test_a_speaker_is_heard_by_all() -> None:
    model, given = build(speakers=2, speaker_names=("ann", "bob")).double(), mels((3, 5))
    said = spoken(
        model, [[mel] for mel in given], SamplingOptions(seed=0, speaker="bob", engine="eager")
    )
    for mel, samples in zip(given, said, strict=True):
        alone = wavenet.generate(model, mel=mel, speaker=1, seed=0, engine="eager")
        assert samples.shape == alone[0].shape
        assert torch.allclose(samples[:8], alone[0, :8])  # batched sums round otherwise


def test_what_is_dropped_says_no_more_and_its_place_goes_to_the_next() -> None:
    model, given = build().double(), mels((2 * BLOCK, 5, 3))
    speeches = BatchedVocoder(
        model, [[mel] for mel in given], SamplingOptions(engine="eager"), batch_size=2
    )
    heard = [{part.number for part in next(speeches)}]
    speeches.drop(0)
    heard += [{part.number for part in said} for said in speeches]
    assert heard[0] == {0, 1}
    assert {2} in heard
    assert not any(0 in numbers for numbers in heard[1:])


def test_mels_are_drawn_only_when_it_is_their_turn() -> None:
    drawn = []

    def lazily() -> Iterator[list[Tensor]]:
        for number, mel in enumerate(mels((2, 2, 2))):
            drawn.append(number)
            yield [mel]

    speeches = BatchedVocoder(
        build(), lazily(), SamplingOptions(engine="eager"), batch_size=1, chunk_samples=999
    )
    assert drawn == []
    next(speeches)
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


def test_wrong_sizes_and_a_model_without_features_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="batch_size=0 must be an integer of at least 1"):
        BatchedVocoder(build(), [], SamplingOptions(), batch_size=0)
    with pytest.raises(ValueError, match="the model takes no mel; choose"):
        BatchedVocoder(build(features=None), [], SamplingOptions())


def test_a_mel_without_frames_or_of_other_bands_is_refused() -> None:
    for mel, message in ((torch.empty(3, 0), "mel has no frames"), (torch.ones(2, 3), "2 channel")):
        with pytest.raises(ValueError, match=message):
            next(BatchedVocoder(build(), [[mel]], SamplingOptions(engine="eager")))
