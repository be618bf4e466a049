"""Pictures are written whole, in both formats, for every kind of network."""

from pathlib import Path

import pytest
import torch
from torch import nn

import wavenet
from wavenet.receptive_fields import receptive_field
from wavenet.receptive_fields.effective import effective_field
from wavenet.receptive_fields.plots import (
    plot_effective,
    plot_field,
    plot_image_fields,
    plot_stack,
)

PNG = b"\x89PNG"


def test_the_fan_of_a_small_stack_draws_every_path_and_names_the_milliseconds(
    tmp_path: Path,
) -> None:
    plot_stack([1, 2, 4, 8], 2, 16000, tmp_path / "fan.svg")
    text = (tmp_path / "fan.svg").read_text()
    assert "one output hears 16 samples = 1.0 ms at 16000 Hz" in text
    assert "ms before the output" in text
    assert "dilation 8" in text


def test_a_stack_of_thirty_layers_is_drawn_as_well(tmp_path: Path) -> None:
    plot_stack([2**i for i in range(10)] * 3, 2, None, tmp_path / "fan.png")
    assert (tmp_path / "fan.png").read_bytes()[:4] == PNG


def test_any_network_is_drawn_layer_by_layer(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 5, 2))
    plot_field(receptive_field(network, input_shape=(1, 1, 32, 32)), tmp_path / "field.png")
    assert (tmp_path / "field.png").read_bytes()[:4] == PNG


def test_fields_on_an_image_are_named_3_7_and_15(tmp_path: Path) -> None:
    plot_image_fields(3, [1, 2, 4], tmp_path / "image.svg")
    text = (tmp_path / "image.svg").read_text()
    for side in (3, 7, 15):
        assert f"sees {side} x {side} = {side**2}" in text


def test_the_effective_field_is_drawn_over_its_audio(tmp_path: Path) -> None:
    audio = torch.randn(300)
    field = effective_field(wavenet.CausalConv1d(1, 1, 20), audio, 1000, positions=2)
    plot_effective(field, audio, tmp_path / "effective.png")
    assert (tmp_path / "effective.png").read_bytes()[:4] == PNG


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"fan.jpg: a picture's name ends in .png or .svg"):
        plot_stack([1], 2, None, tmp_path / "fan.jpg")
