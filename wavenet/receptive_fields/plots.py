"""Figures of receptive fields: the fan of a dilated stack, its growth, on an image, on audio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from wavenet.receptive_fields.arithmetic import stacked_field
from wavenet.receptive_fields.effective import SHARES, EffectiveField
from wavenet.receptive_fields.field import ReceptiveField
from wavenet.storage.files import atomic_write

MISSING_PACKAGES = 'pictures need matplotlib: pip install "wavenet-audio[train]"'

MOST_LINES = 3000
"""Largest number of lines of a fan; a denser one is drawn as an area."""

INK, QUIET, SECOND = "#1f4e79", "#b9c7d6", "#c8553d"
DOTS_PER_INCH = 150


def plot_stack(
    dilations: Sequence[int], kernel_size: int, sample_rate: int | None, path: str | Path
) -> None:
    """Plot the fan of a causal stack (van den Oord et al. 2016, figure 3) and its growth per layer.

    >>> plot_stack([1, 2, 4, 8], kernel_size=2, sample_rate=16000, path="stack.png")

    Args:
        dilations: one per layer, in samples.
        kernel_size: taps of every layer.
        sample_rate: in Hz, for an axis in milliseconds; None for samples.
        path: a .png or .svg file.

    Raises:
        ValueError: if the path ends otherwise.
        ModuleNotFoundError: without matplotlib.
    """
    figure = _figure(path, 8, 5.4)
    fan, growth = figure.subplots(2, 1, height_ratios=(3, 2))
    _draw_fan(fan, dilations, kernel_size, sample_rate)
    kernels = [kernel_size] * len(dilations)
    _draw_growth(growth, stacked_field(kernels, dilations), kernel_size, sample_rate)
    _save(figure, path)


def plot_field(field: ReceptiveField, path: str | Path) -> None:
    """Plot the field of every layer before and after its own time; one panel per dimension.

    >>> net = nn.Sequential(nn.Conv1d(1, 4, 3), nn.Conv1d(4, 1, 5, dilation=2))
    >>> plot_field(receptive_field(net, input_shape=(1, 1, 100)), "field.svg")

    Args:
        field: with layers, as a trace finds it.
        path: a .png or .svg file.

    Raises:
        ValueError: if there is nothing finite to draw.
    """
    layers = [layer for layer in field.layers if _is_known(layer.look_back)]
    n = len(field.samples) if isinstance(field.samples, tuple) else 1
    rows = [
        [(_part(layer.look_back, d), _part(layer.look_ahead, d), layer.name) for layer in layers]
        for d in range(n)
    ]
    rows = [[row for row in column if np.isfinite(row[0] + row[1])] for column in rows]
    if not any(rows):
        raise ValueError("no layer with a finite field: there is nothing to draw")
    figure = _figure(path, 8, max(3.0, 1.4 + 0.22 * min(40, len(layers))))
    axes = figure.subplots(1, n, squeeze=False)[0]
    in_ms = field.sample_rate is not None and n == 1
    per_unit = 1000 / field.sample_rate if field.sample_rate and in_ms else 1.0
    for d, (axis, column) in enumerate(zip(axes, rows, strict=True)):
        for i, (back, ahead, _) in enumerate(column):
            axis.barh(i, (back + ahead) * per_unit, left=-back * per_unit, color=INK, height=0.7)
        axis.axvline(0, color=SECOND, linewidth=1)
        before = max(row[0] for row in column) * per_unit
        after = max(row[1] for row in column) * per_unit
        margin = 0.03 * (before + after) + 0.5 * per_unit
        axis.set_xlim(-before - margin, after + margin)
        if len(column) <= 40:
            axis.set_yticks(range(len(column)), [name for *_, name in column], fontsize=8)
        else:
            axis.set_ylabel("layer")
        unit = "ms" if in_ms else "samples" if n == 1 else "pixels"
        where = "" if n == 1 else (", down", ", across")[d] if n == 2 else f", dimension {d + 1}"
        axis.set(
            xlabel=f"{unit} around the output's own time{where}" if n == 1 else f"{unit}{where}"
        )
    axes[0].set_title("receptive field of each layer", loc="left", fontsize=11)
    _save(figure, path)


def plot_image_fields(kernel_size: int, dilations: Sequence[int], path: str | Path) -> None:
    """Plot the field of a pixel after each dilated convolution (Yu and Koltun 2016, figure 1).

    >>> plot_image_fields(kernel_size=3, dilations=[1, 2, 4], path="image.png")

    Args:
        kernel_size: taps in each direction, an odd number.
        dilations: one per layer.
        path: a .png or .svg file.
    """
    fields = stacked_field([kernel_size] * len(dilations), dilations)
    side = fields[-1] + 2
    figure = _figure(path, 3 * len(dilations), 3.8)
    axes = figure.subplots(1, len(dilations), squeeze=False)[0]
    middle = side // 2
    for axis, dilation, field in zip(axes, dilations, fields, strict=True):
        grid = np.zeros((side, side))
        half = field // 2
        grid[middle - half : middle + half + 1, middle - half : middle + half + 1] = 1
        axis.pcolormesh(
            grid, cmap=_two_colours(), edgecolors="#d5dbe2", linewidth=0.6, vmin=0, vmax=1
        )
        reach = [middle + 0.5 + dilation * (i - kernel_size // 2) for i in range(kernel_size)]
        xs, ys = np.meshgrid(reach, reach)
        axis.scatter(xs, ys, color=SECOND, s=26, zorder=3)
        axis.set(aspect="equal", xticks=[], yticks=[])
        axis.set_title(
            f"field after dilation {dilation}:\n{field} x {field} = {field**2} pixels", fontsize=11
        )
        for spine in axis.spines.values():
            spine.set_visible(False)
    _save(figure, path)


def plot_effective(effective: EffectiveField, audio: Tensor, path: str | Path) -> None:
    """Plot the share of the sensitivity within the last n samples, below the waveform.

    Args:
        effective: of a network.
        audio: ``[T]``, whose end is drawn, at least as long as the field.
        path: a .png or .svg file.
    """
    figure = _figure(path, 8, 4)
    wave, curve = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    rate = effective.sample_rate
    unit = 1.0 if rate is None else 1000 / rate
    within = effective.within.numpy()
    n = min(len(within), audio.shape[-1])
    back = -np.arange(len(within)) * unit
    loudest = int(audio.abs().argmax())
    end = min(audio.shape[-1], max(n, loudest + n // 3))
    wave.plot(back[:n][::-1], audio[end - n : end].numpy(), color=INK, linewidth=0.5)
    wave.set(yticks=[], ylabel="audio")
    curve.fill_between(back, 100 * within, color=QUIET)
    curve.plot(back, 100 * within, color=INK)
    for share in SHARES:
        at = -(effective.samples(share) - 1) * unit
        curve.plot([at, at], [0, 100 * share], color=SECOND, linewidth=1)
        far = f"{effective.samples(share) * unit:.3g}" + (" ms" if rate else "")
        text = f"{100 * share:g} %\n{far}"
        curve.annotate(
            text,
            (at, 100 * share),
            (-4, -4),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=9,
            color=SECOND,
        )
    curve.set(
        ylabel="% of the sensitivity\nsince then",
        xlabel=f"{'ms' if rate else 'samples'} before the output",
        ylim=(0, 104),
        xlim=(back[-1], 0),
    )
    _save(figure, path)


def _draw_fan(
    axis: Any, dilations: Sequence[int], kernel_size: int, sample_rate: int | None
) -> None:
    """Draw every path from one output down to the inputs; an area where they are too many."""
    from matplotlib.collections import LineCollection

    unit = 1.0 if sample_rate is None else 1000 / sample_rate
    depth = len(dilations)
    positions = np.zeros(1, np.int64)
    hulls = [(0, 0)]
    lines: list[Any] = []
    dots = [(0.0, float(depth))]
    for level in range(depth, 0, -1):
        dilation = dilations[level - 1]
        taps = -dilation * np.arange(kernel_size)
        below = (positions[:, None] + taps[None]).ravel()
        if len(lines) + len(below) <= MOST_LINES:
            tops = np.repeat(positions, kernel_size)
            lines += [
                ((top * unit, level), (low * unit, level - 1))
                for top, low in zip(tops, below, strict=True)
            ]
        positions = np.unique(below)
        hulls.append((int(positions[0]), int(positions[-1])))
        if len(positions) <= 64:
            dots += [(position * unit, level - 1) for position in positions]
    levels = range(depth, -1, -1)
    axis.fill_betweenx(
        levels,
        [lo * unit for lo, _ in hulls],
        [hi * unit for _, hi in hulls],
        color=QUIET,
        alpha=0.45,
        linewidth=0,
    )
    width = 1.0 if len(lines) < 200 else 0.35
    axis.add_collection(LineCollection(lines, colors=INK, linewidths=width))
    few = len(dots) <= 400
    if few:
        axis.scatter(*zip(*dots, strict=True), color=INK, s=14, zorder=3)
    axis.scatter([0], [depth], color=SECOND, s=40, zorder=4)
    total = -hulls[-1][0] + 1
    ms = "" if sample_rate is None else f" = {total * unit:.1f} ms at {sample_rate} Hz"
    axis.set_title(f"receptive field: {total} samples{ms}", loc="left", fontsize=11)
    axis.set(
        xlabel="samples before the output" if sample_rate is None else "ms before the output",
        ylim=(-0.02 * depth - 0.2, 1.04 * depth + 0.2),
        xlim=((hulls[-1][0] - 0.02 * total) * unit, 0.02 * total * unit),
    )
    step = max(1, depth // 10)
    axis.set_yticks(
        range(0, depth + 1, step),
        ["input" if i == 0 else f"dilation {dilations[i - 1]}" for i in range(0, depth + 1, step)],
        fontsize=8,
    )
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _draw_growth(
    axis: Any, fields: Sequence[int], kernel_size: int, sample_rate: int | None
) -> None:
    """Draw the field after each layer on a logarithmic axis, with dilation and without."""
    from matplotlib.ticker import LogLocator

    layers = range(1, len(fields) + 1)
    plain = stacked_field([kernel_size] * len(fields), [1] * len(fields))
    axis.plot(layers, fields, "o-", color=INK, markersize=4, label="these dilations")
    axis.plot(layers, plain, "o--", color=SECOND, markersize=3, label="dilation 1 everywhere")
    base = 2 if fields[-1] <= 128 else 10
    axis.set_yscale("log", base=base)
    axis.set(xlabel="layers", ylabel="field in samples", xlim=(0.5, len(fields) + 0.5))
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("")
    axis.grid(axis="y", color="#e3e7ec")
    axis.legend(frameon=False, fontsize=9, loc="upper left")
    if sample_rate is not None:
        to_ms = 1000 / sample_rate
        right = axis.secondary_yaxis("right", functions=(lambda y: y * to_ms, lambda y: y / to_ms))
        right.set_ylabel("ms")
        right.yaxis.set_major_locator(LogLocator(base))
        right.yaxis.set_major_formatter("{x:g}")
        right.yaxis.set_minor_formatter("")


def _is_known(count: Any) -> bool:
    """Return false for a layer on a reversed signal, which has no look-back to draw."""
    return None not in (count if isinstance(count, tuple) else (count,))


def _part(value: Any, dimension: int) -> float:
    return float(value[dimension] if isinstance(value, tuple) else value)


def _two_colours() -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap(["#ffffff", QUIET])


def _figure(path: str | Path, width: float, height: float) -> Any:
    if Path(path).suffix not in (".png", ".svg"):
        raise ValueError(f"{path}: unknown image format; use a name that ends in .png or .svg")
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING_PACKAGES) from error
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: str | Path) -> None:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:], dpi=DOTS_PER_INCH)
