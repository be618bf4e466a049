"""Linear prediction inside a network: the signal as the output of a filter driven by an excitation.

With coefficients a_1 .. a_p and a gain g from the conditioning of every sample, two signals follow
from the last samples alone (Makhoul 1975, equation 1; in a neural vocoder: Valin and Skoglund 2019,
LPCNet, section 2.2):

    e[t] = (x[t] - sum_k a_k x[t - k]) / g              excitation of the current sample
    p[t] =         sum_k a_k x[t + 1 - k]               prediction of the next sample

Voiced excitation repeats itself after a pitch period L, so the next excitation resembles

    e[t + 1 - L + j],    j = -n .. n                    the neighbourhood one period ago

(the long-term predictor of speech coders; Atal and Schroeder 1970). L is a real number: between
two samples the excitation is interpolated linearly, so that rounding L has little effect.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.nn.causal import Causal, check_positive
from wavenet.nn.state import State
from wavenet.values.computed_buffers import ComputedBuffers
from wavenet.values.integers import as_integer, is_integer

EXCITATION_SCALE, PREDICTION_SCALE = 1.5, 0.3
"""Scales for unit variance: asinh(e) of speech has a standard deviation of 0.65 and asinh(p / g) of
2.9 (12 files of prompts, order 20). Unscaled, the prediction would dominate the network's input."""


class LinearPrediction(ComputedBuffers, Causal):
    """``x [B, 1, T]`` to ``(network_input, location, log_scale)``, as the conditioning predicts it.

    ``network_input`` ``[B, inputs, T]`` represents x to a network: asinh of e[t], of p[t] / g and
    of the ``pitch_taps`` values of e around one pitch period before the next sample, each scaled to
    about unit variance (asinh is linear near 0 and logarithmic far out, so neither quiet passages
    nor bursts are lost). ``location`` and ``log_scale``, both ``[B, 1, T]``, are p[t] and log g:
    the predicted next sample, and the unit in which its distance from the prediction is measured.

    The conditioning ``[B, order + 1 (+ 1), T]`` holds a_1 .. a_p, log g and, with pitch taps, the
    lag from -1 (``min_lag_samples``) to 1 (``max_lag_samples``); it is clamped there.

    >>> block = LinearPrediction(2)
    >>> cond = torch.tensor([1.8, -0.9, -3.0]).reshape(1, 3, 1).expand(1, 3, 50)
    >>> inputs, location, log_scale = block(torch.randn(1, 1, 50), cond=cond)
    >>> tuple(inputs.shape), tuple(location.shape), tuple(log_scale.shape)
    ((1, 2, 50), (1, 1, 50), (1, 1, 50))

    Attributes:
        input_scales: factor of each channel of ``network_input``, ``[inputs]``.

    Args:
        order: p, the coefficients.
        pitch_taps: an odd number of values around the lag, or 0 for none.
        min_lag_samples: the shortest pitch period, more than half of the taps.
        max_lag_samples: the longest.

    Raises:
        ValueError: if a number is not of this kind.
    """

    input_scales: Tensor

    def __init__(
        self,
        order: int,
        *,
        pitch_taps: int = 0,
        min_lag_samples: int = 32,
        max_lag_samples: int = 320,
    ) -> None:
        super().__init__()
        order = check_positive("order", order)
        if not is_integer(pitch_taps) or pitch_taps < 0 or (pitch_taps and pitch_taps % 2 == 0):
            raise ValueError(f"pitch_taps={pitch_taps} must be odd, or 0 for none")
        pitch_taps = as_integer("pitch_taps", pitch_taps, least=0)
        min_lag_samples = as_integer("min_lag_samples", min_lag_samples)
        max_lag_samples = as_integer("max_lag_samples", max_lag_samples)
        if not pitch_taps // 2 < min_lag_samples < max_lag_samples:
            raise ValueError(
                f"min_lag_samples={min_lag_samples} must be above half of pitch_taps="
                f"{pitch_taps}, and max_lag_samples={max_lag_samples} above it"
            )
        self.in_channels = 1
        self.order, self.pitch_taps = order, pitch_taps
        self.min_lag_samples, self.max_lag_samples = min_lag_samples, max_lag_samples
        self.columns = self.cond_channels = order + 1 + bool(pitch_taps)
        self.register_computed()

    def compute_buffers(self) -> dict[str, Tensor]:
        """``input_scales [inputs]``."""
        scales = [EXCITATION_SCALE, PREDICTION_SCALE] + [EXCITATION_SCALE] * self.pitch_taps
        return {"input_scales": torch.tensor(scales)}

    @property
    def inputs(self) -> int:
        """Channels of ``network_input``."""
        return 2 + self.pitch_taps

    @property
    def excitation_past(self) -> int:
        """Values of e before the newest that the pitch taps can depend on."""
        return self.max_lag_samples + self.pitch_taps // 2 - 1 if self.pitch_taps else 0

    @property
    def past(self) -> int:
        """Left context of the pitch taps, plus that of the filter."""
        return self.excitation_past + self.order

    def init_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """``(x [B, 1, order], e [B, 1, excitation_past])``, zeros."""
        factory = self._factory(device, dtype)
        lengths = self.order, self.excitation_past
        return tuple(torch.zeros(batch_size, 1, length, **factory) for length in lengths)

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """Fill the state with x and its excitation."""
        self.check_call(x, cond)
        assert cond is not None
        history = x.expand(-1, -1, self.order)
        excitation = self._filter(torch.cat([history, x], dim=-1), cond)[0]
        return (history.clone(), excitation.expand(-1, -1, self.excitation_past).clone())

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        """``((network_input, location, log_scale), state')``; see ``Causal.stream``."""
        self.check_call(x, cond)
        assert cond is not None
        self._check_state(x, state)
        signal = torch.cat([state[0], x], dim=-1)
        excitation, ahead, log_gain = self._filter(signal, cond)
        inputs = [excitation, ahead]
        past = torch.cat([state[1], excitation], dim=-1)
        if self.pitch_taps:
            inputs.append(self._one_period_ago(past, cond))
        log_gain = log_gain.expand(-1, -1, x.shape[-1])
        scaled = torch.asinh(torch.cat(inputs, dim=1)) * self.input_scales.to(x.dtype)[:, None]
        outputs = (scaled, ahead * log_gain.exp(), log_gain)
        n = x.shape[-1]
        after = signal.narrow(-1, n, self.order), past.narrow(-1, n, self.excitation_past)
        return outputs, (after[0].clone(), after[1].clone())

    def excitation(self, x: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(e, log g)`` of x ``[B, 1, T]`` after silence, each ``[B, 1, T]``."""
        signal = torch.nn.functional.pad(x, (self.order, 0))
        excitation, _, log_gain = self._filter(signal, cond)
        return excitation, log_gain

    def _filter(self, signal: Tensor, cond: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return e and p / g ``[B, 1, T]`` of ``signal [B, 1, order + T]``, and log g."""
        backwards = cond[:, : self.order].flip(1)  # [B, order, T], a_p first
        log_gain = cond[:, self.order : self.order + 1]
        # Sums of products, not matrix products: those are rounded to bfloat16 under autocast. And
        # no `Tensor.unfold`: torch.export fixes the time of a view whose samples overlap.
        windows = F.unfold(signal[:, :, None], (1, self.order))  # [B, order, T + 1]
        before = (windows[..., :-1] * backwards).sum(1, keepdim=True)
        ahead = (windows[..., 1:] * backwards).sum(1, keepdim=True)
        inverse_gain = torch.exp(-log_gain)
        excitation = (signal[..., self.order :] - before) * inverse_gain
        return excitation, ahead * inverse_gain, log_gain

    def _one_period_ago(self, past: Tensor, cond: Tensor) -> Tensor:
        """``[B, pitch_taps, T]`` of ``past [B, 1, excitation_past + T]``."""
        n = past.shape[-1] - self.excitation_past
        low, high = self.min_lag_samples, self.max_lag_samples
        lag = (low + high) / 2 + (high - low) / 2 * cond[:, -1].clamp(-1, 1)  # [B, T]
        whole = lag.detach().floor().clamp(max=high - 1)
        share = (lag - whole)[:, None]  # of the sample before
        here = torch.arange(self.excitation_past, self.excitation_past + n, device=past.device)
        reach = torch.arange(
            -1 - self.pitch_taps // 2, self.pitch_taps // 2 + 1, device=past.device
        )
        at = here + 1 - whole.long()[:, None] + reach[:, None]  # [B, taps + 1, T]
        near = past.expand(-1, self.pitch_taps + 1, -1).gather(-1, at.expand(-1, -1, n))
        return near[:, 1:] + share * (near[:, :-1] - near[:, 1:])

    def _check_state(self, x: Tensor, state: State) -> None:
        """Raise ValueError unless the state is of this block's shapes."""
        expected = [(x.shape[0], 1, self.order), (x.shape[0], 1, self.excitation_past)]
        found = [tuple(part.shape) if isinstance(part, Tensor) else part for part in state]
        if found != expected:
            raise ValueError(
                f"LinearPrediction: the state is {found}, expected {expected}; make it with "
                f"`state = block.init_state({x.shape[0]})` and continue with the returned "
                "one: `y, state = block.stream(x, state)`"
            )

    def extra_repr(self) -> str:
        """Show the arguments."""
        return (
            f"{self.order}, pitch_taps={self.pitch_taps}, "
            f"min_lag_samples={self.min_lag_samples}, max_lag_samples={self.max_lag_samples}"
        )
