"""Refinement of what a model generates from a mel: rows that begin and end at times of their own.

It comes behind the sampling engine and changes nothing there: the network goes on from its own
samples. Each row is refined by itself, hop by hop, so that no bit depends on the rows beside it or
on the chunks in which it is generated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wavenet.generation.threads import one_thread
from wavenet.model import WaveNet
from wavenet.nn.refine import RefinementStream
from wavenet.nn.refinement import MelRefinement, is_refinable
from wavenet.values.integers import is_integer


def passes_of(model: WaveNet, refine: int | None, *, from_mel: bool) -> int:
    """Passes of refinement for a request.

    Args:
        model: any ``WaveNet``.
        refine: what was asked for; None for the configuration's, where it is possible.
        from_mel: whether there is a mel.

    Raises:
        ValueError: if refine is no integer of at least 0, or is asked for where it cannot be.
    """
    mel = model.config.mel
    if refine is None:
        possible = from_mel and mel is not None and is_refinable(mel)
        return model.config.refinement_passes if possible else 0
    if not is_integer(refine) or refine < 0:
        raise ValueError(f"refine={refine!r} must be a number of passes, 0 for none")
    if refine and (mel is None or not from_mel):
        raise ValueError(f"refine={refine} needs a mel to refine towards; give one, or refine=0")
    return int(refine)


def make_refinement(model: WaveNet, passes: int) -> MelRefinement | None:
    """The block for a model's mel, on the CPU; None for no passes."""
    if not passes:
        return None
    assert model.config.mel is not None
    filterbank = model.mel_filterbank.detach().float().cpu()
    return MelRefinement(model.config.mel, passes, filterbank=filterbank).eval()


class RowRefiner:
    """One row of generated audio, refined while it is made.

    Args:
        block: from ``make_refinement``; shared by all rows.
        n_samples: length of the row; what is added beyond is ignored. None for all that is added.
        lead: samples ``[T]`` before the row, such as a prime, which are given and not returned; the
            first frame of the target is at their beginning.
    """

    def __init__(
        self, block: MelRefinement, n_samples: int | None = None, lead: Tensor | None = None
    ) -> None:
        self._stream = RefinementStream(block)
        self._left, self._lead = n_samples, lead
        self._to_drop = 0 if lead is None else len(lead)

    @property
    def lacks_frames(self) -> bool:
        """Return whether further frames would change what ``finish`` returns."""
        return self._stream.lacks_frames

    @torch.inference_mode()
    def add_frames(self, mel: Tensor) -> None:
        """Add the next columns ``[M, F]`` of the target, before the samples that they describe."""
        self._stream.add_frames(mel[None])

    @one_thread()
    @torch.inference_mode()
    def add(self, samples: Tensor) -> Tensor:
        """Add the next samples ``[n]``, and return those that are refined by now."""
        if self._left is not None:
            samples = samples[: self._left]
            self._left -= len(samples)
        if self._lead is not None:
            samples = torch.cat((self._lead.to(samples), samples))
            self._lead = None
        return self._kept(self._stream.add(samples[None]))

    @one_thread()
    @torch.inference_mode()
    def finish(self) -> Tensor:
        """Return the rest: in all as many samples as were added."""
        return self._kept(self._stream.finish())

    def _kept(self, refined: Tensor) -> Tensor:
        row = refined[0].clamp(-1, 1)
        dropped = min(self._to_drop, len(row))
        self._to_drop -= dropped
        return row[dropped:]


class RefinedRows:
    """A batch of rows ``[B, n]`` that begin together and end each at its own time.

    Attributes:
        latency_samples: most samples that must have been generated after one before it comes out.
        latency_ms: the same in milliseconds.

    Args:
        block: from ``make_refinement``.
        mels: the target of each row, ``[M, F]``.
        n_samples: length of each row.
        leads: samples before each row, ``[B, T]``, or None.
    """

    def __init__(
        self,
        block: MelRefinement,
        mels: list[Tensor],
        n_samples: list[int],
        leads: Tensor | None = None,
    ) -> None:
        self._lengths, self._added, self._returned = n_samples, 0, 0
        self._rows: list[RowRefiner | None] = []
        for row, (mel, length) in enumerate(zip(mels, n_samples, strict=True)):
            refiner = RowRefiner(block, length, None if leads is None else leads[row])
            refiner.add_frames(mel)
            self._rows.append(refiner)
        self._ready = [torch.zeros(0, dtype=torch.float32) for _ in self._rows]
        self.latency_samples = block.delay_samples + block.step - 1
        self.latency_ms = 1000 * self.latency_samples / block.mel.sample_rate

    @property
    def n_ready(self) -> int:
        """Samples that can be taken: those that no row which goes on still lacks."""
        running = [len(ready) for ready, row in zip(self._ready, self._rows, strict=True) if row]
        return min(running, default=max(self._lengths) - self._returned)

    def add(self, samples: Tensor) -> None:
        """Add generated samples ``[B, n]``; of rows that have ended they are ignored."""
        self._added += samples.shape[1]
        for row, refiner in enumerate(self._rows):
            if refiner is None:
                continue
            parts = [self._ready[row], refiner.add(samples[row])]
            if self._added >= self._lengths[row]:
                parts.append(refiner.finish())
                self._rows[row] = None
            self._ready[row] = torch.cat(parts)

    def take(self, n: int) -> Tensor:
        """The next ``[B, n]``, at most ``n_ready``; behind its end a row has zeros."""
        taken = torch.zeros(len(self._ready), n, dtype=torch.float32)
        for row, ready in enumerate(self._ready):
            own = ready[:n]
            taken[row, : len(own)] = own
            self._ready[row] = ready[n:]
        self._returned += n
        return taken
