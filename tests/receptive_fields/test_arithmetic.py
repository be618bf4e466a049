"""The formulas of one convolution, against torch and against the classical example."""

import pytest
import torch
from torch import nn

from wavenet.receptive_fields import effective_kernel, output_size, same_padding, stacked_field


def test_dilations_1_2_4_with_kernel_3_see_3_7_and_15_not_16() -> None:
    fields = stacked_field([3, 3, 3], [1, 2, 4])
    assert fields == [3, 7, 15]
    assert [field**2 for field in fields] == [9, 49, 225]


def test_19_by_19_with_kernel_3_dilation_6_keeps_its_size_with_padding_6() -> None:
    assert effective_kernel(3, 6) == 13
    assert same_padding(3, 6) == 6
    assert output_size((19, 19), 3, dilation=6, padding=6) == (19, 19)
    convolution = nn.Conv2d(1, 1, 3, dilation=6, padding=same_padding(3, 6))
    assert convolution(torch.zeros(1, 1, 19, 19)).shape == (1, 1, 19, 19)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2, 5])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 6])
def test_output_size_is_torchs(kernel_size: int, dilation: int, stride: int) -> None:
    for size, padding in ((40, 0), (41, 3)):
        convolution = nn.Conv1d(1, 1, kernel_size, stride, padding, dilation)
        n = convolution(torch.zeros(1, 1, size)).shape[-1]
        given = {"dilation": dilation, "stride": stride, "padding": padding}
        assert output_size(size, kernel_size, **given) == n


def test_causal_padding_is_before_the_input_alone() -> None:
    assert same_padding(2, 512, causal=True) == 512
    assert same_padding((3, 5), (1, 2)) == (1, 4)


def test_strides_multiply_what_later_layers_add() -> None:
    assert stacked_field([3, 3], [1, 1], [2, 1]) == [3, 7]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: effective_kernel(3, 0), "dilation=0 must be an integer of at least 1"),
        (lambda: same_padding(2, 1), "take an odd kernel_size or causal=True"),
        (lambda: output_size(4, 3, dilation=4), "spans 9 samples, more than size=4"),
        (lambda: output_size((4, 4), (3, 3, 3)), "tuples of different lengths"),
        (lambda: stacked_field([3], [1, 2]), "1 kernel_sizes, 2 dilations"),
        (lambda: output_size(4, 1, padding=-1), "padding=-1 must be an integer of at least 0"),
    ],
)
def test_wrong_numbers_are_named_with_the_remedy(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
