"""Refine audio towards a log-mel spectrogram: whole signals, and signals that arrive in pieces.

``MelRefinement`` is a causal block, with silence before its first sample. A file has ends, beyond
which ``log_mel`` continues it as its mirror image. So what goes through the block is the mirrored
signal, with the target mirrored likewise: where frames lie symmetrically about the first sample,
as they do for both kinds of padding, every pass keeps the symmetry. About the last sample they need
not lie so; there, the target is interpolated between frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet.features.mel_config import MelConfig
from wavenet.nn.refinement import DEFAULT_PASSES, MelRefinement

MIRRORED_WINDOWS = 2
"""Length of the mirror image before the first sample, in windows. What passes make of its far end
fades on the way: more changes the output by less than -80 dB."""
_MOST_HOPS = 256
"""Most that go through the block at once."""


def refine(
    audio: Any,
    mel: Any,
    mel_config: MelConfig,
    passes: int = DEFAULT_PASSES,
    *,
    filterbank: Tensor | None = None,
) -> Any:
    """Bring the mel of a signal to a target, keeping the phase as far as that goes.

    For the output of any vocoder, Griffin-Lim or WORLD, beside the mel that it was made from; the
    method is described in ``wavenet.nn.refinement``.

    Args:
        audio: ``[..., T]`` at ``mel_config.sample_rate``, a tensor or an array of floats.
        mel: the target, ``[..., n_mels, F]`` as ``log_mel`` makes it; F is ``frames(T)``, or one
            more or less.
        mel_config: settings of the mel.
        passes: 0 returns the audio as it is; each costs about 0.2 % of a core in real time.
        filterbank: ``[n_mels, n_fft / 2 + 1]``, such as a checkpoint keeps; default, the mel's.

    Returns:
        ``[..., T]``, of the kind and type of ``audio``. Samples may lie outside [-1, 1].

    Raises:
        TypeError: if audio or mel is no tensor or array of floats.
        ValueError: if shapes do not fit each other or the settings, or passes is negative.
    """
    signal, target = _as_tensor("audio", audio), _as_tensor("mel", mel)
    if isinstance(passes, bool) or not isinstance(passes, int) or passes < 0:
        raise ValueError(f"passes={passes!r} must be an integer of at least 0")
    _check_shapes(signal, target, mel_config)
    if passes == 0:
        return audio
    dtype = torch.float64 if signal.dtype == torch.float64 else torch.float32
    block = MelRefinement(mel_config, passes, filterbank=filterbank).to(signal.device, dtype)
    rows = signal.reshape(-1, signal.shape[-1]).to(dtype)
    frames = target.to(rows).expand(*signal.shape[:-1], -1, -1)
    stream = RefinementStream(block, len(rows))
    stream.add_frames(frames.reshape(len(rows), *frames.shape[-2:]))
    refined = torch.cat((stream.add(rows), stream.finish()), dim=-1).reshape(signal.shape)
    refined = refined.to(signal.dtype)
    return refined.numpy() if isinstance(audio, np.ndarray) else refined


class RefinementStream:
    """Signals ``[B, n]`` of one length that arrive in pieces, refined as soon as they can be.

    The samples that come out are, bit for bit, the same for every division into pieces.

    Attributes:
        latency_samples: an output is there when at most so many samples after it have been added.

    Args:
        block: does the work, wherever its buffers lie.
        batch_size: rows B.
    """

    def __init__(self, block: MelRefinement, batch_size: int = 1) -> None:
        self.block = block
        self._hop, self._delay = block.step, block.delay_samples
        self.latency_samples = self._delay + self._hop - 1
        # Mirrored samples before the first: no more than come anyway before the first output.
        wanted = MIRRORED_WINDOWS * block.mel.win_samples
        self._before = min(wanted, self._delay) // self._hop * self._hop
        self._state = block.init_state(batch_size)
        like = block.spread
        self._samples = torch.zeros(batch_size, 0, device=like.device, dtype=like.dtype)
        self._frames = torch.zeros(batch_size, block.mel.n_mels, 0).to(like)
        self._first_sample = self._first_frame = 0  # kept ones
        self._next = -self._before  # sample that goes through the block next
        self._to_drop = self._before + self._delay
        self._returned = 0

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
        """Return what is left: as many samples come out as were added.

        Raises:
            ValueError: if no sample or no frame was added.
        """
        n_samples = self._first_sample + self._samples.shape[-1]
        if not n_samples or not self._frames.shape[-1]:
            raise ValueError("nothing to refine; add samples and frames before the end")
        parts = [self._samples[:, :0]]
        if self._next < 0:
            parts.append(self._advance(self._before, n_samples))
        n_hops = -(-(n_samples + self._delay) // self._hop)
        parts.extend(self._advance_to(n_hops * self._hop, n_samples))
        return torch.cat(parts, dim=-1)

    def _advance_to(self, stop: int, end: int | None) -> Iterator[Tensor]:
        """Send the samples before ``stop`` through the block, some at a time."""
        while self._next < stop:
            yield self._advance(min(stop - self._next, _MOST_HOPS * self._hop), end)

    def _advance(self, n: int, end: int | None) -> Tensor:
        """Send the next n samples through the block; the signal ends at ``end``, if known."""
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
        """Columns of the target for the hops of these numbers, ``[B, n_mels, len(hops)]``."""
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
        """Drop what the mirror image at the end cannot need."""
        behind = self._delay + 2 * self._hop
        # These are views: the next `cat` leaves behind what they do not show.
        drop = max(0, self._next - behind - self._first_sample)
        self._samples = self._samples[:, drop:]
        self._first_sample += drop
        drop = max(0, (self._next - behind) // self._hop - 1 - self._first_frame)
        self._frames = self._frames[..., drop:]
        self._first_frame += drop


def _reflected(at: Tensor, n_samples: int | None) -> Tensor:
    """Where the samples ``at`` of the mirrored signal lie in the signal, whose end may be open."""
    if n_samples is None:
        return at.abs()
    period = max(2 * (n_samples - 1), 1)
    inside = at.remainder(period)
    return torch.minimum(inside, period - inside).clamp(max=n_samples - 1)


def _as_tensor(name: str, value: object) -> Tensor:
    """The value as a tensor of floats."""
    found = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
    if not isinstance(found, Tensor) or not found.is_floating_point():
        kind = found.dtype if isinstance(found, Tensor) else type(value).__name__
        raise TypeError(f"{name} is {kind}; give a tensor or an array of floats")
    return found


def _check_shapes(audio: Tensor, mel: Tensor, config: MelConfig) -> None:
    """Raise ValueError unless the mel may be that of the audio."""
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
