"""Progress bars of the command line; shown on a terminal alone, and gone when the work is done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")


def counted(
    items: Iterable[Item], title: str, total: int | None = None, *, unit: str = "file"
) -> Iterable[Item]:
    """The items, with a bar that counts them.

    Args:
        items: what is worked through.
        title: what is done to them.
        total: how many there are; None asks ``len``.
        unit: what one is called.
    """
    from tqdm import tqdm

    shown: Iterable[Item] = tqdm(items, title, total, leave=False, disable=None, unit=unit)
    return shown


def reading(files: Iterable[Item]) -> Iterable[Item]:
    """Files, while they are read."""
    return counted(files, "reading")


def seconds_bar(total_s: float, title: str) -> Any:
    """A tqdm bar of audio, to be updated with the seconds that are done."""
    from tqdm import tqdm

    layout = "{l_bar}{bar}| {n:.1f}/{total:.1f} s of audio [{elapsed}<{remaining}]"
    return tqdm(total=total_s, desc=title, bar_format=layout, leave=False, disable=None)
