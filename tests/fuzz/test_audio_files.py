"""Damaged audio files are samples or one line, never anything else, and nothing is printed."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from wavenet.audio import AudioError, audio_info
from wavenet.audio.blocks import count_samples, read_blocks

FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("WAV", "GSM610"),
    ("WAVEX", "PCM_24"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
    ("AIFF", "PCM_16"),
    ("AU", "ULAW"),
    ("CAF", "ALAC_16"),
    ("VOC", "PCM_16"),
    ("W64", "PCM_16"),
    ("NIST", "PCM_16"),
]
RATE = 16000
MOST_SAMPLES = 1 << 22
"""Nothing of a few kB may become more."""
EXTREMES = [0, 1, 2, 3, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 44100]

Mutate = Callable[[bytearray], None]


def seed_file(container: str, subtype: str) -> bytes:
    noise = 0.1 * np.random.default_rng(0).normal(size=(1600, 1 if subtype == "GSM610" else 2))
    content = io.BytesIO()
    soundfile.write(content, noise, RATE, subtype, format=container)
    return content.getvalue()


SEEDS = [seed_file(*each) for each in FORMATS]

positions = st.one_of(st.integers(0, 120), st.integers(0, 20_000))
"""Most of them in the header."""


def overwrite(at: int, value: bytes) -> Mutate:
    def change(content: bytearray) -> None:
        place = at % max(1, len(content))
        content[place : place + len(value)] = value

    return change


def cut(at: int, length: int) -> Mutate:
    def change(content: bytearray) -> None:
        place = at % max(1, len(content))
        del content[place : place + length]

    return change


def repeat(at: int, length: int) -> Mutate:
    def change(content: bytearray) -> None:
        place = at % max(1, len(content))
        content[place:place] = content[place : place + length]

    return change


def word(at: int, value: int, order: Any) -> Mutate:
    return overwrite(at, value.to_bytes(4, order))


mutations = st.one_of(
    st.builds(overwrite, positions, st.binary(min_size=1, max_size=8)),
    st.builds(word, positions, st.sampled_from(EXTREMES), st.sampled_from(["little", "big"])),
    st.builds(cut, positions, st.integers(1, 3000)),
    st.builds(repeat, positions, st.integers(1, 300)),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for change in draw(st.lists(mutations, min_size=1, max_size=4)):
        change(content)
    return bytes(content)


def check(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for read in (audio_info, lambda path: count_samples(path, 22050)):
        try:
            read(path)
        except AudioError as error:
            message = str(error)
            assert message.startswith(f"{path}: ")
            assert "\n" not in message
            assert len(message) < 500
    try:
        n_samples = 0
        for block in read_blocks(path, RATE):
            assert float(block.abs().max()) <= 1
            n_samples += len(block)
            assert n_samples < MOST_SAMPLES
    except AudioError:
        pass


def run(folder: Path, capfd: pytest.CaptureFixture[str], n_examples: int) -> None:
    @settings(max_examples=n_examples, derandomize=True, database=None, deadline=None)
    @given(content=damaged())
    def every(content: bytes) -> None:
        check(folder / "a.wav", content)

    every()
    assert capfd.readouterr() == ("", "")
    assert os.listdir(folder) == ["a.wav"]


def test_damaged_audio_is_samples_or_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, capfd, 60)


@pytest.mark.slow
def test_much_damaged_audio_is_samples_or_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, capfd, 1000)
