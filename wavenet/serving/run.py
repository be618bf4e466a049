"""Serving until a signal ends it: SIGTERM and SIGINT let running requests finish."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

import uvicorn

from wavenet.serving.app import make_app
from wavenet.serving.service import Service

_SPARE_CONNECTIONS, _BACKLOG = 64, 1024
_LARGEST_MESSAGE = 1 << 20
"""Bytes of one WebSocket message."""


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one.

    Raises:
        OSError: if the address cannot be used; the message names it.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with contextlib.ExitStack() as failed:
            listener = failed.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(_BACKLOG)
            failed.pop_all()
    except (OSError, OverflowError) as error:
        raise OSError(
            f"--host={host} --port={port}: cannot be listened on: {error}; choose another"
        ) from None
    return listener


def make_server(service: Service, *, local: bool = False) -> uvicorn.Server:
    """Return the server; ``run(sockets=[...])`` serves until a signal ends it.

    Args:
        service: what is served.
        local: see ``make_app``.
    """
    limits = service.limits
    config = uvicorn.Config(
        make_app(service, local=local),
        lifespan="on",
        loop="asyncio",
        http="h11",
        ws="websockets-sansio",
        ws_max_size=_LARGEST_MESSAGE,
        access_log=False,
        server_header=False,
        log_config=None,
        limit_concurrency=limits.rows + limits.max_queue + _SPARE_CONNECTIONS,
        timeout_graceful_shutdown=max(1, round(limits.grace_s)),
    )
    return uvicorn.Server(config)


def serve(service: Service, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; running requests get ``grace_s`` to finish."""
    address = ipaddress.ip_address(listener.getsockname()[0].partition("%")[0])
    server = make_server(service, local=address.is_loopback)
    # uvicorn raises the signal again after it has shut down: the server has ended well.
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        server.run(sockets=[listener])
