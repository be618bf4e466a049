"""A seeded generator of networks as people write them, in one and two dimensions."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = 2


class Branches(nn.Module):
    """Several ways through, cut to the shortest, summed, gated, or put side by side."""

    def __init__(self, ways: list[nn.Module], how: str, n: int) -> None:
        super().__init__()
        self.ways, self.how, self.n = nn.ModuleList(ways), how, n
        convolution = nn.Conv1d if n == 1 else nn.Conv2d
        self.mix = convolution(CHANNELS * len(ways), CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        outputs = [way(x) for way in self.ways]
        sizes = [min(y.shape[2 + d] for y in outputs) for d in range(self.n)]
        cut = (slice(None), slice(None), *(slice(0, size) for size in sizes))
        outputs = [y[cut] for y in outputs]
        if self.how == "cat":
            return self.mix(torch.cat(outputs, 1))
        total = outputs[0]
        for y in outputs[1:]:
            total = total + y if self.how == "sum" else torch.tanh(total) * torch.sigmoid(y)
        return total


class Cut(nn.Module):
    """A slice along the last axis, every sample or every second."""

    def __init__(self, start: int, end: int, step: int) -> None:
        super().__init__()
        self.start, self.end, self.step = start, end, step

    def forward(self, x: Tensor) -> Tensor:
        return x[..., self.start : x.shape[-1] - self.end : self.step]


class Backwards(nn.Module):
    """A module on the reversed signal."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.flip(-1)).flip(-1)


class Functional(nn.Module):
    """Padding in front and a dilated convolution, written with functions."""

    def __init__(self, n: int, kernel_size: int, dilation: int, mode: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CHANNELS, CHANNELS, *[kernel_size] * n))
        self.n, self.dilation, self.mode = n, dilation, mode
        self.front = (kernel_size - 1) * dilation

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, [self.front, 0] * self.n, mode=self.mode)
        return (F.conv1d if self.n == 1 else F.conv2d)(x, self.weight, dilation=self.dilation)


def random_network(seed: int) -> tuple[nn.Module, tuple[int, ...]]:
    """A network and the shape of an input: every third is for images."""
    draw = random.Random(seed)
    n = 2 if seed % 3 == 2 else 1
    size = 240 if n == 1 else 96
    depth = draw.randint(2, 6 if n == 1 else 4)
    network = nn.Sequential(*(layer(draw, n, depth=0) for _ in range(depth)))
    return network, (1, CHANNELS, *[size] * n)


def layer(draw: random.Random, n: int, depth: int) -> nn.Module:
    kinds = ["conv"] * 4 + ["transposed", "pool", "pad", "norm", "activation", "upsample"]
    kinds += ["cut", "functional", "backwards", "shift"]
    if depth < 2:
        kinds += ["residual", "branches", "branches", "sequence"]
    kind = draw.choice(kinds)
    k, d = draw.randint(1, 5), draw.choice([1, 1, 2, 3, 5])
    if kind == "conv":
        mode = draw.choice(["zeros", "zeros", "reflect", "replicate", "circular"])
        stride = draw.choice([1, 1, 1, 2, 3])
        padding = draw.randint(0, min(4, d * (k - 1)))
        groups = draw.choice([1, CHANNELS])
        convolution = nn.Conv1d if n == 1 else nn.Conv2d
        return convolution(CHANNELS, CHANNELS, k, stride, padding, d, groups, padding_mode=mode)
    if kind == "transposed":
        stride = draw.choice([1, 2, 3])
        k = draw.randint(stride, stride + 3)
        transposed = nn.ConvTranspose1d if n == 1 else nn.ConvTranspose2d
        d = draw.choice([1, 2]) if n == 1 else 1
        return transposed(CHANNELS, CHANNELS, k, stride, draw.randint(0, 1), dilation=d)
    if kind == "pool":
        k = draw.randint(2, 4)
        pool = draw.choice([["MaxPool", "AvgPool"], ["LPPool"]][draw.random() < 0.2])
        if pool == "LPPool":
            return getattr(nn, f"LPPool{n}d")(2, k, draw.randint(1, k))
        extra = {"dilation": draw.choice([1, 2])} if pool == "MaxPool" else {}
        ceil = draw.random() < 0.3
        return getattr(nn, f"{pool}{n}d")(
            k, draw.randint(1, 3), draw.randint(0, k // 2), ceil_mode=ceil, **extra
        )
    if kind == "pad":
        pad = draw.choice(["ConstantPad", "ReflectionPad", "ReplicationPad", "CircularPad"])
        sizes = tuple(draw.randint(0, 4) for _ in range(2 * n))
        value = (0.5,) if pad == "ConstantPad" else ()
        return getattr(nn, f"{pad}{n}d")(sizes, *value)
    if kind == "norm":
        return draw.choice([nn.BatchNorm1d, nn.BatchNorm1d] if n == 1 else [nn.BatchNorm2d])(
            CHANNELS
        )
    if kind == "activation":
        return draw.choice(
            [
                nn.ReLU(),
                nn.ReLU6(),
                nn.Tanh(),
                nn.GELU(),
                nn.Softmax(1),
                nn.PReLU(),
                nn.ELU(inplace=True),
            ]
        )
    if kind == "upsample":
        linear = "linear" if n == 1 else "bilinear"
        mode = draw.choice(["nearest", linear, "nearest-exact"])
        return nn.Upsample(scale_factor=draw.choice([2, 3, 1.5]), mode=mode)
    if kind == "cut":
        return Cut(draw.randint(0, 3), draw.randint(0, 3), draw.choice([1, 1, 2]))
    if kind == "functional":
        return Functional(n, k, d, draw.choice(["constant", "reflect", "replicate"]))
    if kind == "backwards":
        return Backwards(layer(draw, n, depth + 1))
    if kind == "shift":
        return nn.Sequential(
            nn.ZeroPad1d((3, 0)) if n == 1 else nn.ZeroPad2d((3, 0, 0, 2)), Cut(0, 3, 1)
        )
    if kind == "sequence":
        return nn.Sequential(*(layer(draw, n, depth + 1) for _ in range(2)))
    if kind == "residual":
        keep = nn.Conv1d if n == 1 else nn.Conv2d
        size = draw.choice([3, 5])
        inner = keep(CHANNELS, CHANNELS, size, padding=d * (size - 1) // 2, dilation=d)
        return Branches([nn.Identity(), nn.Sequential(nn.ReLU(), inner)], "sum", n)
    how = draw.choice(["sum", "product", "cat"])
    stride = draw.choice([1, 1, 2])
    convolution = nn.Conv1d if n == 1 else nn.Conv2d
    ways: list[nn.Module] = []
    for _ in range(draw.randint(2, 3)):
        k, d = draw.randint(1, 5), draw.choice([1, 2, 4])
        way: nn.Module = convolution(CHANNELS, CHANNELS, k, stride, draw.randint(0, 2), d)
        if draw.random() < 0.3:
            way = nn.Sequential(way, convolution(CHANNELS, CHANNELS, 3, 1, 1))
        ways.append(way)
    return Branches(ways, how, n)
