"""The command line: it parses, calls and prints. What it does is done by the package.

A mistake of the user's ends in one line on standard error and exit code 2. A command's modules are
imported when it is the one that was asked for: ``wavenet --help`` does not wait for torch.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from wavenet import __version__
from wavenet.cli.signals import INTERRUPTED, unwound_by_signals
from wavenet.cli.standard_streams import (
    Telling,
    give_up,
    open_closed_descriptors,
    say,
    settle,
    tell,
)
from wavenet.training.errors import TrainingError

MISTAKE = 2
"""Exit code after a mistake in the input."""

logger = logging.getLogger("wavenet")


Parts = tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int | None]]
"""Of a command: what adds its arguments to a parser, and what runs it, to an exit code or None."""


class UsageError(ValueError):
    """Arguments that are none of the command's."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the program's name; default, those of the process.

    Returns:
        The exit code: 0, 2 for a mistake in the input, 130 when interrupted.

    Raises:
        SystemExit: after ``--help`` and ``--version``, and for SIGTERM and SIGHUP.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = f"wavenet {given[0]}" if given and given[0] in COMMANDS else "wavenet"
    open_closed_descriptors()
    if sys.stdout is None:
        tell(f"{name}: standard output is closed; send it to a file, or to /dev/null")
        return MISTAKE
    try:
        with _reporting(name), unwound_by_signals(), _memory_in_one_line():
            code = _run(given)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:  # whoever read standard output has left
        code = 0
    except UsageError as error:
        tell(str(error))
        code = MISTAKE
    except (ValueError, OSError, ModuleNotFoundError, TrainingError) as error:
        tell(f"{name}: {' '.join(str(error).split())}")
        code = MISTAKE
    give_up()
    return code


def _run(given: list[str]) -> int:
    if not given:
        for line in _parser(None).format_help().splitlines():
            tell(line)
        return MISTAKE
    try:
        if given[:1] == ["train"]:  # its keys are those of the configuration, typed by jsonargparse
            code = _train(given[1:])
        else:
            options = _parser(given[0]).parse_args(given)
            options.given = given
            _keep_matplotlib_here()
            code = options.run(options) or 0
    except SystemExit:  # as --help and --version end
        settle()
        raise
    settle()
    return code


@contextlib.contextmanager
def _reporting(name: str) -> Iterator[None]:
    """Print what the package reports while it works, and warnings, as a line each."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        logger.warning("%s: %s", name, " ".join(str(message).split()))

    handler, level = Telling(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextlib.contextmanager
def _memory_in_one_line() -> Iterator[None]:
    """Make a ValueError, which is shown as one line, of a shortage of memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise ValueError(
            "there is not enough memory for this; ask for less at once: a shorter piece, a smaller "
            "batch or a smaller model"
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    """Whether a device, the system or Python has no more; on a CPU torch has no type for it."""
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        return True
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


class _Parser(argparse.ArgumentParser):
    """Its errors are one line, and raised.

    Attributes:
        help_of: whose ``--help`` an error points to, if not the parser's own.
    """

    help_of: str | None = None

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        hint = f"see {self.help_of or self.prog} --help"
        raise UsageError(f"{self.prog}: {' '.join(message.split())}; {hint}")

    def print_help(self, file: object = None) -> None:
        """Print the help; unlike argparse's own, it raises if standard output takes no more."""
        say(self.format_help().rstrip("\n"))


class _Version(argparse.Action):
    """Prints the version of this package and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        say(f"wavenet {__version__}")
        parser.exit()


def _parser(name: str | None) -> argparse.ArgumentParser:
    """The parser of all commands, with the arguments of one of them."""
    parser = _Parser(
        prog="wavenet", description="WaveNet in PyTorch: train models, generate and process audio."
    )
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        help="print the version of this package and exit",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for each, (text, parts) in COMMANDS.items():
        command = commands.add_parser(each, help=text, description=f"{text.capitalize()}.")
        if each == name:
            add_arguments, run = parts()
            add_arguments(command)
            command.set_defaults(run=run)
            parser.help_of = command.prog
    return parser


def _keep_matplotlib_here() -> None:
    """Keep matplotlib's files in this package's cache, not elsewhere in the user's home."""
    from wavenet.data.cache import cache_folder

    os.environ.setdefault("MPLCONFIGDIR", str(cache_folder() / "matplotlib"))


def _train(arguments: list[str]) -> int:
    from wavenet.cli import train as command

    _keep_matplotlib_here()

    said, interrupted = command.run(arguments)
    if said is not None:  # of several processes one speaks
        say(said)
    return INTERRUPTED if interrupted else 0


def _no_parts() -> Parts:
    raise AssertionError("train has a parser of its own")


def _inspect() -> Parts:
    from wavenet.cli import inspect as command

    return command.add_arguments, lambda options: say(command.answer(options))


def _generate() -> Parts:
    from wavenet.cli import generate as command

    def run(options: argparse.Namespace) -> None:
        said = command.run(options)
        if said is not None:
            say(said)

    return command.add_arguments, run


def _vocode() -> Parts:
    from wavenet.cli import vocode as command

    def run(options: argparse.Namespace) -> int:
        said, code = command.run_vocode(options)
        say(said)
        return code

    return command.add_vocode_arguments, run


def _mel() -> Parts:
    from wavenet.cli import vocode as command

    return command.add_mel_arguments, lambda options: say(command.run_mel(options))


def _process() -> Parts:
    from wavenet.cli import process as command

    def run(options: argparse.Namespace) -> None:
        from wavenet.cli.convert_nam import load_model

        made, speed, remarks = command.answer(options, load_model)
        say(made)
        for line in (speed, *remarks):
            tell(line)

    return command.add_arguments, run


def _info() -> Parts:
    from wavenet.cli import info

    return info.add_arguments, lambda options: say(info.answer(options))


def _evaluate() -> Parts:
    from wavenet.cli import evaluate as command

    def run(options: argparse.Namespace) -> None:
        from wavenet.cli.progress import counted
        from wavenet.loading import load_wavenet

        progress = functools.partial(counted, unit="recording")
        say(
            command.answer(options, load_wavenet, progress, shlex.join(["wavenet", *options.given]))
        )

    return command.add_arguments, run


def _import() -> Parts:
    from wavenet.cli import convert as command

    return command.add_import_arguments, lambda options: say(command.import_file(options))


def _export() -> Parts:
    from wavenet.cli import convert as command

    return command.add_export_arguments, lambda options: say(command.export_file(options))


def _bench() -> Parts:
    from wavenet.cli import bench

    return bench.add_arguments, lambda options: say(bench.answer(options))


def _doctor() -> Parts:
    from wavenet.cli import doctor as command

    def run(options: argparse.Namespace) -> int:
        text, code = command.answer(options)
        say(text)
        return code

    return command.add_arguments, run


def _receptive_field() -> Parts:
    from wavenet.cli import receptive_field as command

    def run(options: argparse.Namespace) -> None:
        from wavenet.audio import read_audio
        from wavenet.cli.bench import multiply_adds_per_second
        from wavenet.loading import load

        say(
            command.answer(
                options,
                _read_target,
                load,
                lambda path, rate: read_audio(path, rate)[0],
                multiply_adds_per_second,
            )
        )

    return command.add_arguments, run


def _read_target(text: str) -> Any:
    """The model configuration in a checkpoint folder or a recipe, or the model in a .nam file."""
    from wavenet.loading import load
    from wavenet.model.config import WaveNetConfig
    from wavenet.nam import ARCHITECTURE, is_nam
    from wavenet.storage.checkpoint import CONFIG_NAME, read_config
    from wavenet.storage.hub import resolve
    from wavenet.training.config import parse_training

    path = Path(text)
    if path.is_dir() and not (path / CONFIG_NAME).exists() and (path / "config.yaml").exists():
        path = path / "config.yaml"
    if path.suffix in (".yaml", ".yml"):
        return parse_training([str(path)])[0].model_config()
    if is_nam(path):
        return load(path)
    folder = resolve(text)
    content = read_config(folder)
    if content["architecture"] == ARCHITECTURE:
        return load(folder)
    return WaveNetConfig.from_dict(content["config"])


COMMANDS: dict[str, tuple[str, Callable[[], Parts]]] = {
    "train": ("train a model on a folder of audio", _no_parts),
    "inspect": ("summarize a corpus and list its faulty recordings", _inspect),
    "generate": ("generate audio with a model", _generate),
    "vocode": ("synthesize audio from mel spectrograms or recordings", _vocode),
    "mel": ("compute the log-mel spectrogram of a recording", _mel),
    "process": ("run audio through an amplifier model", _process),
    "info": ("show the size, receptive field, settings and origin of a model", _info),
    "evaluate": ("measure the quality of a model on recordings and write a report", _evaluate),
    "import": ("convert another program's model", _import),
    "export": ("write a model for another program", _export),
    "receptive-field": (
        "compute the receptive field of a network, or design a stack for one",
        _receptive_field,
    ),
    "bench": ("measure how fast this machine samples, trains and processes audio", _bench),
    "doctor": ("check and measure a device, and write a report", _doctor),
}
"""Of each command its row of ``wavenet --help``, and what imports its parts."""


if __name__ == "__main__":
    sys.exit(main())
