"""Conditioning of the blocks by a mel spectrogram and a speaker: encoders and upsampling.

Conditioning enters the blocks at the rate of the audio. It is computed in two steps, and only the
first is nonlinear: an encoder works at frame rate, then ``FrameLift`` interpolates linearly in
time, the same for every channel. A 1x1 projection V and the lift L therefore commute,
``V (frames L) = (V frames) L``, so an engine projects once per frame and upsamples the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.nn.causal import check_positive
from wavenet.values.computed_buffers import ComputedBuffers


class FrameLift(ComputedBuffers):
    """Linear interpolation between the centres of frames: ``[B, C, F]`` to ``[B, C, T]``.

    Frame f describes the audio around sample ``hop_samples * f + centre_samples``. Before the first
    centre and after the last, the nearest frame is held.

    >>> lift = FrameLift(4)
    >>> lift(torch.tensor([[[0.0, 1.0]]])).tolist()
    [[[0.0, 0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0]]]

    Args:
        hop_samples: samples per frame.
        centre_samples: sample that frame 0 is centred on; default, the middle of the hop.
    """

    weights: Tensor

    def __init__(self, hop_samples: int, *, centre_samples: int | None = None) -> None:
        super().__init__()
        hop_samples = check_positive("hop_samples", hop_samples)
        self.hop_samples = hop_samples
        self.centre_samples = hop_samples // 2 if centre_samples is None else centre_samples
        if not 0 <= self.centre_samples <= hop_samples:
            raise ValueError(
                f"centre_samples={centre_samples} must be within the hop, 0 to {hop_samples}"
            )
        self.register_computed()

    def compute_buffers(self) -> dict[str, Tensor]:
        """``weights[i, r]``: weight of frame f - 1 + i at sample hop * f + r; columns sum to 1."""
        distance = (torch.arange(self.hop_samples) - self.centre_samples) / self.hop_samples
        offsets = torch.tensor([-1.0, 0.0, 1.0])
        return {"weights": (1 - (distance[None] - offsets[:, None]).abs()).clamp(min=0)}

    def forward(self, frames: Tensor, n_samples: int | None = None) -> Tensor:
        """``[B, C, F]`` to ``[B, C, n_samples]``; default F * hop_samples samples.

        Raises:
            ValueError: if there are fewer frames than n_samples needs.
        """
        n_frames = frames.shape[-1]
        n_samples = n_frames * self.hop_samples if n_samples is None else n_samples
        if n_samples > n_frames * self.hop_samples:
            raise ValueError(
                f"{n_frames} frames of {self.hop_samples} samples describe "
                f"{n_frames * self.hop_samples} samples, but {n_samples} were requested; "
                "pass more frames or fewer samples"
            )
        neighbours = F.pad(frames, (1, 1), mode="replicate").unfold(-1, 3, 1)  # [B, C, F, 3]
        lifted = neighbours @ self.weights.to(frames.dtype)  # [B, C, F, hop]
        return lifted.flatten(-2)[..., :n_samples]

    def part(self, frames: Tensor, begin: int, n_samples: int) -> Tensor:
        """Samples ``begin .. begin + n_samples - 1`` of the whole, from the frames around them."""
        first = max(0, begin // self.hop_samples - 1)
        last = (begin + n_samples - 1) // self.hop_samples + 1
        offset = begin - first * self.hop_samples
        lifted: Tensor = self(frames[..., first : last + 1], offset + n_samples)
        return lifted[..., offset:]

    def matrix(self, n_frames: int) -> Tensor:
        """Return the interpolation as a matrix ``[F, F * hop_samples]`` that frames multiply."""
        identity = torch.eye(n_frames, device=self.weights.device, dtype=self.weights.dtype)
        lifted: Tensor = self(identity[None])
        return lifted[0]

    def extra_repr(self) -> str:
        """Show the arguments."""
        return f"hop_samples={self.hop_samples}, centre_samples={self.centre_samples}"


@dataclass(frozen=True)
class LiftedFrames:
    """Conditioning at frame rate, with the matrix that upsamples it.

    >>> lifted = LiftedFrames(torch.randn(1, 8, 10), torch.rand(10, 2000))
    >>> tuple((lifted.frames @ lifted.lift).shape)
    (1, 8, 2000)

    Attributes:
        frames: ``[B, C, F]``.
        lift: ``[F, T]``, the weight of each frame at each sample; its columns sum to one.
    """

    frames: Tensor
    lift: Tensor

    @property
    def samples(self) -> Tensor:
        """``[B, C, T]``, as ``Causal.stream`` takes it."""
        return self.frames @ self.lift


class FrameEncoder(nn.Module):
    """Two convolutions over frames: ``[B, in_channels, F]`` to ``[B, out_channels, F]``.

    The first has a context of ``context`` frames on each side (a look-ahead of as many); at the
    ends the outermost frame is repeated.

    >>> encoder = FrameEncoder(80, 32, context=2)
    >>> tuple(encoder(torch.randn(1, 80, 100)).shape)
    (1, 32, 100)

    Args:
        in_channels: channels of a frame, such as mel bands.
        out_channels: channels of the conditioning.
        context: frames on each side that an output depends on.
    """

    def __init__(self, in_channels: int, out_channels: int, *, context: int = 2) -> None:
        super().__init__()
        self.context = context
        self.conv = nn.Conv1d(
            in_channels,
            out_channels,
            2 * context + 1,
            padding=context,
            padding_mode="replicate",
        )
        self.projection = nn.Conv1d(out_channels, out_channels, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """``[B, in_channels, F]`` to ``[B, out_channels, F]``."""
        return self.projection(F.leaky_relu(self.conv(frames), 0.2))


class UpsamplingEncoder(nn.Module):
    """Frames to samples in steps: ``[B, in_channels, F]`` to ``[B, out_channels, F * hop]``.

    A convolution over frames, then for every scale s: each column s times, and a convolution over
    the 2 s + 1 columns around each, one kernel for all channels (as in kan-bayashi's
    PytorchWaveNetVocoder and r9y9's wavenet_vocoder). The first repeats the outermost frame
    at the ends, the others are padded with zeros. All of it is linear. Output channels beyond those
    of the frames are zero: they are free for conditioning that is constant in time.

    >>> encoder = UpsamplingEncoder(80, 80, scales=[4, 5, 10], context=2)
    >>> tuple(encoder(torch.rand(1, 80, 10)).shape)
    (1, 80, 2000)

    Args:
        in_channels: channels of a frame.
        out_channels: channels of the conditioning, at least as many.
        scales: upsampling factor of each step; their product is the hop.
        context: frames on each side in the kernel of the first convolution.
        band_kernel_size: neighbouring channels in a smoothing kernel, an odd number.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scales: Sequence[int],
        *,
        context: int = 0,
        band_kernel_size: int = 1,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.scales = in_channels, out_channels, tuple(scales)
        self._context = context
        self.conv = nn.Conv1d(
            in_channels,
            in_channels,
            2 * context + 1,
            bias=False,
            padding=context,
            padding_mode="replicate" if context else "zeros",
        )
        self.smoothings = nn.ModuleList(
            nn.Conv2d(
                1,
                1,
                (band_kernel_size, 2 * scale + 1),
                bias=False,
                padding=(band_kernel_size // 2, scale),
            )
            for scale in scales
        )

    @property
    def context(self) -> int:
        """Frames on each side that the samples of one frame depend on.

        Step i smooths over s_i columns on each side; a frame has s_1 .. s_i columns then. In frames
        that is 1, 1 / s_1, 1 / (s_1 s_2) and so on.
        """
        reach, columns = Fraction(0), 1
        for scale in self.scales:
            reach += Fraction(1, columns)
            columns *= scale
        return self._context + math.ceil(reach)

    def forward(self, frames: Tensor) -> Tensor:
        """``[B, in_channels, F]`` to ``[B, out_channels, F * hop]``."""
        columns = self.conv(frames)[:, None]
        for scale, smoothing in zip(self.scales, self.smoothings, strict=True):
            columns = columns[..., None].expand(-1, -1, -1, -1, scale).flatten(-2)
            columns = smoothing(columns)
        return F.pad(columns[:, 0], (0, 0, 0, self.out_channels - self.in_channels))


class TransposedUpsamplingEncoder(nn.Module):
    """Frames to samples by transposed convolutions and ReLUs, one pair for every scale.

    ``[B, in_channels, F]`` to ``[B, out_channels, F * hop]``. A step's kernel is as long as its
    stride s and ``band_kernel_size`` channels high, one for all channels. So a column becomes s
    columns that depend on it alone, and the samples of a frame depend on no other frame. This is
    the upsampling of r9y9's wavenet_vocoder 0.1 (``upsample_conv``), which assumes features of at
    least 0. Output channels beyond those of the frames are zero, as in ``UpsamplingEncoder``.

    >>> encoder = TransposedUpsamplingEncoder(80, 80, scales=[4, 4, 8])
    >>> tuple(encoder(torch.rand(1, 80, 10)).shape)
    (1, 80, 1280)

    Args:
        in_channels: channels of a frame.
        out_channels: channels of the conditioning, at least as many.
        scales: upsampling factor of each step; their product is the hop.
        band_kernel_size: neighbouring channels in a kernel, an odd number.
    """

    context = 0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scales: Sequence[int],
        *,
        band_kernel_size: int = 1,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.scales = in_channels, out_channels, tuple(scales)
        self.steps = nn.ModuleList(
            nn.ConvTranspose2d(
                1,
                1,
                (band_kernel_size, scale),
                stride=(1, scale),
                padding=(band_kernel_size // 2, 0),
            )
            for scale in scales
        )

    def forward(self, frames: Tensor) -> Tensor:
        """``[B, in_channels, F]`` to ``[B, out_channels, F * hop]``."""
        columns = frames[:, None]
        for step in self.steps:
            columns = F.relu(step(columns))
        return F.pad(columns[:, 0], (0, 0, 0, self.out_channels - self.in_channels))


class SpeakerEmbedding(nn.Module):
    """A learnt vector per speaker: ``[B]`` to ``[B, channels, 1]``.

    >>> tuple(SpeakerEmbedding(10, 16)(torch.tensor([3, 7])).shape)
    (2, 16, 1)

    Args:
        speakers: how many.
        channels: length of the vector.
    """

    def __init__(self, speakers: int, channels: int) -> None:
        super().__init__()
        self.table = nn.Embedding(speakers, channels)

    def forward(self, speaker: Tensor) -> Tensor:
        """Indices ``[B]`` to ``[B, channels, 1]``, one column to be held over time.

        Raises:
            ValueError: if an index is out of range.
        """
        n = self.table.num_embeddings
        known = not (torch.compiler.is_compiling() or speaker.is_meta)
        if known and bool(((speaker < 0) | (speaker >= n)).any()):
            raise ValueError(f"speaker={speaker.tolist()} must be within 0 to {n - 1}")
        return self.table(speaker).unsqueeze(-1)
