"""Options of ``wavenet train``: a recipe in YAML, and its keys on the command line."""

from __future__ import annotations

import argparse
import difflib
import logging
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from wavenet.training.config import ConfigError, TrainingConfig, shown
from wavenet.training.model_keys import model_keys
from wavenet.values.integers import fits_float, is_number
from wavenet.values.numerals import number_of

logger = logging.getLogger("wavenet")

MISSING_PACKAGES = 'training needs more packages: pip install "wavenet-audio[train]"'

LONGEST_MESSAGE = 400


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
    _check_numbers(given, parsed)
    if not isinstance(parsed.setdefault("model", {}), dict):
        raise ConfigError(_shortened(f'"model": Expected a dict. Got value: {parsed["model"]}'))
    parsed.pop("config")
    out, start, resume = parsed.pop("out"), parsed.pop("from"), parsed.pop("resume")
    if start is not None:
        parsed["init_from"] = start
    return TrainingConfig(**parsed), out, resume


def training_options() -> list[tuple[str, str, bool]]:
    """Return the options of ``wavenet train``: name, meaning, and whether a value follows.

    Raises:
        ModuleNotFoundError: if the packages that training needs are missing.
    """
    try:
        parser = _parser()
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING_PACKAGES) from error
    return [
        (hyphened(action.option_strings[-1]), action.help or "", action.nargs != 0)
        for action in parser._actions
        if action.option_strings and action.option_strings[-1] not in ("--help", "--print_config")
    ]


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


def _check_numbers(given: list[str], parsed: dict[str, Any]) -> None:
    """Raise ConfigError for a number that is not one of ASCII digits: to Python 1_0 is 10."""
    for i, argument in enumerate(given):
        name, equals, value = argument.partition("=")
        if not name.startswith("--"):
            continue
        found: Any = parsed
        for key in name.removeprefix("--").split("."):
            found = found.get(key) if isinstance(found, dict) else None
        text = value if equals else "".join(given[i + 1 : i + 2])
        if number_of(text) is None and is_number(found) and fits_float(found):
            raise ConfigError(f"argument {hyphened(name)}: {shown(text)} is no number")


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
        raise ConfigError(f"{where}{shown(key)} is unknown; {remedy}")


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


def _shortened(message: str) -> str:
    """Keep the beginning and the end of a long message: what is wrong, and the remedy."""
    half = LONGEST_MESSAGE // 2
    is_long = len(message) > LONGEST_MESSAGE
    return f"{message[:half]} ... {message[-half:]}" if is_long else message


def _plain(value: Any) -> Any:
    """Namespaces as dictionaries."""
    return value.as_dict() if hasattr(value, "as_dict") else value
