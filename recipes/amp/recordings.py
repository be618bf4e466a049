"""The two recordings of a pair: one channel of each, at one rate, aligned."""

from __future__ import annotations

from pathlib import Path

import checks
import soundfile
import torch
from torch import Tensor

from wavenet.audio import audio_info, read_audio, resample

MEAN = "mean"


def read_pair(
    dry: Path, wet: Path, delay: int | None, channel: str | None
) -> tuple[Tensor, Tensor, int]:
    """Dry and wet ``[T]`` of one length, and their rate in Hz; what is wrong with them is printed.

    Args:
        dry: what went into the amplifier.
        wet: what came out.
        delay: samples that wet is late; None measures it.
        channel: see ``read_channel``.

    Raises:
        SystemExit: for a pair that nothing can be learnt from, or a delay that leaves none of it.
    """
    x, rate = read_channel(dry, channel)
    y, own_rate = read_channel(wet, channel)
    y = resample(y, own_rate, rate).clamp(-1, 1) if own_rate != rate else y
    if delay is not None and not 0 <= delay < len(y):
        raise SystemExit(f"--delay {delay}: of {wet} give 0 to {len(y) - 1} samples")
    for line in checks.findings(x, y, rate):
        print(f"warning: {line}")
    if delay is None:
        delay = max(0, checks.delay_of(x, y, rate) - checks.MARGIN)
        print(f"wet is taken to be {delay} samples late; --delay N says otherwise")
    y = y[delay:]
    n = min(len(x), len(y))
    return x[:n], y[:n], rate


def read_channel(path: Path, channel: str | None) -> tuple[Tensor, int]:
    """The samples ``[T]`` of one channel, and the rate in Hz.

    A stereo recording whose channels are equal is one recording. Others are of two microphones,
    whose mean is no amplifier's sound: which one is meant is asked.

    Args:
        path: of the recording.
        channel: its number, from 1; ``mean``; or None, for a recording of one signal.

    Raises:
        SystemExit: for channels that differ where none is chosen, and for one that is not there.
    """
    count = audio_info(path).channels
    if count == 1 or channel == MEAN:
        return read_audio(path)
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if channel is None and (samples == samples[:, :1]).all():
        channel = "1"
    if channel is None:
        raise SystemExit(
            f"{path} has {count} channels that differ; choose one with --channel 1 to {count}, or "
            f"--channel {MEAN}"
        )
    if not channel.isdecimal() or not 1 <= int(channel) <= count:
        raise SystemExit(
            f"--channel {channel}: {path} has channels 1 to {count}; give one of them or {MEAN}"
        )
    return torch.from_numpy(samples[:, int(channel) - 1].copy()).clamp(-1, 1), rate
