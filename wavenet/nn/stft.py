r"""Short-time Fourier transform and its inverse as streaming blocks.

With a periodic Hann window w of `win_samples` = L, frames `hop_samples` = H apart and K = n_fft,

    X[k, f] = sum_{n < L} w[n] x[H f + first_sample + n] exp(-2 pi i k n / K)

The inverse is the least-squares one (Griffin and Lim 1984, equation 6): the signal whose transform
is nearest to the given frames. With y_f the inverse transform of frame f, truncated to L samples:

    y[t] = sum_f w[t - H f] y_f[t - H f] / sum_f w[t - H f]^2

The denominator has period H, so both are linear and the same at every hop. The phase refers to the
first sample of the window; `torch.stft` with a shorter window than n_fft refers it to
(n_fft - win_samples) / 2 samples before.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.nn.causal import Causal, check_positive
from wavenet.nn.state import State
from wavenet.values.autocast import without_autocast
from wavenet.values.computed_buffers import ComputedBuffers

SMALLEST_OVERLAP = 0.05
"""Least sum of squared windows over a sample: below, the inverse amplifies rounding and noise."""


class CausalSTFT(ComputedBuffers, Causal):
    """``x [B, 1, T]`` to ``[B, n_fft + 2, T / hop_samples]``: real parts, then imaginary parts.

    Column n of a stream is frame ``n - delay_frames``: the newest frame whose window ends by the
    first sample of hop n. ``analyse`` returns the same frames as complex numbers.

    >>> block = CausalSTFT(512, 128)
    >>> tuple(block(torch.randn(1, 1, 16000)).shape), block.delay_frames
    ((1, 514, 125), 4)

    Attributes:
        out_channels: n_fft + 2.
        delay_frames: see above.
        history_samples: samples that the state keeps, and the ``delay``: column n is the frame
            whose window begins at sample ``hop_samples * n - history_samples``.

    Args:
        n_fft: length of the transform, even.
        hop_samples: distance of two frames; calls take a multiple of it.
        win_samples: length of the Hann window, at most n_fft; default, n_fft.
        first_sample: index in x of the first sample of frame 0's window, from 1 - win_samples to 0.

    Raises:
        ValueError: if the lengths are not of this kind.
    """

    window: Tensor

    def __init__(
        self,
        n_fft: int,
        hop_samples: int,
        *,
        win_samples: int | None = None,
        first_sample: int = 0,
    ) -> None:
        super().__init__()
        win_samples = _window_length(n_fft, hop_samples, win_samples)
        if not -win_samples < first_sample <= 0:
            raise ValueError(
                f"first_sample={first_sample} must be within {1 - win_samples} to 0, so that "
                "frame 0 contains the first sample"
            )
        self.in_channels, self.out_channels = 1, n_fft + 2
        self.n_fft, self.hop_samples, self.win_samples = n_fft, hop_samples, win_samples
        self.first_sample = first_sample
        self.rate, self.step = Fraction(1, hop_samples), hop_samples
        self.delay_frames = -(-(first_sample + win_samples - 1) // hop_samples)
        self.history_samples = hop_samples * self.delay_frames - first_sample
        self.delay = Fraction(self.history_samples)
        self.register_computed()

    def compute_buffers(self) -> dict[str, Tensor]:
        """``window [win_samples]``."""
        return {"window": torch.hann_window(self.win_samples)}

    @property
    def past(self) -> int:
        """Samples from the first of a hop back to the first nonzero one of its frame's window."""
        zero_first = self.win_samples > 1  # the periodic Hann window begins with a zero
        return self.history_samples - zero_first

    def init_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """``(x [B, 1, history_samples],)``, zeros."""
        device, dtype = device or self.window.device, dtype or self.window.dtype
        shape = (batch_size, 1, self.history_samples)
        return (torch.zeros(shape, device=device, dtype=dtype),)

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """Fill the state with the last samples of x, repeated."""
        self.check_call(x, cond)
        repeats = math.ceil(self.history_samples / x.shape[-1])
        repeated = x.repeat(1, 1, repeats)
        return (repeated[..., repeated.shape[-1] - self.history_samples :],)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, 1, T]`` to ``[B, n_fft + 2, T / hop_samples]``; see ``Causal.stream``."""
        self.check_call(x, cond)
        spectrum, after = self.analyse(x, state)
        y = torch.cat([spectrum.real, spectrum.imag], dim=-1).transpose(1, 2)
        return y.to(x.dtype), after

    def analyse(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """``[B, 1, T]`` to complex frames ``[B, T / hop_samples, n_fft / 2 + 1]``, and the state.

        Raises:
            ValueError: if the state has other shapes.
        """
        check_state(self, state, [(x.shape[0], 1, self.history_samples)])
        signal = torch.cat([state[0], x], dim=-1)
        n_frames = x.shape[-1] // self.hop_samples
        frames = signal[:, 0].unfold(-1, self.win_samples, self.hop_samples)[:, :n_frames]
        with without_autocast(x.device):
            frames = frames.to(transform_type(x.dtype))
            spectrum = torch.fft.rfft(frames * self.window.to(frames.dtype), n=self.n_fft)
        return spectrum, (signal[..., signal.shape[-1] - self.history_samples :],)

    def extra_repr(self) -> str:
        """The arguments."""
        return (
            f"{self.n_fft}, {self.hop_samples}, win_samples={self.win_samples}, "
            f"first_sample={self.first_sample}"
        )


class CausalISTFT(ComputedBuffers, Causal):
    """Frames ``[B, n_fft + 2, F]``, as ``CausalSTFT`` gives them, to ``[B, 1, F * hop_samples]``.

    The samples of column n begin with the first one of frame n's window; later frames do not
    overlap them. After a ``CausalSTFT`` of the same lengths the signal is delayed by
    ``delay_samples_behind`` samples. ``synthesise`` takes complex frames.

    >>> frames = CausalSTFT(512, 128)(torch.randn(1, 1, 16000))
    >>> tuple(CausalISTFT(512, 128)(frames).shape)
    (1, 1, 16000)

    Attributes:
        out_channels: 1.
        overlap: largest number of frames that overlap a sample.

    Args:
        n_fft: length of the transform, even.
        hop_samples: distance of two frames.
        win_samples: length of the Hann window, at most n_fft; default, n_fft.

    Raises:
        ValueError: if the lengths are not of this kind, or the windows overlap too little.
    """

    window: Tensor
    inverse_overlap: Tensor

    def __init__(self, n_fft: int, hop_samples: int, *, win_samples: int | None = None) -> None:
        super().__init__()
        win_samples = _window_length(n_fft, hop_samples, win_samples)
        if not overlaps_enough(hop_samples, win_samples):
            raise ValueError(
                f"hop_samples={hop_samples} leaves samples that no window of win_samples="
                f"{win_samples} covers; use a hop of at most half of the window"
            )
        self.in_channels, self.out_channels = n_fft + 2, 1
        self.n_fft, self.hop_samples, self.win_samples = n_fft, hop_samples, win_samples
        self.rate = Fraction(hop_samples)
        self.overlap = -(-win_samples // hop_samples)
        self.register_computed()

    def compute_buffers(self) -> dict[str, Tensor]:
        """``window [win_samples]`` and ``inverse_overlap [hop_samples]``."""
        return {
            "window": torch.hann_window(self.win_samples),
            "inverse_overlap": 1 / overlap_sum(self.hop_samples, self.win_samples),
        }

    @property
    def past(self) -> int:
        """Frames before the newest that overlap its first sample."""
        return self.overlap - 1

    def oldest_input(self, n: int) -> int:
        """The first frame that overlaps sample n."""
        frame, offset = divmod(n, self.hop_samples)
        return frame - (self.win_samples - 1 - offset) // self.hop_samples

    def delay_samples_behind(self, stft: CausalSTFT) -> int:
        """Delay of ``Chain(stft, self)`` in samples."""
        return stft.history_samples

    def init_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """``(sums [B, overlap - 1, hop_samples],)`` of the next hops, zeros."""
        device, dtype = device or self.window.device, dtype or self.window.dtype
        shape = (batch_size, self.overlap - 1, self.hop_samples)
        return (torch.zeros(shape, device=device, dtype=dtype),)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, n_fft + 2, F]`` to ``[B, 1, F * hop_samples]``; see ``Causal.stream``."""
        self.check_call(x, cond)
        parts = x.transpose(1, 2).to(transform_type(x.dtype))
        real, imaginary = parts.chunk(2, dim=-1)
        spectrum = torch.complex(real.contiguous(), imaginary.contiguous())
        y, after = self.synthesise(spectrum, state)
        return y.to(x.dtype), (after[0].to(x.dtype),)

    def synthesise(self, spectrum: Tensor, state: State) -> tuple[Tensor, State]:
        """Complex frames ``[B, F, n_fft / 2 + 1]`` to ``[B, 1, F * hop_samples]``, and the state.

        Raises:
            ValueError: if the state is of other shapes.
        """
        rows, n_frames, hop = spectrum.shape[0], spectrum.shape[1], self.hop_samples
        check_state(self, state, [(rows, self.overlap - 1, hop)])
        with without_autocast(spectrum.device):
            frames = torch.fft.irfft(spectrum, n=self.n_fft)[..., : self.win_samples]
        frames = frames * self.window.to(frames.dtype)
        missing = self.overlap * hop - self.win_samples
        parts = F.pad(frames, (0, missing)) if missing else frames
        parts = parts.reshape(rows, n_frames, self.overlap, hop)
        # Not into the padded state: under vmap it may lack the rows that the frames have.
        sums = F.pad(state[0].to(frames.dtype), (0, 0, 0, n_frames))
        sums = sums + F.pad(parts[:, :, 0], (0, 0, 0, self.overlap - 1))
        for i in range(1, self.overlap):
            sums[:, i : i + n_frames] += parts[:, :, i]
        y = sums[:, :n_frames] * self.inverse_overlap.to(sums.dtype)
        return y.reshape(rows, 1, n_frames * hop), (sums[:, n_frames:],)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.n_fft}, {self.hop_samples}, win_samples={self.win_samples}"


def transform_type(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype for the transform of signals of this dtype; half precision has none."""
    return dtype if dtype == torch.float64 else torch.float32


def overlaps_enough(hop_samples: int, win_samples: int) -> bool:
    """Return true if frames of these lengths have an inverse; see ``SMALLEST_OVERLAP``."""
    return float(overlap_sum(hop_samples, win_samples).min()) >= SMALLEST_OVERLAP


def overlap_sum(hop_samples: int, win_samples: int) -> Tensor:
    """``[hop_samples]``, the sum of the squared windows over each sample of a hop, on the CPU."""
    squares = torch.hann_window(win_samples, device="cpu").square()
    overlap = -(-win_samples // hop_samples)
    padded = F.pad(squares, (0, overlap * hop_samples - win_samples))
    return padded.reshape(overlap, hop_samples).sum(0)


def _window_length(n_fft: int, hop_samples: int, win_samples: int | None) -> int:
    """Check the three lengths, and return that of the window."""
    win_samples = n_fft if win_samples is None else win_samples
    for name, value in (("n_fft", n_fft), ("hop_samples", hop_samples)):
        check_positive(name, value)
    check_positive("win_samples", win_samples)
    if n_fft % 2:
        raise ValueError(f"n_fft={n_fft} must be even")
    if win_samples > n_fft:
        raise ValueError(f"win_samples={win_samples} must be at most n_fft={n_fft}")
    return win_samples


def check_state(block: Causal, state: State, expected: list[tuple[int, ...]]) -> None:
    """Raise ValueError unless the state is a tuple of tensors of these shapes."""
    found: object = type(state).__name__
    if isinstance(state, tuple):
        found = [tuple(p.shape) if isinstance(p, Tensor) else type(p).__name__ for p in state]
    if found != expected:
        raise ValueError(
            f"{type(block).__name__}: the state is {found}, expected {expected}; make it with "
            f"`state = block.init_state({expected[0][0]})` and continue with the returned one: "
            "`y, state = block.stream(x, state)`"
        )
