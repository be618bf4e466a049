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
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from wavenet.audio import write_audio
from wavenet.features.plots import plot_spectrograms
from wavenet.generation import stream
from wavenet.model import WaveNet
from wavenet.training.preview_clips import Piece, level_db

if TYPE_CHECKING:
    from wavenet.training.trainer import Trainer

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


class SampleLogger:
    """Generates samples of the model that a run exports.

    Args:
        pieces: clips to generate.
        out: folder of the run, for ``samples/step-000500`` and ``samples/reference``.
        corpus_db: level of the corpus, in dB of full scale.
    """

    def __init__(self, pieces: list[Piece], out: Path, corpus_db: float) -> None:
        self.pieces, self.folder, self.corpus_db = pieces, out / FOLDER, corpus_db
        self._done: int | None = None
        self._draws = True

    def write_references(self, trainer: Trainer) -> None:
        """Write the recordings that the clips are to sound like, in the process that writes."""
        if trainer.is_global_zero:
            references = [piece.reference for piece in self.pieces]
            self._write(trainer, "reference", references, self.folder / "reference")

    def log_samples(self, trainer: Trainer) -> None:
        """Generate and log, in the process that writes; the others wait at the next step.

        Nothing is generated where this step was done before, a signal has come, or a loss or weight
        is not finite, which is about to end the run.
        """
        step = trainer.global_step
        if not trainer.is_global_zero or step == self._done or trainer.signals.asked:
            return
        if not trainer.is_sound:
            return
        trainer.throughput.pause()
        rows = generate_clips(trainer.learnt, self.pieces, lambda: trainer.signals.asked)
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
        if any(piece.frames is None for piece in self.pieces):
            return self.corpus_db
        return level_db([piece.reference for piece in self.pieces])

    def _write(self, trainer: Trainer, kind: str, rows: list[Tensor], folder: Path) -> None:
        """Rows ``[T]``, one for each piece, as files and to TensorBoard."""
        rate, board = trainer.learnt.sample_rate, _board(trainer)
        for piece, row in zip(self.pieces, rows, strict=True):
            write_audio(folder / f"{piece.name}.wav", row, rate)
            board.add_audio(f"{kind}/{piece.name}", row[None], trainer.global_step, rate)

    def _draw(self, trainer: Trainer, rows: list[Tensor], folder: Path) -> None:
        """Plot the recording above the generated audio; without matplotlib, warn once."""
        if not self._draws:
            return
        for piece, row in zip(self.pieces, rows, strict=True):
            signals = {f"recorded: {piece.title}": piece.reference}
            signals[f"generated at step {trainer.global_step}"] = row
            try:
                path = folder / f"{piece.name}.png"
                picture = plot_spectrograms(signals, trainer.learnt.sample_rate, path)
            except ModuleNotFoundError as error:
                self._draws = False
                logger.warning("%s", error)
                return
            step = trainer.global_step
            _board(trainer).add_image(f"generated/{piece.name}", picture, step, dataformats="HWC")


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
    speakers = [piece.speaker for piece in pieces if piece.speaker is not None]
    frames = [piece.frames for piece in pieces if piece.frames is not None]
    lengths = [len(piece.reference) for piece in pieces]
    chunks = stream(
        model,
        chunk_samples=model.sample_rate // 20 or 1,
        n_samples=lengths,
        mel=frames or None,
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


def _board(trainer: Trainer) -> Any:
    """TensorBoard's writer."""
    return cast(TensorBoardLogger, trainer.loggers[0]).experiment
