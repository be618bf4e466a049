"""wavenet.audio.writing: one writer, which keeps what was made when it is interrupted."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

import wavenet
from wavenet.audio import AudioError, read_audio
from wavenet.audio.sink import signals_deferred
from wavenet.audio.writing import open_writer


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_written_as_silence(tmp_path: Path, value: float) -> None:
    samples = torch.zeros(100)
    samples[7] = value
    with (
        pytest.raises(AudioError, match="a.wav: 1 samples are NaN or infinite; check what made"),
        open_writer(tmp_path / "a.wav", 16000) as writer,
    ):
        writer.write(torch.zeros(100_000))
        writer.write(samples)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)])
def test_an_interrupted_file_is_kept_whole_up_to_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, error: BaseException
) -> None:
    path = tmp_path / f"a.{suffix}"
    samples = 0.1 * torch.randn(80_000)
    with pytest.raises(type(error)), open_writer(path, 16000) as writer:
        writer.write(samples)
        raise error
    with open_writer(tmp_path / f"b.{suffix}", 16000) as writer:
        writer.write(samples)
    assert path.read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert caplog.messages == [f"interrupted: {path} holds the 5.000 s made so far"]


def test_an_interrupted_file_takes_no_other_files_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.wav"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), open_writer(path, 16000) as writer:
        writer.write(torch.zeros(80_000))
        raise KeyboardInterrupt
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["a.wav"])
    with pytest.raises(KeyboardInterrupt), open_writer(tmp_path / "b.wav", 16000):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["a.wav"]
    assert caplog.messages == [
        f"interrupted: {path} is as it was; what was made is discarded",
        f"interrupted: {tmp_path}/b.wav is not written; nothing was made yet",
    ]


def test_a_signal_while_a_file_is_written_waits_for_the_write(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    done = []
    with pytest.raises(KeyboardInterrupt), signals_deferred(), signals_deferred():
        os.kill(os.getpid(), signal.SIGINT)
        done.append("still at work")
    assert done == ["still at work"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_several_channels_and_floats_beyond_full_scale(tmp_path: Path) -> None:
    formats = {".wav": ("WAV", "FLOAT"), ".flac": ("FLAC", "PCM_24")}
    samples = torch.randn(70_000, 3)
    for name in ("a.wav", "a.flac"):
        with open_writer(tmp_path / name, 48000, channels=3, formats=formats) as writer:
            for part in samples.split(999):
                writer.write(part)
        beyond = 0 if name == "a.wav" else int((samples.abs() > 1).sum())
        assert (writer.n_samples, writer.clipped) == (70_000, beyond)
    found = torch.from_numpy(soundfile.read(tmp_path / "a.wav", dtype="float32")[0])
    assert torch.equal(found, samples)
    assert len(read_audio(tmp_path / "a.flac")[0]) == 70_000
    with (
        pytest.raises(AudioError, match="'.ogg'; use one of .wav, .flac"),
        open_writer(tmp_path / "a.ogg", 48000, formats=formats),
    ):
        pass


@pytest.mark.parametrize("sample_rate", [0, 2**31, 2**40, True, 16000.0])
def test_a_rate_that_no_header_holds_is_refused(tmp_path: Path, sample_rate: Any) -> None:
    with pytest.raises(ValueError, match="give a positive integer below 2\\*\\*31, in Hz"):
        wavenet.audio.write_audio(tmp_path / "a.wav", torch.zeros(9), sample_rate)
    assert not list(tmp_path.iterdir())
