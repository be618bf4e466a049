"""wavenet.features.plots: a picture shows every signal, each on its own time, or is not there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from wavenet.features.plots import plot_comparison, plot_spectrograms
from wavenet.storage.files import WriteError

RATE = 16000


def noise(n_samples: int) -> torch.Tensor:
    return 0.1 * torch.randn(n_samples, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("n_signals", [1, 2, 3])
def test_a_png_has_a_column_for_each_signal(tmp_path: Path, n_signals: int) -> None:
    signals = {f"signal {i}": noise(4000) for i in range(n_signals)}
    plot_comparison(signals, RATE, tmp_path / "new" / "a.png")
    height, width, _ = imread(tmp_path / "new" / "a.png").shape
    assert (height, width) == (600, 120 * (5 * n_signals + 1))
    assert os.listdir(tmp_path / "new") == ["a.png"]


def test_silence_is_dark_beside_noise(tmp_path: Path) -> None:
    plot_comparison({"noise": noise(8000), "silence": torch.zeros(8000)}, RATE, tmp_path / "a.png")
    picture = imread(tmp_path / "a.png")[300:500, :, :3].mean(axis=(0, 2))  # amid the spectra
    left, right = picture[200:500].mean(), picture[800:1100].mean()
    assert left > right + 0.3


def test_signals_of_different_lengths_have_axes_of_their_own(tmp_path: Path) -> None:
    plot_comparison({"short": noise(1600), "long": noise(48000)}, RATE, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    for label in ("short", "long", "amplitude", "mel band", "seconds", "log magnitude"):
        assert f"<!-- {label} -->" in text
    assert "<!-- 0.10 -->" in text  # the end of the short one's axis
    assert "<!-- 3.0 -->" in text  # and of the long one's


@pytest.mark.parametrize("sample_rate", [8000, 22050, 48000])
@pytest.mark.parametrize("n_samples", [1, 100, 30000])
def test_any_rate_and_length_can_be_drawn(tmp_path: Path, sample_rate: int, n_samples: int) -> None:
    plot_comparison({"a": noise(n_samples).requires_grad_()}, sample_rate, tmp_path / "a.png")
    picture = imread(tmp_path / "a.png")[..., :3]
    assert picture.shape == (600, 720, 3)
    spectrum = picture[350:500, 150:450]
    assert (spectrum < 0.9).any(-1).mean() > 0.9  # colours of the spectrogram, not a blank page


def test_what_cannot_be_drawn_or_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="signals is empty; give at least one, title to samples"):
        plot_comparison({}, RATE, tmp_path / "a.png")
    with pytest.raises(ValueError, match="Format 'wav' is not supported"):
        plot_comparison({"a": noise(100)}, RATE, tmp_path / "a.wav")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(WriteError, match="folder.png: nothing was written: Is a directory; name a"):
        plot_comparison({"a": noise(100)}, RATE, tmp_path / "folder.png")
    assert os.listdir(tmp_path) == ["folder.png"]


@pytest.mark.parametrize("sample_rate", [8000, 16000, 48000])
def test_spectrograms_stand_above_each_other_in_the_same_colours(
    tmp_path: Path, sample_rate: int
) -> None:
    """And what is returned is what was written."""
    signals = {"noise": noise(8000), "a tenth of it": 0.1 * noise(8000), "short": noise(100)}
    picture = plot_spectrograms(signals, sample_rate, tmp_path / "a.png")
    assert picture.shape == (780, 800, 3)
    assert np.array_equal(picture, (imread(tmp_path / "a.png")[..., :3] * 255).round())
    loud, soft = (picture[first : first + 100, 100:650].mean() for first in (80, 340))
    assert loud > soft + 30
    assert picture[600:700, 300:650].max() == 0  # nothing sounds any more
