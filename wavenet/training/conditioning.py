"""Check that a model uses its conditioning: validation windows, computed with another one's.

A model whose conditioning never arrives still learns: it falls below the best constant distribution
and only its sound shows that something is wrong. So validation computes each window twice, with its
own conditioning and with that of the window before it. The difference in bits per sample is what
the conditioning is worth, on the same samples and with the same weights; where it is nothing, the
run warns.

It costs one more forward pass for each validation window. With the default settings validation
sees 32 windows where training sees 4000, and a step of the ``tiny`` preset with a mel took as long
as 2.5 forward passes (4 windows of 0.25 s, one CPU core): 0.3 % of a run's time.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import torch
from torch import Tensor

from wavenet.data import WindowPlan

logger = logging.getLogger("wavenet")

Batch = dict[str, Tensor]

EARLIEST_STEP = 500
"""Before it, no warning is given: a network learns how loud its past is first.

The ``tiny`` preset on 40 minutes of prompts (batches of 4 windows of 0.25 s) gained, after 25, 50
and 150 steps, 0.16, 0.31 and 0.71 bits per sample from its mel; after 25 and 50, 0.006 and 0.015
from knowing which of three speakers it was.
"""

LEAST_GAIN_BITS = 0.001
"""A gain below this is none. Before any training it was between -0.002 and 0."""

_REMEDIES = {
    "mel": "train longer, or check that the settings of model.mel fit the audio (f_max_hz, n_mels)",
    "features": "train longer, or check that the frames fit the audio (model.features.hop_samples)",
    "speaker": "train longer, or check that folders are speakers (`wavenet inspect`)",
}


class ShuffledConditioning:
    """Collects, over a validation, what windows need with their own conditioning and another's.

    Each window gets the mel of the window before it, be that in the batch before; without a mel,
    its speaker or another condition, and those that have the same do not count. The very first
    window gets that of the last one of its batch.

    Args:
        plan: of the windows: what they are conditioned on.
        warmup_steps: while the learning rate rises nothing is judged, nor before
            ``EARLIEST_STEP``.
    """

    def __init__(self, plan: WindowPlan, warmup_steps: int = 0) -> None:
        self.earliest = max(EARLIEST_STEP, warmup_steps)
        constant = [one.name for one in plan.conditions if one.name != "speaker"]
        self._in_frames = plan.frame_channels > 0
        if self._in_frames:
            self.name = "mel" if plan.features is None else "features"
        else:
            self.name = "speaker" if len(plan.speakers) > 1 or not constant else constant[0]
        self._keys = ("mel", "frame") if self._in_frames else (self.name,)
        self.applies = self.name != "speaker" or len(plan.speakers) > 1
        self._warned = False
        self.start(torch.device("cpu"))

    def start(self, device: torch.device) -> None:
        """Forget what was collected."""
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)
        self._before: Batch | None = None

    def add(
        self, batch: Batch, own: Tensor, count: Tensor, nats: Callable[[Batch], Tensor]
    ) -> None:
        """Windows ``[B, ...]``.

        Args:
            batch: as ``Windows`` makes it, collated.
            own: what each needs with its own conditioning, in nats, ``[B]`` float64.
            count: samples in it that count, ``[B]`` float64.
            nats: gives ``own`` for a batch.
        """
        if not self.applies:
            return
        given = {key: batch[key] for key in self._keys}
        before = self._before
        self._before = {key: value[-1:] for key, value in given.items()}
        if before is None:
            if len(own) == 1:  # there is no other yet
                return
            before = self._before
        other = {key: torch.cat([before[key], value[:-1]]) for key, value in given.items()}
        differs = torch.ones_like(count)
        if not self._in_frames:
            unequal = other[self.name] != given[self.name]
            differs = unequal.reshape(len(count), -1).any(-1).to(count)
        shuffled = nats({**batch, **other})
        self.sums = self.sums + torch.stack(
            [(own * differs).sum(), (shuffled * differs).sum(), (count * differs).sum()]
        )

    def judge(self, gain_bits: float, step: int) -> None:
        """One line when the conditioning is found to be worth nothing, until it is again.

        Args:
            gain_bits: what windows need more with another's conditioning, in bits per sample.
            step: after which that was measured.
        """
        ignored = step >= self.earliest and gain_bits < LEAST_GAIN_BITS
        if ignored and not self._warned:
            logger.warning(
                "conditioning is ignored: with the %s of other windows validation needs %.4f bits "
                "per sample more than with their own, after %d steps; %s",
                self.name,
                gain_bits,
                step,
                _REMEDIES.get(self.name, "train longer"),
            )
        self._warned = ignored


def bits_of(sums: Tensor) -> tuple[float, float] | None:
    """Bits per sample with the own conditioning and with another's; None if no window counted.

    Args:
        sums: ``ShuffledConditioning.sums``, those of all processes together.
    """
    own, shuffled, count = sums.tolist()
    return (own / count / math.log(2), shuffled / count / math.log(2)) if count else None
