"""``wavenet receptive-field``: compute a receptive field, or design a stack for one."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING, Any

from wavenet.cli.options import (
    MODEL_HELP,
    add_json,
    any_name,
    audio_name,
    integer,
    integer_up_to,
    number_up_to,
)
from wavenet.cli.receptive_field_target import LARGEST_SIZE, integers, read_target
from wavenet.cli.standard_streams import print_result

if TYPE_CHECKING:
    from torch import nn

    from wavenet.receptive_fields.field import ReceptiveField

METHODS = ("auto", "trace", "gradient")
"""Methods of ``receptive_field``."""


def add_arguments(field: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    field.add_argument(
        "target",
        nargs="?",
        type=any_name,
        metavar="TARGET",
        help=f"analyse {MODEL_HELP}; a .nam file; a training recipe (.yaml); or the network that "
        "package.module:callable returns",
    )
    field.add_argument(
        "--layers",
        type=integer_up_to(62),
        metavar="N",
        help="analyse a stack of this many layers with dilations 1, 2, 4 ...",
    )
    field.add_argument(
        "--stacks",
        type=integer_up_to(10_000),
        metavar="N",
        help="repeat the dilations this often (default: 1)",
    )
    field.add_argument(
        "--dilations", metavar="LIST", help="analyse a stack of these dilations, such as 1,2,4"
    )
    field.add_argument(
        "--kernel-size",
        type=integer_up_to(1_000_000),
        metavar="N",
        help="give each convolution of the stack this many taps (default: 2)",
    )
    field.add_argument(
        "--sample-rate",
        type=integer_up_to(1_000_000_000),
        metavar="HZ",
        help="convert samples to milliseconds at this rate (default: the model's rate)",
    )
    field.add_argument(
        "--input-shape",
        metavar="SHAPE",
        help="pass inputs of this shape to the network of package.module:callable, such as "
        "1,1,16000",
    )
    field.add_argument(
        "--method",
        choices=METHODS,
        default="auto",
        help="compute the field by formula (trace), measure it by gradient, or choose (auto, the "
        "default)",
    )
    field.add_argument(
        "--verify",
        action="store_true",
        help="measure the field by gradient as well, and compare the two",
    )
    field.add_argument(
        "--target-ms",
        type=number_up_to(1e9),
        metavar="MS",
        help="propose stacks whose receptive field is at least this long",
    )
    field.add_argument(
        "--real-time",
        action="store_true",
        help="estimate the real-time factor of each proposed stack by measuring the CPU engine",
    )
    field.add_argument(
        "--max-parameters",
        type=integer,
        metavar="N",
        help="propose only stacks with at most this many parameters",
    )
    field.add_argument(
        "--residual-channels",
        type=integer_up_to(65_536),
        metavar="N",
        help="give proposed stacks this many residual channels (default: 64)",
    )
    field.add_argument(
        "--effective",
        type=audio_name,
        metavar="AUDIO",
        help="measure the effective receptive field of a trained model on this recording",
    )
    field.add_argument(
        "--plot", type=any_name, metavar="OUT", help="draw the field into this .png or .svg file"
    )
    add_json(field)


def run(options: argparse.Namespace) -> int:
    """Print the receptive field, or the proposed stacks.

    Raises:
        ValueError: for whatever cannot be answered; the message is one line.
    """
    print_result(_answer(options))
    return 0


def _answer(options: argparse.Namespace) -> str:
    if options.target_ms is not None:
        return _design(options)
    for name in ("max_parameters", "residual_channels", "real_time"):
        if getattr(options, name) not in (None, False):
            raise ValueError(f"--{name.replace('_', '-')} belongs to --target-ms; give both")
    ways = [options.target, options.layers, options.dilations]
    if sum(way is not None for way in ways) != 1:
        raise ValueError(
            "give one of: a checkpoint or recipe, --layers, --dilations, --target-ms, or a network "
            "of your own as package.module:callable"
        )
    if options.effective is not None:
        return _effective(options)
    thing = read_target(options)
    field = _field(thing, options)
    if _has_no_number(field):
        raise ValueError(f"no finite receptive field: {'; '.join(field.unbounded)}")
    if options.plot is not None:
        _plot(thing, field, options)
    return field.to_json() if options.json else str(field)


def _has_no_number(field: ReceptiveField) -> bool:
    """Return whether a field has no end on either side: a recurrent layer's look-ahead has one."""
    if field.is_finite or isinstance(field.samples, tuple):
        return False
    return all(n is None or math.isinf(n) for n in (field.look_back, field.look_ahead))


def _kernel_size(options: argparse.Namespace) -> int:
    return 2 if options.kernel_size is None else int(options.kernel_size)


def _field(thing: Any, options: argparse.Namespace) -> ReceptiveField:
    from torch import nn

    from wavenet.receptive_fields.analysis import receptive_field

    shape = None
    if options.input_shape is not None:
        if not isinstance(thing, nn.Module):
            raise ValueError("--input-shape belongs to package.module:callable; leave it out")
        shape = integers("--input-shape", options.input_shape)
        if math.prod(shape) > LARGEST_SIZE:
            raise ValueError(f"--input-shape={options.input_shape} is too large; shorten the input")
    if not isinstance(thing, nn.Module) and (options.verify or options.method != "auto"):
        thing, rate = _as_module(thing, _kernel_size(options))
        return receptive_field(
            thing, options.sample_rate or rate, method=options.method, verify=options.verify
        )
    return receptive_field(
        thing,
        options.sample_rate,
        kernel_size=_kernel_size(options),
        input_shape=shape,
        method=options.method,
        verify=options.verify,
    )


def _as_module(thing: Any, kernel_size: int) -> tuple[nn.Module, int | None]:
    """A narrow stack with the same dilations, to be run, and its sample rate."""
    from wavenet.nn import Chain, DilatedStack, Select
    from wavenet.nn.steps import SAMPLES_PER_STEP, Pairs, StepOutputs

    if getattr(thing, "linear_prediction", 0):
        raise ValueError("linear_prediction cannot be run without weights; name a checkpoint")
    dilations = getattr(thing, "dilations", thing)
    kernel_size = getattr(thing, "kernel_size", kernel_size)
    per_step = getattr(thing, "samples_per_step", 1)
    module: nn.Module = DilatedStack(per_step, 1, kernel_size=kernel_size, dilations=dilations)
    if per_step == SAMPLES_PER_STEP:
        module = Chain(Pairs(1), module, Select(1), StepOutputs(1))
    return module, getattr(thing, "sample_rate", None)


def _design(options: argparse.Namespace) -> str:
    from wavenet.cli.bench import multiply_adds_per_second
    from wavenet.receptive_fields.design import design, table

    for name in ("target", "layers", "dilations", "effective", "plot", "input_shape"):
        if getattr(options, name) is not None:
            raise ValueError(f"--target-ms designs a stack; leave out {name.replace('_', '-')}")
    if options.sample_rate is None:
        raise ValueError("--target-ms needs --sample-rate, in Hz")
    channels = 64 if options.residual_channels is None else options.residual_channels
    proposals = design(
        options.target_ms,
        options.sample_rate,
        residual_channels=channels,
        max_parameters=options.max_parameters,
        multiply_adds_per_second=multiply_adds_per_second(channels) if options.real_time else None,
    )
    if options.json:
        return json.dumps([proposal.to_dict() for proposal in proposals])
    return (
        f"{table(proposals)}\n"
        f"stacks of {channels} residual and {2 * channels} skip channels with a receptive field "
        f"of at least {options.target_ms:g} ms at {options.sample_rate} Hz; * nothing else is "
        "cheaper in multiply-adds, parameters and state at once"
    )


def _effective(options: argparse.Namespace) -> str:
    from wavenet.audio import read_audio
    from wavenet.loading import load
    from wavenet.receptive_fields.effective import effective_field

    if options.target is None or ":" in options.target:
        raise ValueError("--effective measures the field of a trained model; name its checkpoint")
    model = load(options.target)
    audio, _ = read_audio(options.effective, model.sample_rate)
    effective = effective_field(model, audio)
    if options.plot is not None:
        from wavenet.receptive_fields.plots import plot_effective

        plot_effective(effective, audio, options.plot)
    return effective.to_json() if options.json else str(effective)


def _plot(thing: Any, field: ReceptiveField, options: argparse.Namespace) -> None:
    from torch import nn

    from wavenet.receptive_fields.plots import plot_field, plot_stack

    if isinstance(thing, nn.Module):
        plot_field(field, options.plot)
        return
    dilations = list(getattr(thing, "dilations", thing))
    kernel_size = getattr(thing, "kernel_size", _kernel_size(options))
    plot_stack(dilations, kernel_size, field.sample_rate, options.plot)
