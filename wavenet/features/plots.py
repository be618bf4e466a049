"""Figures of audio: waveforms and log-mel spectrograms, side by side or one above the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet.features import log_mel, mel_filterbank
from wavenet.features.mel_config import MelConfig
from wavenet.storage.files import atomic_write

SHOWN_RANGE = 10
"""Range of the colours, in nats: 87 dB."""

MISSING_PACKAGES = 'pictures need matplotlib: pip install "wavenet-audio[train]"'


def plot_comparison(signals: Mapping[str, Tensor], sample_rate: int, path: str | Path) -> None:
    """Draw each signal's waveform and log-mel spectrogram, one column per signal.

    Args:
        signals: title to samples ``[T]`` in [-1, 1].
        sample_rate: of all of them, in Hz.
        path: a .png or .svg file.

    Raises:
        ValueError: without a signal.
        ModuleNotFoundError: without matplotlib.
        WriteError: if the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING_PACKAGES) from error
    if not signals:
        raise ValueError("signals is empty; give at least one, title to samples")
    config = MelConfig(sample_rate=sample_rate, f_max_hz=sample_rate / 2)
    waves = {title: samples.detach().cpu() for title, samples in signals.items()}
    mels = {title: log_mel(wave, config).numpy() for title, wave in waves.items()}
    loudest = max(mel.max() for mel in mels.values())
    quietest = max(min(mel.min() for mel in mels.values()), loudest - SHOWN_RANGE)
    figure = Figure(figsize=(5 * len(signals) + 1, 5), layout="constrained")
    axes = figure.subplots(2, len(signals), sharex="col", squeeze=False, height_ratios=(1, 2))
    for column, (title, samples) in enumerate(waves.items()):
        seconds = len(samples) / sample_rate
        wave, spectrum = axes[0, column], axes[1, column]
        times_s = torch.arange(len(samples)) / sample_rate
        wave.plot(times_s.numpy(), samples.numpy(), linewidth=0.4)
        wave.set(title=title, ylim=(-1, 1), xlim=(0, seconds))
        image = _draw_mel(spectrum, mels[title], seconds, (quietest, loudest))
        spectrum.set(xlabel="seconds")
    axes[0, 0].set(ylabel="amplitude")
    axes[1, 0].set(ylabel="mel band")
    figure.colorbar(image, ax=axes[1, :], label="log magnitude")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix.lstrip(".") or "png", dpi=120)


def plot_spectrograms(
    signals: Mapping[str, Tensor], sample_rate: int, path: str | Path
) -> np.ndarray:
    """Draw the log-mel spectrograms of signals, one above the other, in the same colours.

    Args:
        signals: title to samples ``[T]`` in [-1, 1].
        sample_rate: of all of them, in Hz.
        path: a .png file.

    Returns:
        The picture: uint8 ``[height, width, 3]``.

    Raises:
        ValueError: without a signal.
        ModuleNotFoundError: without matplotlib.
        WriteError: if the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.image import imsave
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING_PACKAGES) from error
    if not signals:
        raise ValueError("signals is empty; give at least one, title to samples")
    config = MelConfig(sample_rate=sample_rate, f_max_hz=sample_rate / 2)
    mels = {title: log_mel(wave.detach().cpu(), config).numpy() for title, wave in signals.items()}
    loudest = max(mel.max() for mel in mels.values())
    longest_s = max(len(wave) for wave in signals.values()) / sample_rate
    figure = Figure(figsize=(8, 2.6 * len(signals)), layout="constrained", dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(signals), 1, sharex=True, squeeze=False)[:, 0]
    for spectrum, (title, mel) in zip(axes, mels.items(), strict=True):
        seconds = len(signals[title]) / sample_rate
        image = _draw_mel(spectrum, mel, seconds, (loudest - SHOWN_RANGE, loudest))
        spectrum.set(title=title, xlim=(0, longest_s), ylabel="Hz (mel)", facecolor="black")
        _mark_frequencies(spectrum, config)
    axes[-1].set(xlabel="s")
    figure.colorbar(image, ax=axes, label="log magnitude")
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    with atomic_write(path) as temporary:
        imsave(temporary, picture, format="png")
    return picture


def _draw_mel(axes: Any, mel: np.ndarray, seconds: float, shown: tuple[float, float]) -> Any:
    """Draw a log-mel ``[M, F]`` over time, in colours for a range of magnitudes."""
    return axes.imshow(
        mel,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, len(mel)),
        vmin=shown[0],
        vmax=shown[1],
        cmap="magma",
    )


def _mark_frequencies(axes: Any, config: MelConfig) -> None:
    """Label the bands with their centre frequencies."""
    hz_per_bin = config.sample_rate / config.n_fft
    centres_hz = mel_filterbank(config).argmax(dim=1).double().numpy() * hz_per_bin
    marks_hz = [hz for hz in (250, 500, 1000, 2000, 4000, 8000, 16000) if hz < centres_hz[-1]]
    bands = np.interp(marks_hz, centres_hz, np.arange(len(centres_hz)) + 0.5)
    axes.set_yticks(bands, [str(hz) for hz in marks_hz])
