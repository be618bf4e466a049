"""wavenet.audio: files keep their samples, and a bad file is one line that says what to do."""

from __future__ import annotations

import builtins
import functools
import gc
import math
import os
import struct
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from wavenet.audio import AudioError, AudioInfo, audio_info, read_audio, resample, write_audio

Limit = Callable[[int], AbstractContextManager[None]]

GRID = torch.arange(-32768, 32768, dtype=torch.float32) / 32768  # every 16-bit sample


def tone(frequency_hz: float, sample_rate: int, n_samples: int) -> Tensor:
    time_s = torch.arange(n_samples, dtype=torch.float64) / sample_rate
    return (0.5 * torch.sin(2 * math.pi * frequency_hz * time_s)).float()


def noise(n_samples: int) -> Tensor:
    return 0.1 * torch.randn(n_samples, generator=torch.Generator().manual_seed(0))


def one_line(caught: pytest.ExceptionInfo[Exception], path: Path) -> str:
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert ";" in message  # what is wrong; what to do
    return message


# --- round trips ---


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".FLAC"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_16_bit_sample_is_read_as_it_was_written(
    tmp_path: Path, suffix: str, dtype: torch.dtype
) -> None:
    path = tmp_path / f"grid{suffix}"
    write_audio(path, GRID.to(dtype)[None], 16000)
    samples, sample_rate = read_audio(path)
    assert sample_rate == 16000
    assert samples.dtype == torch.float32
    assert torch.equal(samples, GRID)
    assert soundfile.info(path).subtype == "PCM_16"


def test_samples_are_rounded_to_the_nearest_step_and_clipped_at_full_scale(tmp_path: Path) -> None:
    steps = torch.tensor([0.4, 0.6, -0.4, -0.6, 32767.4, 32768.0, 40000.0, -40000.0])
    write_audio(tmp_path / "a.wav", steps / 32768, 16000)
    expected = torch.tensor([0.0, 1.0, 0.0, -1.0, 32767.0, 32767.0, 32767.0, -32768.0])
    assert torch.equal(read_audio(tmp_path / "a.wav")[0] * 32768, expected)


def test_vorbis_keeps_length_rate_and_sound(tmp_path: Path) -> None:
    x = tone(440, 22050, 30000)
    write_audio(tmp_path / "a.ogg", x, 22050)
    y, sample_rate = read_audio(tmp_path / "a.ogg")
    assert (sample_rate, len(y)) == (22050, len(x))
    assert (y - x).square().mean() < 1e-3 * x.square().mean()  # 30 dB below the tone


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_the_same_samples_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        write_audio(tmp_path / f"{name}{suffix}", noise(200000), 16000)
    first = (tmp_path / f"a{suffix}").read_bytes()
    assert first == (tmp_path / f"b{suffix}").read_bytes()
    assert len(read_audio(tmp_path / f"a{suffix}")[0]) == 200000  # checksums of Ogg pages included


@pytest.mark.parametrize(
    ("subtype", "step"),
    [
        ("PCM_U8", 2**-7),
        ("PCM_16", 2**-15),
        ("PCM_24", 2**-23),
        ("PCM_32", 2**-24),  # float32's own rounding
        ("FLOAT", 0.0),
        ("DOUBLE", 2**-24),
    ],
)
def test_every_width_is_read_to_within_a_step(tmp_path: Path, subtype: str, step: float) -> None:
    x = tone(440, 16000, 1000)
    soundfile.write(tmp_path / "a.wav", x.numpy(), 16000, subtype=subtype)
    assert (read_audio(tmp_path / "a.wav")[0] - x).abs().max() <= step


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = GRID, GRID.roll(9999)
    soundfile.write(tmp_path / "a.wav", torch.stack((left, right), 1).numpy(), 16000, "PCM_16")
    assert torch.equal(read_audio(tmp_path / "a.wav")[0], (left + right) / 2)
    assert audio_info(tmp_path / "a.wav").channels == 2


def test_float_files_beyond_full_scale_are_clipped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([1.5, -7.0, 0.25]), 16000, "FLOAT")
    assert read_audio(tmp_path / "a.wav")[0].tolist() == [1.0, -1.0, 0.25]


def test_a_part_is_that_part_of_the_whole(tmp_path: Path) -> None:
    for suffix in (".wav", ".flac"):
        path = tmp_path / f"a{suffix}"
        write_audio(path, GRID, 16000)
        assert torch.equal(read_audio(path, first=30000, count=5000)[0], GRID[30000:35000])
        assert torch.equal(read_audio(path, 16000, first=65535)[0], GRID[65535:])
        with pytest.raises(AudioError, match="samples 65530 to 65540 were requested"):
            read_audio(path, first=65530, count=10)
        with pytest.raises(AudioError, match="part of a file of 16000 Hz cannot be read at 8000"):
            read_audio(path, 8000, first=1)


def test_info_tells_rate_channels_and_duration(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros((22050, 2)), 44100)
    info = audio_info(tmp_path / "a.flac")
    assert info == AudioInfo(sample_rate=44100, channels=2, n_samples=22050)
    assert info.duration_s == 0.5


# --- resampling ---


@pytest.mark.parametrize("file_rate", [8000, 22050, 44100, 48000])
def test_a_tone_keeps_its_pitch_its_phase_and_its_level_at_another_rate(
    tmp_path: Path, file_rate: int
) -> None:
    soundfile.write(
        tmp_path / "a.wav", tone(1000, file_rate, file_rate).numpy(), file_rate, "FLOAT"
    )
    y, sample_rate = read_audio(tmp_path / "a.wav", sample_rate=16000)
    assert (sample_rate, len(y)) == (16000, 16000)
    middle = slice(2000, -2000)  # away from the filter's start and end
    assert torch.allclose(y[middle], tone(1000, 16000, 16000)[middle], atol=1e-4)  # -80 dB


def test_what_the_lower_rate_cannot_hold_is_removed() -> None:
    y = resample(tone(9000, 44100, 44100), 44100, 16000)
    assert y[2000:-2000].abs().max() < 1e-4  # 9 kHz lies above the new Nyquist of 8 kHz


def test_resampling_keeps_shape_and_dtype() -> None:
    x = torch.stack((tone(300, 8000, 801), tone(500, 8000, 801)))
    for dtype in (torch.float32, torch.float64, torch.float16):
        y = resample(x[:, None].to(dtype), 8000, 16000)
        assert (y.shape, y.dtype) == ((2, 1, 1602), dtype)
    assert torch.equal(resample(x, 8000, 16000)[1], resample(x[1], 8000, 16000))
    assert resample(x, 8000, 8000) is x
    with pytest.raises(ValueError, match="to_rate is 0; give a positive integer"):
        resample(x, 8000, 0)


# --- files that cannot be read ---


def bad_file(tmp_path: Path, kind: str) -> Path:
    x = noise(50000).numpy()
    wav, flac = tmp_path / f"{kind}.wav", tmp_path / f"{kind}.flac"
    if kind == "text":
        wav.write_text("This is no audio.\n" * 100)
    elif kind == "empty":
        wav.write_bytes(b"")
    elif kind == "folder":
        wav.mkdir()
    elif kind == "no samples":
        soundfile.write(wav, x[:0], 16000)
    elif kind == "cut wav":
        soundfile.write(wav, x, 16000)
        os.truncate(wav, 60000)
    elif kind != "missing":
        soundfile.write(flac, x, 16000)
        content = bytearray(flac.read_bytes())
        if kind == "cut flac":
            content = content[: len(content) // 2]
        elif kind == "header of flac":
            content = content[:100]
        elif kind == "unknown length":  # the last 36 bits of the 18th byte and four more
            content[21] &= 0xF0
            content[22:26] = bytes(4)
        flac.write_bytes(content)
        return flac
    return wav


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "No such file"),
        ("folder", "Is a directory"),
        ("empty", "the file is empty"),
        ("text", "not an audio file"),
        ("no samples", "holds no samples"),
        ("cut flac", "cut short or damaged: not all of its 50000 samples"),
        ("header of flac", "cut short or damaged"),
        ("cut wav", "cut short or damaged: not all of its 50000 samples"),
        ("unknown length", "the header has no number of samples"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, kind: str, reason: str) -> None:
    path = bad_file(tmp_path, kind)
    for read in (read_audio, audio_info):
        with pytest.raises(AudioError) as caught:
            read(path)
        assert reason in one_line(caught, path)


def test_a_wav_whose_writer_left_the_length_open_is_read(tmp_path: Path) -> None:
    path = tmp_path / "piped.wav"
    write_audio(path, GRID, 16000)
    content = bytearray(path.read_bytes())
    for placeholder in (0xFFFFFFFF, 0x7FFFFFFF):
        content[40:44] = struct.pack("<I", placeholder)
        path.write_bytes(content)
        assert torch.equal(read_audio(path)[0], GRID)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_error_for_nonfinite_samples_has_their_number(tmp_path: Path, value: float) -> None:
    path = tmp_path / "a.wav"
    x = np.zeros((100000, 2))
    x[70001, 1] = x[70005, 0] = value
    soundfile.write(path, x, 16000, "FLOAT")
    with pytest.raises(AudioError) as caught:
        read_audio(path, first=70000)
    assert f"sample 70001 is {value}; repair" in one_line(caught, path)


def test_a_file_shorter_than_one_sample_of_the_new_rate_is_refused(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", GRID[:1], 48000)
    with pytest.raises(AudioError) as caught:
        read_audio(tmp_path / "a.wav", 16000)
    assert "less than one at 16000 Hz" in one_line(caught, tmp_path / "a.wav")


# --- files that cannot be written ---


@pytest.mark.parametrize(
    ("name", "samples", "sample_rate", "reason"),
    [
        ("a.mp4", GRID, 16000, "unknown extension '.mp4'; use one of .wav, .flac, .ogg"),
        ("a", GRID, 16000, "unknown extension ''"),
        ("a.wav", GRID[:0], 16000, "no samples"),
        ("a.wav", GRID.expand(2, -1), 16000, r"shape \[2, 65536\]; give \[T\] or \[1, T\]"),
        ("a.wav", (GRID * 32768).short(), 16000, "samples are torch.int16; give a floating-point"),
        ("a.wav", [0.0, 0.5], 16000, "samples are list; give a floating-point tensor"),
        ("a.wav", torch.tensor([0.0, math.nan, math.inf]), 16000, "2 samples are NaN or infinite"),
        ("a.flac", GRID, 1000000, "FLAC cannot hold 1 channels at 1000000 Hz"),
        ("a.ogg", GRID, 400000, "outside Vorbis's 8000 to 192000 Hz"),
        ("a.wav", GRID, 0, "sample_rate is 0; give a positive integer"),
        ("a.wav", GRID, 16000.5, "sample_rate is 16000.5; give a positive integer"),
    ],
)
def test_what_no_file_can_hold_is_refused(
    tmp_path: Path, name: str, samples: Any, sample_rate: Any, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        write_audio(tmp_path / name, samples, sample_rate)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_a_full_disk_leaves_the_old_file_and_no_half_of_the_new(
    tmp_path: Path, suffix: str, files_of_at_most: Limit
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")
    with pytest.raises(AudioError) as caught, files_of_at_most(1000):
        write_audio(path, noise(50000), 16000)
    assert "nothing was written: File too large" in one_line(caught, path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_a_disk_without_a_free_byte_is_one_error_and_no_callback_fails_later(
    tmp_path: Path, suffix: str, files_of_at_most: Limit, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"a{suffix}"
    with pytest.raises(AudioError, match="written: File too large"), files_of_at_most(0):
        write_audio(path, GRID, 16000)
    gc.collect()
    assert (*capfd.readouterr(), os.listdir(tmp_path)) == ("", "", [])


def test_missing_folders_are_made_but_not_in_place_of_a_file(tmp_path: Path) -> None:
    write_audio(tmp_path / "b" / "c" / "a.wav", GRID, 16000)
    assert audio_info(tmp_path / "b" / "c" / "a.wav").n_samples == len(GRID)
    with pytest.raises(AudioError, match="nothing was written"):
        write_audio(tmp_path / "b" / "c" / "a.wav" / "d.wav", GRID, 16000)


# --- without the extra ---


@pytest.mark.parametrize("library", ["soundfile", "soxr"])
def test_a_missing_library_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    real_import = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == library:
            raise ImportError(name)
        return real_import(name, *args)

    monkeypatch.delitem(sys.modules, library, raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    call: Callable[[], object]
    if library == "soundfile":
        call = functools.partial(write_audio, tmp_path / "a.wav", GRID, 16000)
    else:
        call = functools.partial(resample, GRID, 16000, 8000)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "wavenet-audio\[audio\]"'):
        call()
