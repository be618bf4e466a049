"""Progress bars of the command line; shown on a terminal alone, and gone when the work is done.

tqdm draws them; without it there are none, and the work is the same.
"""

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
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return items
    shown: Iterable[Item] = tqdm(items, title, total, leave=False, disable=None, unit=unit)
    return shown


def reading(files: Iterable[Item]) -> Iterable[Item]:
    """Files, while they are read."""
    return counted(files, "reading")


def seconds_bar(total_s: float, title: str) -> Any:
    """A tqdm bar of audio, to be updated with the seconds that are done."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return _NoBar()
    layout = "{l_bar}{bar}| {n:.1f}/{total:.1f} s of audio [{elapsed}<{remaining}]"
    return tqdm(total=total_s, desc=title, bar_format=layout, leave=False, disable=None)


class _NoBar:
    """Replaces a bar where none can be drawn."""

    total = 0.0

    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, n: float = 1) -> None:
        """Take notice of nothing."""

    def reset(self, total: float) -> None:
        """Begin again, with another total."""
        self.total = total

    def clear(self) -> None:
        """Draw nothing."""

    def close(self) -> None:
        """Leave nothing."""
