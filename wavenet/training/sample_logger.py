"""Log samples of a model while it trains: audio and pictures in TensorBoard, and as files.

Every few thousand steps, and at the end, the model that is validated and exported resynthesizes
the beginnings of a few validation recordings from their mels, or generates freely where it takes
none; with the same seed each time, so that what changes is the model. Training is independent of
it: it draws from no global generator and runs on a copy, on the CPU, where the compiled engine is.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from wavenet.audio import write_audio
from wavenet.features import log_mel
from wavenet.features.plots import plot_spectrograms
from wavenet.generation import stream
from wavenet.model import WaveNet
from wavenet.training.checkpoints import between_steps
from wavenet.training.module import WaveNetTraining
from wavenet.training.preview_clips import Piece, level_db

logger = logging.getLogger("wavenet")

FOLDER = "samples"
SEED = 0

LONGEST_S = 60.0
"""So long it may take: other processes wait, and give up after some minutes."""

SILENCE_DB = 20.0
"""Below the corpus, it is only silence: as much sound as 1 % of the time at the corpus' level.

In 2400 seconds of prompts in three languages, three stretches of 2 s together were never more than
7 dB below their corpus, while the pauses between words were 25 to 64 dB below it.
"""

NEARLY_SILENT_DB = -60.0
"""A corpus below this, in dB of full scale, is silent itself."""


class SampleLogger(Callback):
    """Generates samples every ``every`` steps, and at the end.

    Args:
        pieces: clips to generate.
        out: folder of the run, for ``samples/step-000500`` and ``samples/reference``.
        every: steps; 0 for never.
        corpus_db: level of the corpus, in dB of full scale.
        stopped: whether the run is to end, so that generation stops.
        before: called before generation: to stop a clock.
    """

    def __init__(
        self,
        pieces: list[Piece],
        out: Path,
        *,
        every: int,
        corpus_db: float,
        stopped: Callable[[], bool] = lambda: False,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self.pieces, self.folder, self.every = pieces, out / FOLDER, every
        self.corpus_db, self._stopped, self._before = corpus_db, stopped, before
        self._done: int | None = None
        self._draws = True

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Write the references, once."""
        if self.every and trainer.is_global_zero and trainer.global_step == 0:
            references = [piece.reference for piece in self.pieces]
            self._write(trainer, "reference", references, self.folder / "reference")

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: object, batch: object, batch_idx: int
    ) -> None:
        """Log samples where they are due: the step before is done, and its checkpoint written."""
        step = trainer.global_step
        if self.every and step and step % self.every == 0 and between_steps(trainer, batch_idx):
            self.log_samples(trainer)

    def on_train_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Log samples of the last step."""
        if self.every:
            self.log_samples(trainer)

    def log_samples(self, trainer: lightning.Trainer) -> None:
        """Generate and log, in the process that writes; the others wait at the next step."""
        step, module = trainer.global_step, trainer.lightning_module
        if not trainer.is_global_zero or step == self._done or self._stopped():
            return
        assert isinstance(module, WaveNetTraining)
        if not module.sound:  # the run is about to end
            return
        self._before()
        rows = generate_clips(module.learnt, self.pieces, self._stopped)
        if rows is None:
            return
        self._done = step
        folder = self.folder / f"step-{step:06d}"
        self._write(trainer, "generated", rows, folder)
        self._draw(trainer, rows, folder)
        _board(trainer).flush()
        warn_of_silence(rows, self._expected_db(), step)

    def _expected_db(self) -> float:
        """Level that generated audio should have: of the references, or of the corpus."""
        if any(piece.mel is None for piece in self.pieces):
            return self.corpus_db
        return level_db([piece.reference for piece in self.pieces])

    def _write(
        self, trainer: lightning.Trainer, kind: str, rows: list[Tensor], folder: Path
    ) -> None:
        """Rows ``[T]``, one for each piece, as files and to TensorBoard."""
        rate, board = self._rate(trainer), _board(trainer)
        for piece, row in zip(self.pieces, rows, strict=True):
            write_audio(folder / f"{piece.name}.wav", row, rate)
            board.add_audio(f"{kind}/{piece.name}", row[None], trainer.global_step, rate)

    def _draw(self, trainer: lightning.Trainer, rows: list[Tensor], folder: Path) -> None:
        """Plot the recording above the generated audio; without matplotlib, warn once."""
        if not self._draws:
            return
        for piece, row in zip(self.pieces, rows, strict=True):
            signals = {f"recorded: {piece.title}": piece.reference}
            signals[f"generated at step {trainer.global_step}"] = row
            try:
                path = folder / f"{piece.name}.png"
                picture = plot_spectrograms(signals, self._rate(trainer), path)
            except ModuleNotFoundError as error:
                self._draws = False
                logger.warning("%s", error)
                return
            step = trainer.global_step
            _board(trainer).add_image(f"generated/{piece.name}", picture, step, dataformats="HWC")

    def _rate(self, trainer: lightning.Trainer) -> int:
        module = trainer.lightning_module
        assert isinstance(module, WaveNetTraining)
        return module.model.sample_rate


def generate_clips(
    model: WaveNet, pieces: list[Piece], stopped: Callable[[], bool] = lambda: False
) -> list[Tensor] | None:
    """Return what a model generates for each piece, as long as its reference: ``[T]`` in [-1, 1].

    If that takes longer than ``LONGEST_S``, what there is by then.

    Args:
        model: on any device; stays as it is.
        pieces: see ``Piece``.
        stopped: asked now and then; if it is true, the answer is None.
    """
    model = copy.deepcopy(model).cpu().eval()
    mel, speakers = pieces[0].mel, [p.speaker for p in pieces if p.speaker is not None]
    filterbank = None if mel is None else model.mel_filterbank
    lengths = [len(piece.reference) for piece in pieces]
    chunks = stream(
        model,
        chunk_samples=model.sample_rate // 20 or 1,
        n_samples=lengths,
        mel=None if mel is None else [log_mel(p.reference, mel, filterbank) for p in pieces],
        speaker=speakers or None,
        conditions={
            name: torch.stack([piece.conditions[name] for piece in pieces])
            for name in pieces[0].conditions
        },
        seed=SEED,
        refine=0,  # what the network has learnt, not what refinement adds
    )
    begun_s, made = time.monotonic(), []
    for chunk in chunks:
        if stopped():
            return None
        made.append(chunk)
        if time.monotonic() - begun_s > LONGEST_S:
            logger.warning(
                "logged samples took longer than %.0f s to generate, and were cut short; lower "
                "listen_s",
                LONGEST_S,
            )
            break
    rows = torch.cat(made, dim=1)
    return [row[:length] for row, length in zip(rows, lengths, strict=True)]


def warn_of_silence(rows: list[Tensor], expected_db: float, step: int) -> None:
    """Warn if generated audio is ``SILENCE_DB`` below what it should be.

    Args:
        rows: samples ``[T]`` each.
        expected_db: in dB of full scale.
        step: after which they were generated.
    """
    found_db = level_db(rows)
    if expected_db > NEARLY_SILENT_DB and found_db < expected_db - SILENCE_DB:
        logger.warning(
            "only silence: what the model generates after %d steps is %.0f dB below the corpus; if "
            "longer training does not help, cut silence off the recordings: trim_silence=-50",
            step,
            expected_db - found_db,
        )


def _board(trainer: lightning.Trainer) -> Any:
    """TensorBoard's writer."""
    assert trainer.logger is not None  # as make_trainer gives it one
    return cast(TensorBoardLogger, trainer.logger).experiment
