"""Training of one network, or of several on the same windows, by one of two sets of settings."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import lightning
import losses
import torch
from torch import Tensor

from wavenet.nam import NamWaveNet

WINDOW = 8192  # samples whose error counts, behind the model's past
VALIDATION_PART = 0.1  # of the pair, at its end, chooses among the weights of a run
VALIDATIONS = 20  # in a run


@dataclass(frozen=True)
class Settings:
    """Loss, optimiser and schedule.

    Attributes:
        loss: of outputs and targets ``[B, 1, T]`` at the level of ``losses.LEVEL_DB``.
        batch: windows a step.
        learning_rate: the largest.
        weight_decay: of Adam (the L2 penalty).
        decay: factor of the learning rate after every passage through the pair; 1 for one cycle
            over the whole run instead (Smith and Topin 2018).
        clip: largest norm of the gradients; 0 for no limit.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    batch: int
    learning_rate: float = 4e-3
    weight_decay: float = 0.0
    decay: float = 1.0
    clip: float = 0.0


SETTINGS = {
    # For runs of minutes: the learning rate is down when the run ends, however short it is.
    "one-cycle": Settings(losses.emphasised_loss, batch=8, clip=1.0),
    # Neural Amp Modeler 0.13.0: train/_resources/config_model_packed.json; batch and window in
    # train/core.py. Its runs are of 100 passages.
    "nam": Settings(losses.nam_loss, batch=16, weight_decay=3.17e-7, decay=0.994),
}


class Windows(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Stretches of the pair; which ones is a function of seed and index alone."""

    def __init__(self, x: Tensor, y: Tensor, past: int, count: int, seed: int) -> None:
        self.past, self.x, self.y = past, torch.cat([torch.zeros(past), x]), y
        generator = torch.Generator().manual_seed(seed)
        self.starts = torch.randint(max(1, len(y) - WINDOW), (count,), generator=generator)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Dry ``[1, past + W]`` and wet ``[1, W]``."""
        start = int(self.starts[index])
        x = self.x[start : start + self.past + WINDOW]
        return x[None], self.y[None, start : start + WINDOW]


class Training(lightning.LightningModule):
    """Adam on the sum of the networks' losses.

    Args:
        models: of one past, by name.
        settings: see ``Settings``.
        steps: of the whole run.
        gain: brings the targets to the level of the loss.
        validation: dry with its past, and wet.
        passage: steps that see as many samples as the pair has.
    """

    def __init__(
        self,
        models: dict[str, NamWaveNet],
        settings: Settings,
        steps: int,
        gain: float,
        validation: tuple[Tensor, Tensor],
        passage: int,
    ) -> None:
        super().__init__()
        self.models, self.settings, self.steps = torch.nn.ModuleDict(models), settings, steps
        self.gain, self.validation, self.passage = gain, validation, passage
        self.best: dict[str, tuple[float, dict[str, Tensor]]] = {}

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """The losses over the outputs whose whole past is in the window."""
        x, target = batch
        each = {name: self._loss(model, x, target) for name, model in self.models.items()}
        if self.global_step % 50 == 0:
            shown = ", ".join(f"{name} {loss:.4f}" for name, loss in each.items())
            print(f"step {self.global_step}: loss of {shown}", flush=True)
        return torch.stack(list(each.values())).sum()

    def _loss(self, model: torch.nn.Module, x: Tensor, target: Tensor) -> Tensor:
        assert isinstance(model, NamWaveNet)
        y = model(x, model.init_state(len(x)))[..., model.past :]
        return self.settings.loss(self.gain * y, self.gain * target)

    def on_train_batch_end(self, *_: object) -> None:
        """Keep the weights of each network whose error on the validation part is smallest."""
        every = max(1, self.steps // VALIDATIONS)
        if self.global_step % every and self.global_step != self.steps:
            return
        x, target = self.validation
        for name, model in self.models.items():
            assert isinstance(model, NamWaveNet)
            error = float(losses.esr(answer(model, x), target))
            if name not in self.best or error < self.best[name][0]:
                weights = {key: value.clone() for key, value in model.state_dict().items()}
                self.best[name] = error, weights

    def configure_optimizers(self) -> dict[str, object]:
        """One cycle over all steps, or a decay after every passage through the pair."""
        used = self.settings
        optimiser = torch.optim.Adam(
            self.parameters(), lr=used.learning_rate, weight_decay=used.weight_decay
        )
        schedule: torch.optim.lr_scheduler.LRScheduler
        if used.decay == 1.0:
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimiser, used.learning_rate, total_steps=self.steps, pct_start=0.1
            )
        else:
            schedule = torch.optim.lr_scheduler.StepLR(optimiser, self.passage, used.decay)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def train(
    models: dict[str, NamWaveNet],
    pair: tuple[Tensor, Tensor],
    settings: Settings,
    steps: int,
    seed: int,
) -> None:
    """Train networks of one past in place on the same windows; each ends with its best weights."""
    x, y = pair
    (past,) = {model.past for model in models.values()}
    split = round(len(x) * (1 - VALIDATION_PART))
    before = torch.cat([torch.zeros(past), x])
    training = Training(
        models,
        settings,
        steps,
        losses.gain_to_level(y),
        (before[split:], y[split:]),
        passage=max(1, split // (WINDOW * settings.batch)),
    )
    windows = Windows(x[:split], y[:split], past, settings.batch * steps, seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        trainer = lightning.Trainer(
            max_steps=steps,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            gradient_clip_val=settings.clip or None,
        )
        trainer.fit(training, torch.utils.data.DataLoader(windows, settings.batch))
    for name, model in models.items():
        error, weights = training.best[name]
        model.load_state_dict(weights)
        print(f"{name}: smallest ESR on the validation part {error:.4f}")


@torch.no_grad()
def answer(model: NamWaveNet, x: Tensor) -> Tensor:
    """Outputs of the network for x ``[past + T]``, ``[T]``."""
    y: Tensor = model(x[None, None])[0, 0, model.past :]
    return y
