"""Limits of a server, and the errors that it answers with: one line of JSON and a status."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Largest sizes and durations of what clients may ask for.

    Attributes:
        rows: utterances that are generated at once.
        max_queue: requests that may wait for a row.
        max_seconds: length of the audio of one request, and of what a live stream may be behind.
        max_bytes: size of one body.
        timeout_s: seconds for a body to arrive, for a request to be answered, and for a client to
            take what is ready.
        grace_s: seconds that running requests get after SIGTERM.
    """

    rows: int = 8
    max_queue: int = 32
    max_seconds: float = 60.0
    max_bytes: int = 32 << 20
    timeout_s: float = 60.0
    grace_s: float = 5.0

    def __post_init__(self) -> None:
        for name in ("rows", "max_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.max_queue < 0:
            raise ValueError(f"max_queue={self.max_queue} must be at least 0")
        for name in ("max_seconds", "timeout_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name}={getattr(self, name)} must be above 0 and finite, in seconds"
                )
        if not 0 <= self.grace_s < math.inf:
            raise ValueError(f"grace_s={self.grace_s} must be at least 0 and finite, in seconds")


class RequestError(Exception):
    """Raised for a request that cannot be answered.

    Attributes:
        status: of HTTP.
        message: one line.
        retry_after_s: after which it may be repeated, or None.
    """

    def __init__(self, status: int, message: str, retry_after_s: int | None = None) -> None:
        self.status, self.message = status, " ".join(message.split())
        self.retry_after_s = retry_after_s
        super().__init__(self.message)
