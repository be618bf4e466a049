"""The thread that samples for all requests: it owns the batches, and nothing else touches them.

Requests with one temperature share a batch, as an engine draws all its rows alike. Each batch
advances by a chunk in turn; between two chunks rows begin, end, wait and go on.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wavenet.generation.batching import Batch
from wavenet.generation.frames import BLOCK
from wavenet.generation.options import Sampling
from wavenet.generation.rows import AudioChunk, Row
from wavenet.generation.threads import one_thread, threads
from wavenet.model import WaveNet
from wavenet.serving.limits import Limits, RequestError
from wavenet.serving.metrics import Metrics
from wavenet.serving.output import Output

logger = logging.getLogger("wavenet")

CHUNK_SAMPLES = 400
"""Samples of each row between two looks at what waits: 25 ms at 16 kHz."""
_IDLE_S, _WARM_FRAMES = 0.5, 8
_KEPT_BATCHES = 4
"""Engines that are kept for temperatures that nobody asks for at the moment."""


@dataclass(kw_only=True, eq=False)
class Job:
    """An utterance to be generated.

    Attributes:
        sampling: how; its temperature chooses the batch.
        seed: of its uniforms.
        mel: pieces ``[M, F_i]``; None for one that has not arrived yet.
        others: the conditions beside the mel.
        output: takes the samples.
        n_samples: length at which refinement mirrors it, if it is known.
        block: frames that are encoded at once.
    """

    sampling: Sampling
    seed: int
    mel: Iterable[Tensor | None]
    others: Mapping[str, Tensor]
    output: Output
    n_samples: int | None = None
    block: int = BLOCK
    row: Row | None = field(default=None, init=False)


class Worker:
    """Generates jobs in a thread of its own.

    Args:
        model: the voice.
        limits: ``rows`` and ``max_queue`` hold here.
        metrics: counts what is made.
        usual: how most requests are sampled: what this needs is made ready before the first one.

    Attributes:
        ready: set when that is done; jobs that come earlier wait for it.
    """

    def __init__(self, model: WaveNet, limits: Limits, metrics: Metrics, usual: Sampling) -> None:
        self._model, self._limits, self._metrics = model, limits, metrics
        self._usual, self.ready = usual, threading.Event()
        # For the engines; all else is too small to be shared (`generation.threads`).
        self._threads = torch.get_num_threads()
        self._keeps = usual.engine.name == "cpu"
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._queue: deque[Job] = deque()
        self._running: list[Job] = []
        self._batches: dict[float, tuple[Batch, deque[Row]]] = {}
        self._stopped = False
        self._numbers = 0
        self._thread = threading.Thread(target=self._run, name="wavenet-worker", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether jobs are taken and worked on."""
        return self._thread.is_alive() and not self._stopped

    def submit(self, job: Job) -> int:
        """Queue a job.

        Returns:
            How many jobs have to end before it begins.

        Raises:
            RequestError: if the queue is full, or the server is stopping.
        """
        job.output.taken = self.wake
        with self._lock:
            if not self.alive:
                raise RequestError(503, "the server is stopping; try again later", 5)
            n_jobs = len(self._queue) + len(self._running)
            if n_jobs >= self._limits.rows + self._limits.max_queue:
                raise RequestError(
                    429, f"{n_jobs} requests are running or waiting; try again later", 2
                )
            self._queue.append(job)
        self.wake()
        return max(0, n_jobs + 1 - self._limits.rows)

    def wake(self) -> None:
        """Look again: a row may go on, or is no longer wanted."""
        self._wake.set()

    def stop(self) -> None:
        """End all jobs with an error, and the thread."""
        with self._lock:
            self._stopped = True
        self.wake()
        self._thread.join()

    def _run(self) -> None:
        try:
            with one_thread():
                self._warm_up()
                while not self._stopped:
                    self._admit()
                    if not self._advance():
                        self._wake.wait(_IDLE_S)
                        self._wake.clear()
        finally:
            with self._lock:
                self._stopped = True
                left = [*self._queue, *self._running]
                self._queue.clear()
                self._running.clear()
            self._report()
            for job in left:
                job.output.fail(RequestError(503, "the server is stopping; try again later", 5))

    def _warm_up(self) -> None:
        """Compile, and pack the weights, by an utterance that nobody hears."""
        given = self._model.example_conditions(1, _WARM_FRAMES)
        row = Row(self._model, 0, 0, self._usual.noise_shaping)
        try:
            row.begin(self._usual, [given.pop("mel")[0]], given, None)
            batch = self._batch_for(row, self._usual)
            while batch.rows or not row.made:
                self._next(batch)
        except (ValueError, RuntimeError, MemoryError) as error:
            logger.warning("serve: warming up failed: %s", " ".join(str(error).split()))
            self._batches.clear()
        self.ready.set()

    def _admit(self) -> None:
        """Free the rows of clients that have left, and begin jobs that wait."""
        for job in self._running:
            if job.output.cancelled and job.row is not None:
                job.row.dropped = True
        with self._lock:
            self._running = [job for job in self._running if not job.output.cancelled]
            self._queue = deque(job for job in self._queue if not job.output.cancelled)
            begun = []
            while self._queue and len(self._running) < self._limits.rows:
                begun.append(self._queue.popleft())
                self._running.append(begun[-1])
        for job in begun:
            try:
                self._begin(job)
            except (ValueError, RuntimeError) as error:
                self._end(job, RequestError(422, str(error)))
        self._report()

    def _begin(self, job: Job) -> None:
        self._numbers += 1
        shaping = job.sampling.noise_shaping
        job.row = Row(self._model, self._numbers, job.seed, shaping, job.output.wanted)
        job.row.begin(job.sampling, job.mel, job.others, job.n_samples, job.block)
        self._batch_for(job.row, job.sampling)

    def _batch_for(self, row: Row, sampling: Sampling) -> Batch:
        """Give a row to the batch of its temperature, which it may be the first in."""
        if sampling.temperature not in self._batches:
            arrived: deque[Row] = deque()
            rows, waiting = self._limits.rows, _as_it_comes(arrived)
            batch = Batch(self._model, sampling, waiting, rows, CHUNK_SAMPLES, live=True)
            self._batches[sampling.temperature] = batch, arrived
        batch, arrived = self._batches[sampling.temperature]
        arrived.append(row)
        return batch

    def _advance(self) -> bool:
        """Make a chunk in each batch; false where nothing could be made."""
        made = False
        for temperature, (batch, arrived) in list(self._batches.items()):
            if not arrived and all(row.dropped for row in batch.rows):
                if len(self._batches) > _KEPT_BATCHES:
                    del self._batches[temperature]
                continue
            began = time.perf_counter()
            try:
                chunks = self._next(batch)
            except (ValueError, RuntimeError, MemoryError) as error:
                logger.warning("serve: a batch failed: %s", " ".join(str(error).split()))
                self._fail(temperature)
                continue
            jobs = {job.row.number: job for job in self._running if job.row is not None}
            for number, samples, ended in chunks:
                self._deliver(jobs.get(number), samples, ended)
            made = made or bool(chunks)
            n_made = sum(len(chunk.samples) for chunk in chunks)
            self._metrics.made(n_made, time.perf_counter() - began)
        return made

    def _next(self, batch: Batch) -> list[AudioChunk]:
        """The next chunks of a batch, whose engine begins with all threads, and keeps them."""
        with contextlib.nullcontext() if batch.begun and self._keeps else threads(self._threads):
            return next(batch)

    def _deliver(self, job: Job | None, samples: Tensor, ended: bool) -> None:
        if job is None or job.output.cancelled:
            return
        job.output.put(samples.clone(), ended)
        if ended:
            self._forget(job)

    def _fail(self, temperature: float) -> None:
        """End the jobs of a batch that cannot go on, and the batch."""
        del self._batches[temperature]
        for job in [job for job in self._running if job.sampling.temperature == temperature]:
            self._end(job, RequestError(500, "generation failed; the server's log says why"))

    def _end(self, job: Job, error: RequestError) -> None:
        self._forget(job)
        job.output.fail(error)

    def _forget(self, job: Job) -> None:
        with self._lock:
            self._running.remove(job)

    def _report(self) -> None:
        self._metrics.active.set(len(self._running))
        self._metrics.waiting.set(len(self._queue))


def _as_it_comes(rows: deque[Row]) -> Iterator[Row | None]:
    """Rows that have been appended; None while there is none."""
    while True:
        yield rows.popleft() if rows else None
