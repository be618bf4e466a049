"""Distribution of windows over training steps and processes.

Step s uses windows s * batch_size ... (s + 1) * batch_size - 1, whichever process computes them.
They are dealt in turn to ``processes * per_step`` parts, one for each process and each batch that a
step accumulates. So a step has the same windows on one GPU or on many, and an interrupted run
resumes with the next windows: a loader only has to start at that batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from wavenet.data.windows import Windows, collate


class Batches(Dataset[dict[str, Tensor]]):
    """The batches of one process, in their order; item i is part of step ``i // per_step``.

    An item is the batch of ``collate``, and ``samples`` ``[]``: the mean number of samples inside
    recordings in a batch of this step. If each part divides the sum over its samples by that, the
    mean over all parts is the mean over all samples of the step; otherwise the samples of parts
    with many of them would have a smaller weight.

    >>> speech = Utterance("a.wav", np.zeros(16000, np.int16), speaker="ann")
    >>> corpus = Corpus((speech,), sample_rate=16000)
    >>> plan = WindowPlan.of(wavenet.WaveNet(wavenet.WaveNetConfig.preset("tiny")), window_s=0.25)
    >>> batches = Batches(Windows(corpus, plan, n_windows=8, seed=0), batch_size=4)
    >>> len(batches), tuple(batches[0]["x"].shape)
    (2, (4, 1, 5023))

    Args:
        windows: of the whole run.
        batch_size: windows of a step, over all processes.
        per_step: batches that a process computes for a step.
        process: index of this process.
        processes: number of processes.

    Raises:
        ValueError: if a step has fewer windows than parts.
    """

    def __init__(
        self,
        windows: Windows,
        batch_size: int,
        *,
        per_step: int = 1,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        if batch_size < per_step * processes:
            raise ValueError(
                f"batch_size={batch_size} leaves a part without a window: a step is dealt to "
                f"{processes} processes in {per_step} batches each; raise it to "
                f"{per_step * processes}"
            )
        self.windows, self.batch_size, self.per_step = windows, batch_size, per_step
        self.process, self.processes = process, processes
        self._counted = (-1, 0)  # a step, and its samples

    def __len__(self) -> int:
        return len(self.windows) // self.batch_size * self.per_step

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        batch = collate(self.windows.__getitems__(self.indices(index)))
        samples = self._samples(index // self.per_step) / (self.per_step * self.processes)
        return {**batch, "samples": torch.tensor(samples, dtype=torch.float32)}

    def indices(self, index: int) -> range:
        """The windows of batch ``index`` of this process."""
        if not 0 <= index < len(self):
            raise IndexError(f"index={index} must be within 0 to {len(self) - 1}")
        step, turn = divmod(index, self.per_step)
        first, stop = step * self.batch_size, (step + 1) * self.batch_size
        return range(
            first + turn * self.processes + self.process, stop, self.per_step * self.processes
        )

    def _samples(self, step: int) -> int:
        """Count the samples of a step inside recordings, without reading them."""
        if self._counted[0] != step:
            windows = range(step * self.batch_size, (step + 1) * self.batch_size)
            self._counted = step, sum(self.windows.n_inside(i) for i in windows)
        return self._counted[1]
