"""The optimizer and its learning rate: linear warm-up, then decay to zero."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence

import torch

from wavenet.training.config import ConfigError, TrainingConfig
from wavenet.training.muon import Muon, split_parameters

OptimizerFactory = Callable[[Sequence[torch.nn.Parameter]], torch.optim.Optimizer]
"""Makes an optimizer of the parameters that are trained; its learning rate is the peak."""


class Schedule:
    """Learning rate over steps.

    Args:
        config: of the run.

    Attributes:
        decays_over: the steps from and to which the learning rate decays, where the time of a run
            has set them; None: those of the configuration.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.decays_over: tuple[int, int] | None = None

    def share(self, step: int) -> float:
        """Return the share of the peak learning rate at a step, counted from 0."""
        config = self.config
        if step < config.warmup_steps:
            return (step + 1) / config.warmup_steps
        begin, total = self.decays_over or self._default_decay()
        fallen = min(1.0, max(0.0, (step - begin) / max(1, total - begin)))
        if config.decay == "linear":
            return 1 - fallen
        return 0.5 * (1 + math.cos(math.pi * fallen))

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Set the learning rate of a step; the first one is found in the optimizer."""
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * self.share(step)

    def _default_decay(self) -> tuple[float, int]:
        """The steps from and to which the learning rate decays by the configuration."""
        total = self.config.max_steps
        return max(self.config.warmup_steps, total * (1 - self.config.decay_fraction)), total


def make_optimizer(
    model: torch.nn.Module, config: TrainingConfig, factory: OptimizerFactory | None = None
) -> torch.optim.Optimizer:
    """Return what a factory makes of the trained parameters; Muon or Adam (Kingma and Ba 2015).

    Raises:
        ConfigError: if no parameter is trained, or a factory makes no optimizer of this loop.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ConfigError(
            "model has no parameters to train: requires_grad is false for all of them; call "
            "model.requires_grad_(True)"
        )
    if factory is not None:
        return _checked(factory(trained))
    betas = 0.9, config.adam_beta2
    if config.optimizer == "muon":
        return Muon(*split_parameters(model), lr=config.learning_rate, betas=betas)
    return torch.optim.Adam(trained, lr=config.learning_rate, betas=betas)


def _checked(made: object) -> torch.optim.Optimizer:
    """Return what a factory made, if it is an optimizer whose step needs no closure."""
    name = type(made).__name__
    if not isinstance(made, torch.optim.Optimizer):
        raise ConfigError(f"optimizer made a {name}; let it return a torch.optim.Optimizer")
    closure = inspect.signature(made.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise ConfigError(
            f"optimizer made a {name}, whose step needs a closure; choose one that does not, such "
            "as torch.optim.AdamW"
        )
    return made
