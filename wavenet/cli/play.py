"""``wavenet play``: the server on a free port, and its page in a browser."""

from __future__ import annotations

import argparse
import threading
import webbrowser

from wavenet.cli.serve import add_address, add_serving, address, prepare, require_extra
from wavenet.cli.standard_streams import print_result

_OPENS_AFTER_S = 0.5


def add_arguments(play: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    play.add_argument(
        "--no-browser", action="store_true", help="print the address and open no browser"
    )
    add_address(play, 0)
    add_serving(play)


def run(options: argparse.Namespace) -> int:
    """Print the address, open it, and serve until a signal ends it.

    Raises:
        ValueError: for whatever cannot be served; the message is one line.
    """
    require_extra()
    from wavenet.serving.run import serve

    service, listener = prepare(options)
    page = address(listener)
    print_result(f"{page} plays {options.model}; ctrl-C ends it")
    if not options.no_browser:  # the socket listens: what comes early waits for an answer
        timer = threading.Timer(_OPENS_AFTER_S, webbrowser.open, [page])
        timer.daemon = True
        timer.start()
    serve(service, listener)
    return 0
