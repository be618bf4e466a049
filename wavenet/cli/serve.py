"""``wavenet serve``: the voice and amplifier models over HTTP and WebSocket."""

from __future__ import annotations

import argparse
import contextlib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavenet.cli.options import (
    add_device,
    add_model,
    add_weights,
    any_name,
    device,
    integer_up_to,
    number,
    number_up_to,
)
from wavenet.cli.standard_streams import print_result

if TYPE_CHECKING:
    import socket

    from wavenet.serving.service import Service

_NEEDED = ("starlette", "uvicorn", "websockets", "prometheus_client")
_HIGHEST_PORT = 65_535
_DAY_S = 86_400.0


def add_arguments(serve: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_address(serve, 8000)
    add_serving(serve)


def add_address(parser: argparse.ArgumentParser, port: int) -> None:
    """Add ``--host`` and ``--port``."""
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="listen on this address (default: 127.0.0.1, which only this machine reaches)",
    )
    text = "a free one" if port == 0 else port
    parser.add_argument(
        "--port",
        type=integer_up_to(_HIGHEST_PORT),
        default=port,
        metavar="N",
        help=f"listen on this port; 0 takes a free one (default: {text})",
    )


def add_serving(parser: argparse.ArgumentParser) -> None:
    """Add the options of what is served, and its limits."""
    add_model(parser)
    parser.add_argument(
        "--process",
        type=any_name,
        action="append",
        default=[],
        metavar="FILE",
        help="also serve this amplifier model: a .nam file or the checkpoint folder of an imported "
        "one; may be repeated",
    )
    parser.add_argument(
        "--run",
        dest="run_folder",
        type=any_name,
        metavar="FOLDER",
        help="show the previews of this training run on the page",
    )
    parser.add_argument(
        "--engine", default="auto", help="sample with this engine (default: auto, the fastest)"
    )
    parser.add_argument(
        "--refine",
        type=integer_up_to(64),
        metavar="N",
        help="refine towards the mel with this many passes where a request names none (default: "
        "the model's own; 0 for /stream)",
    )
    add_weights(parser)
    add_device(parser)
    _add_limits(parser)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rows",
        type=integer_up_to(4096),
        default=8,
        metavar="N",
        help="generate this many utterances at once (default: 8)",
    )
    parser.add_argument(
        "--max-queue",
        type=integer_up_to(100_000),
        default=32,
        metavar="N",
        help="let this many requests wait for a row, and refuse more (default: 32)",
    )
    parser.add_argument(
        "--max-seconds",
        type=number_up_to(_DAY_S),
        default=60.0,
        metavar="S",
        help="take at most this much audio in a request (default: 60)",
    )
    parser.add_argument(
        "--max-bytes",
        type=integer_up_to(1 << 32),
        default=32 << 20,
        metavar="N",
        help="take bodies of at most this many bytes (default: 33554432)",
    )
    parser.add_argument(
        "--timeout-s",
        type=number_up_to(_DAY_S),
        default=60.0,
        metavar="S",
        help="end what a client does not send, take or get within this time (default: 60)",
    )
    parser.add_argument(
        "--grace-s",
        type=number,
        default=5.0,
        metavar="S",
        help="let running requests go on for this time after SIGTERM (default: 5)",
    )


def run(options: argparse.Namespace) -> int:
    """Print the address, and serve until a signal ends it.

    Raises:
        ValueError: for whatever cannot be served; the message is one line.
    """
    require_extra()
    from wavenet.serving.run import serve

    service, listener = prepare(options)
    print_result(f"{address(listener)} serves {options.model}; ctrl-C ends it")
    serve(service, listener)
    return 0


def prepare(options: argparse.Namespace) -> tuple[Service, socket.socket]:
    """Return the service that the options describe, and a socket that listens."""
    from wavenet.serving.run import bound_socket

    listener = bound_socket(options.host, options.port)
    with contextlib.ExitStack() as failed:
        failed.enter_context(listener)
        service = _service(options)
        failed.pop_all()
    return service, listener


def _service(options: argparse.Namespace) -> Service:
    from wavenet.loading import load_wavenet
    from wavenet.serving.limits import Limits
    from wavenet.serving.service import Service

    limits = Limits(
        rows=options.rows,
        max_queue=options.max_queue,
        max_seconds=options.max_seconds,
        max_bytes=options.max_bytes,
        timeout_s=options.timeout_s,
        grace_s=options.grace_s,
    )
    run_folder = None if options.run_folder is None else Path(options.run_folder)
    if run_folder is not None and not run_folder.is_dir():
        raise ValueError(f"--run={run_folder} is no folder; name that of a training run")
    return Service(
        name=Path(options.model).name,
        model=load_wavenet(options.model, device=device(options.device)),
        engine=options.engine,
        weights=options.weights,
        refine=options.refine,
        limits=limits,
        amplifiers=_amplifiers(options.process),
        run=run_folder,
    )


def _amplifiers(sources: list[str]) -> dict[str, Any]:
    """Return models by the names of their files."""
    from wavenet.cli.nam_models import load_model

    found: dict[str, Any] = {}
    for source in sources:
        name = Path(source).stem
        if name in found:
            raise ValueError(f"--process={source}: another model is named {name!r}; rename one")
        found[name] = load_model(source).eval()
    return found


def address(listener: socket.socket) -> str:
    """Return the address of the page."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def require_extra() -> None:
    """Raise ModuleNotFoundError with the remedy unless the extra ``serve`` is installed."""
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ModuleNotFoundError(
                f'{name} is missing; run: pip install "wavenet-audio[serve]"', name=name
            ) from error
