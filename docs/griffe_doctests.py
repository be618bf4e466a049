"""Extension of griffe: lines of an interpreter session in a docstring are shown as code.

Only those below ``Examples:`` would be; elsewhere ``>>>`` is a quotation in Markdown.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_SESSION = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)
_DIRECTIVE = re.compile(r"  # doctest: .*")


class Doctests(griffe.Extension):
    """Puts sessions into fenced blocks."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object that has been loaded."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """Return a docstring with its interpreter sessions in fenced blocks, without directives.

    >>> fenced(">>> 1 + 1\\n2")
    '```pycon\\n>>> 1 + 1\\n2\\n```'
    """
    return _SESSION.sub(lambda found: f"```pycon\n{_DIRECTIVE.sub('', found[0])}\n```", text)
