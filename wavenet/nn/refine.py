"""Refine audio towards a log-mel spectrogram: whole signals, and signals that arrive in chunks.

``MelRefinement`` is a causal block, with silence before its first sample. A file has ends, beyond
which ``log_mel`` reflects it. So the block processes the reflected signal, with the target
reflected likewise. Frames are symmetric about the first sample for both kinds of padding, and every
pass keeps this symmetry. About the last sample they need not be symmetric; there, the target is
interpolated between frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from wavenet.features.mel_config import MelConfig
from wavenet.nn.refinement import DEFAULT_PASSES, MelRefinement
from wavenet.values.integers import as_integer

MIRRORED_WINDOWS = 2
"""Length of the reflected signal before the first sample, in windows: more changes the output by
less than -80 dB."""
_MOST_HOPS = 256
"""Largest number of hops that are processed at once."""


Signal = TypeVar("Signal")
"""A tensor, or an array of numpy."""


def refine(
    audio: Signal,
    mel: Any,
    mel_config: MelConfig,
    passes: int = DEFAULT_PASSES,
    *,
    filterbank: Tensor | None = None,
) -> Signal:
    """Refine a signal towards a target mel, starting from the signal's phase.

    Use it on the output of any vocoder, Griffin-Lim or WORLD, with the mel that it was synthesised
    from; ``wavenet.nn.refinement`` describes the method.

    >>> config = wavenet.MelConfig()
    >>> speech = torch.randn(8000) / 10
    >>> mel = wavenet.log_mel(speech, config)
    >>> better = refine(torch.randn(8000) / 10, mel, config, passes=4)
    >>> tuple(better.shape)
    (8000,)

    Args:
        audio: ``[..., T]`` at ``mel_config.sample_rate``, a tensor or an array of floats.
        mel: the target, ``[..., n_mels, F]`` as ``log_mel`` computes it; F is ``frames(T)``, or one
            more or less.
        mel_config: settings of the mel.
        passes: 0 returns the audio as it is; each costs about 0.2 % of a core in real time.
        filterbank: ``[n_mels, n_fft / 2 + 1]``, such as a checkpoint keeps; default, the mel's.

    Returns:
        ``[..., T]``, of the type and dtype of ``audio``. Samples may exceed [-1, 1].

    Raises:
        TypeError: if audio or mel is no tensor or array of floats.
        ValueError: if shapes do not match each other or the settings, audio or mel has values that
            are not finite, or passes is negative.
    """
    signal, target = _as_tensor("audio", audio), _as_tensor("mel", mel)
    passes = as_integer("passes", passes, least=0)
    _check_shapes(signal, target, mel_config)
    _check_finite("audio", signal)
    _check_finite("mel", target)
    if passes == 0 or not signal.numel():
        return audio
    dtype = torch.float64 if signal.dtype == torch.float64 else torch.float32
    block = MelRefinement(mel_config, passes, filterbank=filterbank).to(signal.device, dtype)
    rows = signal.reshape(-1, signal.shape[-1]).to(dtype)
    frames = target.to(rows).expand(*signal.shape[:-1], -1, -1)
    stream = RefinementStream(block, len(rows))
    stream.add_frames(frames.reshape(len(rows), *frames.shape[-2:]))
    refined = torch.cat((stream.add(rows), stream.finish()), dim=-1).reshape(signal.shape)
    refined = refined.to(signal.dtype)
    return cast(Signal, refined.numpy() if isinstance(audio, np.ndarray) else refined)


class RefinementStream:
    """Refinement of signals ``[B, n]`` of one length that arrive in chunks.

    The output has the same bits for every division into chunks.

    Attributes:
        latency_samples: most samples after an output that have to be added before it is returned.

    Args:
        block: the refinement, on any device.
        batch_size: rows B.
    """

    def __init__(self, block: MelRefinement, batch_size: int = 1) -> None:
        self.block = block
        self._hop, self._delay = block.step, block.delay_samples
        self.latency_samples = self._delay + self._hop - 1
        # Reflected samples before the first: no more than the delay of the first output.
        wanted = MIRRORED_WINDOWS * block.mel.win_samples
        self._before = min(wanted, self._delay) // self._hop * self._hop
        self._state = block.init_state(batch_size)
        like = block.spread
        self._samples = torch.zeros(batch_size, 0, device=like.device, dtype=like.dtype)
        self._frames = torch.zeros(batch_size, block.mel.n_mels, 0).to(like)
        self._first_sample = self._first_frame = 0  # of those that are kept
        self._next = -self._before  # next sample to process
        self._to_drop = self._before + self._delay
        self._returned = 0

    @property
    def lacks_frames(self) -> bool:
        """Return whether further frames would change what ``finish`` returns."""
        n_samples = self._first_sample + self._samples.shape[-1]
        return self._first_frame + self._frames.shape[-1] < self._hops_to(n_samples)

    def _hops_to(self, n_samples: int) -> int:
        """Return the number of hops to process for so many samples of output."""
        return -(-(n_samples + self._delay) // self._hop)

    def add_frames(self, frames: Tensor) -> None:
        """Add the next columns ``[B, n_mels, F]`` of the target, before the samples they cover."""
        self._frames = torch.cat((self._frames, frames.to(self._frames)), dim=-1)

    def add(self, samples: Tensor) -> Tensor:
        """Add the next samples ``[B, n]``, and return those that are refined by now."""
        self._samples = torch.cat((self._samples, samples.to(self._samples)), dim=-1)
        parts = [self._samples[:, :0]]
        n_known = self._first_sample + self._samples.shape[-1]
        if self._next < 0 and n_known > self._before:
            parts.append(self._advance(self._before, None))
        n_ready = min(n_known // self._hop, self._first_frame + self._frames.shape[-1]) * self._hop
        if self._next >= 0:
            parts.extend(self._advance_to(n_ready, None))
        self._forget()
        return torch.cat(parts, dim=-1)

    def finish(self) -> Tensor:
        """Return the remaining samples: the output has as many samples as the input.

        Raises:
            ValueError: if no sample or no frame was added.
        """
        n_samples = self._first_sample + self._samples.shape[-1]
        if not n_samples or not self._frames.shape[-1]:
            raise ValueError("nothing to refine; add samples and frames before the end")
        parts = [self._samples[:, :0]]
        if self._next < 0:
            parts.append(self._advance(self._before, n_samples))
        parts.extend(self._advance_to(self._hops_to(n_samples) * self._hop, n_samples))
        return torch.cat(parts, dim=-1)

    def _advance_to(self, stop: int, end: int | None) -> Iterator[Tensor]:
        """Process the samples before ``stop``, some at a time."""
        while self._next < stop:
            yield self._advance(min(stop - self._next, _MOST_HOPS * self._hop), end)

    def _advance(self, n: int, end: int | None) -> Tensor:
        """Process the next n samples; the signal ends at ``end``, if known."""
        at = torch.arange(self._next, self._next + n)
        samples = self._samples[:, _reflected(at, end) - self._first_sample]
        hops = torch.arange(self._next // self._hop, (self._next + n) // self._hop)
        refined, self._state = self.block.stream_frames(
            samples[:, None], self._state, self._targets(hops, end)
        )
        self._next += n
        kept = refined[:, 0, min(self._to_drop, n) :]
        self._to_drop -= n - kept.shape[-1]
        if end is not None:
            kept = kept[:, : end - self._returned]
        self._returned += kept.shape[-1]
        return kept

    def _targets(self, hops: Tensor, end: int | None) -> Tensor:
        """Columns of the target for these hops, ``[B, n_mels, len(hops)]``."""
        hop, centre = self._hop, self.block.mel.centre_samples
        last = self._first_frame + self._frames.shape[-1] - 1
        mirrored = (_reflected(hops * hop + centre, end) - centre).double() / hop
        inside = (hops >= 0) & (hops <= last)
        place = torch.where(inside, hops.double(), mirrored).clamp(0, last) - self._first_frame
        low = place.floor().long()
        high = (low + 1).clamp(max=self._frames.shape[-1] - 1)
        share = (place - low).to(self._frames)
        return torch.lerp(self._frames[..., low], self._frames[..., high], share)

    def _forget(self) -> None:
        """Drop samples and frames that the reflection at the end cannot need."""
        behind = self._delay + 2 * self._hop
        # These are views: the next `cat` frees the rest of their memory.
        drop = max(0, self._next - behind - self._first_sample)
        self._samples = self._samples[:, drop:]
        self._first_sample += drop
        drop = max(0, (self._next - behind) // self._hop - 1 - self._first_frame)
        self._frames = self._frames[..., drop:]
        self._first_frame += drop


def _reflected(at: Tensor, n_samples: int | None) -> Tensor:
    """Positions in the signal of the samples ``at`` of the reflected one; None: no end known."""
    if n_samples is None:
        return at.abs()
    period = max(2 * (n_samples - 1), 1)
    inside = at.remainder(period)
    return torch.minimum(inside, period - inside).clamp(max=n_samples - 1)


def _as_tensor(name: str, value: object) -> Tensor:
    """Return the value as a tensor of floats."""
    found = value
    if isinstance(value, np.ndarray) and value.dtype.itemsize <= np.float64().itemsize:
        # torch takes no array that is read-only, backwards or of another byte order.
        native = value.astype(value.dtype.newbyteorder("="), copy=False)
        found = torch.from_numpy(np.require(native, requirements=["C", "W"]))
    if not isinstance(found, Tensor) or not found.is_floating_point():
        kind = getattr(value, "dtype", type(value).__name__)
        raise TypeError(f"{name} is {kind}; give a tensor or an array of floats, at most 64 bits")
    return found


def _check_finite(name: str, value: Tensor) -> None:
    """Raise ValueError for NaN and infinity, which the overlapping frames would spread."""
    if not bool(value.isfinite().all()):
        raise ValueError(f"{name} has values that are not finite; replace them, or cut them out")


def _check_shapes(audio: Tensor, mel: Tensor, config: MelConfig) -> None:
    """Raise ValueError unless the shapes of audio and mel match."""
    if audio.ndim == 0 or audio.shape[-1] == 0:
        raise ValueError(f"audio has shape {list(audio.shape)}; give [..., T] with samples")
    if mel.ndim < 2 or mel.shape[-2] != config.n_mels or mel.shape[-1] == 0:
        raise ValueError(
            f"mel has shape {list(mel.shape)}, expected [..., {config.n_mels}, F] by mel_config"
        )
    if mel.ndim > 2 and mel.shape[:-2] != audio.shape[:-1]:
        raise ValueError(
            f"mel has rows {list(mel.shape[:-2])} and audio {list(audio.shape[:-1])}; give one mel "
            "[n_mels, F], or one for each row"
        )
    n_frames = config.frames(audio.shape[-1])
    if abs(mel.shape[-1] - n_frames) > 1:
        raise ValueError(
            f"mel has {mel.shape[-1]} frames, but audio of {audio.shape[-1]} samples has "
            f"{n_frames} by mel_config; cut the audio or make the mel with these settings"
        )
