"""Small networks in the shapes of well-known ones, as they are written in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm


@dataclass(frozen=True)
class Case:
    """A network and what is expected of it.

    Attributes:
        build: makes it.
        delay: whether it has to be converted with ``delay=True``.
        everywhere: whether the first columns are equal, too.
        refused: part of the message, if it has no causal counterpart.
        in_channels: where the first layer does not tell.
    """

    build: Callable[[], nn.Module]
    delay: bool = False
    everywhere: bool = True
    refused: str | None = None
    in_channels: int | None = None


class Chomp(nn.Module):
    """Leaves out the last columns."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : -self.n].contiguous()


class LeftPadded(nn.Conv1d):
    """Convolution that pads on the left in its own forward."""

    def forward(self, x: Tensor) -> Tensor:
        pad = (self.kernel_size[0] - 1) * self.dilation[0] - (self.stride[0] - 1)
        return super().forward(F.pad(x, (pad, 0)))


class Plus(nn.Module):
    """x + f(x)."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class TemporalBlock(nn.Module):
    """Bai et al. 2018: two padded convolutions with weight norm, each trimmed on the right."""

    def __init__(self, n_in: int, n_out: int, kernel: int, dilation: int) -> None:
        super().__init__()
        pad = (kernel - 1) * dilation
        layers: list[nn.Module] = []
        for n in (n_in, n_out):
            conv = nn.Conv1d(n, n_out, kernel, padding=pad, dilation=dilation)
            layers += [weight_norm(conv), Chomp(pad), nn.ReLU(), nn.Dropout(0.2)]
        self.net = nn.Sequential(*layers)
        self.downsample = nn.Conv1d(n_in, n_out, 1) if n_in != n_out else None
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(self.net(x) + shortcut)


class ChannelNorm(nn.Module):
    """Conv-TasNet's norm of every column, written out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(1, channels, 1))
        self.beta = nn.Parameter(torch.rand(1, channels, 1))

    def forward(self, y: Tensor) -> Tensor:
        mean = torch.mean(y, dim=1, keepdim=True)
        var = torch.var(y, dim=1, keepdim=True, unbiased=False)
        return self.gamma * (y - mean) / torch.pow(var + 1e-8, 0.5) + self.beta


class GlobalNorm(ChannelNorm):
    """Conv-TasNet's norm over channels and time."""

    def forward(self, y: Tensor) -> Tensor:
        mean = y.mean(dim=1, keepdim=True).mean(dim=2, keepdim=True)
        var = torch.pow(y - mean, 2).mean(dim=1, keepdim=True).mean(dim=2, keepdim=True)
        return self.gamma * (y - mean) / torch.pow(var + 1e-8, 0.5) + self.beta


def separator_block(dilation: int, norm: Callable[[int], nn.Module], causal: bool) -> nn.Module:
    pad = 2 * dilation if causal else dilation
    depthwise = nn.Conv1d(6, 6, 3, padding=pad, dilation=dilation, groups=6)
    trimmed: list[nn.Module] = [Chomp(pad)] if causal else []
    return Plus(
        nn.Conv1d(4, 6, 1, bias=False), nn.PReLU(), norm(6),
        depthwise, *trimmed, nn.PReLU(), norm(6), nn.Conv1d(6, 4, 1, bias=False),
    )  # fmt: skip


def separator(norm: Callable[[int], nn.Module], causal: bool) -> nn.Module:
    blocks = [separator_block(2**i, norm, causal) for i in range(3)]
    return nn.Sequential(ChannelNorm(4), *blocks, nn.Conv1d(4, 4, 1), nn.Sigmoid())


class ConvTasNet(nn.Module):
    """Luo and Mesgarani 2019: encoder, mask, decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv1d(1, 4, 8, stride=4, bias=False)
        self.separator = separator(ChannelNorm, causal=True)
        self.decoder = nn.ConvTranspose1d(4, 1, 8, stride=4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        w = F.relu(self.encoder(x))
        return self.decoder(w * self.separator(w))


class WaveNetLike(nn.Module):
    """Gated layers, padded and trimmed, with a sum of skip connections."""

    def __init__(self, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.first = nn.Conv1d(1, 4, 1)
        dilations = (1, 2, 4)
        self.dilated = nn.ModuleList(
            nn.Conv1d(4, 8, 3, dilation=d, padding=2 * d if causal else d) for d in dilations
        )
        self.skip = nn.ModuleList(nn.Conv1d(4, 4, 1) for _ in dilations)
        self.out = nn.ModuleList(nn.Conv1d(4, 4, 1) for _ in dilations)
        self.last = nn.Sequential(nn.ReLU(), nn.Conv1d(4, 4, 1), nn.ReLU(), nn.Conv1d(4, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        skips = 0
        for conv, skip, out in zip(self.dilated, self.skip, self.out, strict=True):
            y = conv(x)
            if self.causal:
                y = y[..., : x.size(-1)]
            a, b = y.split(4, dim=1)
            y = torch.tanh(a) * torch.sigmoid(b)
            skips = skips + skip(y)
            x = (x + out(y)) * 0.5**0.5
        return self.last(skips)


class Recurrent(nn.Module):
    """LSTM between transpositions, with a connection around, as SEANet has."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, num_layers=2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(2, 0, 1)
        y, _ = self.lstm(x)
        return (y + x).permute(1, 2, 0)


class PaddedConv(nn.Module):
    """EnCodec's convolution: all padding on the left, and as much on the right as frames need."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = weight_norm(nn.Conv1d(n_in, n_out, kernel, stride=stride))
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        n, total = x.shape[-1], self.kernel - self.stride
        frames = -(-(n - self.kernel + total) // self.stride) + 1
        extra = (frames - 1) * self.stride + self.kernel - total - n
        return self.conv(F.pad(x, (total, extra)))


class TrimmedTransposed(nn.Module):
    """EnCodec's transposed convolution, trimmed on the right."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = weight_norm(nn.ConvTranspose1d(n_in, n_out, kernel, stride=stride))
        self.trim = kernel - stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y[..., : y.shape[-1] - self.trim]


def seanet_encoder(*, recurrent: bool = True) -> nn.Module:
    layers: list[nn.Module] = [PaddedConv(1, 4, 7)]
    for n, stride in ((4, 2), (8, 4)):
        layers += [
            Plus(nn.ELU(), PaddedConv(n, n // 2, 3), nn.ELU(), PaddedConv(n // 2, n, 1)),
            nn.ELU(),
            PaddedConv(n, 2 * n, 2 * stride, stride),
        ]
    return nn.Sequential(*layers, *[Recurrent(16)] * recurrent, nn.ELU(), PaddedConv(16, 6, 7))


def seanet_decoder() -> nn.Module:
    layers: list[nn.Module] = [PaddedConv(6, 16, 7), Recurrent(16)]
    for n, stride in ((16, 4), (8, 2)):
        layers += [
            nn.ELU(inplace=True),
            TrimmedTransposed(n, n // 2, 2 * stride, stride),
            Plus(nn.ELU(), PaddedConv(n // 2, n // 4, 3), nn.ELU(), PaddedConv(n // 4, n // 2, 1)),
        ]
    return nn.Sequential(*layers, nn.ELU(), PaddedConv(4, 1, 7), nn.Tanh())


def soundstream_encoder() -> nn.Module:
    layers: list[nn.Module] = [LeftPadded(1, 4, 7)]
    for n, stride in ((4, 2), (8, 5)):
        units = [
            Plus(LeftPadded(n, n, 7, dilation=d), nn.ELU(), nn.Conv1d(n, n, 1)) for d in (1, 3)
        ]
        layers += [*units, nn.ELU(), LeftPadded(n, 2 * n, 2 * stride, stride=stride)]
    return nn.Sequential(*layers, nn.ELU(), LeftPadded(16, 5, 3))


class SpectralLSTM(nn.Module):
    """DCCRN-like: a transform by a convolution, layers on its bins, a mask, the inverse."""

    def __init__(self) -> None:
        super().__init__()
        n, hop = 16, 4
        window = torch.hann_window(n)
        angle = 2 * torch.pi * torch.outer(torch.arange(n // 2 + 1), torch.arange(n)) / n
        kernel = (torch.cat([angle.cos(), -angle.sin()]) * window)[:, None]
        self.register_buffer("kernel", kernel)
        self.pad, self.hop = n - hop, hop
        self.encoder = nn.Sequential(LeftPadded(18, 12, 3), nn.BatchNorm1d(12), nn.PReLU())
        self.lstm = nn.LSTM(12, 8, batch_first=True)
        self.mask = nn.Linear(8, 18)

    def forward(self, x: Tensor) -> Tensor:
        spectrum = F.conv1d(F.pad(x, (self.pad, 0)), self.kernel, stride=self.hop)
        h = self.lstm(self.encoder(spectrum).transpose(1, 2))[0]
        mask = torch.tanh(self.mask(h)).transpose(1, 2)
        return F.conv_transpose1d(spectrum * mask, self.kernel, stride=self.hop)[..., : -self.pad]


class ResidualUnit(nn.Module):
    """HiFi-GAN's: leaky ReLU and convolutions that are padded on both sides."""

    def __init__(self, n: int, kernel: int) -> None:
        super().__init__()
        self.first = nn.ModuleList(
            weight_norm(nn.Conv1d(n, n, kernel, dilation=d, padding=d * (kernel - 1) // 2))
            for d in (1, 3)
        )
        self.second = nn.ModuleList(
            weight_norm(nn.Conv1d(n, n, kernel, padding=(kernel - 1) // 2)) for _ in (1, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        for first, second in zip(self.first, self.second, strict=True):
            y = first(F.leaky_relu(x, 0.1))
            x = second(F.leaky_relu(y, 0.1)) + x
        return x


class HiFiGAN(nn.Module):
    """Kong et al. 2020: transposed convolutions, each followed by a mean of residual units."""

    def __init__(self) -> None:
        super().__init__()
        self.first = weight_norm(nn.Conv1d(5, 8, 7, padding=3))
        self.ups = nn.ModuleList(
            weight_norm(nn.ConvTranspose1d(n, n // 2, k, s, padding=(k - s) // 2))
            for n, k, s in ((8, 8, 4), (4, 4, 2))
        )
        self.units = nn.ModuleList(
            nn.ModuleList(ResidualUnit(n, kernel) for kernel in (3, 5)) for n in (4, 2)
        )
        self.last = weight_norm(nn.Conv1d(2, 1, 7, padding=3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for up, units in zip(self.ups, self.units, strict=True):
            x = up(F.leaky_relu(x, 0.1))
            total = None
            for unit in units:
                total = unit(x) if total is None else total + unit(x)
            x = total / len(units)
        return torch.tanh(self.last(F.leaky_relu(x)))


def melgan() -> nn.Module:
    layers: list[nn.Module] = [nn.ReflectionPad1d(3), weight_norm(nn.Conv1d(5, 8, 7))]
    for n, s in ((8, 4), (4, 2)):
        up = nn.ConvTranspose1d(n, n // 2, 2 * s, s, padding=s // 2 + s % 2, output_padding=s % 2)
        layers += [nn.LeakyReLU(0.2), weight_norm(up)]
        for d in (1, 3):
            layers.append(
                Plus(
                    nn.LeakyReLU(0.2), nn.ReflectionPad1d(d),
                    nn.Conv1d(n // 2, n // 2, 3, dilation=d),
                    nn.LeakyReLU(0.2), nn.Conv1d(n // 2, n // 2, 1),
                )
            )  # fmt: skip
    return nn.Sequential(
        *layers, nn.LeakyReLU(0.2), nn.ReflectionPad1d(3), nn.Conv1d(2, 1, 7), nn.Tanh()
    )


def multi_band_melgan() -> nn.Module:
    body = list(melgan().children())[:-2]
    bands = nn.Conv1d(2, 4, 7)
    synthesis = nn.ConvTranspose1d(4, 4, 4, stride=4, groups=4, bias=False)
    return nn.Sequential(
        *body, bands, nn.Tanh(), synthesis, nn.ConstantPad1d(15, 0.0), nn.Conv1d(4, 1, 31)
    )


class Snake(nn.Module):
    """BigVGAN's activation, with the logarithm of its frequencies."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        alpha = torch.exp(self.alpha.unsqueeze(0).unsqueeze(-1))
        return x + (1.0 / (alpha + 1e-9)) * torch.pow(torch.sin(x * alpha), 2)


def big_vgan() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv1d(5, 8, 7, padding=3)]
    for n, s in ((8, 4), (4, 2)):
        m = n // 2
        layers.append(nn.ConvTranspose1d(n, m, 2 * s, s, padding=s // 2))
        layers += [
            Plus(Snake(m), nn.Conv1d(m, m, 3, dilation=d, padding=d), Snake(m), nn.Conv1d(m, m, 1))
            for d in (1, 3)
        ]
    return nn.Sequential(*layers, Snake(2), nn.Conv1d(2, 1, 7, padding=3, bias=False), nn.Tanh())


class Demucs(nn.Module):
    """Défossez et al. 2020: strided convolutions, an LSTM of one direction, skip connections."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        n, before = 4, 1
        for i in range(2):
            down = [nn.Conv1d(before, n, 8, 4), nn.ReLU(), nn.Conv1d(n, 2 * n, 1), nn.GLU(1)]
            up: list[nn.Module] = [nn.Conv1d(n, 2 * n, 1), nn.GLU(1)]
            up += [nn.ConvTranspose1d(n, before, 8, 4), *[nn.ReLU()] * bool(i)]
            self.encoder.append(nn.Sequential(*down))
            self.decoder.insert(0, nn.Sequential(*up))
            n, before = 2 * n, n
        self.lstm = nn.LSTM(before, before)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for encode in self.encoder:
            x = encode(x)
            skips.append(x)
        x = self.lstm(x.permute(2, 0, 1))[0].permute(1, 2, 0)
        for decode in self.decoder:
            skip = skips.pop(-1)
            x = decode(x + skip[..., : x.shape[-1]])
        return x


class WaveUNet(nn.Module):
    """Stoller et al. 2018: every second sample on the way down, interpolation on the way up."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Conv1d(n, n + 3, 5, padding=2) for n in (1, 4))
        self.middle = nn.Conv1d(7, 7, 5, padding=2)
        self.up = nn.ModuleList(nn.Conv1d(n, m, 5, padding=2) for n, m in ((14, 4), (8, 4)))
        self.out = nn.Conv1d(5, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        signal, skips = x, []
        for conv in self.down:
            x = F.leaky_relu(conv(x), 0.2)
            skips.append(x)
            x = x[:, :, ::2]
        x = F.leaky_relu(self.middle(x), 0.2)
        for conv in self.up:
            x = F.interpolate(x, scale_factor=2, mode="linear", align_corners=False)
            x = F.leaky_relu(conv(torch.cat([skips.pop(), x], dim=1)), 0.2)
        return torch.tanh(self.out(torch.cat([x, signal], dim=1)))


def separable(n: int, m: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    depthwise = nn.Conv1d(n, n, kernel, stride, padding=kernel // 2, groups=n, bias=False)
    return [depthwise, nn.Conv1d(n, m, 1, bias=False), nn.BatchNorm1d(m)]


class JasperBlock(nn.Module):
    """Convolution, batch norm, ReLU and dropout, with a projected connection around."""

    def __init__(self, *body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)
        self.shortcut, self.out = shortcut, nn.Sequential(nn.ReLU(), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x) + self.shortcut(x))


def projected(n: int, m: int) -> nn.Module:
    return nn.Sequential(nn.Conv1d(n, m, 1, bias=False), nn.BatchNorm1d(m))


def quartznet() -> nn.Module:
    block = [*separable(6, 6, 5), nn.ReLU(), *separable(6, 4, 5)]
    first = [*separable(3, 6, 7, stride=2), nn.ReLU()]
    return nn.Sequential(*first, JasperBlock(*block, shortcut=projected(6, 4)), nn.Conv1d(4, 5, 1))


def jasper() -> nn.Module:
    conv = [nn.Conv1d(4, 4, 5, padding="same", bias=False), nn.BatchNorm1d(4), nn.ReLU()]
    last = [nn.Conv1d(4, 6, 3, padding=2, dilation=2), nn.BatchNorm1d(6)]
    return nn.Sequential(
        nn.Conv1d(3, 4, 5, stride=2, padding=2), nn.BatchNorm1d(4), nn.ReLU(inplace=True),
        JasperBlock(*conv, nn.Dropout(0.2), *last, shortcut=projected(4, 6)),
    )  # fmt: skip


class Upsampled(nn.Module):
    """WaveRNN-like: frames are repeated and smoothed, and a GRU follows."""

    def __init__(self) -> None:
        super().__init__()
        self.smooth = nn.Conv1d(5, 5, 9, padding=4, bias=False, groups=5)
        self.gru = nn.GRU(5, 6, batch_first=True)
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.smooth(x.repeat_interleave(4, dim=-1))
        y, _ = self.gru(x.transpose(1, 2))
        return F.log_softmax(self.out(F.relu(y)), dim=-1).transpose(1, 2)


class TransposedNorm(nn.Module):
    """Layer norm over channels, as it is written for ``[B, C, T]``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.transpose(-2, -1)).transpose(-2, -1)


def wav2vec(norm: Callable[[int], nn.Module]) -> nn.Module:
    layers: list[nn.Module] = []
    for n, kernel, stride in ((1, 10, 5), (4, 3, 2), (4, 2, 2)):
        layers += [nn.Conv1d(n, 4, kernel, stride, bias=False), norm(4), nn.GELU()]
    return nn.Sequential(*layers)


class RNNoise(nn.Module):
    """Gains of bands from features: dense, two GRUs that read each other, dense."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(5, 4)
        self.voice = nn.GRU(4, 3, batch_first=True)
        self.noise = nn.GRU(12, 6, batch_first=True)
        self.gains = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        features = x.permute(0, 2, 1)
        dense = torch.tanh(self.dense(features))
        voice, _ = self.voice(dense)
        noise, _ = self.noise(torch.cat([dense, voice, features], dim=-1))
        return torch.sigmoid(self.gains(torch.cat([voice, noise], dim=2))).transpose(1, 2)


class ConformerConvolution(nn.Module):
    """Gulati et al. 2020, figure 2."""

    def __init__(self, n: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n)
        self.into = nn.Conv1d(n, 2 * n, 1)
        self.depthwise = nn.Conv1d(n, n, 7, padding=3, groups=n)
        self.batch_norm, self.act = nn.BatchNorm1d(n), nn.SiLU()
        self.out, self.dropout = nn.Conv1d(n, n, 1), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.glu(self.into(self.norm(x.transpose(1, 2)).transpose(1, 2)), dim=1)
        return x + self.dropout(self.out(self.act(self.batch_norm(self.depthwise(y)))))


def postnet() -> nn.Module:
    layers: list[nn.Module] = []
    for n, m in ((5, 6), (6, 6)):
        layers += [nn.Conv1d(n, m, 5, padding=2), nn.BatchNorm1d(m), nn.Tanh(), nn.Dropout(0.5)]
    return Plus(*layers, nn.Conv1d(6, 5, 5, padding=2), nn.BatchNorm1d(5), nn.Dropout(0.5))


class DurationPredictor(nn.Module):
    """FastSpeech's: convolutions, ReLU, layer norm, and one number for each column."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(n, 6, 3, padding=1) for n in (5, 6))
        self.norms = nn.ModuleList(nn.LayerNorm(6) for _ in range(2))
        self.linear = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.dropout(norm(F.relu(conv(x)).transpose(1, 2)), 0.1, self.training).transpose(1, 2)
        return self.linear(x.transpose(1, 2)).squeeze(-1).unsqueeze(1)


class GatedResidual(nn.Module):
    """Gated residual network of temporal fusion (Lim et al. 2021), behind an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.hidden, self.gate = nn.Linear(4, 6), nn.Linear(6, 8)
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x.transpose(1, 2))
        gated = F.glu(self.gate(F.elu(self.hidden(y))), dim=-1)
        return self.norm(y + gated).transpose(1, 2)


class EnhancementUNet(nn.Module):
    """Strided convolutions and transposed ones, with joined channels on every level."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv1d(n, m, 4, 2, padding=1), nn.BatchNorm1d(m), nn.PReLU(m))
            for n, m in ((1, 4), (4, 6))
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose1d(n, m, 4, 2, padding=1) for n, m in ((6, 4), (8, 2))
        )
        self.last = nn.Conv1d(3, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.down[0](x)
        two = self.up[0](self.down[1](one))
        return self.last(torch.cat((x, self.up[1](torch.cat((one, F.elu(two)), dim=1))), dim=1))


class GatedLanguageModel(nn.Module):
    """Dauphin et al. 2017: zeros on the left, and linear gates."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(4, 8, 3) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            zeros = x.new_zeros(x.shape[0], x.shape[1], 2)
            x = x + F.glu(conv(torch.cat([zeros, x], dim=-1)), dim=1)
        return x


class ConvNeXt(nn.Module):
    """The block of Vocos, with a scale for each channel."""

    def __init__(self, n: int = 4) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(n, n, 7, padding=3, groups=n)
        self.norm = nn.LayerNorm(n, eps=1e-6)
        self.into, self.out = nn.Linear(n, 3 * n), nn.Linear(3 * n, n)
        self.gamma = nn.Parameter(0.1 * torch.ones(n))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).transpose(1, 2))
        y = self.gamma * self.out(F.gelu(self.into(y)))
        return x + y.transpose(1, 2)


class CroppedTCN(nn.Module):
    """Effects modelling (Steinmetz and Reiss 2022): unpadded convolutions, cropped connections."""

    def __init__(self, *, centred: bool) -> None:
        super().__init__()
        self.centred = centred
        self.convs = nn.ModuleList(nn.Conv1d(n, 4, 5, dilation=d) for n, d in ((1, 1), (4, 4)))
        self.shortcuts = nn.ModuleList(nn.Conv1d(n, 4, 1, bias=False) for n in (1, 4))
        self.norms = nn.ModuleList(nn.BatchNorm1d(4) for _ in range(2))
        self.act = nn.PReLU(4)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm, shortcut in zip(self.convs, self.norms, self.shortcuts, strict=True):
            y, residual = self.act(norm(conv(x))), shortcut(x)
            n = y.shape[-1]
            start = (residual.shape[-1] - n) // 2 if self.centred else residual.shape[-1] - n
            x = y + residual[..., start : start + n]
        return torch.tanh(x)


class ResNetUnit(nn.Module):
    """He et al. 2016 in one dimension, with ReLU in place."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.conv1, self.bn1 = nn.Conv1d(4, 6, 3, stride=2, padding=1), nn.BatchNorm1d(6)
        self.conv2, self.bn2 = nn.Conv1d(6, 6, 3, padding=1), nn.BatchNorm1d(6)
        self.down = nn.Conv1d(4, 6, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.down(x)
        return self.relu(out)


def resnet() -> nn.Module:
    first = [nn.Conv1d(1, 4, 7, stride=2, padding=3, bias=False), nn.BatchNorm1d(4)]
    return nn.Sequential(
        *first, nn.ReLU(True), nn.MaxPool1d(3, 2, 1), ResNetUnit(), nn.AvgPool1d(2)
    )


class SqueezeExcitation(nn.Module):
    """Hu et al. 2018: gates from the mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = LeftPadded(4, 4, 3)
        self.gate = nn.Conv1d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y * torch.sigmoid(self.gate(y.mean(dim=-1, keepdim=True)))


class SubPixel(nn.Module):
    """Upsampling by channels that become samples."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = LeftPadded(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        b, c, t = y.shape
        return y.view(b, 2, c // 2, t).permute(0, 1, 3, 2).reshape(b, 2, -1)


class ShuffleUnit(nn.Module):
    """The unit of ShuffleNet (Zhang et al. 2018), with the mean of two dilations of each group."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([LeftPadded(6, 6, 3, dilation=d, groups=2) for d in (1, 2)])
        self.mix = nn.Parameter(torch.randn(2, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.stack([conv(x) for conv in self.convs]).mean(0)
        b, c, t = y.shape
        groups = torch.einsum("gdc,bgct->bgdt", self.mix, torch.relu(y).view(b, 2, c // 2, t))
        return x + groups.transpose(1, 2).reshape(b, c, t)


class SelfAttention(nn.Module):
    """A transformer's layer."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Conv1d(3, 4, 1)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.into(x).transpose(1, 2)
        return self.attention(y, y, y, need_weights=False)[0].transpose(1, 2)


class TacotronEncoder(nn.Module):
    """Convolutions and an LSTM in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(3, 4, 5, padding=2), nn.BatchNorm1d(4), nn.ReLU())
        self.lstm = nn.LSTM(4, 2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(self.conv(x).transpose(1, 2))[0].transpose(1, 2)


NETWORKS: dict[str, Case] = {
    "TCN": Case(lambda: nn.Sequential(TemporalBlock(1, 4, 3, 1), TemporalBlock(4, 4, 3, 2))),
    "Conv-TasNet separator, causal": Case(lambda: separator(ChannelNorm, causal=True)),
    "Conv-TasNet separator, batch norm": Case(
        lambda: separator(nn.BatchNorm1d, causal=False), delay=True, everywhere=False
    ),
    "Conv-TasNet separator, global norm": Case(
        lambda: separator(GlobalNorm, causal=True), refused=r"1\.body\.2 .* computes mean over time"
    ),
    "Conv-TasNet": Case(ConvTasNet, delay=True, everywhere=False),
    "WaveNet": Case(lambda: WaveNetLike(causal=True)),
    "Parallel WaveGAN": Case(lambda: WaveNetLike(causal=False), delay=True, everywhere=False),
    "SEANet encoder": Case(seanet_encoder, delay=True),
    "SEANet encoder without LSTM": Case(
        lambda: seanet_encoder(recurrent=False), delay=True, everywhere=False
    ),
    "SEANet decoder": Case(seanet_decoder),
    "SoundStream encoder": Case(soundstream_encoder, delay=True, everywhere=False),
    "DCCRN-like front": Case(SpectralLSTM, delay=True, in_channels=1),
    "HiFi-GAN": Case(HiFiGAN, delay=True, everywhere=False),
    "MelGAN": Case(melgan, delay=True, everywhere=False),
    "multi-band MelGAN": Case(multi_band_melgan, delay=True, everywhere=False),
    "BigVGAN": Case(big_vgan, delay=True, everywhere=False),
    "Demucs": Case(Demucs, delay=True),
    "Wave-U-Net": Case(WaveUNet, delay=True, everywhere=False),
    "QuartzNet": Case(quartznet, delay=True, everywhere=False),
    "Jasper": Case(jasper, delay=True, everywhere=False),
    "WaveRNN upsampling": Case(Upsampled, delay=True),
    "wav2vec 2.0, layer norm": Case(lambda: wav2vec(TransposedNorm), delay=True, everywhere=False),
    "wav2vec 2.0, group norm": Case(
        lambda: wav2vec(lambda n: nn.GroupNorm(n, n)),
        delay=True,
        refused=r"1 \(GroupNorm\) normalizes over time",
    ),
    "RNNoise": Case(RNNoise),
    "Conformer convolution": Case(ConformerConvolution, delay=True, everywhere=False),
    "Tacotron postnet": Case(postnet, delay=True, everywhere=False),
    "FastSpeech duration predictor": Case(DurationPredictor, delay=True, everywhere=False),
    "temporal fusion": Case(GatedResidual),
    "enhancement U-Net": Case(EnhancementUNet, delay=True, everywhere=False),
    "gated language model": Case(GatedLanguageModel),
    "Vocos block": Case(
        lambda: nn.Sequential(ConvNeXt(), ConvNeXt()), delay=True, everywhere=False
    ),
    "effects TCN, cropped on the left": Case(lambda: CroppedTCN(centred=False)),
    "effects TCN, cropped on both sides": Case(lambda: CroppedTCN(centred=True)),
    "ResNet": Case(resnet, delay=True, everywhere=False),
    "ShuffleNet": Case(lambda: nn.Sequential(ShuffleUnit(), ShuffleUnit())),
    "squeeze and excitation": Case(SqueezeExcitation, refused="computes mean over time"),
    "sub-pixel upsampling": Case(SubPixel, refused="mixes time with other axes"),
    "self-attention": Case(SelfAttention, refused="attention .* over time"),
    "Tacotron encoder": Case(TacotronEncoder, delay=True, refused=r"lstm \(LSTM\) runs backwards"),
    "instance norm": Case(
        lambda: nn.Sequential(LeftPadded(2, 4, 3), nn.InstanceNorm1d(4)),
        refused=r"1 \(InstanceNorm1d\) normalizes over time",
    ),
}
"""By name; 40 of them."""
