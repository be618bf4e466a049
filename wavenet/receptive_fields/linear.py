"""Runs of a module as a linear network with positive coefficients (``linear_network``)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from wavenet.receptive_fields.linear_network import LinearTracker
from wavenet.receptive_fields.memory import Tally, limit_bytes, shortage
from wavenet.receptive_fields.module_tracker import (
    describe_error,
    named_outputs,
    precision,
    private_copy,
)

_BACKWARD_FACTOR = 4
"""Upper bound of the factor by which the backward pass increases the bytes of a run."""


class CannotMeasure(ValueError):
    """Raised if the module does not run, or no output has a gradient."""


@dataclass
class Run:
    """One run of the linear network, and what was noted on the way.

    Attributes:
        x: its input, a leaf that requires a gradient.
        outputs: those with a gradient, by name.
        kept: outputs of the layers and modules that were asked for, by name or path.
        extent: no fewer samples of the input than all layers together look along.
        coarsest: the fewest samples that a layer gives.
        picks: whether some function took positions of a signal along any axis.
        n_bytes: the most that were alive at once.
    """

    x: Tensor
    outputs: dict[str, Tensor]
    kept: dict[str, Tensor]
    extent: float
    coarsest: float
    picks: bool
    n_bytes: int = 0


def run_linear(
    module: nn.Module,
    shape: Sequence[int],
    others: Sequence[Sequence[int]] = (),
    *,
    keep: Collection[str] = (),
) -> Run:
    """Run the module as a positive linear network on an input of this shape.

    Args:
        module: any module; it is copied, and runs in evaluation mode.
        shape: of the input.
        others: of further inputs, which are constant.
        keep: names of layers and paths of modules whose outputs are kept; all others are dropped.

    Raises:
        CannotMeasure: if the module does not accept the shape, or leaves torch.
        TooLarge: if the run needs more memory than ``limit_bytes``.
    """
    try:
        with Tally(limit_bytes()) as tally:
            run = _run(module, shape, others, torch.device("cpu"), keep)
        return replace(run, n_bytes=tally.peak)
    except Exception as error:
        short = shortage(error)
        if short is not None:
            raise short from error
        if isinstance(error, CannotMeasure):
            raise
        raise CannotMeasure(describe_error(error)) from error


@dataclass(frozen=True)
class Shapes:
    """Results of a run on the meta device: shapes, and the bytes of a run with values.

    Attributes:
        outputs: shapes, by name.
        n_bytes: that running needs; where that is not far from the limit, with one measurement.
        extent, coarsest, picks: see ``Run``.
    """

    outputs: dict[str, tuple[int, ...]]
    n_bytes: int
    extent: float
    coarsest: float
    picks: bool

    @classmethod
    def of(cls, run: Run, n_bytes: int) -> Shapes:
        """Return the shapes of a run."""
        sizes = {name: tuple(output.shape) for name, output in run.outputs.items()}
        return cls(sizes, n_bytes, run.extent, run.coarsest, run.picks)


def run_on_shapes(
    module: nn.Module, shape: Sequence[int], others: Sequence[Sequence[int]] = ()
) -> Shapes | None:
    """Run the same on shapes alone; None where the module's code asks for values.

    The module may also refuse this shape, which only ``run_linear`` reports.
    """
    tally = Tally()
    run: Run | None = None
    with suppress(Exception), tally:
        run = _run(module, shape, others, torch.device("meta"), ())
        near = limit_bytes() / _BACKWARD_FACTOR < tally.peak < limit_bytes()
        for output in run.outputs.values() if near else ():
            middle = tuple(size // 2 for size in output.shape)
            torch.autograd.grad(output[middle], run.x, retain_graph=True, allow_unused=True)
    return None if run is None else Shapes.of(run, tally.peak)


def _run(
    module: nn.Module,
    shape: Sequence[int],
    others: Sequence[Sequence[int]],
    device: torch.device,
    keep: Collection[str],
) -> Run:
    copied = private_copy(module).cpu()
    dtype = precision(copied)
    linear = LinearTracker(copied, shape[-1], device, keep)
    if device.type == "meta":
        leaf = torch.empty(tuple(shape), dtype=dtype, device=device)
    else:
        generator = torch.Generator().manual_seed(1)
        leaf = torch.rand(tuple(shape), generator=generator, dtype=dtype) + 0.5
    leaf.requires_grad_()
    further = [torch.ones(tuple(other), dtype=dtype) for other in others]
    start = leaf * 1  # a leaf that requires a gradient may not be changed in place
    with linear, torch.enable_grad():
        output = copied(start, *further)
    outputs = {name: t for name, t in named_outputs(output) if t.requires_grad}
    if not outputs:
        raise CannotMeasure("no output has a gradient with respect to the input")
    return Run(leaf, outputs, linear.kept, linear.extent, linear.coarsest, linear.picks)
