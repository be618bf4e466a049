"""Completion of commands and options in a shell: ``wavenet --print-completion bash``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from wavenet.cli.standard_streams import print_result

SHELLS = ("bash", "zsh")


class PrintCompletion(argparse.Action):
    """Prints the completion script of a shell and exits; needs shtab.

    Args:
        whole_parser: makes the parser whose commands and options are completed.
        settings: those of ``argparse.Action``.
    """

    def __init__(
        self, *, whole_parser: Callable[[], argparse.ArgumentParser], **settings: Any
    ) -> None:
        super().__init__(choices=SHELLS, **settings)
        self._whole_parser = whole_parser

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Print the script.

        Raises:
            ModuleNotFoundError: without shtab, or without the packages that training needs.
        """
        try:
            import shtab
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                'completion needs shtab: pip install "wavenet-audio[completion]"', name="shtab"
            ) from error
        print_result(shtab.complete(self._whole_parser(), shell=str(values)))
        parser.exit()
