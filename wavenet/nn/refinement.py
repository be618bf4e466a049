r"""Refinement of audio towards a log-mel spectrogram, as a streaming block.

The mel of a vocoder's input determines the magnitudes that its output should have. One pass scales
each bin of the short-time spectrum S of the signal y, keeps the phase, and transforms back:

    r[m, f] = clamp(R[m, f] - log_mel(y)[m, f], -limit, limit)              R: the target, in nats
    g[k, f] = exp(relaxation / power * sum_m W[m, k] r[m, f])
    P(y) = least-squares inverse transform of S g       (`wavenet.nn.stft`; Griffin and Lim 1984)

W is the filterbank with each column divided by its sum; a bin outside of all bands has gain 1.
Passes alternate between two projections, as the algorithm of Griffin and Lim does with a linear
spectrogram: frames that have the mel, and frames that are the transform of a signal. With a mel,
the missing detail is estimated together with the phase: this is the joint estimation of Masuyama,
Ueno and Ono (2023, with bi-level consistency; 2025, by ADMM), here with a network's output as the
start. Between passes the signal is extrapolated, as in the fast Griffin-Lim algorithm (Perraudin,
Balazs and Soendergaard 2013), with momentum alpha:

    z_1 = P(y),    z_2 = P(z_1),    z_{i + 1} = P(z_i + alpha (z_i - z_{i - 1}))

**Delay.** A frame's window spans K hops, so a pass that waits for all frames over its input would
have a delay of K - 1 hops. Here frame f of a pass is computed once frames up to f + d - 1 of the
pass before are available, d = K / 2. Frames f + d .. f + K - 1 are still missing from the overlap
sum; the input of the previous pass replaces them, with their weight. With K = 4 this costs no
quality and saves a third of the delay; d = 1 would cost 0.2 PESQ. In every hop each pass computes
one frame, all passes as one batch of transforms: pass i the frame of d i hops before.

The constants below were chosen by PESQ; see recipes/LOG.md.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from wavenet.features import mel_filterbank
from wavenet.features.log_mel import require_filterbank
from wavenet.features.mel_config import MelConfig
from wavenet.nn.causal import Causal, check_positive
from wavenet.nn.state import State
from wavenet.nn.stft import check_state, overlap_sum, overlaps_enough, transform_type
from wavenet.values.autocast import without_autocast
from wavenet.values.computed_buffers import ComputedBuffers
from wavenet.values.size_limits import MAX_REFINEMENT_PASSES, check_at_most

DEFAULT_PASSES = 32
RELAXATION = 1.2
"""Default factor of corrections; above 1.3, passes with momentum may diverge."""
MOMENTUM = 0.8
LIMIT_NATS = 2.0
"""Largest correction of a band in a pass, 17 dB in magnitude."""
_SMALLEST_SQUARE = 1e-30


class _Weights(NamedTuple):
    """Buffers of a ``MelRefinement`` in the dtype of the computation."""

    to_bands: Tensor
    spread: Tensor
    window: Tensor
    of_sums: Tensor
    of_input: Tensor
    extrapolation: Tensor


class MelRefinement(ComputedBuffers, Causal):
    """Audio ``x [B, 1, T]`` and a target log-mel to audio ``[B, 1, T]`` with this mel.

    ``cond [B, n_mels, T]`` is the target at the rate of x: frame f at the sample on which it is
    centred, ``hop_samples * f + centre_samples`` (other columns are not read, so the mel may be
    repeated or interpolated to samples). ``stream_frames`` takes the mel at frame rate.

    Output sample t refines input sample ``t - delay_samples``. For a file use ``wavenet.refine``,
    which handles its ends and removes the delay.

    >>> block = MelRefinement(wavenet.MelConfig(), passes=2)
    >>> str(latency(block, sample_rate=16000))
    '1499 samples (93.69 ms)'

    Attributes:
        delay_samples: see above.

    Args:
        mel: settings of the target.
        passes: number of passes; time and delay are proportional to it.
        relaxation: factor of each correction, from 0 to about 1.3.
        momentum: alpha, from 0 to 1.
        limit_nats: the largest correction of a band in one pass.
        filterbank: ``[n_mels, n_fft / 2 + 1]``, such as a checkpoint keeps; default, the mel's.

    Raises:
        ValueError: if passes is below 1 or above 1024, frames of these settings have no inverse, or
            the filterbank has another shape.
    """

    to_bands: Tensor
    spread: Tensor
    window: Tensor
    of_sums: Tensor
    of_input: Tensor
    extrapolation: Tensor

    def __init__(
        self,
        mel: MelConfig,
        passes: int = DEFAULT_PASSES,
        *,
        relaxation: float = RELAXATION,
        momentum: float = MOMENTUM,
        limit_nats: float = LIMIT_NATS,
        filterbank: Tensor | None = None,
    ) -> None:
        super().__init__()
        check_positive("passes", passes)
        check_at_most("passes", passes, MAX_REFINEMENT_PASSES)
        check_refinable(mel)
        self.mel, self.passes = mel, passes
        self.relaxation, self.momentum, self.limit_nats = relaxation, momentum, limit_nats
        self.in_channels, self.cond_channels, self.step = 1, mel.n_mels, mel.hop_samples
        self._overlap = -(-mel.win_samples // mel.hop_samples)  # K
        self._frames_per_pass = max(2, -(-self._overlap // 2))  # d
        first = (mel.n_fft - mel.win_samples) // 2 - mel.pad_samples  # of frame 0's window
        self._first_frames = -(-(first + mel.win_samples - 1) // mel.hop_samples)
        self._history_samples = mel.hop_samples * self._first_frames - first
        self._history_frames = self._first_frames + self._frames_per_pass * (passes - 1)
        self.delay_samples = mel.hop_samples * self._history_frames - first
        self.delay = Fraction(self.delay_samples)
        self._given = None if filterbank is None else filterbank.detach().to("cpu", torch.float32)
        self.register_computed()

    def compute_buffers(self) -> dict[str, Tensor]:
        """Filters, windows, weights of the overlap, and factors of the extrapolation."""
        filterbank = mel_filterbank(self.mel) if self._given is None else self._given
        require_filterbank(filterbank, self.mel)
        column_sums = filterbank.sum(0)
        spread = filterbank / torch.where(column_sums > 0, column_sums, 1.0)
        extrapolation = torch.full((self.passes - 1, 1), 1 + self.momentum)
        extrapolation[:1] = 1.0  # the output of the first pass is not extrapolated
        of_sums, of_input = self._weights()
        return {
            "to_bands": filterbank.T.contiguous(),
            "spread": self.relaxation / self.mel.power * spread,
            "window": torch.hann_window(self.mel.win_samples),
            "of_sums": of_sums,
            "of_input": of_input,
            "extrapolation": extrapolation,
        }

    def _weights(self) -> tuple[Tensor, Tensor]:
        """Weights of the sums and of the input in a window, both ``[win_samples]``.

        The window is that of frame f of the next pass. The sums lack frames from f + d on; their
        squared windows at sample t are the weight of the input there.
        """
        hop, length = self.mel.hop_samples, self.mel.win_samples
        squares = torch.hann_window(length).square()
        missing = torch.zeros(length)
        for frame in range(self._frames_per_pass, self._overlap):
            missing[frame * hop :] += squares[: length - frame * hop]
        inverse = (1 / overlap_sum(hop, length)).repeat(self._overlap)[:length]
        return inverse, missing * inverse

    @property
    def past(self) -> int:
        """Left context of all passes together, delay included."""
        return max(n - self.oldest_input(n) for n in range(self.step))

    def oldest_input(self, n: int) -> int:
        """Follow output n back through the frames that overlap with each other's windows."""
        hop, length = self.step, self.mel.win_samples
        block, offset = divmod(n, hop)
        between = max(0, length - 2) // hop  # a window's first sample is zero
        frames = (self.passes - 1) * between + (length - 1 - offset) // hop
        return block * hop - self.delay_samples - frames * hop + (length > 1)

    def init_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """``(mel, x, sums, plain, extrapolated, earlier)``: columns of the target and samples that
        are still needed; the overlap sums of each pass; the next input windows of the passes after
        the first, before and after extrapolation; and earlier input windows.
        The target before the first hop is the floor, all else is zero."""
        device, dtype = device or self.spread.device, dtype or self.spread.dtype
        mel, *others = self._shapes(batch_size)
        floor = math.log(self.mel.floor) if self.mel.log == "ln" else math.log10(self.mel.floor)
        target = torch.full(mel, floor, device=device, dtype=dtype)
        return (target, *(torch.zeros(one, device=device, dtype=dtype) for one in others))

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """Repeat x until no part of the state depends on its beginning."""
        state = self.init_state(x.shape[0], device=x.device, dtype=x.dtype)
        n = self.past + (self._frames_per_pass + 1) * self.step
        return self.stream(x.repeat(1, 1, -(-n // x.shape[-1])), state, cond)[1]

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, 1, T]`` to ``[B, 1, T]``; see ``Causal.stream``."""
        self.check_call(x, cond)
        assert cond is not None
        if cond.shape[-1] == 1:
            frames = cond.expand(-1, -1, x.shape[-1] // self.step)
        else:
            frames = cond[..., self.mel.centre_samples :: self.step]
        return self.stream_frames(x, state, frames)

    def stream_frames(self, x: Tensor, state: State, frames: Tensor) -> tuple[Tensor, State]:
        """Run ``stream`` with one column of the target for each hop of x.

        Args:
            x: ``[B, 1, F * hop_samples]``.
            state: as for ``stream``.
            frames: ``[B, n_mels, F]``; column f is the target of the frame centred within hop f.

        Raises:
            ValueError: if the state is of other shapes.
        """
        check_state(self, state, self._shapes(x.shape[0]))
        work = transform_type(x.dtype)
        targets = torch.cat([state[0], frames.to(x.dtype)], dim=-1)
        signal = torch.cat([state[1], x], dim=-1)
        windows = signal[:, 0].unfold(-1, self.mel.win_samples, self.step).to(work)
        inner, made = tuple(part.to(work) for part in state[2:]), []
        with without_autocast(x.device):
            in_nats = targets.to(work) * (1.0 if self.mel.log == "ln" else math.log(10))
            wanted = self._wanted(in_nats, frames.shape[-1])
            weights = _Weights(*(getattr(self, name).to(work) for name in _Weights._fields))
            for window, target in zip(windows.split(1, dim=1), wanted, strict=False):
                y, inner = self._advance(window, inner, target, weights)
                made.append(y)
        target = targets[..., targets.shape[-1] - self._history_frames :]
        past = signal[..., signal.shape[-1] - self._history_samples :]
        after = (target, past, *(part.to(x.dtype) for part in inner))
        return torch.cat(made, dim=-1)[:, None].to(x.dtype), after

    def _wanted(self, targets: Tensor, n_frames: int) -> Tensor:
        """The target of each pass at each hop, ``[n_frames, B, passes, n_mels]``."""
        every = self._frames_per_pass
        reach = every * (self.passes - 1) + 1
        of_passes = targets.unfold(-1, reach, 1)[:, :, :n_frames, ::every].flip(-1)
        return of_passes.permute(2, 0, 3, 1)

    def _advance(
        self, window: Tensor, state: State, target: Tensor, weights: _Weights
    ) -> tuple[Tensor, State]:
        """Compute one frame of each pass.

        Args:
            window: of the signal, ``[B, 1, win_samples]``.
            state: as in ``init_state``, from the sums on.
            target: ``[B, passes, n_mels]``, in nats.
            weights: the buffers.

        Returns:
            A hop of the output ``[B, hop_samples]``, and the state.
        """
        sums, plain, extrapolated, earlier = state
        hop, length, n_fft = self.step, self.mel.win_samples, self.mel.n_fft
        before = (self._frames_per_pass - 1) * hop  # from the window of the next pass to this one
        windows = torch.cat([window, extrapolated], dim=1) * weights.window
        spectrum = torch.fft.rfft(windows, n=n_fft)
        frames = torch.fft.irfft(spectrum * self._gain(spectrum, target, weights), n=n_fft)
        sums = torch.cat([sums, torch.zeros_like(sums[..., :hop])], dim=-1)
        sums[..., before : before + length].addcmul_(frames[..., :length], weights.window)
        y = sums[:, -1, before : before + hop] * weights.of_sums[:hop]
        taken = torch.cat([window, plain], dim=1)
        plain = sums[:, :-1, :length] * weights.of_sums
        plain[..., before:].addcmul_(taken[:, :-1, : length - before], weights.of_input[before:])
        extrapolated = torch.lerp(earlier[:, 0, :-1], plain, weights.extrapolation)
        earlier = torch.cat([earlier[:, 1:], taken[:, None]], dim=1)
        return y, (sums[..., hop:], plain, extrapolated, earlier)

    def _gain(self, spectrum: Tensor, target: Tensor, weights: _Weights) -> Tensor:
        """Gain of each bin ``[B, passes, n_fft / 2 + 1]``."""
        parts = torch.view_as_real(spectrum).square()
        magnitude = parts[..., 0] + parts[..., 1]
        if self.mel.power_epsilon:
            magnitude = magnitude + self.mel.power_epsilon
        if self.mel.power == 1.0:
            # Faster than the absolute value, and with the same gradient, 0, at 0.
            magnitude = magnitude.clamp(min=_SMALLEST_SQUARE).sqrt()
        bands = (magnitude @ weights.to_bands).clamp(min=self.mel.floor)
        limited = (target - bands.log()).clamp(-self.limit_nats, self.limit_nats)
        return (limited @ weights.spread).exp()

    def _shapes(self, batch_size: int) -> list[tuple[int, ...]]:
        """Shapes of the tensors of the state."""
        length, waiting = self.mel.win_samples, self._frames_per_pass - 1
        return [
            (batch_size, self.mel.n_mels, self._history_frames),
            (batch_size, 1, self._history_samples),
            (batch_size, self.passes, (self._overlap + waiting - 1) * self.step),
            (batch_size, self.passes - 1, length),
            (batch_size, self.passes - 1, length),
            (batch_size, waiting, self.passes, length),
        ]

    def extra_repr(self) -> str:
        """Show the arguments."""
        return (
            f"passes={self.passes}, relaxation={self.relaxation}, momentum={self.momentum}, "
            f"limit_nats={self.limit_nats}"
        )


def is_refinable(mel: MelConfig) -> bool:
    """Return true if windows of these settings overlap enough for ``MelRefinement``."""
    return overlaps_enough(mel.hop_samples, mel.win_samples)


def check_refinable(mel: MelConfig) -> None:
    """Raise ValueError unless windows of these settings overlap enough for ``MelRefinement``."""
    if not is_refinable(mel):
        raise ValueError(
            f"a mel of hop_samples={mel.hop_samples} and win_samples={mel.win_samples} cannot "
            "refine audio: its windows overlap too little; use a hop of at most half of the "
            "window, or refine=0"
        )
