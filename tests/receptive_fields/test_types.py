"""Receptive fields of modules of every precision, of compiled ones, and behind spectra."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wavenet import receptive_field


class Mel(nn.Module):
    """Bands of a spectrum, ``[B, 1, T]`` to ``[B, M, F]``, with a window made for the signal."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Parameter(torch.rand(5, 9))
        self.conv = nn.Conv1d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        window = torch.hann_window(16).to(x)
        spectrum = torch.stft(x[:, 0], 16, 8, window=window, return_complex=True)
        return self.conv(self.filters @ spectrum.abs().square())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_module_of_another_precision_is_traced(dtype: torch.dtype) -> None:
    module = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.Conv1d(2, 1, 3)).to(dtype)
    field = receptive_field(module, input_shape=(1, 1, 40), method="trace", verify=True)
    assert field.samples == 5
    assert {value.dtype for value in module.parameters()} == {dtype}


@pytest.mark.parametrize("double", [False, True])
def test_a_spectrum_before_layers_is_traced_and_measured_in_their_precision(double: bool) -> None:
    module = Mel().double() if double else Mel()
    field = receptive_field(module, input_shape=(1, 1, 64), method="trace", verify=True)
    assert (field.samples, field.stride) == (16, 8)


@pytest.mark.parametrize(
    "like", [lambda m, x: m.to(x), lambda m, x: m.type_as(x), lambda m, x: m[:1].expand_as(x)]
)
def test_a_constant_in_the_type_or_shape_of_the_signal_is_a_constant(
    like: Callable[[Tensor, Tensor], Tensor],
) -> None:
    class Weighted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv1d(x, like(torch.ones(1, 1, 1), x)[..., :1])

    field = receptive_field(Weighted(), input_shape=(1, 1, 40), method="trace", verify=True)
    assert field.samples == 1


def test_what_torch_compile_has_wrapped_is_traced_without_compiling_it() -> None:
    def refusing(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        raise AssertionError("compiled")

    inside = nn.Sequential(torch.compile(nn.Conv1d(1, 1, 3), backend=refusing), nn.Conv1d(1, 1, 2))
    for module in (inside, torch.compile(inside, backend=refusing)):
        field = receptive_field(module, input_shape=(1, 1, 40), method="trace", verify=True)
        assert field.samples == 4
