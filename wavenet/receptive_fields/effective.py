"""The effective receptive field: how much of its receptive field a trained network uses.

Luo, Li, Urtasun and Zemel (2016) found that the influence of an input on an output is far from even
over the field: it falls off like a Gaussian, and training widens it. Measured here on real audio:

    s(l) = mean over times t of | d (r . y[t]) / d x[t - l] |,       l = -look_ahead .. look_back,

r a vector of random signs over the channels of y, drawn anew for each t, so that all channels count
alike and do not cancel systematically. The effective field is given by the share of s within the n
samples nearest to the output's own time.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wavenet.features import log_mel
from wavenet.nn.causal import Causal, check_positive
from wavenet.receptive_fields.analysis import receptive_field
from wavenet.receptive_fields.field import milliseconds
from wavenet.receptive_fields.module_tracker import named_outputs

SHARES = (0.5, 0.9, 0.99)
"""Shares of the sensitivity whose distances are reported."""


@dataclass(frozen=True, eq=False)
class EffectiveField:
    """The sensitivity of a network's output to its input, by lag.

    Attributes:
        lags: ``[R]``, samples before the output's own time; negative ones are after it.
        sensitivity: ``[R]``, mean absolute gradient at each lag, scaled to the sum 1.
        sample_rate: in Hz, or None.
        positions: times t that were averaged over.
    """

    lags: Tensor
    sensitivity: Tensor
    sample_rate: int | None
    positions: int

    @property
    def within(self) -> Tensor:
        """``[N]``: entry n - 1 is the share of the n samples nearest to the output's time.

        For a causal network these are its last n samples.
        """
        distance = self.lags.abs()
        shares = torch.zeros(int(distance.max()) + 1, dtype=torch.float64)
        return shares.index_add(0, distance, self.sensitivity).cumsum(0)

    def samples(self, share: float) -> int:
        """The least n with which the last n samples hold this share of the sensitivity.

        Raises:
            ValueError: if share is not within 0 to 1.
        """
        if not 0 < share <= 1:
            raise ValueError(f"share={share} must be above 0 and at most 1")
        enough = self.within >= share - 1e-12
        return int(enough.nonzero()[0]) + 1 if bool(enough.any()) else len(enough)

    def to_dict(self) -> dict[str, Any]:
        """The points of 50, 90 and 99 %, in samples and milliseconds."""
        points = {}
        for share in SHARES:
            n = self.samples(share)
            points[f"{100 * share:g}%"] = {
                "samples": n,
                "milliseconds": milliseconds(n, self.sample_rate),
            }
        return {
            "field_samples": len(self.lags),
            "sample_rate": self.sample_rate,
            "positions": self.positions,
            "within": points,
        }

    def to_json(self) -> str:
        """``to_dict`` as one line of JSON."""
        return json.dumps(self.to_dict())

    def __str__(self) -> str:
        """Format one line per share."""
        lines = [f"effective receptive field, averaged over {self.positions} times:"]
        for share in SHARES:
            n = self.samples(share)
            ms = milliseconds(n, self.sample_rate)
            text = "" if ms is None else f" = {ms:.3f} ms"
            lines.append(f"{100 * share:g} % of the sensitivity within {n} samples{text}")
        return "\n".join([*lines, f"of a field of {len(self.lags)} samples"])


def effective_field(
    module: nn.Module,
    audio: Tensor,
    sample_rate: int | None = None,
    *,
    positions: int = 64,
    seed: int = 0,
) -> EffectiveField:
    """The effective receptive field of a network on real audio (Luo et al. 2016, section 2).

    A model with conditioning gets the log-mel of the audio itself, zeros for other features, and
    its first speaker. A causal block without a ``condition`` of its own gets zeros.

    >>> net = wavenet.Chain(*(wavenet.CausalConv1d(1, 1, 2, dilation=2**i) for i in range(4)))
    >>> field = effective_field(net, torch.randn(1000), sample_rate=16000, positions=8)
    >>> field.samples(1.0)
    16

    Args:
        module: takes ``[B, 1, T]`` and gives one output sample per input sample, ``[B, P, T]``.
        audio: ``[T]`` or ``[C, T]``, longer than the receptive field.
        sample_rate: in Hz, for milliseconds; default, the module's own.
        positions: how many times t to average over, spread evenly where there is sound.
        seed: of the random signs.

    Raises:
        ValueError: if the audio is shorter than the field, or the field has no end, or the
            network changes the rate.
    """
    check_positive("positions", positions)
    audio = audio[None] if audio.ndim == 1 else audio
    shape = (1, *audio.shape)
    field = receptive_field(module, sample_rate, input_shape=shape)
    if not field.is_finite or isinstance(field.samples, tuple) or field.stride != 1:
        raise ValueError(
            "an effective receptive field needs a finite field and an output per sample, but "
            f"samples={field.samples}, stride={field.stride}"
        )
    back, ahead = field.look_back, field.look_ahead
    length = back + 1 + ahead
    if audio.shape[-1] < length:
        raise ValueError(
            f"audio has {audio.shape[-1]} samples, fewer than the receptive field of {length}; "
            "give a longer recording"
        )
    times = _times(audio, back, ahead, positions)
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(length, dtype=torch.float64)
    training = module.training
    module.eval()
    try:
        for t in times:
            segment = audio[None, :, t - back : t + ahead + 1].detach().clone().requires_grad_()
            cond = _conditioning(module, audio, t - back, length)
            total += _sensitivity(module, segment, cond, back, generator)
    finally:
        module.train(training)
    if not float(total.sum()) > 0:
        raise ValueError("the output does not depend on this audio: its gradient is zero")
    lags = torch.arange(back, -ahead - 1, -1)
    return EffectiveField(lags, total / total.sum(), field.sample_rate, len(times))


def _sensitivity(
    module: Any, segment: Tensor, cond: Tensor | None, at: int, generator: torch.Generator
) -> Tensor:
    """Absolute gradient ``[T]`` of output ``at``, with random signs over its channels."""
    if cond is None:
        result = module(segment)
    else:  # the segment holds the whole field: the state before it has no effect
        result = module.stream(segment, module.init_state(1), cond)[0]
    _, output = named_outputs(result)[-1]
    y = output[0, :, at]
    signs = torch.randint(0, 2, y.shape, generator=generator).to(y) * 2 - 1
    (gradient,) = torch.autograd.grad((signs * y).sum(), segment)
    return gradient[0].abs().sum(0).double()


def _conditioning(module: Any, audio: Tensor, start: int, length: int) -> Tensor | None:
    """The conditioning of a segment of the audio, ``[1, cond_channels, length]``, or one column.

    It is computed on the segment and its surroundings, so a long recording costs no memory.
    """
    width = getattr(module, "cond_channels", None)
    if not isinstance(module, Causal) or width is None:
        return None
    model: Any = module
    config = getattr(module, "config", None)
    if not hasattr(module, "condition") or config is None:
        like = next(module.parameters())
        return torch.zeros(1, width, 1, device=like.device, dtype=like.dtype)
    with torch.no_grad():
        if config.local is None:
            cond: Tensor = model.condition(conditions=model.example_conditions(), n_samples=length)
            return cond
        hop, n_fft = config.local.hop_samples, getattr(config.mel, "n_fft", 0)
        margin = hop * (model.context_frames + math.ceil(n_fft / hop) + 1)
        begin = max(0, (start - margin) // hop * hop)  # frames stay where they are in the whole
        around = audio[:, begin : start + length + margin]
        n_samples = around.shape[-1]
        given = model.example_conditions(1, math.ceil(n_samples / hop))
        if config.mel is not None:
            given["mel"] = log_mel(around, config.mel, model.mel_filterbank)
        cond = model.condition(conditions=given, n_samples=n_samples)
    return cond[..., start - begin : start - begin + length]


def _times(audio: Tensor, back: int, ahead: int, positions: int) -> list[int]:
    """Times with the whole field around them, evenly among those that are not near silence."""
    last = audio.shape[-1] - ahead
    candidates = torch.arange(back, last)
    power = audio.square().mean(0)
    smooth = torch.nn.functional.avg_pool1d(power[None], 401, 1, 200)[0][back:last]
    loud = candidates[smooth >= smooth.median()]
    picked = torch.linspace(0, len(loud) - 1, min(positions, len(loud))).round().long()
    return [int(t) for t in loud[picked]]
