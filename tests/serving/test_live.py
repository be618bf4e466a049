"""Live input: frames of audio that arrives in pieces, and settings of requests."""

from __future__ import annotations

import pytest
import torch

from wavenet import MelConfig, log_mel
from wavenet.features import mel_filterbank
from wavenet.serving.limits import Limits
from wavenet.serving.live import Feed, LiveMel

MELS = [
    MelConfig(n_fft=256, win_samples=200, hop_samples=100, n_mels=20),
    MelConfig(n_fft=256, win_samples=256, hop_samples=64, n_mels=20, padding="center"),
]


@pytest.mark.parametrize("config", MELS)
@pytest.mark.parametrize("length", [1, 77, 300, 5000])
def test_live_frames_are_those_of_the_whole_however_it_arrives(
    config: MelConfig, length: int
) -> None:
    audio = torch.randn(5033, generator=torch.Generator().manual_seed(0)) / 4
    live = LiveMel(config, mel_filterbank(config))
    parts = [frames for piece in audio.split(length) if (frames := live.add(piece)) is not None]
    n_early = sum(part.shape[1] for part in parts)
    rest = live.finish()
    assert rest is not None
    found = torch.cat([*parts, rest], dim=1)
    torch.testing.assert_close(found, log_mel(audio, config), rtol=0, atol=1e-3)
    assert n_early == (5033 + config.pad_samples - config.n_fft) // config.hop_samples + 1


def test_a_signal_shorter_than_a_window_has_its_frames_at_the_end() -> None:
    live = LiveMel(MELS[0], mel_filterbank(MELS[0]))
    assert live.finish() is None
    assert live.add(torch.ones(50) / 9) is None
    frames = live.finish()
    assert frames is not None
    torch.testing.assert_close(frames, log_mel(torch.ones(50) / 9, MELS[0]))


def test_a_feed_gives_none_until_something_arrives_and_ends_after_the_last_piece() -> None:
    feed = Feed()
    assert next(feed) is None
    feed.put(torch.zeros(3, 5))
    feed.put(None)
    feed.end()
    assert (feed.n_frames, feed.n_waiting) == (5, 5)
    assert next(feed).shape == (3, 5)
    assert feed.n_waiting == 0
    with pytest.raises(StopIteration):
        next(feed)


@pytest.mark.parametrize(
    "limits",
    [{"rows": 0}, {"max_queue": -1}, {"max_seconds": 0.0}, {"timeout_s": float("nan")}],
)
def test_limits_that_let_nothing_through_are_refused(limits: dict[str, float]) -> None:
    (name,) = limits
    with pytest.raises(ValueError, match=f"{name}=.* must be"):
        Limits(**limits)
