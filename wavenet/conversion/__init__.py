"""``causal``: an ordinary PyTorch module as a causal block that can be streamed."""

from __future__ import annotations

import copy
import inspect
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from wavenet.conversion import blocks, recurrent
from wavenet.conversion.adoption import foreign_hooks
from wavenet.conversion.blocks import outside_blocks
from wavenet.conversion.joins import CANONICAL, InLayout
from wavenet.conversion.network import CausalNetwork, Node
from wavenet.conversion.rules import RULES
from wavenet.conversion.signals import Refusal, Signal
from wavenet.conversion.tracing import ShortTensors, Tracer, describe
from wavenet.conversion.verification import prepare_comparison
from wavenet.nn.causal import Causal, check_positive
from wavenet.nn.delay import Delay
from wavenet.nn.hooks import unreadable, unwrapped
from wavenet.values.text import short

__all__ = ["CausalNetwork", "Refusal", "causal"]

_AXES = ("BCT", "BTC", "TBC")
_CHANNELS = ("in_channels", "num_features", "input_size", "in_features")


def causal(
    module: nn.Module,
    *,
    delay: bool = False,
    in_channels: int | None = None,
    axes: str = "BCT",
) -> CausalNetwork:
    """Turn an ordinary module of convolutions into a causal block with the same weights.

    The module is run once on a tensor without values, ``[B, C, T]``, and what it does to the signal
    is noted: convolutions and transposed ones (padded on the left, on both sides, or not at all,
    and trimmed by slices), pooling, upsampling, batch norm by its running statistics, layer norm
    over channels, activations and whatever else takes every sample by itself, LSTM and GRU,
    causal blocks of this package or of your own, sums, products, channels that are joined or taken
    apart. The result is a copy; the module stays as it is. Both are then compared on a short random
    signal, so that what the note does not show, as a division by the length, is refused.

    >>> net = nn.Sequential(nn.ConstantPad1d((2, 0), 0), nn.Conv1d(1, 8, 3), nn.ReLU())
    >>> block = causal(net)
    >>> block.past
    2

    Column ``j + block.first_column`` of the block's output is column j of the module's. All are
    equal where the module pads every window with zeros on the left, or none. Where windows look
    ahead, and where it pads otherwise, pads what an unpadded window returned, or pads before a
    function that makes other than zero of zero, the first columns may differ: those that the
    padding touches.

    Args:
        module: what takes and returns one tensor ``[B, C, T]``, or with other ``axes``.
        delay: whether a window that looks ahead, as of a convolution that is padded on both sides,
            becomes a delay of the output, ``block.delay``. Branches that are joined are aligned.
        in_channels: C; default, that of the first layer.
        axes: the order in which the module takes them: ``BCT``, ``BTC`` or ``TBC``. The block takes
            and returns ``[B, C, T]`` always.

    Raises:
        Refusal: a ValueError of one line that names the layer and says why, if the module cannot be
            causal, or only with a delay.
        ValueError: for other axes.
        TypeError: if it is no module.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module is a {type(module).__name__}; pass an nn.Module")
    if axes not in _AXES:
        raise ValueError(f"axes={short(axes)} must be one of {', '.join(_AXES)}")
    found = unreadable(module)
    if found is not None:
        raise Refusal(found)
    original, module = module, _copy(unwrapped(module)).eval()
    if isinstance(module, Causal):
        raise Refusal(f"{type(module).__name__} is a causal block already; it streams as it is")
    names = {part: name for name, part in module.named_modules()}
    for part, name in names.items():
        if foreign_hooks(part):
            raise Refusal(
                f"{name or 'module'} ({describe(part)}) has forward hooks, which may "
                "change its output; remove them"
            )
    channels = check_positive("in_channels", in_channels or _first_channels(module))
    tracer, output = _traced(module, names, channels, tuple(axes), delay=delay)
    block = _network(tracer, output, channels).eval()
    with torch.no_grad(), torch.random.fork_rng(devices=()):
        compare = prepare_comparison(module, block, axes, tracer.dropped)
        for task in tracer.tasks:
            task()
        for part in block.modules():
            if getattr(part, "inplace", False):
                vars(part)["inplace"] = False
        compare()
    return block.train(original.training)


def _traced(
    module: nn.Module,
    names: dict[nn.Module, str],
    channels: int,
    axes: tuple[str, ...],
    *,
    delay: bool,
) -> tuple[Tracer, Signal]:
    """Return the notes of the module's run, and its output.

    Functions first wait for the zeros in front of what they are given, so that the first columns
    are right, too. Only where this looks ahead are they computed before. What looks ahead is
    accepted where later zeros in front, or a trimmed end, make good for it.

    Raises:
        Refusal: see ``causal``.
    """
    exact = any(
        part.unbounded if isinstance(part, Causal) else isinstance(part, nn.RNNBase)
        for part in names
    )

    def run(*, delay: bool, early: bool) -> tuple[Tracer, Signal]:
        tracer = Tracer(names, RULES, delay=delay, exact=exact, early=early)
        with _watched(tracer, module):
            return tracer, _run(tracer, module, channels, axes)

    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(parametrize.cached())
        with suppress(Refusal):
            return run(delay=False, early=False)
        tracer, output = run(delay=True, early=True)
        if output.lag and not delay:
            return run(delay=False, early=True)  # it names the layer that looks ahead
        return tracer, output


def _run(tracer: Tracer, module: nn.Module, channels: int, axes: tuple[str, ...]) -> Signal:
    """Run the module; return its output."""
    inputs = _inputs(module)
    if len(inputs) > 1:
        raise Refusal(
            f"{describe(module)} takes {len(inputs)} inputs, {', '.join(inputs)}; a block takes "
            "one signal: convert a module around it that keeps the others fixed"
        )
    floats = (one for one in module.parameters() if one.is_floating_point())
    first = next(floats, None)
    x = tracer.input(channels, None if first is None else first.dtype, axes)
    tracer.owners.append(module)
    try:
        with ShortTensors(tracer):
            output = module(x)
    except Refusal:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        sizes = ", ".join(str(channels) if axis == "C" else axis for axis in axes)
        remedy = f"pass in_channels if the network takes other than {channels}"
        raise tracer.refusal(f"cannot be run on [{sizes}]: {reason}; {remedy}") from error
    if isinstance(output, Signal):
        tracer.require_fresh(output)
        if len(output.axes) > 3:
            raise tracer.refusal(f"returns {len(output.axes)} axes; a block returns [B, C, T]")
        return output
    raise tracer.refusal(f"returns a {type(output).__name__}; a block returns one signal")


def _inputs(module: nn.Module) -> list[str]:
    """Names of the inputs that have to be given."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # of a compiled module
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [one.name for one in parameters if one.kind in positional and one.default is one.empty]


def _network(tracer: Tracer, output: Signal, channels: int) -> CausalNetwork:
    """Return the block of the nodes that the output depends on."""
    (value,), timing = tracer.aligned([output])
    if value == 0:
        value = tracer.note(Delay(channels, 0), 0, channels=channels)
    needed, waiting = set[int](), deque([value])
    while waiting:
        one = waiting.popleft()
        if one and one not in needed:
            needed.add(one)
            waiting += tracer.nodes[one - 1].inputs
    order = {0: 0} | {old: i + 1 for i, old in enumerate(sorted(needed))}
    nodes = []
    for old in sorted(needed):
        node = tracer.nodes[old - 1]
        nodes.append(Node(node.name, node.module, tuple(order[one] for one in node.inputs)))
    lag = Fraction(max(0, timing.shift + min(output.excess, 0))) / timing.rate
    delay = lag + tracer.delays[value]
    return CausalNetwork(nodes, channels, delay=delay, first_column=timing.shift)


def _copy(module: nn.Module) -> nn.Module:
    """Return a deep copy; weights that hooks compute are no leaves, which torch does not copy."""
    computed = (value for part in module.modules() for value in vars(part).values())
    memo: dict[int, Any] = {
        id(value): value.detach().clone()
        for value in computed
        if isinstance(value, Tensor) and not value.is_leaf
    }
    return copy.deepcopy(module, memo)


def _first_channels(module: nn.Module) -> int:
    """Channels of the first layer that has some."""
    for part in module.modules():
        for attribute in _CHANNELS:
            found = getattr(part, attribute, None)
            if isinstance(found, int) and not isinstance(found, bool):
                return found
    return 1


@contextmanager
def _watched(tracer: Tracer, root: nn.Module) -> Iterator[None]:
    """Within, the tracer is told which module runs."""
    handles = []
    parts = [part for part in dict.fromkeys(outside_blocks(root)) if part is not root]
    for part in parts:
        enter, leave = _enter(tracer), _leave(tracer)
        handles.append(part.register_forward_pre_hook(enter, prepend=True, with_kwargs=True))
        handles.append(part.register_forward_hook(leave, with_kwargs=True))
    replaced = [part for part in parts if isinstance(part, nn.RNNBase | Causal)]
    for part in replaced:
        vars(part)["forward"] = (
            blocks.forward_of(tracer, part)
            if isinstance(part, Causal)
            else recurrent.forward_of(tracer, part)
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for part in replaced:
            del vars(part)["forward"]


def _enter(tracer: Tracer) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = [one for one in args if isinstance(one, Signal)]
        tracer.owners.append(module)
        values = [one.value for one in given]
        tracer.entries.append((len(tracer.nodes), tracer.cuts, given, values))

    return hook


def _leave(tracer: Tracer) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        first, cuts, given, values = tracer.entries.pop()
        unchanged = [one.value for one in given] == values and tracer.cuts == cuts
        alone = len(given) == len(args) == 1 and not kwargs
        if unchanged and alone and isinstance(output, Signal):
            _keep_whole(tracer, module, first, given[0], output)
        tracer.owners.pop()

    return hook


def _keep_whole(tracer: Tracer, module: nn.Module, first: int, x: Signal, output: Signal) -> None:
    """Note a module as one node, if all that it does is to call functions of single columns."""
    inside = range(first + 1, len(tracer.nodes) + 1)
    nodes = [tracer.nodes[value - 1] for value in inside]
    sources = {one for node in nodes for one in node.inputs} - set(inside)
    pointwise = all(not isinstance(node.module, Causal) for node in nodes)
    loose = tracer.loose.intersection(inside)
    if not (pointwise and loose and sources == {x.value} and output.timing == x.timing):
        return
    layout = (x.axes, output.axes)
    node = module if layout == (CANONICAL, CANONICAL) else InLayout(module, *layout, [x.groups])
    output.value = tracer.note(node, x.value, channels=output.channels)
