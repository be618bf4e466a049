"""Audio files as they are found: absurd headers, pipes, odd channels, floats that are integers."""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from wavenet.audio import AudioError, audio_info, read_audio, resample
from wavenet.audio.blocks import count_samples, read_blocks


def noise(n_samples: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (n_samples, channels)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = 16000, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, samples, rate, subtype)
    return path


@pytest.mark.parametrize("rate", [1, 999, 1_536_001, 2**31 - 1])
def test_an_absurd_rate_is_refused_before_anything_is_resampled(tmp_path: Path, rate: int) -> None:
    path = write(tmp_path / "a.wav", noise(70_000), subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[24:28] = struct.pack("<I", rate)
    path.write_bytes(content)
    for read in (audio_info, read_audio, lambda path: count_samples(path, 16000)):
        with pytest.raises(
            AudioError, match=f"a.wav: the sample rate in the header is {rate} Hz, not"
        ):
            read(path)


def test_rates_too_far_apart_are_refused_by_the_resampler_itself() -> None:
    with pytest.raises(ValueError, match="from 1 Hz to 16000 Hz is a ratio of more than 2048"):
        resample(torch.zeros(10), 1, 16000)
    assert len(resample(torch.zeros(10), np.int64(8000), np.int32(16000))) == 20


def test_a_file_of_very_many_channels_is_read_in_little_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(300, 1000))
    assert [len(block) for block in read_blocks(path, 16000)] == [65, 65, 65, 65, 40]
    assert len(read_audio(path)[0]) == 300


@pytest.mark.parametrize("channels", [1, 2])
def test_audio_from_a_pipe_is_read_more_than_once(tmp_path: Path, channels: int) -> None:
    content = write(tmp_path / "a.wav", noise(90_000, channels)).read_bytes()
    read, send = os.pipe()

    def fill() -> None:
        with os.fdopen(send, "wb") as pipe:
            pipe.write(content)

    filling = threading.Thread(target=fill)
    filling.start()
    path = f"/dev/fd/{read}"
    try:
        assert audio_info(path).n_samples == 90_000
        filling.join()
        for _ in range(2):
            assert torch.equal(read_audio(path)[0], read_audio(tmp_path / "a.wav")[0])
    finally:
        os.close(read)


def test_an_empty_pipe_and_a_device_are_one_line() -> None:
    read, send = os.pipe()
    os.close(send)
    with pytest.raises(AudioError, match="nothing came through the pipe; check the command"):
        read_audio(f"/dev/fd/{read}")
    os.close(read)
    with pytest.raises(AudioError, match="/dev/zero: a device or a terminal; name an audio file"):
        read_audio("/dev/zero")


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_integers_stored_as_floats_are_refused_with_the_remedy(
    tmp_path: Path, subtype: str
) -> None:
    path = write(tmp_path / "a.wav", np.round(noise(1000) * 32768), subtype=subtype)
    for read in (read_audio, lambda path: count_samples(path, 16000)):
        with pytest.raises(AudioError, match="where full scale is 1: integers stored as floats?"):
            read(path)


def test_channels_of_opposite_phase_are_not_averaged_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    x = noise(100_000)
    silence = np.zeros((70_000, 1), np.float32)
    stereo = np.concatenate((silence, x))
    path = write(tmp_path / "a.wav", np.concatenate((-0.9 * stereo, stereo), axis=1))
    with caplog.at_level(logging.WARNING, "wavenet"):
        samples, _ = read_audio(path)
        blocks = torch.cat(list(read_blocks(path, 16000)))
    assert torch.equal(samples, torch.from_numpy(stereo[:, 0]))
    assert torch.equal(blocks, samples)
    assert caplog.messages == [f"{path}: its channels cancel each other; channel 2 alone is used"]


@pytest.mark.parametrize("kind", ["different", "one silent", "same"])
def test_other_channels_are_averaged_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    x = noise(10_000, 6)
    if kind == "one silent":
        x[:, 1:] = 0
    elif kind == "same":
        x[:] = x[:, :1]
    path = write(tmp_path / "a.wav", x)
    assert torch.equal(read_audio(path)[0], torch.from_numpy(x.mean(axis=1)))
    assert not caplog.messages


def test_a_damaged_mp3_is_one_line_and_nothing_on_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "a.mp3", noise(40_000), 16000, format="MP3")
    content = bytearray((tmp_path / "a.mp3").read_bytes())
    draw = np.random.default_rng(3)
    for _ in range(20):
        damaged = bytearray(content)
        for place in draw.integers(0, len(content), 40):
            damaged[place] = draw.integers(256)
        (tmp_path / "b.mp3").write_bytes(damaged)
        with contextlib.suppress(AudioError):
            audio_info(tmp_path / "b.mp3")
            count_samples(tmp_path / "b.mp3", 16000)
    os.write(2, b"visible again")
    assert capfd.readouterr().err == "visible again"
