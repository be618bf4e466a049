"""``wavenet.causal``: zeros that stand in front of a function, and trimmed or padded ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet import causal
from wavenet.testing import check_causal

EXACT = 1e-12


class Behind(nn.Module):
    """A convolution of what a function makes of the input, and a layer behind it."""

    def __init__(
        self, function: Callable[[Tensor], Tensor], channels: int = 2, *rest: nn.Module
    ) -> None:
        super().__init__()
        self.function, self.conv = function, nn.Conv1d(channels, 2, 3)
        self.rest = nn.Sequential(*rest)

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.conv(self.function(x)))


class Recurrent(nn.Module):
    """An LSTM behind a convolution of a function of the padded input."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.lstm = Behind(function), nn.LSTM(2, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(self.conv(x).transpose(1, 2))[0].transpose(1, 2)


def padded(x: Tensor, n: int = 2) -> Tensor:
    """Return x behind n zeros."""
    return F.pad(x, (n, 0))


def difference(module: nn.Module, first: int = 0, *, delay: int = 0) -> float:
    """Largest difference of a module from its block, from a column on."""
    module = module.double().eval()
    block = causal(module, in_channels=2)
    assert block.delay == delay
    check_causal(block)
    x = torch.randn(2, 2, 60, dtype=torch.float64)
    with torch.no_grad():
        wanted, found = module(x)[..., first:], block(x)[..., first + block.first_column :]
    assert wanted.shape[-1] > 20
    n = min(wanted.shape[-1], found.shape[-1])
    return float((wanted[..., :n] - found[..., :n]).abs().max())


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.relu(padded(x)),
        lambda x: padded(x) * 0.5,
        lambda x: torch.tanh(padded(x)) + F.silu(padded(x)),
        lambda x: F.glu(torch.cat([padded(x), padded(x.abs())], dim=1), dim=1),
        lambda x: F.layer_norm(padded(x).transpose(1, 2), (2,)).transpose(1, 2),
        lambda x: F.max_pool1d(padded(x, 4), 3, 1),
        lambda x: F.interpolate(padded(x, 1), scale_factor=2.0),
    ],
)
def test_zeros_before_a_function_that_keeps_them_are_no_look_ahead(
    function: Callable[[Tensor], Tensor],
) -> None:
    assert difference(Behind(function)) < EXACT


@pytest.mark.parametrize(
    "module",
    [
        Behind(lambda x: torch.sigmoid(padded(x))),
        Behind(lambda x: padded(x) + 1),
        nn.Sequential(nn.ConstantPad1d((2, 0), 0), nn.BatchNorm1d(2), nn.Conv1d(2, 2, 3)),
        nn.Sequential(nn.ConstantPad1d((4, 0), 0), nn.Conv1d(2, 2, 3), nn.Conv1d(2, 2, 3)),
    ],
)
def test_only_columns_that_the_padding_touches_differ_behind_other_functions(
    module: nn.Module,
) -> None:
    assert difference(module, first=4) < EXACT


def test_before_a_recurrent_layer_zeros_pass_functions_that_keep_them_alone() -> None:
    assert difference(Recurrent(lambda x: F.relu(padded(x)))) < EXACT
    with pytest.raises(ValueError, match="looks 2 samples ahead"):
        causal(Recurrent(lambda x: torch.sigmoid(padded(x))), in_channels=2)


def test_a_look_ahead_that_later_zeros_make_good_for_is_none() -> None:
    centred = nn.Conv1d(2, 2, 3, padding=1)
    later = nn.Sequential(centred, nn.ConstantPad1d((3, 0), 0))
    assert difference(later, first=5) < EXACT
    with pytest.raises(ValueError, match="looks 1 sample ahead"):
        causal(nn.Sequential(centred, nn.ReLU()), in_channels=2)


@pytest.mark.parametrize("behind", [[], [nn.Conv1d(2, 2, 1)]])
def test_a_module_that_trims_and_pads_its_end_is_not_repeated_in_every_chunk(
    behind: list[nn.Module],
) -> None:
    class Silenced(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.pad(torch.relu(x)[..., :-1], (0, 1))

    module = nn.Sequential(nn.Conv1d(2, 2, 1), Silenced(), *behind)
    block = causal(module)
    check_causal(block)
    x = torch.randn(1, 2, 9)
    assert torch.allclose(block(x)[..., :-1], module(x)[..., :-1])


def test_a_trimmed_end_before_a_strided_or_transposed_convolution_is_no_other_number() -> None:
    class Shorter(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[..., :-1] + x.abs()[..., :-1]

    strided = causal(nn.Sequential(Shorter(), nn.Conv1d(2, 2, 1, stride=2, padding=1)))
    assert (strided.rate, strided.step) == (0.5, 2)
    up = causal(nn.Sequential(Shorter(), nn.ConvTranspose1d(2, 2, 4, stride=2)))
    for block in (strided, up):
        check_causal(block)
