"""The configuration of a training run: a YAML file, and keys of it on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from wavenet.model import WaveNetConfig

MISSING_PACKAGES = 'training needs more packages: pip install "wavenet-audio[train]"'


class ConfigError(ValueError):
    """A configuration that cannot be used; one line says which key and why."""


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that a run depends on; a recipe's ``config.yaml`` holds what differs from this.

    Attributes:
        corpus: folder of audio files, searched recursively.
        model: settings of ``WaveNetConfig``; ``preset`` names what the others change.
        init_from: folder of a model to start from; its configuration is the model's.
        speakers_by_folder: tell speakers apart, by the first folder below the corpus.
        seed: of the weights, windows and everything else that is drawn.
        window_s: seconds of each window that the loss sees; the warm-up comes on top.
        batch_size: windows per step.
        max_steps: optimiser steps.
        learning_rate: the highest, of Adam.
        warmup_steps: steps over which the learning rate rises; then it falls as a cosine to 0.
        gradient_clip: largest norm of the gradient; 0 for none.
        validation_fraction: share of the files that validation gets.
        validation_windows: how many fixed windows validation averages over.
        validate_every: steps between validations, after each of which the model is saved.
        workers: processes that prepare windows; 0 prepares them in the main one.
        trainer: further arguments of Lightning's ``Trainer``: accelerator, devices, precision ...
    """

    corpus: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    init_from: str | None = None
    speakers_by_folder: bool = False
    seed: int = 0
    window_s: float = 0.5
    batch_size: int = 8
    max_steps: int = 10_000
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    gradient_clip: float = 1.0
    validation_fraction: float = 0.05
    validation_windows: int = 32
    validate_every: int = 500
    workers: int = 0
    trainer: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_steps", "validation_windows", "validate_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("window_s", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be positive")
        for name in ("seed", "warmup_steps", "gradient_clip", "workers"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)} must not be negative")
        if not 0 < self.validation_fraction < 1:
            raise ConfigError(
                f"validation_fraction={self.validation_fraction} must lie between 0 and 1"
            )

    def model_config(self) -> WaveNetConfig:
        """The model's configuration.

        Raises:
            ValueError: if a key is unknown or a value makes no model; it is named.
        """
        return WaveNetConfig.from_dict(self.model)


def parse_training(arguments: Sequence[str]) -> tuple[TrainingConfig, str | None]:
    """``CONFIG.yaml --out DIR --from MODEL --key value ...``, all of it optional, strictly typed.

    Keys of nested settings are joined by dots: ``--model.residual_channels 48``. ``--help`` prints
    every key with its meaning and leaves the program.

    Returns:
        The configuration and the value of ``--out``.

    Raises:
        ConfigError: for an unknown key or a value of a wrong type, in one line.
        ModuleNotFoundError: if the packages that training needs are missing.
    """
    try:
        import jsonargparse
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING_PACKAGES) from error
    parser = jsonargparse.ArgumentParser(
        prog="wavenet train [CONFIG.yaml]",
        description="Train a model on a folder of audio; DIR/model is the checkpoint.",
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", help="a YAML file of the keys below")
    parser.add_argument("--out", type=str, help="folder for the model, logs and settings")
    parser.add_argument("--from", type=str, help="a model to start from: the key init_from")
    parser.add_class_arguments(TrainingConfig)
    given = list(arguments)
    if given and not given[0].startswith("-"):
        given = ["--config", *given]
    try:
        parsed = {key: _plain(value) for key, value in vars(parser.parse_args(given)).items()}
    except jsonargparse.ArgumentError as error:
        raise ConfigError(" ".join(str(error).split())) from None
    parsed.pop("config")
    out, start = parsed.pop("out"), parsed.pop("from")
    if start is not None:
        parsed["init_from"] = start
    return TrainingConfig(**parsed), out


def _plain(value: Any) -> Any:
    """Namespaces as dictionaries."""
    return value.as_dict() if hasattr(value, "as_dict") else value
