"""The application: endpoints, their errors as one line of JSON, and their counters."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from wavenet.serving import page, process, stream, vocode
from wavenet.serving.limits import RequestError
from wavenet.serving.metrics import CONTENT_TYPE
from wavenet.serving.service import Service
from wavenet.serving.sockets import Socket

logger = logging.getLogger("wavenet")

_Answer = Callable[[Service, Request], Awaitable[Response]]
_Live = Callable[[Service, Socket], Awaitable[None]]


def make_app(service: Service) -> Starlette:
    """Return the application of a service; its worker ends with it."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        service.worker.stop()

    routes: list[BaseRoute] = [
        Route("/", _endpoint(service, "page", page.index)),
        Route("/page/{name}", _endpoint(service, "page", page.asset)),
        Route("/info", _endpoint(service, "info", page.info)),
        Route("/run", _endpoint(service, "run", page.previews)),
        Route("/run/{step}/{name}", _endpoint(service, "run", page.preview)),
        Route("/vocode", _endpoint(service, "vocode", vocode.vocode), methods=["POST"]),
        Route("/baseline", _endpoint(service, "baseline", vocode.baseline), methods=["POST"]),
        Route("/process", _endpoint(service, "process", process.process), methods=["POST"]),
        WebSocketRoute("/stream", _socket(service, "stream", stream.stream)),
        WebSocketRoute("/process", _socket(service, "process", process.process_live)),
        Route("/healthz", _endpoint(service, "healthz", _healthz)),
        Route("/metrics", _endpoint(service, "metrics", _metrics)),
    ]
    return Starlette(
        routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _http_error}
    )


async def _healthz(service: Service, request: Request) -> Response:
    if not service.worker.alive:
        raise RequestError(503, "the worker has stopped")
    return JSONResponse({"status": "ok", "model": service.name})


async def _metrics(service: Service, request: Request) -> Response:
    return Response(service.metrics.text(), headers={"content-type": CONTENT_TYPE})


def _endpoint(
    service: Service, name: str, answer: _Answer
) -> Callable[[Request], Awaitable[Response]]:
    """Count answers, and turn errors into them."""

    async def endpoint(request: Request) -> Response:
        try:
            _require_own_page(request.headers.get("origin"), request.headers.get("host"))
            response = await answer(service, request)
        except RequestError as error:
            response = _error(error)
        service.metrics.answered(name, response.status_code)
        return response

    return endpoint


def _socket(service: Service, name: str, serve: _Live) -> Callable[[WebSocket], Awaitable[None]]:
    """Count WebSockets, and send errors before closing them."""

    async def endpoint(websocket: WebSocket) -> None:
        socket, status = Socket(websocket, service.limits), 101
        try:
            _require_own_page(websocket.headers.get("origin"), websocket.headers.get("host"))
            await serve(service, socket)
        except RequestError as error:
            status = error.status
            await socket.refuse(error)
        except WebSocketDisconnect:
            status = 499
        finally:
            service.metrics.answered(name, status)

    return endpoint


def _require_own_page(origin: str | None, host: str | None) -> None:
    """Refuse pages of other sites, which a browser lets send requests to a local server."""
    if origin is not None and urlsplit(origin).netloc != host:
        raise RequestError(403, "requests from pages of other sites are refused")


def _error(error: RequestError) -> Response:
    headers = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
    return JSONResponse({"error": error.message}, status_code=error.status, headers=headers)


async def _http_error(request: Request, error: Exception) -> Response:
    """No such path, or another method."""
    assert isinstance(error, HTTPException)
    return JSONResponse(
        {"error": str(error.detail)}, status_code=error.status_code, headers=error.headers
    )
