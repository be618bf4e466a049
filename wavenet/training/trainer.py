"""The loop of a run: steps of training, and what is done between two of them."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor
from tqdm import tqdm

from wavenet.model import WaveNet
from wavenet.training.averaging import Average
from wavenet.training.checkpoints import Checkpoints
from wavenet.training.conditioning import bits_of
from wavenet.training.config import TrainingConfig
from wavenet.training.devices import average_gradients, seeded, summed
from wavenet.training.errors import TrainingError
from wavenet.training.export import Export
from wavenet.training.extras import Extras
from wavenet.training.interruption import Signals
from wavenet.training.module import WaveNetTraining
from wavenet.training.sample_logger import SampleLogger
from wavenet.training.schedule import Schedule, make_optimizer
from wavenet.training.throughput import Throughput
from wavenet.training.time_limit import TimeLimit
from wavenet.training.trainer_settings import TrainerSettings

logger = logging.getLogger("wavenet")

Batch = dict[str, Tensor]

SHOWN = ("train/bits", "valid/bits")
"""Numbers in the progress bar."""


@dataclass(frozen=True)
class Outputs:
    """Files that a run writes, beside its logs.

    Attributes:
        export: the model, after each validation.
        checkpoints: all that a run goes on from.
        samples: what the model generates, now and then.
    """

    export: Export
    checkpoints: Checkpoints
    samples: SampleLogger


class Trainer:
    """One run. Callbacks get it as their first argument.

    Numbers that are logged while a step is made have the step's index, counted from 0; those of a
    validation during training have that of the step before it. So has Lightning's Trainer.

    Args:
        fabric: launched; has loggers and callbacks.
        module: the loss of the model that is trained.
        config: of the run.
        outputs: files to write.
        extras: a caller's optimizer, and the callbacks that ``fabric`` has.
        constant_bits: of the best constant distribution, logged beside each validation.

    Attributes:
        global_step: steps made.
        max_steps: after which the run ends.
        should_stop: true ends the run after this step; a callback may set it, in every process.
        optimizer, optimizers: of the trained parameters, as its factory made it; a list of it.
        loggers, strategy, world_size, is_global_zero: those of ``fabric``.
        callback_metrics: the last value of each number that was logged.
    """

    def __init__(
        self,
        fabric: Fabric,
        module: WaveNetTraining,
        config: TrainingConfig,
        outputs: Outputs,
        extras: Extras | None = None,
        constant_bits: float = math.nan,
    ) -> None:
        self.fabric, self.module, self.config, self.outputs = fabric, module, config, outputs
        self.loggers, self.strategy = fabric.loggers, fabric.strategy
        self.world_size, self.is_global_zero = fabric.world_size, fabric.is_global_zero
        self.settings, self.extras = TrainerSettings.of(config), extras or Extras()
        self.optimizer = make_optimizer(module, config, self.extras.optimizer)
        self.optimizers = [self.optimizer]
        self._model, self._optimizer = fabric.setup(module, self.optimizer)
        self.schedule = Schedule(config)
        self.average = Average(module.model, config.ema_decay) if config.ema_decay else None
        self.time_limit = TimeLimit(config) if config.minutes else None
        self.constant_bits = constant_bits
        self.global_step, self.max_steps, self.should_stop = 0, config.max_steps, False
        self.callback_metrics: dict[str, Tensor] = {}
        self.throughput, self.signals = Throughput(), Signals()
        self.bar: tqdm[None] = tqdm(disable=True)  # until training begins
        self._all_bits = torch.zeros(())  # of all steps: finite while each of them is

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close the logs, and leave the model on the CPU."""
        for logger in self.loggers:
            logger.finalize("success" if kind is None else "failed")
        self.module.cpu()

    # --- the loop ---

    def train(self, batches: Iterable[Batch], windows: Iterable[Batch]) -> bool:
        """Make the steps that are left, and validate the last model.

        Args:
            batches: this process's parts of these steps.
            windows: batches to validate on.

        Returns:
            Whether ctrl-C, SIGTERM or SIGHUP ended it; the model is kept.
        """
        hidden = not (self.settings.enable_progress_bar and self.is_global_zero)
        is_open = self.time_limit is not None and self.schedule.decays_over is None
        last = None if is_open else self.max_steps
        bar: tqdm[None] = tqdm(
            desc="training", unit="step", initial=self.global_step, total=last, disable=hidden
        )
        try:
            with self.signals, bar as self.bar:
                self._make_steps(iter(batches), windows)
                if self.outputs.export.step != self.global_step:
                    self.validate(windows)
        except KeyboardInterrupt as error:
            self.call("on_exception", error)
            if self.outputs.export.step != self.global_step:
                self.export_model()
            return True
        except BaseException as error:
            self.call("on_exception", error)
            raise
        return False

    def _make_steps(self, batches: Iterator[Batch], windows: Iterable[Batch]) -> None:
        validate_every = min(self.config.validate_every, self.config.max_steps)
        if self.config.listen_every and self.global_step == 0:
            self.outputs.samples.write_references(self)
        if self.time_limit is not None:
            self.time_limit.start()
        self.call("on_train_start")
        rank = self.fabric.global_rank
        while self.global_step < self.max_steps and not self.should_stop:
            self._between_steps()
            # Dropout in the encoder of a condition draws; nothing of this package does.
            with seeded(self.fabric.device, self.config.seed, self.global_step, rank):
                self._step(batches)
            self.bar.update()
            if self.global_step % validate_every == 0:
                self.validate(windows, logged_at=self.global_step - 1)
        self.outputs.checkpoints.save(self)
        if self.config.listen_every:
            self.outputs.samples.log_samples(self)
        self.call("on_train_end")

    def _between_steps(self) -> None:
        """Save, end the run or generate samples where that is due.

        Raises:
            KeyboardInterrupt: after saving, if a signal has come to any of the processes.
        """
        if self.global_step % self.config.checkpoint_every == 0:
            self.outputs.checkpoints.save(self)
        if self.time_limit is not None and self.time_limit.is_due(self):
            self.time_limit.set_last_step(self)
            self.outputs.checkpoints.save(self, again=True)
        if self.anywhere(self.signals.asked):
            self.signals.asked = True
            self.outputs.checkpoints.save(self)
            raise KeyboardInterrupt
        every = self.config.listen_every
        if every and self.global_step and self.global_step % every == 0:
            self.outputs.samples.log_samples(self)

    def _step(self, batches: Iterator[Batch]) -> None:
        """Make one step of the optimizer from the batches that belong to it."""
        parts = self.settings.accumulate_grad_batches
        bits, samples = torch.zeros((), device=self.fabric.device), torch.zeros(())
        self.schedule.apply(self.optimizer, self.global_step)
        self.optimizer.zero_grad()
        for part, batch in enumerate(itertools.islice(batches, parts)):
            is_last, index = part == parts - 1, self.global_step * parts + part
            self.call("on_train_batch_start", batch, index)
            with self.fabric.no_backward_sync(self._model, enabled=self.world_size > 1):
                loss = self._model(batch)
                bits, samples = bits + loss.detach() / parts, batch["samples"]
                self.fabric.backward(loss / parts)
            if is_last:
                if self.world_size > 1:
                    average_gradients(self.fabric, self.module.parameters())
                self._update(bits, samples * parts * self.world_size)
            self.call("on_train_batch_end", loss.detach(), batch, index)

    def _update(self, bits: Tensor, samples: Tensor) -> None:
        """Let the optimizer make its step, and log the step's numbers where that is due.

        Args:
            bits: per sample, of this process's part of the step, ``[]``.
            samples: of the whole step, ``[]``.

        Raises:
            TrainingError: at a step that logs, if the bits of a step so far are not finite, in
                every process alike.
        """
        every, numbers = self.settings.log_every_n_steps, dict[str, Any]()
        logs = every > 0 and (self.global_step + 1) % every == 0
        self._all_bits = self._all_bits.to(bits) + bits
        if logs:  # to look at a number makes a GPU wait
            numbers["train/bits"] = summed(self.fabric, bits) / self.world_size
            numbers["train/learning_rate"] = self.optimizer.param_groups[0]["lr"]
            self.require_finite(weights=False)
        self.call("on_before_optimizer_step", self.optimizer)
        if self.config.gradient_clip or logs:
            numbers["train/gradient_norm"] = self.fabric.clip_gradients(
                self._model,
                self._optimizer,
                max_norm=self.config.gradient_clip or math.inf,
                error_if_nonfinite=False,
            )
        self._optimizer.step()
        if self.average is not None:
            self.average.update(self.module.model)
        self.global_step += 1
        self.throughput.count(samples)
        if logs:
            rate = self.throughput.read()
            speed = {} if rate is None else {"train/samples_per_second": rate}
            self.log({**numbers, **speed}, self.global_step - 1)

    @torch.no_grad()
    def validate(self, windows: Iterable[Batch], logged_at: int | None = None) -> None:
        """Compute bits per sample over all validation windows, and export the model.

        Args:
            windows: batches of this process.
            logged_at: index in the logs; None is the number of steps made.

        Raises:
            TrainingError: if the bits are not finite.
        """
        self.throughput.pause()
        self.call("on_validation_start")
        precision, learnt = self.fabric.strategy.precision, self.learnt.eval()
        self.module.start_validation(self.fabric.device)
        for batch in tqdm(windows, "validating", leave=False, disable=self.bar.disable or None):
            with self.fabric.autocast():
                self.module.validation_step(learnt, precision.convert_input(batch))
        learnt.train()
        sums = summed(self.fabric, self.module.validation_sums())
        bits = float((sums[0] / sums[1] / math.log(2)).float())
        self._require_finite("validation loss", bits)
        numbers = {"valid/bits": bits, "valid/bits_constant": self.constant_bits}
        shuffled = bits_of(sums[2:])
        if shuffled is not None:
            numbers["valid/bits_shuffled"] = shuffled[1]
            numbers["valid/conditioning_gain"] = shuffled[1] - shuffled[0]
            self.module.shuffled.judge(shuffled[1] - shuffled[0], self.global_step)
        self.log(numbers, self.global_step if logged_at is None else logged_at)
        self.outputs.export.step, self.outputs.export.bits = self.global_step, bits
        self.export_model(bits)
        self.call("on_validation_end")

    # --- what belongs to a run ---

    def export_model(self, bits: float | None = None) -> None:
        """Write the model, unless a loss so far or a weight is not finite."""
        if self.is_sound:
            self.outputs.export.save(self.learnt, step=self.global_step, bits=bits)

    def restore_model(self) -> None:
        """Write the model of a resumed run again if it was removed, or is damaged."""
        export = self.outputs.export
        if self.is_global_zero and not export.is_whole():
            logger.warning("%s is no whole model; it is written again", export.folder)
            self.export_model(export.bits if export.step == self.global_step else None)

    def decay_over(self, first: int, last: int) -> None:
        """Let the learning rate fall from step ``first`` on, and the run end after ``last``."""
        self.schedule.decays_over = first, last
        self.max_steps = last
        self.bar.total = last

    @property
    def learnt(self) -> WaveNet:
        """Model that is validated and exported: the averaged one, or else the trained one."""
        return self.module.model if self.average is None else self.average.model

    def log(self, numbers: Mapping[str, Any], step: int) -> None:
        """Give numbers to all loggers, and to the progress bar those of bits per sample."""
        self.callback_metrics |= {key: torch.as_tensor(numbers[key]) for key in numbers}
        self.fabric.log_dict(numbers, step)
        for logger in self.loggers:
            logger.save()
        shown = {key: float(value) for key, value in self.callback_metrics.items() if key in SHOWN}
        self.bar.set_postfix(shown, refresh=False)

    def call(self, hook: str, *arguments: object) -> None:
        """Call a hook of the callbacks."""
        self.fabric.call(hook, self, self.module, *arguments)

    def anywhere(self, flag: bool) -> bool:
        """Return whether it is true in any process.

        Several processes ask each other at steps that log alone, as asking costs time; at others it
        is false.
        """
        if self.world_size == 1:
            return flag
        if self.global_step % max(1, self.settings.log_every_n_steps):
            return False
        return bool(summed(self.fabric, torch.tensor(float(flag))) > 0)

    def require_finite(self, *, weights: bool = True) -> None:
        """Check that training is sound: to be called by every process, before anything is saved.

        Args:
            weights: look at weights, averages and the optimizer's moments, too.

        Raises:
            TrainingError: if the loss of any step, or one of these, is not finite.
        """
        self._require_finite("loss", float(summed(self.fabric, self._all_bits)))
        if weights:
            moments = (part for state in self.optimizer.state.values() for part in state.values())
            tensors = [value for value in moments if isinstance(value, Tensor)]
            if not all_finite([*self.module.parameters(), *self.learnt.parameters(), *tensors]):
                self._require_finite("state of training (weights, averages, moments)", math.nan)

    @property
    def is_sound(self) -> bool:
        """Whether all losses of this process and all weights to be exported are finite."""
        return math.isfinite(float(self._all_bits)) and all_finite(self.learnt.parameters())

    def _require_finite(self, name: str, value: float) -> None:
        """Raise TrainingError if training has run away."""
        if not math.isfinite(value):
            raise TrainingError(
                f"the {name} is {value} at step {self.global_step}; the last good model is kept. "
                f"Lower learning_rate={self.config.learning_rate} or "
                f"gradient_clip={self.config.gradient_clip}"
            )


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether every number in them is finite; each device is waited for once."""
    answers: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        answers.setdefault(tensor.device, []).append(tensor.isfinite().all())
    return all(bool(torch.stack(found).all()) for found in answers.values())
