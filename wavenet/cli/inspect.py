"""``wavenet inspect``: what it was asked, what it answers. Printing is left to the caller."""

from __future__ import annotations

import argparse
import json

from wavenet.cli.options import add_json
from wavenet.cli.progress import reading
from wavenet.data.corpora import find_corpus


def add_arguments(inspect: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    inspect.add_argument("corpus", metavar="CORPUS", help="a folder, a manifest or a name")
    inspect.add_argument("--corpus-root", default="corpora", help="where named corpora lie")
    add_json(inspect)


def answer(options: argparse.Namespace) -> str:
    """What the corpus holds, as a table or as JSON.

    Raises:
        ValueError: there is no such corpus, or nothing in it.
    """
    from wavenet.data.inspect import inspect_corpus

    listing = find_corpus(options.corpus, root=options.corpus_root)
    found = inspect_corpus(options.corpus, listing, progress=reading)
    return json.dumps(found.to_dict()) if options.json else str(found)
