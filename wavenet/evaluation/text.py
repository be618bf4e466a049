"""Names from anywhere as a report may show them: without local paths, and as text alone.

Names of files, speakers and models are data. In Markdown they are escaped, so that none of them is
markup or HTML; a control character in them is written out; a folder of the machine that measured
does not go out with the report.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

from wavenet.values.text import printable

_MARKUP = re.compile(r"[\\`*\[\]|~#]|(?<!\w)_|_(?!\w)")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def escaped(text: str) -> str:
    r"""Return text on one line with no mark that Markdown, its tables or HTML take for their own.

    >>> escaped("<b>|a_b_")
    '&lt;b&gt;\\|a_b\\_'
    """
    line = printable(" ".join(text.split()))
    line = re.sub("[&<>]", lambda found: _ENTITIES[found[0]], line)
    return _MARKUP.sub(r"\\\g<0>", line)


def code_span(text: str) -> str:
    """Return text as code in Markdown, fenced by more backticks than it holds in a row."""
    line = printable(" ".join(text.split()))
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{line}{space}{fence}"


def plain_text(value: Any) -> Any:
    """Return JSON values with the control characters of every string written out."""
    if isinstance(value, dict):
        return {printable(str(key)): plain_text(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain_text(part) for part in value]
    return printable(value) if isinstance(value, str) else value


def portable_path(path: str) -> str:
    """Return the name of an absolute path, and any other path as it is."""
    is_windows = PureWindowsPath(path).is_absolute()
    if path.startswith("~") or PurePath(path).is_absolute() or is_windows:
        pure = PureWindowsPath(path) if is_windows else PurePath(path)
        return pure.name or path
    return path


def portable_model(source: str) -> str:
    """Return the name of a model's folder; ``my-voice/model`` for what training has written."""
    name = portable_path(source)
    above = Path(os.path.abspath(source)).parent.name
    return f"{above}/{name}" if name == "model" and above else name


def portable_command(command: str) -> str:
    """Return a command line in which absolute paths are replaced by their names."""
    arguments = []
    for argument in shlex.split(command):
        option, equals, value = (
            argument.partition("=") if argument[:1] == "-" else ("", "", argument)
        )
        arguments.append(f"{option}{equals}{portable_path(value)}")
    return shlex.join(arguments)


def without_folder(line: str, folder: Path) -> str:
    """Return a message that begins with a path, the path relative to a folder if it is there.

    Elsewhere the path is shortened to its name.
    """
    inside = line.removeprefix(f"{folder}{os.sep}")
    if inside != line:
        return inside
    path, colon, reason = line.partition(": ")
    return f"{portable_path(path)}{colon}{reason}"


def common_folder(names: Iterable[str]) -> str:
    """Return the folder that all absolute paths among names are in; empty if there are none."""
    absolute = [os.path.dirname(name) for name in names if os.path.isabs(name)]
    return os.path.commonpath(absolute) if absolute else ""
