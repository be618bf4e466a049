"""Normalisation, reductions, and other functions of a whole axis."""

from __future__ import annotations

from torch import Tensor

from wavenet.receptive_fields.module_tracker import tensors_in, words
from wavenet.receptive_fields.rules.call import (
    Call,
    TensorField,
    axes_of,
    moved,
    pointwise,
    rule,
    to_all,
    whole,
)
from wavenet.receptive_fields.windows import CannotTrace


@rule("batch_norm")
def _batch_norm(call: Call) -> TensorField:
    field = call.sole_field()
    if not call.get(5, "training", False):
        return field
    axes = {axis for axis in range(call.x.ndim) if axis != 1}
    return whole(call, field, axes, "normalises over time with the statistics of its input")


@rule("layer_norm", "rms_norm")
def _layer_norm(call: Call) -> TensorField:
    shape = call.get(1, "normalized_shape")
    n = 1 if isinstance(shape, int) else len(shape)
    axes = set(range(call.x.ndim - n, call.x.ndim))
    return whole(call, call.sole_field(), axes, "normalises over time")


@rule("group_norm")
def _group_norm(call: Call) -> TensorField:
    return whole(call, call.sole_field(), set(range(1, call.x.ndim)), "normalises over time")


@rule("instance_norm")
def _instance_norm(call: Call) -> TensorField:
    if not call.get(5, "use_input_stats", True):
        return call.sole_field()
    return whole(call, call.sole_field(), set(range(2, call.x.ndim)), "normalises over time")


@rule("local_response_norm", "channel_shuffle", "native_channel_shuffle")
def _among_channels(call: Call) -> TensorField:
    """Functions that mix or reorder channels alone."""
    return call.sole_field()


@rule("normalize", "softmax", "log_softmax", "softmin", "gumbel_softmax", "_softmax", "renorm")
def _softmax(call: Call) -> TensorField:
    position = 2 if call.name == "normalize" else 1
    dim = call.get(position, "dim", 1 if call.name == "normalize" else None)
    if dim is None:
        raise CannotTrace(f"{call.place}: {call.name} without a dim")
    return whole(
        call,
        call.sole_field(),
        axes_of(dim, call.x.ndim),
        f"{call.name} runs over the whole length",
    )


@rule("sort", "argsort", "msort")
def _along_all(call: Call) -> TensorField | list[TensorField]:
    default = 0 if call.name == "msort" else -1
    axes = axes_of(call.get(1, "dim", default), call.x.ndim)
    if any(axis in call.field.mixed for axis in axes):
        raise CannotTrace(f"{call.place}: {call.name} over signals with different fields")
    return to_all(
        call, whole(call, call.sole_field(), axes, f"{call.name} runs over all of the time")
    )


@rule(
    *words(
        """fft ifft rfft irfft fft2 ifft2 rfft2 irfft2 fftn ifftn hfft ihfft fft_fft fft_ifft
    fft_rfft fft_irfft fft_hfft fft_ihfft"""
    )
)
def _fourier(call: Call) -> TensorField:
    """Make every frequency depend on all samples of the axis."""
    several = call.name.rstrip("n2") != call.name
    dim = call.get(2, "dim", (-2, -1) if several else -1)
    field = call.sole_field()
    axes = axes_of(dim, call.x.ndim)
    return whole(call, field, axes, "is a Fourier transform over the whole length")


@rule(
    *words(
        """mean sum amax amin max min prod std var norm logsumexp all any argmax argmin median
    nanmean nansum count_nonzero aminmax std_mean var_mean vector_norm linalg_vector_norm
    quantile mode topk"""
    )
)
def _reduce(call: Call) -> TensorField | list[TensorField]:
    positions = {"norm": 2, "quantile": 2, "linalg_vector_norm": 2, "vector_norm": 2, "topk": 2}
    position = positions.get(call.name, 1)
    dim = call.get(position, "dim", call.kwargs.get("axis"))
    if call.name == "topk" and dim is None:
        dim = -1
    if isinstance(dim, Tensor):  # max(a, b)
        return pointwise(call)
    field, ndim = call.sole_field(), call.x.ndim
    results = tensors_in(call.result)
    if isinstance(dim, bool):  # std(unbiased)
        dim = None
    axes = axes_of(dim, ndim)
    field = whole(call, field, axes, f"takes the {call.name} over the whole length")
    if results[0].ndim < ndim:
        field = moved(field, lambda a: a - sum(axis < a for axis in axes))
    return [field] * len(results) if len(results) > 1 else field
