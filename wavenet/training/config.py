"""The configuration of a training run, and checks of its values."""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from wavenet.values.integers import is_integer, is_number
from wavenet.values.text import short

if not TYPE_CHECKING:
    pass  # jsonargparse runs whatever is below `if TYPE_CHECKING`, and this imports torch
else:
    from wavenet.model.config import WaveNetConfig

MOST = {
    "batch_size": 10**6,
    "max_steps": 10**12,
    "validation_windows": 10**5,
    "validate_every": 10**12,
    "checkpoint_every": 10**12,
    "warmup_steps": 10**12,
    "listen_every": 10**12,
    "workers": 1024,
}
"""Beyond any run, and below what counters, loops and a machine's processes can take."""

NO_FILE_NAME = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")
"""Characters that ``os.fsencode`` refuses: a NUL, and halves of characters."""

Decay = Literal["cosine", "linear"]
OptimizerName = Literal["adam", "muon"]

_TYPES: dict[type, tuple[Callable[[Any], bool], str]] = {
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (is_integer, "an integer"),
    float: (is_number, "a number"),
    str: (lambda value: isinstance(value, str), "text"),
    dict: (lambda value: isinstance(value, dict), "settings by name"),
    list: (lambda value: isinstance(value, list), "a list"),
    type(None): (lambda value: value is None or isinstance(value, str), "text"),
}
"""Test and name of the values that a key takes, by the type of its default."""


class ConfigError(ValueError):
    """A configuration that cannot be used; one line gives the key and the reason.

    >>> train(TrainingConfig(corpus="my-wavs", batch_size=0), "runs/me")
    Traceback (most recent call last):
        ...
    wavenet.training.config.ConfigError: batch_size=0 must be at least 1
    """


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a run; a recipe's ``config.yaml`` holds those that differ from these defaults.

    >>> config = TrainingConfig(corpus="my-wavs", model={"preset": "small"}, max_steps=500)
    >>> config.batch_size, config.learning_rate
    (8, 0.002)

    Attributes:
        corpus: train on this folder of audio files, which is searched recursively; or on a CSV or
            JSONL manifest with path, speaker, start and end in seconds; or on LJSPEECH, VCTK,
            LIBRITTS, LIBRITTS_R, CMUARCTIC, YESNO, SPEECHCOMMANDS or PROMPTS, or a part such as
            LIBRITTS/dev-clean or CMUARCTIC/bdl,slt; or on what ``wavenet shard`` has written to a
            folder or an object store, s3://, gs://, az:// or file://.
        corpus_root: look for named corpora in this folder.
        download: download a named corpus into corpus_root if it is not there.
        cache: keep decoded corpora in this folder; if empty, in $WAVENET_CACHE, or in the folder
            wavenet of the user's cache.
        cache_gb: keep shards of corpora in object stores within this size, in GB of 10^9 bytes; the
            windows of a corpus that is larger are drawn from a group of its shards at a time.
        trim_silence: trim both ends of each file where it stays below this level in dB of full
            scale, such as -50; false trims nothing.
        model: set these settings of ``WaveNetConfig``; ``preset`` names the ones they change.
        init_from: start from this model, a checkpoint folder or a bundled model, and keep its
            configuration.
        speakers_by_folder: distinguish speakers: by the first folder below the corpus, by the
            manifest's column, or as a named corpus lists them.
        drop_mel: share of the windows on which a model that is ``unconditional`` trains without its
            mel.
        drop_speaker: share of the windows on which such a model trains without its speaker, drawn
            independently of the mel: half, as unknown voices have no speaker of the corpus.
        drop_conditions: the same for further conditions of the model, by name; 0 for the others.
        augment: share of the windows whose audio is augmented: resampled by 0.75 to 1.35, filtered,
            at another level and sign; an ``unconditional`` model trains on these without a speaker.
        feedback_noise: mean amplitude of the noise that is added to the network's input, but not to
            the samples to predict, so that it learns to correct errors of its own (LPCNet, where it
            is 2); 0 for none. Needs a model with ``linear_prediction``.
        seed: seed the initial weights, the choice of windows and every other random draw.
        window_s: compute the loss on windows of this many seconds; warm-up samples come before.
        batch_size: put this many windows into a step, over all devices and accumulated batches.
        max_steps: make this many optimiser steps.
        minutes: train for about this many minutes, and make at most max_steps; the learning rate
            falls over the last decay_fraction of them, which must be below 1. 0: until max_steps.
        optimizer: adam, or muon, which makes the momentum of weight matrices orthogonal and trains
            all other parameters with Adam; it needs fewer steps.
        learning_rate: set the peak learning rate; updates of both have about the same size.
        warmup_steps: raise the learning rate over this many steps; then it falls as a cosine to 0.
        decay: shape of the decay of the learning rate to 0: cosine or linear.
        decay_fraction: share of the steps, or of ``minutes``, at the end, over which it decays; 0
            for no decay.
        adam_beta2: decay of Adam's average of squared gradients.
        gradient_clip: clip the gradient to this norm; 0 clips nothing.
        ema_decay: average the weights with this decay, and validate and export the average; 0
            averages nothing.
        validation_fraction: keep this fraction of the files for validation.
        validation_windows: validate on this many windows, always the same ones.
        validate_every: validate and save the model after this many steps.
        checkpoint_every: write a checkpoint for ``--resume`` after this many steps.
        listen_every: write samples, audio and plots, to the logs and to the folder samples after
            this many steps and at the end; 0 writes none.
        listen_s: make each of these samples this many seconds long.
        compile: compile the network with ``torch.compile``.
        recompute: compute the gates of each layer again in the backward pass, which needs less
            memory and more time.
        workers: prepare windows in this many processes; 0 prepares them in the main process.
        loggers: log to these, too: classes of lightning.pytorch.loggers by their paths, such as
            [lightning.pytorch.loggers.CSVLogger], or each as path: {argument: value}.
        callbacks: call these, too: classes of lightning.pytorch.callbacks, in the same way; those
            that need no Trainer of Lightning's, such as lightning.pytorch.callbacks.Timer.
        trainer: set accelerator, devices, num_nodes, precision and strategy of Lightning Fabric;
            accumulate_grad_batches, log_every_n_steps, enable_progress_bar; and of torch
            deterministic, benchmark and detect_anomaly.
    """

    corpus: str = ""
    corpus_root: str = "corpora"
    download: bool = False
    cache: str = ""
    cache_gb: float = 50.0
    trim_silence: float | Literal[False] = False
    model: dict[str, Any] = field(default_factory=dict)
    init_from: str | None = None
    speakers_by_folder: bool = False
    drop_mel: float = 0.1
    drop_speaker: float = 0.5
    drop_conditions: dict[str, float] = field(default_factory=dict)
    augment: float = 0.0
    feedback_noise: float = 0.0
    seed: int = 0
    window_s: float = 0.5
    batch_size: int = 8
    max_steps: int = 10_000
    minutes: float = 0.0
    optimizer: OptimizerName = "adam"
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    decay: Decay = "cosine"
    decay_fraction: float = 1.0
    adam_beta2: float = 0.999
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    validation_fraction: float = 0.05
    validation_windows: int = 32
    validate_every: int = 500
    checkpoint_every: int = 500
    listen_every: int = 5000
    listen_s: float = 2.0
    compile: bool = False
    recompute: bool = False
    workers: int = 0
    loggers: list[str | dict[str, Any]] = field(default_factory=list)
    callbacks: list[str | dict[str, Any]] = field(default_factory=list)
    trainer: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._set_plain_values()
        counts = ("batch_size", "max_steps", "validation_windows")
        for name in (*counts, "validate_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1")
        for name, most in MOST.items():
            if getattr(self, name) > most:
                raise ConfigError(f"{name}={shown(getattr(self, name))} must be at most {most}")
        silence = self.trim_silence
        if silence is not False and not (is_number(silence) and -math.inf < silence < 0):
            raise ConfigError(
                f"trim_silence={short(silence)} must be false or negative, in dB, such as -50"
            )
        for name in ("window_s", "learning_rate", "listen_s", "cache_gb"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name}={getattr(self, name)} must be positive and finite")
        if self.learning_rate > 1e38:
            raise ConfigError(f"learning_rate={self.learning_rate} is more than a float32 holds")
        for name in ("seed", "warmup_steps", "gradient_clip", "listen_every", "workers"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name}={getattr(self, name)} must not be negative")
        if not 0 <= self.minutes < math.inf:
            raise ConfigError(f"minutes={self.minutes} must be finite and not negative")
        if self.minutes and self.decay_fraction == 1:
            raise ConfigError(
                f"minutes={self.minutes:g} needs a decay_fraction below 1, such as 0.3: the steps "
                "before the decay measure how many there is time for"
            )
        if not 0 <= self.feedback_noise < math.inf:
            raise ConfigError(
                f"feedback_noise={self.feedback_noise} must be finite and not negative"
            )
        for name in ("ema_decay", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"{name}={getattr(self, name)} must be at least 0 and less than 1"
                )
        for name, kind in (("decay", Decay), ("optimizer", OptimizerName)):
            choices = get_args(kind)
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"{name}={short(getattr(self, name))} must be {' or '.join(choices)}"
                )
        for name in ("drop_mel", "drop_speaker", "augment", "decay_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)} must lie within 0 to 1")
        for name in ("mel", "speaker"):
            if name in self.drop_conditions:
                raise ConfigError(
                    f"drop_conditions: {name} has a setting of its own; use drop_{name}"
                )
        for name, share in self.drop.items():
            if not is_number(share) or not 0 <= share <= 1:
                raise ConfigError(f"drop_conditions: {name}={short(share)} must lie within 0 to 1")
        if self.seed >= 2**63:
            raise ConfigError(f"seed={self.seed} must be less than 2**63")
        if not 0 < self.validation_fraction < 1:
            raise ConfigError(
                f"validation_fraction={self.validation_fraction} must lie between 0 and 1"
            )

    def _set_plain_values(self) -> None:
        """Replace numbers of other libraries and paths by plain values, and check their types.

        Raises:
            ConfigError: for a key without a value or with one of another type, and for a name that
                no file can have.
        """
        for each in fields(self):
            value = _plain(getattr(self, each.name))
            object.__setattr__(self, each.name, value)
            if value is None and each.name != "init_from":
                raise ConfigError(f"{each.name} has no value; give one, or drop the key")
            default = each.default if each.default_factory is MISSING else each.default_factory()
            is_of_type, expected = _TYPES[type(default)]
            if not is_of_type(value) and each.name != "trim_silence":  # false or a number
                raise ConfigError(f"{each.name}={short(value)} must be {expected}")
            if isinstance(value, str) and NO_FILE_NAME.search(value):
                raise ConfigError(
                    f"{each.name}={shown(value)} holds a character that no name of a file has; "
                    "remove it"
                )

    @property
    def drop(self) -> dict[str, float]:
        """Shares of the windows without a condition, by its name."""
        return {"mel": self.drop_mel, "speaker": self.drop_speaker, **self.drop_conditions}

    @property
    def trim_db(self) -> float | None:
        """The threshold below which silence is trimmed; None: it is not."""
        return None if self.trim_silence is False else self.trim_silence

    def model_config(self) -> WaveNetConfig:
        """The model's configuration.

        A ``mel`` that is the name of a preset or of a file is read, see ``read_mel_config``; the
        sample rate is then the mel's unless there is another.

        Raises:
            ValueError: if a key is unknown or a value makes no model; it is named.
        """
        from wavenet.features.acoustic_configs import read_mel_config
        from wavenet.model.config import WaveNetConfig  # needs torch, which --help does not

        settings = dict(self.model)
        if isinstance(settings.get("mel"), str):
            settings["mel"] = read_mel_config(settings["mel"], option="model.mel")
            settings.setdefault("sample_rate", settings["mel"].sample_rate)
        return WaveNetConfig.from_dict(settings)


def _plain(value: Any) -> Any:
    """Return a value as a recipe holds it: numpy's numbers as Python's, paths as text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str | os.PathLike):
        return str.__str__(os.fspath(value))
    if is_integer(value):
        return operator.index(value)
    return float(value) if is_number(value) else value


def shown(value: Any) -> str:
    """A value in a message: a short one as it is, of a long one the beginning."""
    text = value if isinstance(value, str) and value.isprintable() else ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
