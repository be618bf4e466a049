"""Pictures of sound: waveform above log-mel spectrogram, signals side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from wavenet.features import MelConfig, log_mel
from wavenet.files import atomic_write

SHOWN_RANGE = 10
"""From the loudest to the darkest colour, in nats: 87 dB."""

MISSING_PACKAGES = 'pictures need matplotlib: pip install "wavenet-audio[train]"'


def plot_comparison(signals: Mapping[str, Tensor], sample_rate: int, path: str | Path) -> None:
    """Draw each signal's waveform and log-mel spectrogram, one column a signal.

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
        image = spectrum.imshow(
            mels[title],
            origin="lower",
            aspect="auto",
            extent=(0, seconds, 0, config.n_mels),
            vmin=quietest,
            vmax=loudest,
            cmap="magma",
        )
        spectrum.set(xlabel="seconds")
    axes[0, 0].set(ylabel="amplitude")
    axes[1, 0].set(ylabel="mel band")
    figure.colorbar(image, ax=axes[1, :], label="log magnitude")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix.lstrip(".") or "png", dpi=120)
