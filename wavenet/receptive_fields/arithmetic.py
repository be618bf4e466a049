"""The arithmetic of convolutions, in one dimension or in any number of them.

A kernel of k taps with dilation d reads samples that are d apart, so from the first to the last
it spans the *effective kernel*

    F = d (k - 1) + 1                                       (Dumoulin and Visin 2016, section 5.1).

Over an input of W samples, with P samples of padding at each end and stride S, it fits

    floor((W - F + 2 P) / S) + 1                            (the same, relationship 15)

times. At stride 1 the output has the size of the input where 2 P = F - 1 = d (k - 1). In a stack,

    receptive field = 1 + sum over layers of (F - 1) j,     j the product of the strides before it

(Araujo, Norris and Sim 2019, equation 2). Three layers of kernel 3 with dilations 1, 2 and 4 see
3, 7 and 15 samples, on an image 3 x 3 = 9, 7 x 7 = 49 and 15 x 15 = 225 pixels (the first two are
those of Yu and Koltun 2016, figure 1).

Every argument is one integer, or a tuple with one integer per dimension; so is every answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from wavenet.nn.causal import check_positive
from wavenet.values.integers import is_integer

Size: TypeAlias = int | tuple[int, ...]
"""One integer, or one per dimension."""


def effective_kernel(kernel_size: Size, dilation: Size = 1) -> Size:
    """Samples that a dilated kernel spans: ``dilation * (kernel_size - 1) + 1``.

    >>> effective_kernel(3, 6)
    13
    >>> effective_kernel((3, 5), (2, 1))
    (5, 5)

    Raises:
        ValueError: if a number is not an integer of at least 1, or the tuples differ in length.
    """
    return _each(_span, kernel_size=kernel_size, dilation=dilation)


def output_size(
    size: Size,
    kernel_size: Size,
    *,
    dilation: Size = 1,
    stride: Size = 1,
    padding: Size = 0,
) -> Size:
    """Samples that a convolution gives: ``floor((W - F + 2 P) / S) + 1``.

    >>> output_size((19, 19), 3, dilation=6, padding=6)
    (19, 19)

    Args:
        size: W, samples of the input.
        kernel_size: taps.
        dilation: samples between taps.
        stride: S, input samples per output sample.
        padding: P, samples added at each end.

    Raises:
        ValueError: if a number is out of its range, or the kernel does not fit once.
    """

    def one(size: int, kernel_size: int, dilation: int, stride: int, padding: int) -> int:
        check_positive("stride", stride)
        check_positive("size", size)
        if not is_integer(padding) or padding < 0:
            raise ValueError(f"padding={padding!r} must be an integer of at least 0")
        span = _span(kernel_size, dilation)
        if span > size + 2 * padding:
            raise ValueError(
                f"kernel_size={kernel_size} with dilation={dilation} spans {span} samples, more "
                f"than size={size} with padding={padding} has; pad more or take a smaller kernel"
            )
        return (size - span + 2 * padding) // stride + 1

    return _each(
        one, size=size, kernel_size=kernel_size, dilation=dilation, stride=stride, padding=padding
    )


def same_padding(kernel_size: Size, dilation: Size = 1, *, causal: bool = False) -> Size:
    """The padding with which a convolution of stride 1 keeps the size of its input.

    Symmetric: the number for each end, ``dilation * (kernel_size - 1) / 2``, as ``torch.nn.Conv1d``
    and ``Conv2d`` take it. Causal: the number in front, ``dilation * (kernel_size - 1)``, with none
    behind, so that no output depends on a later input.

    >>> same_padding(3, 6)
    6
    >>> same_padding(3, 6, causal=True)
    12

    Raises:
        ValueError: if a number is not an integer of at least 1, or the symmetric padding is no
            whole number.
    """

    def one(kernel_size: int, dilation: int) -> int:
        whole = _span(kernel_size, dilation) - 1
        if causal:
            return whole
        if whole % 2:
            raise ValueError(
                f"kernel_size={kernel_size} with dilation={dilation} needs {whole} samples of "
                "padding, which no two equal ends add up to; take an odd kernel_size or causal=True"
            )
        return whole // 2

    return _each(one, kernel_size=kernel_size, dilation=dilation)


def stacked_field(
    kernel_sizes: Sequence[int], dilations: Sequence[int], strides: Sequence[int] | None = None
) -> list[int]:
    """The receptive field behind each layer of a plain stack, in samples of its input.

    >>> stacked_field([3, 3, 3], [1, 2, 4])
    [3, 7, 15]

    Raises:
        ValueError: if a number is not an integer of at least 1, or the lists differ in length.
    """
    strides = [1] * len(dilations) if strides is None else strides
    if not len(kernel_sizes) == len(dilations) == len(strides):
        raise ValueError(
            f"{len(kernel_sizes)} kernel_sizes, {len(dilations)} dilations and {len(strides)} "
            "strides; give one of each per layer"
        )
    fields, samples, jump = [], 1, 1
    for kernel_size, dilation, stride in zip(kernel_sizes, dilations, strides, strict=True):
        check_positive("stride", stride)
        samples += (_span(kernel_size, dilation) - 1) * jump
        jump *= stride
        fields.append(samples)
    return fields


def _span(kernel_size: int, dilation: int) -> int:
    check_positive("kernel_size", kernel_size)
    check_positive("dilation", dilation)
    return dilation * (kernel_size - 1) + 1


def _each(function: Callable[..., int], **arguments: Size) -> Size:
    """Apply a function of one dimension to each; a single integer applies to all of them."""
    lengths = {len(value) for value in arguments.values() if isinstance(value, tuple)}
    if not lengths:
        return function(**arguments)
    if len(lengths) > 1:
        given = ", ".join(f"{name}={value}" for name, value in arguments.items())
        raise ValueError(f"{given}: tuples of different lengths; give one integer per dimension")
    columns = {
        name: value if isinstance(value, tuple) else (value,) * max(lengths)
        for name, value in arguments.items()
    }
    return tuple(
        function(**{name: values[i] for name, values in columns.items()})
        for i in range(max(lengths))
    )
