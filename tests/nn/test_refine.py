"""Refined audio has the mel that was asked for; pieces and ends leave no trace."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet import MelConfig, MelRefinement, log_mel, refine
from wavenet.nn.refine import RefinementStream

SMALL = MelConfig(
    sample_rate=4000, n_fft=64, win_samples=48, hop_samples=12, n_mels=12, f_max_hz=2000.0
)


def tone(n: int) -> Tensor:
    """A harmonic tone that swells, ``[n]``."""
    t = torch.arange(n) / 4000
    harmonics = sum(torch.sin(2 * math.pi * 150 * k * t) / k for k in range(1, 9))
    assert isinstance(harmonics, Tensor)
    return 0.1 * harmonics * (1 + torch.sin(2 * math.pi * 3 * t))


def noisy(n: int) -> tuple[Tensor, Tensor]:
    """The tone, and the tone at another level with noise added."""
    clean = tone(n)
    noise = torch.randn(n, generator=torch.Generator().manual_seed(0))
    return clean, 0.6 * clean + 0.03 * noise


def mel_distance(audio: Tensor, target: Tensor, config: MelConfig = SMALL) -> float:
    """Mean absolute difference in the units of the mel."""
    return float((log_mel(audio, config) - target).abs().mean())


@pytest.mark.parametrize(
    "changes",
    [{}, {"padding": "center"}, {"power": 2.0}, {"log": "log10"}, {"power_epsilon": 1e-9}],
)
def test_the_mel_comes_nearer_with_more_passes(changes: dict[str, object]) -> None:
    config = MelConfig.from_dict({**SMALL.to_dict(), **changes})
    clean, start = noisy(1501)
    target = log_mel(clean, config)
    distances = [
        mel_distance(refine(start, target, config, passes), target, config)
        for passes in (0, 1, 4, 16)
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < distances[0] / 5


@pytest.mark.parametrize("n", [1, 11, 12, 13, 100, 2999])
def test_signals_of_any_length_come_out_as_long(n: int) -> None:
    clean, start = noisy(n)
    refined = refine(start, log_mel(clean, SMALL), SMALL, 3)
    assert refined.shape == (n,)
    assert bool(refined.isfinite().all())


def test_the_first_and_last_frames_come_as_near_to_the_target_as_the_others() -> None:
    clean, start = noisy(3001)
    target = log_mel(clean, SMALL)
    error = (log_mel(refine(start, target, SMALL, 8), SMALL) - target).abs().mean(0)
    middle = float(error[10:-10].mean())
    assert float(error[:4].mean()) < 2.5 * middle
    assert float(error[-4:].mean()) < 2.5 * middle


def test_a_signal_that_has_the_mel_already_stays_as_it_is() -> None:
    clean = tone(2400)
    refined = refine(clean, log_mel(clean, SMALL), SMALL, 8)
    # Beyond the end the target lies between frames.
    torch.testing.assert_close(refined[:-48], clean[:-48], atol=1e-4, rtol=0)


def test_the_whole_is_the_block_on_the_mirrored_signal_less_its_delay() -> None:
    n_hops, passes = 120, 4
    clean, start = noisy(n_hops * 12)
    target = log_mel(clean, SMALL)
    block = MelRefinement(SMALL, passes)
    n, before = len(start), 20 * 12
    mirrored = F.pad(start[None, None], (before, 0), mode="reflect")
    mirrored_target = F.pad(target[None], (20, 0), mode="constant")
    mirrored_target[..., :20] = target[:, :20].flip(-1)
    cond = mirrored_target.repeat_interleave(12, dim=-1)
    streamed = block(mirrored, cond)[0, 0]
    found = refine(start, target, SMALL, passes)
    until = n - block.delay_samples  # what comes later depends on the end
    expected = streamed[before + block.delay_samples :][:until]
    torch.testing.assert_close(found[:until], expected, atol=1e-3, rtol=0)


def test_the_target_is_read_where_its_frames_are_centred() -> None:
    block = MelRefinement(SMALL, 2)
    clean, start = noisy(1200)
    target = log_mel(clean, SMALL)[None]
    held = target.repeat_interleave(12, dim=-1)
    noise = torch.full_like(held, 50.0)
    noise[..., SMALL.centre_samples :: 12] = target
    x = start[None, None]
    by_frames = block.stream_frames(x, block.init_state(1), target)[0]
    assert torch.equal(block(x, held), by_frames)
    assert torch.equal(block(x, noise), by_frames)


@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_pieces_change_no_bit(piece: int) -> None:
    clean, start = noisy(1000)
    target = log_mel(clean, SMALL)
    whole = refine(start, target, SMALL, 5)
    stream = RefinementStream(MelRefinement(SMALL, 5))
    parts = []
    for first in range(0, len(start), piece):
        columns = slice(-(-first // 12), -(-min(first + piece, 1000) // 12))
        stream.add_frames(target[None, :, columns])
        parts.append(stream.add(start[None, first : first + piece]))
    parts.append(stream.finish())
    assert torch.equal(torch.cat(parts, dim=-1)[0], whole)


def test_an_output_is_there_after_the_stated_latency() -> None:
    clean, start = noisy(3000)
    stream = RefinementStream(MelRefinement(SMALL, 3))
    stream.add_frames(log_mel(clean, SMALL)[None])
    made = 0
    for first in range(0, 3000, 5):
        made += stream.add(start[None, first : first + 5]).shape[-1]
        assert made >= first + 5 - stream.latency_samples


def test_a_long_stream_keeps_no_more_than_its_end_can_need() -> None:
    stream = RefinementStream(MelRefinement(SMALL, 2))
    target = log_mel(tone(600), SMALL)[None]
    sizes = []
    for _ in range(20):
        stream.add_frames(target)
        stream.add(tone(600)[None])
        sizes.append(stream._samples.shape[-1] + stream._frames.shape[-1])
    assert max(sizes[10:]) <= max(sizes[:10])


def test_rows_do_not_depend_on_each_other() -> None:
    clean, start = noisy(900)
    target = log_mel(clean, SMALL)
    rows = torch.stack((start, clean.flip(0)))
    together = refine(rows, target, SMALL, 3)
    torch.testing.assert_close(together[0], refine(start, target, SMALL, 3), atol=1e-5, rtol=1e-4)


def test_arrays_come_back_as_arrays_of_their_type() -> None:
    clean, start = noisy(600)
    target = log_mel(clean, SMALL)
    refined = refine(start.numpy().astype(np.float64), target.numpy(), SMALL, 2)
    assert isinstance(refined, np.ndarray)
    assert refined.dtype == np.float64
    expected = refine(start, target, SMALL, 2).numpy()
    np.testing.assert_allclose(refined, expected, atol=1e-4)


def test_passes_are_an_integer_of_any_library() -> None:
    clean, start = noisy(600)
    target = log_mel(clean, SMALL)
    refined = refine(start, target, SMALL, np.int64(2))  # type: ignore[arg-type]
    assert torch.equal(refined, refine(start, target, SMALL, 2))


def test_arrays_in_any_layout_are_taken() -> None:
    clean, start = noisy(600)
    audio, target = start.numpy(), log_mel(clean, SMALL).numpy()
    expected = refine(audio, target, SMALL, 2)
    read_only = np.frombuffer(audio.tobytes(), np.float32)
    backwards = np.ascontiguousarray(audio[::-1])[::-1]
    for given in (read_only, backwards, audio.astype(">f4")):
        np.testing.assert_array_equal(refine(given, target, SMALL, 2), expected)
    np.testing.assert_array_equal(refine(audio, np.asfortranarray(target), SMALL, 2), expected)


def test_no_pass_leaves_the_audio_alone() -> None:
    clean, start = noisy(600)
    assert refine(start, log_mel(clean, SMALL), SMALL, 0) is start


def test_gradients_reach_audio_and_target() -> None:
    clean, start = noisy(300)
    target = log_mel(clean, SMALL).requires_grad_()
    refine(start.requires_grad_(), target, SMALL, 2).square().sum().backward()
    assert start.grad is not None
    assert target.grad is not None
    assert float(start.grad.abs().min()) > 0
    assert float(target.grad.abs().sum()) > 0


@pytest.mark.parametrize(("passes", "delay_samples"), [(1, 900), (8, 3700), (16, 6900)])
def test_the_delay_is_a_window_and_two_hops_for_each_further_pass(
    passes: int, delay_samples: int
) -> None:
    assert MelRefinement(MelConfig(), passes).delay_samples == delay_samples


def test_a_click_comes_out_after_the_declared_delay() -> None:
    block = MelRefinement(SMALL, 3)
    x = torch.zeros(1, 1, 600)
    x[..., 240] = 0.5
    y = block(x, log_mel(x[0], SMALL).repeat_interleave(12, dim=-1))
    assert int(y.abs().argmax()) == 240 + block.delay_samples


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"passes": -1}, "passes=-1 must be an integer of at least 0"),
        ({"passes": True}, "passes=True"),
        ({"audio": torch.zeros(0)}, r"audio has shape \[0\]"),
        ({"audio": torch.zeros(3, 600)}, r"mel has rows \[2\] and audio \[3\]"),
        ({"mel": torch.zeros(11, 50)}, r"mel has shape \[11, 50\], expected \[..., 12, F\]"),
        ({"filterbank": torch.zeros(11, 33)}, r"filterbank has shape \[11, 33\], the config needs"),
        ({"audio": torch.full((2, 600), torch.nan)}, "audio has values that are not finite"),
        ({"audio": torch.full((2, 600), torch.inf)}, "audio has values that are not finite"),
        ({"mel": torch.full((12, 50), -torch.inf)}, "mel has values that are not finite; replace"),
        ({"mel": torch.zeros(12, 40)}, "mel has 40 frames, but audio of 600 samples has 50"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, object], message: str) -> None:
    mel = torch.zeros(2, 12, 50) if "audio" in change else torch.zeros(12, 50)
    given = {"audio": torch.zeros(600), "mel": mel, "mel_config": SMALL, "passes": 2, **change}
    with pytest.raises(ValueError, match=message):
        refine(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("passes", [0, 2])
def test_no_rows_are_no_rows(passes: int) -> None:
    for mel in (torch.zeros(12, 50), torch.zeros(0, 12, 50)):
        assert refine(torch.zeros(0, 600), mel, SMALL, passes).shape == (0, 600)


def test_floats_that_torch_does_not_have_are_named() -> None:
    with pytest.raises(TypeError, match="audio is (float128|longdouble|float96); give a tensor or"):
        refine(np.zeros(600, np.longdouble), torch.zeros(12, 50), SMALL)


def test_integers_are_no_audio() -> None:
    with pytest.raises(TypeError, match="audio is torch.int16; give a tensor"):
        refine(torch.zeros(600, dtype=torch.int16), torch.zeros(12, 50), SMALL)


def test_a_mel_whose_windows_do_not_overlap_cannot_refine() -> None:
    config = MelConfig.from_dict({**SMALL.to_dict(), "hop_samples": 48})
    with pytest.raises(ValueError, match="hop_samples=48 and win_samples=48 cannot refine"):
        refine(torch.zeros(480), torch.zeros(12, 10), config)
