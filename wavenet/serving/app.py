"""The application: endpoints, their errors as one line of JSON, and their counters."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from wavenet.generation.threads import one_thread
from wavenet.serving import page, process, stream, vocode
from wavenet.serving.limits import RequestError
from wavenet.serving.metrics import CONTENT_TYPE
from wavenet.serving.service import Service
from wavenet.serving.sockets import Socket

logger = logging.getLogger("wavenet")

_Answer = Callable[[Service, Request], Awaitable[Response]]
_Live = Callable[[Service, Socket], Awaitable[None]]


_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


def make_app(service: Service, *, local: bool = False) -> Starlette:
    """Return the application of a service; its worker ends with it.

    Args:
        service: what is served.
        local: whether the address is this machine's own: requests under another name are refused,
            as the page of another site could send them by a name that it lets point here.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        loading = threading.Thread(target=vocode.load_baselines, args=(service,), daemon=True)
        loading.start()
        with one_thread():  # a live mel takes a fraction of a millisecond, shared many of them
            yield
        service.worker.stop()

    def endpoint(name: str, answer: _Answer) -> Callable[[Request], Awaitable[Response]]:
        return _endpoint(service, name, answer, local)

    def live(name: str, serve: _Live) -> Callable[[WebSocket], Awaitable[None]]:
        return _socket(service, name, serve, local)

    routes: list[BaseRoute] = [
        Route("/", endpoint("page", page.index)),
        Route("/page/{name}", endpoint("page", page.asset)),
        Route("/info", endpoint("info", page.info)),
        Route("/run", endpoint("run", page.previews)),
        Route("/run/{step}/{name}", endpoint("run", page.preview)),
        Route("/vocode", endpoint("vocode", vocode.vocode), methods=["POST"]),
        Route("/baseline", endpoint("baseline", vocode.baseline), methods=["POST"]),
        Route("/process", endpoint("process", process.process), methods=["POST"]),
        WebSocketRoute("/stream", live("stream", stream.stream)),
        WebSocketRoute("/process", live("process", process.process_live)),
        Route("/healthz", endpoint("healthz", _healthz)),
        Route("/metrics", endpoint("metrics", _metrics)),
    ]
    return Starlette(
        routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _http_error}
    )


async def _healthz(service: Service, request: Request) -> Response:
    if not service.worker.alive:
        raise RequestError(503, "the worker has stopped")
    ready = service.worker.ready.is_set()
    return JSONResponse({"status": "ok", "model": service.name, "ready": ready})


async def _metrics(service: Service, request: Request) -> Response:
    return Response(service.metrics.text(), headers={"content-type": CONTENT_TYPE})


def _endpoint(
    service: Service, name: str, answer: _Answer, local: bool
) -> Callable[[Request], Awaitable[Response]]:
    """Count answers, and turn errors into them."""

    async def endpoint(request: Request) -> Response:
        try:
            _require_own_page(request.headers, local)
            response = await answer(service, request)
        except RequestError as error:
            response = _error(error)
        except asyncio.CancelledError:  # by uvicorn, when running requests had their time
            response = _error(RequestError(503, "the server is stopping; try again later", 5))
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            response = _error(_unexpected(name, error))
        service.metrics.answered(name, response.status_code)
        return response

    return endpoint


def _socket(
    service: Service, name: str, serve: _Live, local: bool
) -> Callable[[WebSocket], Awaitable[None]]:
    """Count WebSockets, and send errors before closing them."""

    async def endpoint(websocket: WebSocket) -> None:
        socket, status = Socket(websocket, service.limits), 101
        try:
            _require_own_page(websocket.headers, local)
            await serve(service, socket)
        except RequestError as error:
            status = error.status
            await socket.refuse(error)
        except WebSocketDisconnect:
            status = 499
        except Exception as error:  # noqa: BLE001 - as above
            status = 500
            await socket.refuse(_unexpected(name, error))
        finally:
            service.metrics.answered(name, status)

    return endpoint


def _require_own_page(headers: Headers, local: bool) -> None:
    """Refuse pages of other sites, which a browser lets send requests to a local server."""
    origin, host = headers.get("origin"), headers.get("host", "")
    try:
        own = origin is None or urlsplit(origin).netloc == host
        known = not local or _is_local(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        own = known = False
    if not own:
        raise RequestError(403, "requests from pages of other sites are refused")
    if not known:
        raise RequestError(403, f"this server is {' or '.join(_LOCAL_NAMES)}, not {host[:80]!r}")


def _is_local(name: str) -> bool:
    """Return whether a name is this machine's alone; no site can let an address point here."""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _unexpected(name: str, error: Exception) -> RequestError:
    """Log an error that no endpoint expects in one line; return the answer."""
    what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    logger.error("/%s: %s", name, what)
    return RequestError(500, "the server failed at this request; its log has the error")


def _error(error: RequestError) -> Response:
    headers = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
    return JSONResponse({"error": error.message}, status_code=error.status, headers=headers)


async def _http_error(request: Request, error: Exception) -> Response:
    """No such path, or another method."""
    assert isinstance(error, HTTPException)
    return JSONResponse(
        {"error": str(error.detail)}, status_code=error.status_code, headers=error.headers
    )
