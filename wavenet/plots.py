"""Pictures of sound: waveform above log-mel spectrogram, signals side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from wavenet.features import MelConfig, log_mel
from wavenet.files import atomic_write

MISSING_PACKAGES = 'pictures need matplotlib: pip install "wavenet-audio[train]"'


def plot_comparison(signals: Mapping[str, Tensor], sample_rate: int, path: str | Path) -> None:
    """Draw each signal's waveform and log-mel spectrogram, one column a signal.

    Args:
        signals: title to samples ``[T]`` in [-1, 1].
        sample_rate: of all of them, in Hz.
        path: a .png or .svg file.

    Raises:
        ModuleNotFoundError: without matplotlib.
        WriteError: if the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING_PACKAGES) from error
    config = MelConfig(sample_rate=sample_rate, f_max_hz=sample_rate / 2)
    mels = {title: log_mel(samples, config) for title, samples in signals.items()}
    loudest = max(float(mel.max()) for mel in mels.values())
    quietest = max(min(float(mel.min()) for mel in mels.values()), loudest - 10)
    figure = Figure(figsize=(5 * len(signals) + 1, 5), layout="constrained")
    axes = figure.subplots(2, len(signals), sharex=True, squeeze=False, height_ratios=(1, 2))
    for column, (title, samples) in enumerate(signals.items()):
        seconds = len(samples) / sample_rate
        wave, spectrum = axes[0, column], axes[1, column]
        wave.plot([t / sample_rate for t in range(len(samples))], samples, linewidth=0.4)
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
