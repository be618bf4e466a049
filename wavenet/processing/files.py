"""A network over a whole audio file, in chunks and in constant memory.

    blocks of the file -> the model's sample rate -> chunks through ``Processor`` -> back -> a file

Every channel of the file is a row of the batch: a mono model processes each independently.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet.audio import AudioError, audio_info
from wavenet.audio.opening import open_audio
from wavenet.audio.reading import checked_blocks
from wavenet.audio.resampling import BlockResampler
from wavenet.audio.writing import open_writer, require_extension
from wavenet.nn import Causal
from wavenet.processing import Processor
from wavenet.storage.paths import require_other_file
from wavenet.values.integers import is_integer

BLOCK = 1 << 15
"""Samples per channel that are in memory at once."""

FORMATS = {".wav": ("WAV", "FLOAT"), ".flac": ("FLAC", "PCM_24")}
"""Output formats; WAV neither rounds nor clips."""

MOST_CHANNELS = 64
"""Largest number of channels; each takes the memory of a network's state."""


@dataclass(frozen=True)
class Processed:
    """Result of ``process_file``.

    Attributes:
        duration_s: of the audio, in seconds.
        elapsed_s: processing time, with reading, resampling and writing.
        clipped: samples above full scale, in a format that clips.
        compiled: whether the compiled kernel was used.
    """

    duration_s: float
    elapsed_s: float
    clipped: int
    compiled: bool

    @property
    def real_time_factor(self) -> float:
        """Seconds of audio per second of processing."""
        return self.duration_s / self.elapsed_s


def process_file(
    model: Causal,
    source: Path,
    target: Path,
    *,
    chunk: int = 512,
    progress: Callable[[float], object] | None = None,
) -> Processed:
    """Run audio through a model, from silence on; the output has the input's rate and length.

    Args:
        model: such as a ``NamWaveNet``: one channel in, one channel out, with a ``sample_rate``.
        source: any audio file; the channels of a stereo file are processed independently.
        target: ``.wav`` (32-bit float) or ``.flac`` (24 bits).
        chunk: samples per call of the network.
        progress: called with the seconds of each finished block.

    Raises:
        AudioError: if a file cannot be read or written; nothing is written then.
        ValueError: for a model of several channels, a wrong chunk, or if the target is the source.
    """
    require_extension(target, FORMATS)
    if not is_integer(chunk) or chunk < 1:
        raise ValueError(f"chunk={chunk!r} must be an integer of at least 1, such as 64")
    runner: Any = model  # not every block has a sample rate and output channels
    if (runner.in_channels, runner.out_channels) != (1, 1):
        raise ValueError(
            f"the model takes {runner.in_channels} channels and gives {runner.out_channels}; only "
            "models of one channel can run over a file"
        )
    require_other_file(target, source)
    info = audio_info(source)
    if info.channels > MOST_CHANNELS:
        raise AudioError(
            f"{source}: {info.channels} channels, and at most {MOST_CHANNELS} can be processed; "
            "write fewer of them into a file"
        )
    processor = Processor(model, runner.warm_state(info.channels))
    Processor(model, processor.state)(torch.zeros(info.channels, 1, 1))  # compiles: not counted
    began = time.perf_counter()
    with (
        open_audio(source) as reader,
        open_writer(target, info.sample_rate, channels=info.channels, formats=FORMATS) as writer,
    ):
        rates = info.sample_rate, int(runner.sample_rate)
        blocks = checked_blocks(reader, source, 0, reader.frames, BLOCK)
        for block in _through(processor, blocks, info.channels, rates, chunk):
            writer.write(torch.from_numpy(np.ascontiguousarray(block)))
            if progress is not None:
                progress(len(block) / info.sample_rate)
    elapsed = time.perf_counter() - began
    return Processed(info.duration_s, elapsed, writer.clipped, processor.compiled)


def _through(
    processor: Processor,
    blocks: Iterator[np.ndarray[Any, Any]],
    channels: int,
    rates: tuple[int, int],
    chunk: int,
) -> Iterator[np.ndarray[Any, Any]]:
    """Process blocks at the network's rate; the output has as many samples as the input."""
    there = BlockResampler(rates[0], rates[1], channels)
    back = BlockResampler(rates[1], rates[0], channels)
    taken = given = 0
    for block in blocks:
        taken += len(block)
        out = back(_run(processor, there(block), chunk))
        given += len(out)
        yield out
    none = np.zeros((0, channels), np.float32)
    rest = back(_run(processor, there(none, last=True), chunk), last=True)[: taken - given]
    missing = taken - given - len(rest)  # by rounding, a sample at most
    yield np.pad(rest, ((0, max(0, missing)), (0, 0)))


def _run(processor: Processor, block: np.ndarray[Any, Any], chunk: int) -> np.ndarray[Any, Any]:
    """Process ``[T, channels]`` chunk after chunk."""
    if not len(block):
        return block
    rows: Tensor = torch.from_numpy(np.ascontiguousarray(block.T))[:, None]
    pieces = [processor(piece) for piece in rows.split(chunk, dim=-1)]
    made: np.ndarray[Any, Any] = torch.cat(pieces, dim=-1)[:, 0].numpy().T
    return made
