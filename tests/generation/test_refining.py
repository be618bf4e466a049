"""Refinement behind the sampling engines: the same in every path, and none of it in the network."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

import wavenet
from wavenet import MelConfig, WaveNet, WaveNetConfig, generate, log_mel, refine, stream
from wavenet.generation import BatchedVocoder, SamplingOptions, Utterance, generate_queue
from wavenet.generation.frames import BLOCK

MEL = MelConfig(
    sample_rate=2000, n_fft=64, win_samples=32, hop_samples=8, n_mels=6, f_max_hz=1000.0
)
HOP = MEL.hop_samples


@pytest.fixture(scope="module")
def model() -> WaveNet:
    torch.manual_seed(0)
    config = WaveNetConfig(
        sample_rate=2000,
        layers_per_stack=2,
        stacks=1,
        residual_channels=4,
        skip_channels=4,
        distribution_size=16,
        mel=MEL,
        refinement_passes=3,
    )
    return WaveNet(config).eval()


def mel_of(n_frames: int, seed: int) -> Tensor:
    """A target ``[6, n_frames]``."""
    generator = torch.Generator().manual_seed(seed)
    return log_mel(0.3 * torch.randn(n_frames * HOP, generator=generator), MEL)


def expected(model: WaveNet, mel: Tensor, seed: int, n_samples: int | None = None) -> Tensor:
    """The bare samples, refined as a whole."""
    bare = generate(model, mel=mel, seed=seed, n_samples=n_samples, refine=0)[0]
    return refine(bare, mel, MEL, 3, filterbank=model.mel_filterbank).clamp(-1, 1)


def test_the_configuration_says_how_many_passes_are_the_default(model: WaveNet) -> None:
    mel = mel_of(30, 1)
    by_default = generate(model, mel=mel, seed=1)
    assert torch.equal(by_default, generate(model, mel=mel, seed=1, refine=3))
    assert not torch.equal(by_default, generate(model, mel=mel, seed=1, refine=0))


def test_generated_audio_is_the_networks_own_refined_as_a_whole(model: WaveNet) -> None:
    mel = mel_of(30, 1)
    assert torch.equal(generate(model, mel=mel, seed=1)[0], expected(model, mel, 1))


@pytest.mark.parametrize("chunk_samples", [1, 7, 4096])
def test_chunks_leave_no_trace(model: WaveNet, chunk_samples: int) -> None:
    mel = mel_of(30, 2)
    chunks = list(stream(model, mel=mel, seed=2, chunk_samples=chunk_samples))
    assert {chunk.shape[1] for chunk in chunks[:-1]} <= {chunk_samples}
    assert torch.equal(torch.cat(chunks, dim=1), generate(model, mel=mel, seed=2))


def test_rows_of_other_lengths_leave_no_trace(model: WaveNet) -> None:
    mels = [mel_of(12, 3), mel_of(31, 4), mel_of(1, 5)]
    together = generate(model, mel=mels, seed=[3, 4, 5], n_samples=[90, 248, 8])
    for row, (mel, n) in enumerate(zip(mels, [90, 248, 8], strict=True)):
        assert torch.equal(together[row, :n], expected(model, mel, 3 + row, n))
        assert not together[row, n:].any()


def test_the_latency_is_stated_and_kept(model: WaveNet) -> None:
    chunks = stream(model, mel=mel_of(60, 1), seed=1, chunk_samples=1)
    given = sum(chunk.shape[1] for chunk in (next(chunks) for _ in range(300)))
    generated = int(chunks.engine.dump().time[0])
    assert generated - given <= chunks.latency_samples
    assert chunks.latency_ms == chunks.latency_samples / 2
    assert stream(model, mel=mel_of(60, 1), refine=0).latency_samples == 0


def test_the_latency_of_the_docs_is_that_of_the_usual_settings() -> None:
    delays = [wavenet.MelRefinement(MelConfig(), n).delay_samples + 199 for n in (16, 4)]
    assert [delay / 16 for delay in delays] == [7099 / 16, 2299 / 16]


def test_the_queue_refines_each_utterance_as_if_alone(model: WaveNet) -> None:
    mels = [mel_of(n, n) for n in (9, 25, 3, 14)]
    utterances = [Utterance(mel=mel, seed=i) for i, mel in enumerate(mels)]
    made = dict(generate_queue(model, utterances, rows=2, chunk_samples=16))
    for i, mel in enumerate(mels):
        assert torch.equal(made[i], expected(model, mel, i))


def test_speeches_refine_each_mel_as_if_alone(model: WaveNet) -> None:
    mels, lengths = [mel_of(n, n) for n in (300, 25, 3)], [2399, 200, 17]

    def pieces(mel: Tensor) -> Iterator[Tensor]:
        yield from mel.split(7, dim=1)

    vocoder = BatchedVocoder(
        model,
        map(pieces, mels),
        SamplingOptions(seed=5),
        batch_size=2,
        n_samples=lengths,
        chunk_samples=50,
    )
    parts: list[list[Tensor]] = [[], [], []]
    for chunks in vocoder:
        for number, samples, _ in chunks:
            parts[number].append(samples)
    for mel, n, made in zip(mels, lengths, parts, strict=True):
        assert torch.equal(torch.cat(made)[:n], expected(model, mel, 5, n))


@pytest.mark.parametrize("n", [1, 250, BLOCK * 8, BLOCK * 8 + 1])
def test_a_shorter_utterance_ends_without_the_rest_of_its_mel(model: WaveNet, n: int) -> None:
    mel, drawn = mel_of(4 * BLOCK, 1), []

    def pieces() -> Iterator[Tensor]:
        for piece in mel.split(5, dim=1):
            drawn.append(piece)
            yield piece

    vocoder = BatchedVocoder(model, [pieces()], SamplingOptions(seed=5), n_samples=[n])
    made = torch.cat([chunk.samples for (chunk,) in vocoder])
    assert torch.equal(made, generate(model, mel=mel, seed=5, n_samples=n)[0])
    assert len(drawn) * 5 < 3 * BLOCK


def test_a_prime_is_context_and_is_not_returned(model: WaveNet) -> None:
    mel = mel_of(30, 6)
    prime = 0.1 * torch.randn(80, generator=torch.Generator().manual_seed(6))
    bare = generate(model, mel=mel, prime=prime, seed=6, refine=0)[0]
    whole = refine(torch.cat((prime, bare)), mel, MEL, 3, filterbank=model.mel_filterbank)
    found = generate(model, mel=mel, prime=prime, seed=6)[0]
    assert torch.equal(found, whole[80:].clamp(-1, 1))


def test_a_state_belongs_to_the_networks_own_samples(model: WaveNet) -> None:
    mel = mel_of(30, 7)
    samples, state = generate(model, mel=mel, seed=7, return_state=True)
    assert torch.equal(samples, generate(model, mel=mel, seed=7, refine=0))
    more = generate(model, mel=mel, seed=7, state=state)
    assert torch.equal(more, generate(model, mel=mel, seed=7, state=state, refine=0))
    for arguments in ({"return_state": True}, {"state": state}):
        with pytest.raises(ValueError, match="refine=2 cannot stop and go on"):
            generate(model, mel=mel, seed=7, refine=2, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cannot stop and go on"):
        stream(model, mel=mel).state()


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "8"])
def test_a_wrong_number_of_passes_is_named(model: WaveNet, wrong: object) -> None:
    mel = mel_of(3, 1)
    with pytest.raises(ValueError, match="refine="):
        generate(model, mel=mel, refine=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="refine="):
        generate_queue(model, [Utterance(mel=mel)], refine=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="refine="):
        BatchedVocoder(model, [[mel]], SamplingOptions(refine=wrong))  # type: ignore[arg-type]


def test_a_mel_of_other_bands_is_named_before_it_is_refined_towards(model: WaveNet) -> None:
    mel = torch.zeros(5, 3)
    with pytest.raises(ValueError, match="mel has 5 channels, but this model was built for 6"):
        list(generate_queue(model, [Utterance(mel=mel)], engine="eager"))
    with pytest.raises(ValueError, match="mel has 5 channels, but this model was built for 6"):
        next(BatchedVocoder(model, [[mel]], SamplingOptions(engine="eager")))


def test_passes_are_an_integer_of_any_library(model: WaveNet) -> None:
    mel = mel_of(3, 1)
    refined = generate(model, mel=mel, seed=1, refine=np.int64(2))  # type: ignore[arg-type]
    assert torch.equal(refined, generate(model, mel=mel, seed=1, refine=2))


def test_refinement_needs_a_mel() -> None:
    plain = WaveNet(
        WaveNetConfig(
            layers_per_stack=2,
            stacks=1,
            residual_channels=4,
            skip_channels=4,
            distribution_size=16,
        )
    ).eval()
    assert generate(plain, n_samples=10, seed=0).shape == (1, 10)
    with pytest.raises(ValueError, match="refine=4 needs a mel"):
        generate(plain, n_samples=10, seed=0, refine=4)


def test_a_configuration_refuses_a_wrong_number_of_passes() -> None:
    with pytest.raises(ValueError, match="refinement_passes=-1"):
        WaveNetConfig(refinement_passes=-1)
