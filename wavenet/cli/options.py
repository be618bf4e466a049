"""Options that several commands share: one row of ``--help`` each, with its text."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from wavenet.storage.pretrained import DEFAULT_VOICE
from wavenet.values.numerals import integer_of, is_integer_text, number_of
from wavenet.values.text import short

if TYPE_CHECKING:
    import torch


T = TypeVar("T")


class Arguments(Protocol):
    """Parser of a command, or a group of its options."""

    def add_argument(self, *names: str, **settings: Any) -> Any: ...


MODEL_HELP = "a checkpoint folder, a Hugging Face Hub repository or a bundled model"

LONGEST_S = 1e9
"""31 years of audio; beyond, a float is no exact count of samples."""

LARGEST_BATCH = 65_536
"""Rows, files or windows at once."""

LARGEST_INTEGER = 2**63 - 1
"""Largest integer of torch and numpy, which count in 64 bits."""


def integer(text: str) -> int:
    """Return the integer of an option's value, in ASCII digits.

    Raises:
        argparse.ArgumentTypeError: for anything else, and for more than 64 bits hold.
    """
    if not is_integer_text(text):
        raise argparse.ArgumentTypeError(f"invalid int value: {short(text)}")
    found = integer_of(text, LARGEST_INTEGER)
    if found is None:
        raise argparse.ArgumentTypeError(f"{short(text)} is larger than 64 bits can hold")
    return found


def number(text: str) -> float:
    """Return the number of an option's value, in ASCII digits; it may be infinite or NaN.

    Raises:
        argparse.ArgumentTypeError: for anything else.
    """
    found = number_of(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"invalid float value: {short(text)}")
    return found


def integer_up_to(most: int) -> Callable[[str], int]:
    """Return what reads an integer and refuses larger ones, beyond which loops have no end."""

    def read(text: str) -> int:
        value = integer(text)
        if value > most:
            raise argparse.ArgumentTypeError(f"{value} must be at most {most}")
        return value

    return read


def number_up_to(most: float) -> Callable[[str], float]:
    """Return what reads a number and refuses larger ones; infinity is for the command to refuse."""

    def read(text: str) -> float:
        value = number(text)
        if most < value < math.inf:
            raise argparse.ArgumentTypeError(f"{value:g} must be at most {most:g}")
        return value

    return read


_SHARD = re.compile(r"([0-9]{1,6})/([0-9]{1,6})", re.ASCII)


def shard(text: str) -> tuple[int, int]:
    """Return which part of how many ``I/N`` names, I from 1 to N.

    Raises:
        argparse.ArgumentTypeError: for anything else.
    """
    found = _SHARD.fullmatch(text)
    part, parts = (0, 0) if found is None else (int(found[1]), int(found[2]))
    if not 1 <= part <= parts:
        raise argparse.ArgumentTypeError(
            f"{short(text)} is no part I/N with I from 1 to N, such as 1/8"
        )
    return part, parts


seconds = number_up_to(LONGEST_S)
"""Reads a duration; whether it is positive is for the command to check."""


def any_name(text: str) -> str:
    """Return the name of a file, a folder or a model, as it is.

    An empty one, as an unset variable of a shell gives it, would mean the current folder.

    Raises:
        argparse.ArgumentTypeError: for a name that nothing can have.
    """
    if not text:
        raise argparse.ArgumentTypeError("the name is empty; give one")
    if "\0" in text:
        raise argparse.ArgumentTypeError(f"{short(text)} holds a NUL, which no name has")
    return text


def audio_name(text: str) -> str:
    """Return the name of an audio file, as it is; the library that opens it takes UTF-8 alone.

    Raises:
        argparse.ArgumentTypeError: for another one.
    """
    try:
        any_name(text).encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(
            f"{short(text)}: the name is not UTF-8; rename the file"
        ) from None
    return text


def by_suffix(file: str, converters: Mapping[str, T]) -> T:
    """Return what converts a file, by its suffix.

    Raises:
        ValueError: for another suffix.
    """
    suffix = Path(file).suffix.lower()
    if suffix not in converters:
        known = ", ".join(sorted(converters))
        raise ValueError(f"{file} ends in {suffix or 'nothing'}; name a file that ends in {known}")
    return converters[suffix]


def add_json(arguments: Arguments, what: str = "the answer as one JSON object") -> None:
    """``--json``: print `what` instead of text."""
    arguments.add_argument("--json", action="store_true", help=f"print {what} instead of text")


def add_fast_tanh(arguments: Arguments) -> None:
    """Add ``--fast-tanh``."""
    arguments.add_argument(
        "--fast-tanh",
        action="store_true",
        help="compute tanh by a rational function, off by at most 0.0081: a few percent faster, "
        "and no longer exactly the model",
    )


def add_model(arguments: Arguments) -> None:
    """``--model``: which model generates; the default is a bundled one."""
    arguments.add_argument(
        "--model",
        type=any_name,
        default=DEFAULT_VOICE,
        metavar="MODEL",
        help=f"use this model: {MODEL_HELP} (default: {DEFAULT_VOICE})",
    )


def add_drawing(arguments: Arguments) -> None:
    """``--temperature``, ``--top-p`` and ``--noise-shaping``: how a sample is drawn."""
    arguments.add_argument(
        "--temperature",
        type=number,
        metavar="T",
        help="scale the randomness of sampling: below 1 gives less noise (default: the model's "
        "own temperature)",
    )
    arguments.add_argument(
        "--top-p",
        type=number,
        metavar="P",
        help="draw only from the most probable values whose probabilities sum to P (nucleus "
        "sampling; mu-law models only)",
    )
    arguments.add_argument(
        "--noise-shaping",
        type=number,
        metavar="B",
        help="filter the sampling noise by 1 - B z^-1 with B from -1 to 1; above 0 it has less "
        "power at low frequencies (default: the model's own value)",
    )


def add_weights(arguments: Arguments) -> None:
    """``--weights``: the type in which an engine keeps them."""
    arguments.add_argument(
        "--weights",
        default="float32",
        metavar="DTYPE",
        help="store the engine's weights as float32 (default), float16 or bfloat16",
    )


def add_device(arguments: Arguments) -> None:
    """``--device``: where torch computes; `device` reads it."""
    arguments.add_argument(
        "--device",
        default="cpu",
        help="run the model on this torch device: cpu (default), cuda, cuda:1, mps or xpu",
    )


def device(text: str) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: no such name, or none here.
    """
    from wavenet.values.devices import COUNTS, require_device

    found = require_device(text, "--device")
    if found.type not in COUNTS:
        raise ValueError(f"--device={text}: models run on {', '.join(COUNTS)}; leave --device out")
    return found


def add_submodel(parser: argparse.ArgumentParser, verb: str, default: str) -> None:
    """Add the option that chooses one of several sizes of a model."""
    parser.add_argument(
        "--submodel",
        metavar="NAME",
        help=f"{verb} this size of a .nam file or folder that holds several, by its name or its "
        f"position from 0 on (default: {default})",
    )
