"""Networks that the tests, and the command's tests, name by `module:callable`."""

import torch
from torch import Tensor, nn

from wavenet.nn import Causal, CausalConv1d, State


class DecidesByValue(nn.Module):
    """Runs its convolution once or twice, as the signal says."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, dilation=100, padding=100)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.conv(x) if float(x.sum()) != 0.25 else x


class Lying(Causal):
    """Declares a past of two samples; depends on four."""

    def __init__(self) -> None:
        super().__init__()
        self.in_channels = 1
        self.inner = CausalConv1d(1, 1, 3, dilation=2)

    @property
    def past(self) -> int:
        return 2

    def init_state(self, batch_size: int, *, device=None, dtype=None) -> State:
        return self.inner.init_state(batch_size, device=device, dtype=dtype)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        return self.inner.stream(x, state)


class Attention(nn.Module):
    """A convolution and self-attention over time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 4, 3)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).transpose(1, 2)
        return self.attention(x, x, x)[0].transpose(1, 2)


class Recurrent(nn.Module):
    """A convolution and a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 4, 3)
        self.gru = nn.GRU(4, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(self.conv(x).transpose(1, 2))[0].transpose(1, 2)


def small() -> nn.Module:
    """Seven samples, three of them ahead."""
    return nn.Sequential(nn.Conv1d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv1d(4, 1, 5, padding=2))


def vgg16() -> nn.Module:
    """The convolutions of VGG-16 (Simonyan and Zisserman 2015, configuration D), narrow."""
    layers: list[nn.Module] = []
    width = 3
    for n_convolutions in (2, 2, 3, 3, 3):
        for _ in range(n_convolutions):
            layers += [nn.Conv2d(width, 4, 3, padding=1), nn.ReLU(inplace=True)]
            width = 4
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def alexnet() -> nn.Module:
    """The convolutions of AlexNet (Krizhevsky 2014, one tower), narrow."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(4, 4, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
    )  # fmt: skip


class Bottleneck(nn.Module):
    """A residual block (He et al. 2016), its stride where it is told to be."""

    def __init__(self, width: int, stride: int, first: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, 4, 1, stride if first else 1, bias=False)
        self.conv2 = nn.Conv2d(4, 4, 3, 1 if first else stride, padding=1, bias=False)
        self.conv3 = nn.Conv2d(4, 8, 1, bias=False)
        self.norm, self.relu = nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        self.downsample = nn.Conv2d(width, 8, 1, stride) if stride > 1 or width != 8 else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.conv2(self.relu(self.conv1(x))))
        y = self.norm(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


def resnet(blocks: tuple[int, ...], at_the_end: bool = False) -> nn.Module:
    """ResNet's trunk with bottlenecks, strides in the first block of a stage or in its last."""
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for stage, n in enumerate(blocks):
        for i in range(n):
            last_stage = stage == len(blocks) - 1
            strided = (i == n - 1 and not last_stage) if at_the_end else (i == 0 and stage > 0)
            layers.append(Bottleneck(8, 2 if strided else 1, first=False))
    return nn.Sequential(*layers)


def whole_vgg16() -> nn.Module:
    """The convolutions of VGG-16 at their full width."""
    layers: list[nn.Module] = []
    width = 3
    for n_convolutions, channels in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(n_convolutions):
            layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU(inplace=True)]
            width = channels
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


class WideBottleneck(nn.Module):
    """A residual block of ResNet-50 at its full width, its stride in the 3 x 3 convolution."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width),
        )  # fmt: skip
        changes = stride > 1 or inputs != 4 * width
        self.shortcut = nn.Conv2d(inputs, 4 * width, 1, stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        y += self.shortcut(x)
        return torch.relu(y)


def whole_resnet50() -> nn.Module:
    """The trunk of ResNet-50 at its full width."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
    ]  # fmt: skip
    inputs = 64
    for stage, (n_blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for i in range(n_blocks):
            layers.append(WideBottleneck(inputs, width, 2 if i == 0 and stage > 0 else 1))
            inputs = 4 * width
    return nn.Sequential(*layers)


class Encoder(nn.Module):
    """The convolutions of wav2vec 2.0's feature encoder (Baevski et al. 2020, appendix)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv1d(1, 4, 10, stride=5), nn.GELU()]
        for kernel_size in (3, 3, 3, 3, 2, 2):
            layers += [nn.Conv1d(4, 4, kernel_size, stride=2), nn.GELU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x[:, None])


class TwoOutputs(nn.Module):
    """Two outputs with different fields."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = nn.Conv1d(1, 1, 3, padding=1), nn.Conv1d(1, 1, 9, padding=4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"near": torch.tanh(self.near(x)), "far": self.far(x)}
