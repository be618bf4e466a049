"""YAML as a recipe may have it: plain values, each of them written out, of bounded size and depth.

YAML can express more than settings need, and some of it is dangerous in a file from elsewhere: an
alias that repeats aliases grows to billions of values from 400 bytes, an alias to itself has no
end, a tag asks for a constructor of its own, and ``class_path`` makes jsonargparse import a module.
All of that is refused from the parser's events, before any value is built.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from wavenet.values.text import short

LONGEST_BYTES = 1 << 20
DEEPEST = 16
MOST_VALUES = 20_000
LONGEST_NUMBER = 400
"""Digits of a number; more than a float can resolve, fewer than Python refuses to convert."""

_RESOLVER = yaml.resolver.Resolver()
_NEVER_TEXT = re.compile("[\0\ud800-\udfff]")


class PlainYamlError(yaml.YAMLError):
    """YAML that is more, or other, than plain values; the message begins with the line."""


def check_plain(text: str) -> None:
    """Refuse what is no document of plain values.

    Raises:
        PlainYamlError: for an alias, a tag, a key that is given twice, ``class_path``, a character
            that no text has, more than one document, or too many or too deeply nested values.
        yaml.YAMLError: if it is not YAML.
    """
    checker = _Checker()
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        checker.see(event)


def load_plain(text: str) -> Any:
    """The document's value, with numbers as YAML 1.1 has them; None for an empty one.

    Raises:
        PlainYamlError: see ``check_plain``.
        yaml.YAMLError: if it is not YAML.
    """
    check_plain(text)
    try:
        return yaml.safe_load(text)
    except (ValueError, OverflowError) as error:  # a date such as 2001-99-99
        raise PlainYamlError(f"a value of it: cannot be read: {error}") from None


class _Checker:
    """Follows the events of a document.

    ``open`` has an entry for each sequence (None) and mapping (the keys seen so far, and whether a
    key comes next) that has begun and not ended.
    """

    def __init__(self) -> None:
        self.open: list[tuple[set[str], list[bool]] | None] = []
        self.values = 0

    def see(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._refuse(event, f"*{event.anchor} repeats another value; write it out")
        if isinstance(event, yaml.CollectionEndEvent):
            self.open.pop()
            self._complete(None)
        if not isinstance(event, yaml.NodeEvent) or isinstance(event, yaml.AliasEvent):
            return
        self.values += 1
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            self._refuse(event, f"the tag {short(tag)} is not read; give a plain value")
        if self.values > MOST_VALUES:
            self._refuse(event, f"more than {MOST_VALUES} values; keep the settings alone")
        if isinstance(event, yaml.ScalarEvent):
            self._see_scalar(event)
            return
        if len(self.open) >= DEEPEST:
            self._refuse(event, f"nested more than {DEEPEST} deep; settings are flat")
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        self.open.append((set(), [True]) if is_mapping else None)

    def _see_scalar(self, event: yaml.ScalarEvent) -> None:
        text = event.value
        if _NEVER_TEXT.search(text):
            self._refuse(event, f"{short(text)} holds a character that is no text; remove it")
        if event.implicit[0] and _is_grouped(text):
            self._refuse(event, f"{short(text)} is another number in YAML; give it in digits alone")
        if len(text) > LONGEST_NUMBER and event.implicit[0] and re.match(r"[-+.]?\d", text):
            self._refuse(event, f"{short(text)} has {len(text)} characters; give a number")
        self._complete(event)

    def _complete(self, event: yaml.ScalarEvent | None) -> None:
        """A value has ended: in a mapping it was a key, or the value of one."""
        if not self.open or self.open[-1] is None:
            return
        keys, expects_key = self.open[-1]
        is_key = expects_key[0]
        expects_key[0] = not is_key
        if not is_key or event is None:
            return
        if event.value == "class_path":
            self._refuse(event, "class_path would import code; give plain values")
        if event.value in keys:
            self._refuse(event, f"{short(event.value)} is given twice; drop one of them")
        keys.add(event.value)

    def _refuse(self, event: yaml.Event, reason: str) -> None:
        raise PlainYamlError(f"line {event.start_mark.line + 1}: {reason}")


def _is_grouped(text: str) -> bool:
    """Return true for what YAML 1.1 takes for a number of groups: 1_0 is 10, and 1:30 is 90."""
    if len(text) > LONGEST_NUMBER or not re.search("[_:]", text):
        return False
    tag: str = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))
    return tag.endswith((":int", ":float"))
