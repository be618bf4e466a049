"""The configuration of a training run: a YAML file, and keys of it on the command line."""

from __future__ import annotations

import argparse
import difflib
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from wavenet.training.model_keys import model_keys

if not TYPE_CHECKING:
    pass  # jsonargparse runs whatever is below `if TYPE_CHECKING`, and this imports torch
else:
    from wavenet.model.config import WaveNetConfig

logger = logging.getLogger("wavenet")

MISSING_PACKAGES = 'training needs more packages: pip install "wavenet-audio[train]"'


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

LONGEST_MESSAGE = 400

NO_FILE_NAME = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")
"""Characters that ``os.fsencode`` refuses: a NUL, and halves of characters."""


class ConfigError(ValueError):
    """A configuration that cannot be used; one line gives the key and the reason."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a run; a recipe's ``config.yaml`` holds those that differ from these defaults.

    Attributes:
        corpus: train on this folder of audio files, which is searched recursively; or on a CSV or
            JSONL manifest with path, speaker, start and end in seconds; or on LJSPEECH, VCTK,
            LIBRITTS, CMUARCTIC, YESNO, SPEECHCOMMANDS or PROMPTS, or a part such as
            LIBRITTS/dev-clean or CMUARCTIC/bdl,slt.
        corpus_root: look for named corpora in this folder.
        download: download a named corpus into corpus_root if it is not there.
        cache: keep decoded corpora in this folder; if empty, in $WAVENET_CACHE, or in the folder
            wavenet of the user's cache.
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
        learning_rate: set the peak learning rate of Adam.
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
        callbacks: call these, too: classes of lightning.pytorch.callbacks, in the same way.
        trainer: pass these further arguments to Lightning's ``Trainer``: accelerator, devices,
            precision ...
    """

    corpus: str = ""
    corpus_root: str = "corpora"
    download: bool = False
    cache: str = ""
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
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    decay: Literal["cosine", "linear"] = "cosine"
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
        self._require_values()
        counts = ("batch_size", "max_steps", "validation_windows")
        for name in (*counts, "validate_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1")
        for name, most in MOST.items():
            if getattr(self, name) > most:
                raise ConfigError(f"{name}={_shown(getattr(self, name))} must be at most {most}")
        if self.trim_silence is not False and not -math.inf < self.trim_silence < 0:
            raise ConfigError(
                f"trim_silence={self.trim_silence} must be false or negative, in dB, such as -50"
            )
        for name in ("window_s", "learning_rate", "listen_s"):
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
        for name in ("drop_mel", "drop_speaker", "augment", "decay_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)} must lie within 0 to 1")
        for name, share in self.drop.items():
            if not 0 <= share <= 1:
                raise ConfigError(f"drop_conditions: {name}={share} must lie within 0 to 1")
        if self.seed >= 2**63:
            raise ConfigError(f"seed={self.seed} must be less than 2**63")
        if not 0 < self.validation_fraction < 1:
            raise ConfigError(
                f"validation_fraction={self.validation_fraction} must lie between 0 and 1"
            )

    def _require_values(self) -> None:
        """Raise ConfigError for a key without a value, and for a name that no file can have."""
        for each in fields(self):
            value = getattr(self, each.name)
            if value is None and each.name != "init_from":
                raise ConfigError(f"{each.name} has no value; give one, or drop the key")
            if isinstance(value, str) and NO_FILE_NAME.search(value):
                raise ConfigError(
                    f"{each.name}={_shown(value)} holds a character that no name of a file has; "
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

        Raises:
            ValueError: if a key is unknown or a value makes no model; it is named.
        """
        from wavenet.model.config import WaveNetConfig  # needs torch, which --help does not

        return WaveNetConfig.from_dict(self.model)


def parse_training(arguments: Sequence[str]) -> tuple[TrainingConfig, str | None, bool]:
    """Parse ``CONFIG.yaml --out DIR --from MODEL --resume --key value ...``, all of it optional.

    With ``--from`` the model is as it is: the keys below ``model`` in CONFIG.yaml are left out.
    Keys of model and trainer follow a dot: ``--model.residual-channels 48``. Options have
    hyphens or underscores. ``--help`` prints every key with its meaning and leaves the program.
    Values are strictly typed.

    Returns:
        The configuration, the value of ``--out`` and whether ``--resume`` was given.

    Raises:
        ConfigError: for an unknown key or a value of a wrong type, in one line.
        ModuleNotFoundError: if the packages that training needs are missing.
    """
    try:
        import jsonargparse
        import yaml
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING_PACKAGES) from error
    parser = _parser()
    given = [_spelled(argument) for argument in arguments]
    settings: dict[str, Any] = {}
    if given and not given[0].startswith("-"):
        path = given.pop(0)
        settings = _read_settings(path)
        if any(argument.split("=")[0] == "--from" for argument in given):
            _leave_out_model(settings, path)
    settings, given = _with_whole_model(settings, given)
    given = [f"--config={yaml.safe_dump(settings)}", *given] if settings else given
    _check_keys(given)
    try:
        parsed = {key: _plain(value) for key, value in vars(parser.parse_args(given)).items()}
    except (jsonargparse.ArgumentError, OverflowError, RecursionError) as error:
        message = " ".join(str(error).split()).replace("<class '", "").replace("'>", "")
        raise ConfigError(_shortened(hyphened(message))) from None
    if not isinstance(parsed.setdefault("model", {}), dict):
        raise ConfigError(_shortened(f'"model": Expected a dict. Got value: {parsed["model"]}'))
    parsed.pop("config")
    out, start, resume = parsed.pop("out"), parsed.pop("from"), parsed.pop("resume")
    if start is not None:
        parsed["init_from"] = start
    return TrainingConfig(**parsed), out, resume


def _parser() -> Any:
    """A jsonargparse parser of all keys, whose options are shown with hyphens."""
    import jsonargparse

    class Parser(jsonargparse.ArgumentParser):  # type: ignore[misc, unused-ignore]
        def format_help(self, *arguments: Any) -> str:
            return hyphened(super().format_help(*arguments)).replace("``", "")

    parser = Parser(
        prog="wavenet train",
        usage="wavenet train [RECIPE.yaml] --out DIR [--KEY VALUE ...]",
        parser_mode=_plain_yaml_mode(),
        description="Train a model on a folder of audio; DIR/model is the checkpoint. Keys of a "
        "recipe are options, too, with hyphens or underscores.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        action="config",
        help="read more settings from this YAML file",
    )
    parser.add_argument("--out", type=str, help="write the model, logs and settings to this folder")
    parser.add_argument(
        "--from", type=str, help="start from this model: another way to set init_from"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue from the last checkpoint in --out, or begin if there is none",
    )
    parser.add_class_arguments(TrainingConfig, skip={"model"})
    group = parser.add_argument_group(
        "Settings of the model, below `model` in a recipe; --model '{KEY: VALUE, ...}' replaces all"
    )
    for key in model_keys():
        group.add_argument(
            f"--model.{key.name}", type=key.type, default=argparse.SUPPRESS, help=key.meaning
        )
    return parser


def _spelled(argument: str) -> str:
    """An option with the underscores of its key: ``--batch-size`` is ``--batch_size``."""
    name, equals, value = argument.partition("=")
    is_option = name.startswith("--")
    return f"--{name[2:].replace('-', '_')}{equals}{value}" if is_option else argument


def hyphened(text: str) -> str:
    """Return a text in which every option has hyphens: ``--batch_size`` is ``--batch-size``."""
    words = text.split("--")
    shown = [words[0]]
    for word in words[1:]:
        end = next((i for i, c in enumerate(word) if not (c.isalnum() or c in "_.")), len(word))
        shown.append(word[:end].replace("_", "-") + word[end:])
    return "--".join(shown)


def _with_whole_model(
    settings: dict[str, Any], given: list[str]
) -> tuple[dict[str, Any], list[str]]:
    """Let ``--model '{key: value}'`` replace all settings of the model before it."""
    import yaml

    from wavenet.training.plain_yaml import load_plain

    for i, argument in enumerate(given):
        name, equals, value = argument.partition("=")
        if name != "--model":
            continue
        rest = given[i + 1 :]
        if not equals:
            if not rest:
                raise ConfigError("argument --model: expected one argument")
            value = rest.pop(0)
        try:
            model = load_plain(value)
        except (ValueError, yaml.YAMLError) as error:
            raise ConfigError(_shortened(f"--model: {' '.join(str(error).split())}")) from None
        before = _without_model_keys(given[:i])
        return _with_whole_model({**settings, "model": model}, before + rest)
    return settings, given


def _without_model_keys(given: list[str]) -> list[str]:
    """Arguments without ``--model.key=value`` and ``--model.key value``."""
    kept, arguments = [], iter(given)
    for argument in arguments:
        if not argument.startswith("--model."):
            kept.append(argument)
        elif "=" not in argument:
            next(arguments, None)
    return kept


def _check_keys(given: list[str]) -> None:
    """Raise ConfigError for an unknown key of a model, and for a key of a key.

    Of several keys of one key, jsonargparse would keep the last.
    """
    for argument in given:
        name = argument.partition("=")[0]
        keys = name.removeprefix("--").split(".")
        if not name.startswith("--") or len(keys) == 1:
            continue
        if keys[0] == "model":
            _require_known(keys[1].removesuffix("+"), _names_of_model_keys(), "--model.")
        if len(keys) > 2:
            whole = hyphened(f"--{'.'.join(keys[:2])}")
            raise ConfigError(
                f"{hyphened(argument)}: give {'.'.join(keys[:2])} as a whole: "
                f"{whole} '{{key: value, ...}}'"
            )


def _names_of_model_keys() -> list[str]:
    return [key.name for key in model_keys()]


def _read_settings(path: str) -> dict[str, Any]:
    """The settings in a YAML file, all of them known.

    Raises:
        ConfigError: if it cannot be read, is no mapping, or has an unknown key.
    """
    import yaml

    from wavenet.training.plain_yaml import LONGEST_BYTES, PlainYamlError, load_plain

    try:
        with open(path, "rb") as file:
            content = file.read(LONGEST_BYTES + 1)
        if len(content) > LONGEST_BYTES:
            raise ConfigError(f"{path}: longer than {LONGEST_BYTES} bytes; name a recipe")
        settings = load_plain(content.decode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; name a YAML file") from None
    except PlainYamlError as error:
        raise ConfigError(f"{path}, {error}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        message = _shortened(" ".join(str(error).split()))
        raise ConfigError(f"{path}: not YAML: {message}") from None
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: expected settings, one `key: value` a line")
    known = [*(field.name for field in fields(TrainingConfig)), "out", "from"]
    for key in settings:
        _require_known(key, known, f"{path}: ")
        if settings[key] is None and key not in ("init_from", "out", "from"):
            raise ConfigError(f"{path}: {key} has no value; give one, or drop the key")
    if isinstance(settings.get("model"), dict):
        for key in settings["model"]:
            _require_known(key, _names_of_model_keys(), f"{path}: model.")
    return settings


def _require_known(key: Any, known: list[str], where: str) -> None:
    if key not in known:
        near = difflib.get_close_matches(str(key)[:100], known, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise ConfigError(f"{where}{_shown(key)} is unknown; {remedy}")


def _leave_out_model(settings: dict[str, Any], path: str) -> None:
    """Leave out a recipe's model settings: with ``--from`` it is one for that model."""
    model = settings.pop("model", None)
    if model:
        logger.info("--from: the model's own settings are used, not those of %s (model)", path)


def _plain_yaml_mode() -> str:
    """Let jsonargparse read YAML with ``load_plain``'s checks; returns its name for that."""
    import jsonargparse
    import yaml

    from wavenet.training.plain_yaml import check_plain

    read = jsonargparse.get_loader("yaml")

    def load(text: str) -> Any:
        check_plain(text)
        return read(text)

    jsonargparse.set_loader("plain_yaml", load, exceptions=(yaml.YAMLError, ValueError))
    return "plain_yaml"


def _shown(value: Any) -> str:
    """A value in a message: a short one as it is, of a long one the beginning."""
    text = value if isinstance(value, str) and value.isprintable() else ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _shortened(message: str) -> str:
    """Keep the beginning and the end of a long message: what is wrong, and the remedy."""
    half = LONGEST_MESSAGE // 2
    is_long = len(message) > LONGEST_MESSAGE
    return f"{message[:half]} ... {message[-half:]}" if is_long else message


def _plain(value: Any) -> Any:
    """Namespaces as dictionaries."""
    return value.as_dict() if hasattr(value, "as_dict") else value
