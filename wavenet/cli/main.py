"""The command line: it parses, calls and prints. What it does is done by the package.

A mistake of the user's ends in one line on standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from wavenet import __version__
from wavenet.cli import bench, doctor, info, progress
from wavenet.cli import convert as interop_command
from wavenet.cli import evaluate as evaluate_command
from wavenet.cli import generate as generate_command
from wavenet.cli import inspect as data_command
from wavenet.cli import process as process_command
from wavenet.cli import receptive_field as field_command
from wavenet.cli import train as train_command
from wavenet.cli import vocode as vocode_command
from wavenet.cli.log_format import OneLine
from wavenet.cli.signals import unwound_by_sigterm
from wavenet.data.cache import cache_folder
from wavenet.loading import LOADERS, load
from wavenet.model.config import WaveNetConfig
from wavenet.storage.checkpoint import CONFIG_NAME, read_config
from wavenet.training.config import parse_training
from wavenet.training.errors import TrainingError

INTERRUPTED = 130
"""Exit code after ctrl-C: 128 and the number of the signal."""


class UsageError(ValueError):
    """Arguments that are none of the command's."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the program's name; default, those of the process.

    Returns:
        The exit code: 0, 2 for a mistake in the input, 130 when interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = "wavenet"
    # Of the user's home a command writes to this package's cache alone; matplotlib keeps its own.
    os.environ.setdefault("MPLCONFIGDIR", str(cache_folder() / "matplotlib"))
    try:
        if given[:1] == ["train"]:  # its keys are those of the configuration, typed by jsonargparse
            options = argparse.Namespace(command="train", run=_train, arguments=given[1:])
        else:
            options = _parser().parse_args(given)
            options.given = given
        name = f"wavenet {options.command}"
        own_end = options.command == "train"  # with a checkpoint, after the step being made
        with _messages_on_stderr(), contextlib.nullcontext() if own_end else unwound_by_sigterm():
            code: int = options.run(options) or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever listened has left
        _give_up_stdout()
        return 0
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except (ValueError, OSError, ModuleNotFoundError, TrainingError) as error:
        _give_up_stdout()
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return code


@contextlib.contextmanager
def _messages_on_stderr() -> Iterator[None]:
    """Show what the package reports while it works, such as files that were left out."""
    logger, handler = logging.getLogger("wavenet"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _give_up_stdout() -> None:
    """Where standard output takes no more, keep Python from trying once again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class _Parser(argparse.ArgumentParser):
    """Its errors are one line, and raised."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{self.prog}: {message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="wavenet", description="Causal dilated convolutions that generate speech and audio."
    )
    parser.add_argument("--version", action="version", version=f"wavenet {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("train", help="train a model on a folder of audio")

    def add(
        name: str, text: str, run: Callable[[argparse.Namespace], int | None]
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text)
        command.set_defaults(run=run)
        return command

    inspect = add("inspect", "what a corpus holds, and what is odd about it", _inspect)
    data_command.add_arguments(inspect)
    generate_command.add_arguments(add("generate", "generate audio from a model", _generate))
    vocode = add("vocode", "a model's speech for audio, or for its mel", _vocode)
    vocode_command.add_vocode_arguments(vocode)
    mel = add("mel", "the log-mel spectrogram of audio, with its settings", _mel)
    vocode_command.add_mel_arguments(mel)
    process = add("process", "run audio through an amplifier model", _process)
    process_command.add_arguments(process)
    info.add_arguments(add("info", "what a checkpoint is and where it comes from", _info))
    evaluate = add("evaluate", "how good a model is, in numbers and to hear", _evaluate)
    evaluate_command.add_arguments(evaluate)
    interop_command.add_import_arguments(add("import", "read another program's model", _import))
    interop_command.add_export_arguments(
        add("export", "write a model for another program", _export)
    )
    field = add("receptive-field", "how far back a network hears", _receptive_field)
    field_command.add_arguments(field)
    bench.add_arguments(add("bench", "how fast this machine is", _bench))
    doctor.add_arguments(add("doctor", "Check and measure a device.", _doctor))
    return parser


def _train(options: argparse.Namespace) -> int:
    said, interrupted = train_command.run(options.arguments)
    if said is not None:  # of several processes one speaks
        print(said)
    return INTERRUPTED if interrupted else 0


def _inspect(options: argparse.Namespace) -> None:
    _print_names(data_command.answer(options))


def _generate(options: argparse.Namespace) -> None:
    said = generate_command.run(options)
    if said is not None:
        print(said)


def _vocode(options: argparse.Namespace) -> int:
    said, code = vocode_command.run_vocode(options)
    print(said)
    return code


def _mel(options: argparse.Namespace) -> None:
    print(vocode_command.run_mel(options))


def _process(options: argparse.Namespace) -> None:
    from wavenet.cli.convert_nam import load_model

    made, speed, remarks = process_command.answer(options, load_model)
    print(made)
    for line in (speed, *remarks):
        print(line, file=sys.stderr)


def _info(options: argparse.Namespace) -> None:
    print(info.answer(options))


def _evaluate(options: argparse.Namespace) -> None:
    counted = functools.partial(progress.counted, unit="recording")
    command = shlex.join(["wavenet", *options.given])
    _print_names(evaluate_command.answer(options, load, counted, command))


def _import(options: argparse.Namespace) -> None:
    print(interop_command.import_file(options))


def _export(options: argparse.Namespace) -> None:
    print(interop_command.export_file(options))


def _bench(options: argparse.Namespace) -> None:
    print(bench.answer(options))


def _doctor(options: argparse.Namespace) -> int:
    text, code = doctor.answer(options)
    print(text)
    return code


def _receptive_field(options: argparse.Namespace) -> None:
    from wavenet.audio import read_audio

    print(
        field_command.answer(
            options,
            _read_target,
            load,
            lambda path, rate: read_audio(path, rate)[0],
            bench.multiply_adds_per_second,
        )
    )


def _read_target(path: Path) -> Any:
    """The model configuration in a checkpoint folder or a recipe."""
    if path.is_dir() and not (path / CONFIG_NAME).exists() and (path / "config.yaml").exists():
        path = path / "config.yaml"
    if path.suffix not in (".yaml", ".yml"):
        content = read_config(path)
        if content.get("architecture") in LOADERS:
            return load(path)
        return WaveNetConfig.from_dict(content["config"])
    return parse_training([str(path)])[0].model_config()


def _print_names(text: str) -> None:
    """Print what names files, whose names need not be Unicode."""
    print(text.encode("utf-8", "backslashreplace").decode())


if __name__ == "__main__":
    sys.exit(main())
