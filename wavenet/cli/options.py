"""Options that several commands share: one row of ``--help`` each, and what it says."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from wavenet.storage.pretrained import DEFAULT_VOICE

if TYPE_CHECKING:
    import torch

Arguments = argparse.ArgumentParser | argparse._MutuallyExclusiveGroup
"""What takes a row: a command's parser, or a group of it."""


def add_json(arguments: Arguments, what: str = "one JSON object") -> None:
    """``--json``: print `what` in the place of text."""
    arguments.add_argument("--json", action="store_true", help=f"print {what}")


def add_model(arguments: Arguments) -> None:
    """``--model``: which model speaks; the default is a voice."""
    arguments.add_argument(
        "--model",
        default=DEFAULT_VOICE,
        metavar="MODEL",
        help=f"a checkpoint's folder or a voice (default {DEFAULT_VOICE})",
    )


def add_drawing(arguments: Arguments) -> None:
    """``--temperature`` and ``--top-p``: how a sample is drawn."""
    arguments.add_argument(
        "--temperature", type=float, help="below 1: less noisy (default: the model's own)"
    )
    arguments.add_argument("--top-p", type=float, help="nucleus sampling, mu-law models only")


def add_weights(arguments: Arguments) -> None:
    """``--weights``: the type in which an engine keeps them."""
    arguments.add_argument("--weights", default="float32", help="float32, float16 or bfloat16")


def add_device(arguments: Arguments) -> None:
    """``--device``: where torch computes; `device` reads it."""
    arguments.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")


def device(text: str) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: no such name, or none here.
    """
    import torch

    try:
        found = torch.device(text)
    except RuntimeError:
        raise ValueError(f"--device={text!r} is no device; give cpu, cuda or cuda:0") from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"--device={text}: found {torch.cuda.device_count()} CUDA GPUs here; leave --device out"
        )
    return found
