"""Samples on their way from the worker's thread to the event loop of one request.

A client that takes its samples slowly makes its row wait: what is ready is bounded.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

from torch import Tensor

from wavenet.serving.limits import RequestError

NOT_FINITE = "the mel gives no finite samples; check its unit, natural logarithms"


class Output(AsyncIterator[Tensor]):
    """An iterator of samples ``[n]``, as they are made.

    Args:
        most_samples: that may be ready before the row has to wait; None for no limit.
        timeout_s: for one item.

    Attributes:
        timeout_s: as given.
        cancelled: whether nobody wants the rest.
    """

    def __init__(self, most_samples: int | None, timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Tensor | RequestError | None] = asyncio.Queue()
        self._most, self.timeout_s = most_samples, timeout_s
        self._ready, self._lock = 0, threading.Lock()
        self.cancelled = False
        self.taken: Callable[[], None] = lambda: None

    def wanted(self) -> bool:
        """Return whether more samples may be made now."""
        return self._most is None or self._ready < self._most

    def put(self, samples: Tensor, ended: bool) -> None:
        """Hand over samples; called by the worker. Those that are not finite end the request."""
        if not bool(samples.isfinite().all()):
            self.fail(RequestError(422, NOT_FINITE))
            self.cancel()
            return
        with self._lock:
            self._ready += len(samples)
        if len(samples):
            self._send(samples)
        if ended:
            self._send(None)

    def fail(self, error: RequestError) -> None:
        """End with an error; called by the worker."""
        self._send(error)

    def cancel(self) -> None:
        """Free the row: nobody wants the rest."""
        self.cancelled = True
        self.taken()

    async def __anext__(self) -> Tensor:
        """Return the next samples.

        Raises:
            RequestError: if there are none in time, or what the worker reports.
        """
        try:
            async with asyncio.timeout(self.timeout_s):  # wait_for may lose a cancellation
                item = await self._items.get()
        except TimeoutError:
            self.cancel()
            raise RequestError(
                504, f"no samples within {self.timeout_s:g} s; the server is too busy", 5
            ) from None
        if item is None:
            raise StopAsyncIteration
        if isinstance(item, RequestError):
            raise item
        with self._lock:
            self._ready -= len(item)
        self.taken()
        return item

    def _send(self, item: Tensor | RequestError | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)
