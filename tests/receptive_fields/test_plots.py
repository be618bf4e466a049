"""Figures show the numbers of the field: their artists, labels and axes; files are not blank."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import wavenet
from wavenet.receptive_fields import plots, receptive_field
from wavenet.receptive_fields.effective import SHARES, effective_field
from wavenet.receptive_fields.plots import (
    plot_effective,
    plot_field,
    plot_image_fields,
    plot_stack,
)

pytest.importorskip("matplotlib")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Figures that were drawn since, in their order."""
    figures: list[Any] = []
    make: Callable[..., Any] = plots._figure

    def recorded(*arguments: Any) -> Any:
        figures.append(make(*arguments))
        return figures[-1]

    monkeypatch.setattr(plots, "_figure", recorded)
    return figures


def line_data(line: Any) -> tuple[list[float], list[float]]:
    """Coordinates of a line's points, x and y."""
    return [float(x) for x in line.get_xdata()], [float(y) for y in line.get_ydata()]


def assert_is_drawn_image(path: Path, width_inches: float, height_inches: float) -> None:
    """Assert the size of a PNG file, and that a part of it has other colours than white."""
    from matplotlib.image import imread

    pixels: NDArray[np.float32] = imread(path)
    size = (height_inches * plots.DOTS_PER_INCH, width_inches * plots.DOTS_PER_INCH)
    assert pixels.shape[:2] == tuple(int(n) for n in size)
    inked = (pixels[..., :3] < 0.9).any(-1)
    assert 0.005 < inked.mean() < 0.95


def test_the_fan_of_a_small_stack_draws_every_path_and_names_the_milliseconds(
    tmp_path: Path, drawn: list[Any]
) -> None:
    plot_stack([1, 2, 4, 8], 2, 16000, tmp_path / "fan.svg")
    text = (tmp_path / "fan.svg").read_text()
    assert "receptive field: 16 samples = 1.0 ms at 16000 Hz" in text
    assert "ms before the output" in text
    assert "dilation 8" in text
    (figure,) = drawn
    fan, growth = figure.axes
    segments = [s for c in fan.collections if hasattr(c, "get_segments") for s in c.get_segments()]
    assert len(segments) == 2 + 4 + 8 + 16  # a binary tree of four levels
    inputs = sorted({round(float(x) * 16) for s in segments for x, level in s if level == 0})
    assert inputs == list(range(-15, 1))  # each input is reached, by one path
    assert [label.get_text() for label in fan.get_yticklabels()] == [
        "input",
        "dilation 1",
        "dilation 2",
        "dilation 4",
        "dilation 8",
    ]
    dilated, plain = growth.get_lines()
    assert line_data(dilated) == ([1, 2, 3, 4], [2, 4, 8, 16])
    assert line_data(plain) == ([1, 2, 3, 4], [2, 3, 4, 5])
    assert growth.get_yscale() == "log"


def test_a_stack_of_thirty_layers_is_drawn_as_an_area(tmp_path: Path, drawn: list[Any]) -> None:
    dilations = [2**i for i in range(10)] * 3
    plot_stack(dilations, 2, None, tmp_path / "fan.png")
    (figure,) = drawn
    fan, growth = figure.axes
    assert fan.get_title(loc="left") == "receptive field: 3070 samples"
    assert fan.get_xlabel() == "samples before the output"
    segments = [s for c in fan.collections if hasattr(c, "get_segments") for s in c.get_segments()]
    assert 0 < len(segments) <= plots.MOST_LINES
    area = fan.collections[0].get_paths()[0].get_extents()
    assert (area.x0, area.x1, area.y0, area.y1) == (-3069, 0, 0, 30)
    assert line_data(growth.get_lines()[0])[1][-1] == 3070
    assert_is_drawn_image(tmp_path / "fan.png", 8, 5.4)


def test_each_layer_is_a_bar_from_look_back_to_look_ahead(tmp_path: Path, drawn: list[Any]) -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, (5, 7), 2))
    field = receptive_field(network, input_shape=(1, 1, 32, 32))
    plot_field(field, tmp_path / "field.png")
    (figure,) = drawn
    for d, axis in enumerate(figure.axes):
        bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axis.patches]
        assert bars == [(-layer.look_back[d], layer.look_ahead[d]) for layer in field.layers]
        assert [label.get_text() for label in axis.get_yticklabels()] == ["0", "1"]
    assert [axis.get_xlabel() for axis in figure.axes] == ["pixels, down", "pixels, across"]
    assert figure.axes[0].get_title(loc="left") == "receptive field of each layer"
    assert_is_drawn_image(tmp_path / "field.png", 8, 3)


def test_a_field_along_time_is_drawn_in_milliseconds(tmp_path: Path, drawn: list[Any]) -> None:
    field = receptive_field(nn.Conv1d(1, 1, 21), 1000, input_shape=(1, 1, 100))
    plot_field(field, tmp_path / "field.svg")
    (axis,) = drawn[0].axes
    (bar,) = axis.patches
    assert (bar.get_x(), bar.get_x() + bar.get_width()) == (0, 20)
    assert axis.get_xlabel() == "ms around the output's own time"


def test_fields_on_an_image_are_squares_of_3_7_and_15(tmp_path: Path, drawn: list[Any]) -> None:
    plot_image_fields(3, [1, 2, 4], tmp_path / "image.svg")
    text = (tmp_path / "image.svg").read_text()
    (figure,) = drawn
    for axis, side, dilation in zip(figure.axes, (3, 7, 15), (1, 2, 4), strict=True):
        assert f"{side} x {side} = {side**2} pixels" in text
        mesh, taps = axis.collections
        assert int(mesh.get_array().sum()) == side**2
        xs = sorted({float(x) for x, _ in taps.get_offsets()})
        assert len(taps.get_offsets()) == 9
        assert xs[1] - xs[0] == xs[2] - xs[1] == dilation


def test_the_effective_field_is_drawn_below_its_audio(tmp_path: Path, drawn: list[Any]) -> None:
    audio = torch.randn(300, generator=torch.Generator().manual_seed(0))
    field = effective_field(wavenet.CausalConv1d(1, 1, 20), audio, 1000, positions=2)
    plot_effective(field, audio, tmp_path / "effective.png")
    (figure,) = drawn
    wave, curve = figure.axes
    times, samples = line_data(wave.get_lines()[0])
    assert times == list(range(-19, 1))
    pieces = audio.unfold(0, 20, 1)
    assert any(torch.equal(torch.tensor(samples), piece) for piece in pieces)
    within, *marks = curve.get_lines()
    times, shares = line_data(within)
    assert times == [-n for n in range(20)]
    assert shares == pytest.approx((100 * field.within).tolist())
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(100)
    for share, mark in zip(SHARES, marks, strict=True):
        at = -(field.samples(share) - 1)
        (left, right), (low, high) = line_data(mark)
        assert (left, right, low) == (at, at, 0)
        assert math.isclose(high, 100 * share)
    assert curve.get_xlabel() == "ms before the output"
    assert_is_drawn_image(tmp_path / "effective.png", 8, 4)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"fan.jpg: unknown image format; use a name that ends in"):
        plot_stack([1], 2, None, tmp_path / "fan.jpg")
