"""Rows that wait: for frames that have not arrived, or until their samples are wanted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from wavenet import MelConfig, WaveNet, WaveNetConfig
from wavenet.generation.batching import Batch
from wavenet.generation.engines.cpu.engine import has_compiler
from wavenet.generation.frames import blocks_as_known, encode_blocks
from wavenet.generation.options import SamplingOptions
from wavenet.generation.rows import Row

HOP = 10
needs_numba = pytest.mark.skipif(not has_compiler(), reason="the CPU engine needs numba")
ENGINES = ["eager", pytest.param("cpu", marks=needs_numba)]
VOICE = WaveNetConfig(
    layers_per_stack=3,
    stacks=1,
    residual_channels=5,
    skip_channels=6,
    distribution="gaussian_mixture",
    distribution_size=2,
    mel=MelConfig(n_fft=32, win_samples=16, hop_samples=HOP, n_mels=4),
    linear_prediction=4,
    pitch_taps=3,
    speakers=2,
)


def voice(engine: str) -> WaveNet:
    """float64 on the eager engine, where a row's rounding depends on the batch."""
    torch.manual_seed(0)
    model = WaveNet(VOICE).eval()
    return model.double() if engine == "eager" else model


def mel_of(n_frames: int, seed: int) -> Tensor:
    return torch.randn(4, n_frames, generator=torch.Generator().manual_seed(seed))


class Switch:
    """Whether samples are wanted, which is asked often."""

    def __init__(self) -> None:
        self.on = True

    def __call__(self) -> bool:
        return self.on


def begun(model: WaveNet, number: int, mel: list[Tensor | None], wanted: Switch) -> Row:
    sampling = SamplingOptions(engine="auto", refine=0).resolve(model, from_mel=True)
    row = Row(model, number, number, sampling.noise_shaping, wanted)
    row.begin(sampling, iter(mel), {"speaker": torch.zeros(1, dtype=torch.int64)}, None, 4)
    return row


@pytest.mark.parametrize("engine", ENGINES)
def test_a_row_that_waits_goes_on_where_it_was(engine: str) -> None:
    """Frames come with gaps, and samples are not wanted for a while; others come and go."""
    model = voice(engine)
    sampling = SamplingOptions(engine=engine).resolve(model, from_mel=True)

    def made(gaps: bool) -> dict[int, Tensor]:
        whole = [mel_of(n, n) for n in (30, 9, 17)]
        pieces: list[list[Tensor | None]] = [list(mel.split(5, dim=1)) for mel in whole]
        if gaps:
            pieces[0] = [part for piece in pieces[0] for part in (None, piece, None)]
        switches = [Switch() for _ in whole]
        rows = [begun(model, i, pieces[i], switches[i]) for i in range(3)]
        found: dict[int, list[Tensor]] = {0: [], 1: [], 2: []}
        batch = Batch(model, sampling, iter(rows), 2, 2 * HOP)
        for turn, chunks in enumerate(batch):
            assert turn < 500
            switches[1].on = not gaps or not 1 < turn < 9
            for number, samples, _ in chunks:
                found[number].append(samples.clone())
        return {number: torch.cat(parts) for number, parts in found.items()}

    expected, found = made(gaps=False), made(gaps=True)
    assert [len(found[i]) for i in range(3)] == [300, 90, 170]
    for number in range(3):
        assert torch.equal(found[number], expected[number])


def test_a_batch_of_rows_that_all_wait_makes_nothing_and_a_dropped_one_ends() -> None:
    model = voice("eager")
    sampling = SamplingOptions(engine="eager").resolve(model, from_mel=True)
    off = Switch()
    row = begun(model, 0, [mel_of(20, 0)], off)
    off.on = False
    batch = Batch(model, sampling, iter([row]), 2, HOP)
    assert next(batch) == []
    assert batch.rows == [row]
    off.on = True
    assert [len(chunk.samples) for chunk in next(batch)] == [HOP]
    row.dropped = True
    assert all(chunks == [] for chunks in batch)  # the rest of its segment


@pytest.mark.parametrize("live", [False, True])
def test_the_first_chunks_of_a_live_row_are_short(live: bool) -> None:
    model = voice("eager")
    sampling = SamplingOptions(engine="eager").resolve(model, from_mel=True)
    early, late = (begun(model, number, [mel_of(20, number)], Switch()) for number in range(2))
    waiting = iter([early, *[None] * 4, late, *[None] * 9])
    batch = Batch(model, sampling, waiting, 2, 3 * HOP, live)
    chunks = [next(batch) for _ in range(8)]
    hops = [len(made[0].samples) // HOP for made in chunks]
    joined = next(i for i, made in enumerate(chunks) if len(made) == 2)
    assert hops[:3] == ([1, 1, 1] if live else [3, 3, 1])  # frames are known four at once
    assert hops[joined : joined + 2] == ([1, 1] if live else [1, 2])
    expected = next(
        iter(Batch(model, sampling, iter([begun(model, 0, [mel_of(20, 0)], Switch())]), 1, 30))
    )
    first = torch.cat([made[0].samples for made in chunks])[:30]
    assert torch.allclose(first, expected[0].samples)


def test_blocks_of_a_live_mel_wait_for_its_frames() -> None:
    model = voice("eager")
    mel = mel_of(12, 1).double()
    given = {"speaker": torch.zeros(1, dtype=torch.int64)}

    def arriving() -> Iterator[Tensor | None]:
        for frame in mel.split(1, dim=1):
            yield None
            yield frame

    blocks = list(blocks_as_known(model, arriving(), given, 4))
    known = [block for block in blocks if block is not None]
    assert [block.shape[1] for block in known] == [4, 4, 4]
    waited = [i for i, block in enumerate(blocks) if block is not None]
    assert waited[0] == 4 + model.context_frames
    whole = torch.cat(list(encode_blocks(model, [mel], given)), dim=1)
    torch.testing.assert_close(torch.cat(known, dim=1), whole)
