"""``wavenet inspect``: summarize a corpus."""

from __future__ import annotations

import argparse
import json

from wavenet.cli.options import add_json, any_name
from wavenet.cli.progress import reading
from wavenet.cli.standard_streams import print_result


def add_arguments(inspect: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    inspect.add_argument(
        "corpus",
        type=any_name,
        metavar="CORPUS",
        help="read this folder of audio files, this CSV or JSONL manifest, or a corpus of this "
        "name, such as LJSPEECH or LIBRITTS/dev-clean",
    )
    inspect.add_argument(
        "--corpus-root",
        type=any_name,
        default="corpora",
        metavar="FOLDER",
        help="look for named corpora in this folder (default: corpora)",
    )
    add_json(inspect)


def run(options: argparse.Namespace) -> int:
    """Print what the corpus holds, as a table or as JSON.

    Raises:
        ValueError: there is no such corpus, or nothing in it.
    """
    from wavenet.data.corpora import find_corpus
    from wavenet.data.inspect import inspect_corpus

    listing = find_corpus(options.corpus, root=options.corpus_root)
    found = inspect_corpus(options.corpus, listing, progress=reading)
    print_result(json.dumps(found.to_dict()) if options.json else str(found))
    return 0
