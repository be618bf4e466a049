"""The command line: it parses the arguments of a command and runs it.

Each command is a module of this folder with ``add_arguments(parser)`` and ``run(options)``, which
prints and returns the exit code; ``options.given`` has the arguments as they were typed. It is
imported when it is the one that was asked for, and what it needs when it runs: ``--help`` does not
wait for torch. A mistake of the user's ends in one line on standard error and exit code 2.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence

from wavenet.cli.completion import PrintCompletion
from wavenet.cli.parser import CommandParser, PrintVersion, UsageError
from wavenet.cli.signals import INTERRUPTED, unwound_by_signals
from wavenet.cli.standard_streams import (
    MessageHandler,
    flush_streams,
    give_up,
    open_closed_descriptors,
    print_message,
)
from wavenet.storage.paths import cache_folder
from wavenet.training.errors import TrainingError

MISTAKE = 2
"""Exit code after a mistake in the input."""

logger = logging.getLogger("wavenet")


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
        print_message(f"{name}: standard output is closed; send it to a file, or to /dev/null")
        return MISTAKE
    try:
        with _reporting(name), unwound_by_signals(), _memory_in_one_line():
            code = _run(given)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of standard output has left
        code = 0
    except UsageError as error:
        print_message(str(error))
        code = MISTAKE
    except (ValueError, OSError, ModuleNotFoundError, TrainingError) as error:
        print_message(f"{name}: {' '.join(str(error).split())}")
        code = MISTAKE
    give_up()
    return code


def _run(given: list[str]) -> int:
    if not given:
        for line in _parser().format_help().splitlines():
            print_message(line)
        return MISTAKE
    try:
        _keep_matplotlib_here()
        options = _parser(given[0]).parse_args(given)
        options.given = given
        code: int = options.run(options)
    except SystemExit:  # as --help and --version end
        flush_streams()
        raise
    flush_streams()
    return code


@contextlib.contextmanager
def _reporting(name: str) -> Iterator[None]:
    """Print what the package reports while it works, and warnings, as a line each."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        logger.warning("%s: %s", name, " ".join(str(message).split()))

    handler, level = MessageHandler(), logger.level
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
    """Return whether memory is exhausted; on a CPU torch has no exception type for it."""
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        return True
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("train", "train a model on a folder of audio"),
    "inspect": ("inspect", "summarize a corpus and list its faulty recordings"),
    "shard": ("shard", "write a corpus to an object store, to train from it"),
    "generate": ("generate", "generate audio with a model"),
    "vocode": ("vocode", "synthesize audio from mel spectrograms or recordings"),
    "mel": ("mel", "compute the log-mel spectrogram of a recording"),
    "process": ("process", "run audio through an amplifier model"),
    "serve": ("serve", "serve a voice and amplifier models over HTTP and WebSocket"),
    "play": ("play", "try a voice on a page in the browser"),
    "info": ("info", "show the size, receptive field, settings and origin of a model"),
    "evaluate": (
        "evaluate",
        "measure the quality of a model on recordings and write a report",
    ),
    "import": ("import_model", "convert another program's model"),
    "export": ("export_model", "write a model for another program"),
    "receptive-field": (
        "receptive_field",
        "compute the receptive field of a network, or design a stack for one",
    ),
    "bench": ("bench", "measure how fast this machine samples, trains and processes audio"),
    "doctor": ("doctor", "check and measure a device, and write a report"),
}
"""Module and description of each command."""


def whole_parser() -> CommandParser:
    """Return the parser of all commands with the options of each, for completion and reference.

    Raises:
        ModuleNotFoundError: without the packages that ``wavenet train`` needs.
    """
    parser = _parser(*COMMANDS)
    train = importlib.import_module("wavenet.cli.train")
    train.add_options(parser.commands["train"])
    return parser


def _parser(*names: str) -> CommandParser:
    """The parser of all commands, with the arguments of those that are named."""
    parser = CommandParser(
        prog="wavenet", description="WaveNet in PyTorch: train models, generate and process audio."
    )
    parser.add_argument(
        "--version",
        action=PrintVersion,
        nargs=0,
        help="print the version of this package and exit",
    )
    parser.add_argument(
        "--print-completion",
        action=PrintCompletion,
        whole_parser=whole_parser,
        help="print a script that completes commands and options in this shell, and exit",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for each, (module, text) in COMMANDS.items():
        command = commands.add_parser(each, help=text, description=f"{text.capitalize()}.")
        parser.commands[each] = command
        if each in names:
            found = importlib.import_module(f"wavenet.cli.{module}")
            found.add_arguments(command)
            command.set_defaults(run=found.run)
            parser.help_of = command.prog
    return parser


def _keep_matplotlib_here() -> None:
    """Keep matplotlib's files in this package's cache, not elsewhere in the user's home."""
    os.environ.setdefault("MPLCONFIGDIR", str(cache_folder() / "matplotlib"))


if __name__ == "__main__":
    sys.exit(main())
