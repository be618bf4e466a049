"""The parser of all commands: errors are one line, and options have hyphens.

Underscores are taken for hyphens: ``--batch_size`` is ``--batch-size``, as keys of a recipe are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from wavenet import __version__
from wavenet.cli.standard_streams import print_result


class UsageError(ValueError):
    """Arguments that are none of the command's."""


class CommandParser(argparse.ArgumentParser):
    """Raises its errors, in one line.

    Attributes:
        help_of: the command whose ``--help`` an error points to, if not the parser's own.
        reader: reads all arguments instead, into the values of a namespace: of a command whose
            arguments are defined elsewhere.
        commands: parsers of the commands, by name.
    """

    help_of: str | None = None
    reader: Callable[[list[str]], dict[str, Any]] | None = None

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands: dict[str, CommandParser] = {}

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        hint = f"see {self.help_of or self.prog} --help"
        raise UsageError(f"{self.prog}: {' '.join(message.split())}; {hint}")

    def print_help(self, file: object = None) -> None:
        """Print the help; unlike argparse's own, it raises if standard output takes no more."""
        print_result(self.format_help().rstrip("\n"))

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str], namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments, or let ``reader`` do it."""
        namespace = argparse.Namespace() if namespace is None else namespace
        if self.reader is None:
            return super().parse_known_args([self._spelled(one) for one in args], namespace)
        defaults = self._defaults
        vars(namespace).update({**defaults, **self.reader(list(args))})
        return namespace, []

    def _spelled(self, argument: str) -> str:
        """An option of this parser with hyphens; anything else as it is."""
        name, equals, value = argument.partition("=")
        hyphened = name.replace("_", "-")
        return f"{hyphened}{equals}{value}" if hyphened in self._option_string_actions else argument


class PrintVersion(argparse.Action):
    """Prints the version of this package and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print_result(f"wavenet {__version__}")
        parser.exit()
