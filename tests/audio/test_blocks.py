"""wavenet.audio.blocks: the samples of read_audio and the bytes of write_audio, in pieces."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from wavenet.audio import AudioError, read_audio, write_audio
from wavenet.audio.blocks import count_samples, read_blocks
from wavenet.audio.writing import open_writer

Limit = Callable[[int], AbstractContextManager[None]]


def write_noise(path: Path, n_samples: int, rate: int, channels: int) -> Path:
    noise = np.random.default_rng(0).normal(0, 0.5, (n_samples, channels))  # some of it clips
    soundfile.write(path, noise, rate, subtype="FLOAT" if path.suffix == ".wav" else None)
    return path


@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [("a.wav", 16000, 1), ("a.wav", 44100, 2), ("a.flac", 8000, 2), ("a.ogg", 22050, 1)],
)
def test_the_blocks_of_a_file_are_its_samples_bit_for_bit(
    tmp_path: Path, name: str, rate: int, channels: int
) -> None:
    path = write_noise(tmp_path / name, 150_001, rate, channels)  # three blocks of the file
    blocks = list(read_blocks(path, 16000))
    whole, _ = read_audio(path, 16000)
    assert len(blocks) >= 3
    assert torch.equal(torch.cat(blocks), whole)
    assert count_samples(path, 16000) == len(whole)


def test_a_file_of_one_sample_is_one_block(tmp_path: Path) -> None:
    path = write_noise(tmp_path / "a.wav", 1, 16000, 2)
    (block,) = read_blocks(path, 16000)
    assert torch.equal(block, read_audio(path)[0])


def test_less_than_a_sample_is_refused_as_read_audio_refuses_it(tmp_path: Path) -> None:
    path = write_noise(tmp_path / "a.wav", 1, 48000, 1)
    with pytest.raises(AudioError) as whole:
        read_audio(path, 16000)
    with pytest.raises(AudioError) as blocks:
        count_samples(path, 16000)
    assert str(blocks.value) == str(whole.value)


def test_a_value_that_is_not_finite_is_named_by_its_place(tmp_path: Path) -> None:
    samples = np.zeros(100_000)
    samples[70_000] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a.wav: sample 70000 is nan; repair the file"):
        count_samples(tmp_path / "a.wav", 16000)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("piece", [333, 70_000])
def test_samples_written_in_pieces_make_the_bytes_of_all_at_once(
    tmp_path: Path, suffix: str, piece: int
) -> None:
    samples = 0.3 * torch.randn(140_000)
    write_audio(tmp_path / f"whole.{suffix}", samples, 16000)
    with open_writer(tmp_path / "new" / f"a.{suffix}", 16000) as writer:
        for part in samples.split(piece):
            writer.write(part)
    whole = (tmp_path / f"whole.{suffix}").read_bytes()
    assert (tmp_path / "new" / f"a.{suffix}").read_bytes() == whole


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, suffix: str, files_of_at_most: Limit
) -> None:
    path = tmp_path / f"a.{suffix}"
    with (
        files_of_at_most(5000),
        pytest.raises(AudioError, match=f"a.{suffix}: nothing was written: File too large; "),
        open_writer(path, 16000) as writer,
    ):
        for _ in range(10):
            writer.write(0.3 * torch.randn(20_000))
    assert os.listdir(tmp_path) == []


def test_a_writer_that_is_given_up_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_text("old")
    with pytest.raises(KeyError), open_writer(path, 16000) as writer:
        writer.write(torch.zeros(100_000))
        raise KeyError
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["a.wav"])


def test_what_the_format_does_not_have_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="unknown extension '.mp3'"), open_writer("a.mp3", 16000):
        pass
    with pytest.raises(AudioError, match="outside Vorbis's"), open_writer(tmp_path / "a.ogg", 1000):
        pass
    assert os.listdir(tmp_path) == []
