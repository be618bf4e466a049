"""One request to an object store, in a process of its own: the program of ``object_store``.

It reads one JSON object from standard input and writes one to standard output. It imports obstore
and the standard library alone, so that it starts within 0.1 s: run it by its path, with ``-P``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

PIECE_BYTES = 8 << 20
"""Size of a request: one that fails costs no more, and a slow connection has its time for each."""
AT_ONCE = 4
"""Requests at once for one object."""


def fetch(store: Any, key: str, to: str, size: int | None) -> dict[str, Any]:
    """Write an object to a file, and return its size and SHA-256.

    Args:
        store: of obstore.
        key: of the object.
        to: file that exists; it is overwritten.
        size: expected size in bytes; None asks the store.
    """
    import obstore

    found = int(obstore.head(store, key)["size"])
    if size is not None and found != size:
        return {"error": f"it has {found} bytes, not {size}"}
    digest = hashlib.sha256()
    ranges = [(at, min(at + PIECE_BYTES, found)) for at in range(0, found, PIECE_BYTES)]

    def piece(limits: tuple[int, int]) -> Any:
        return obstore.get_range(store, key, start=limits[0], end=limits[1])

    with open(to, "r+b") as file, ThreadPoolExecutor(AT_ONCE) as pool:
        for first in range(0, len(ranges), AT_ONCE):  # so few pieces in memory
            some = ranges[first : first + AT_ONCE]
            for (start, stop), content in zip(some, pool.map(piece, some), strict=True):
                if len(content) != stop - start:
                    return {"error": f"it ends after {start + len(content)} of {found} bytes"}
                digest.update(content)
                file.write(content)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": found, "sha256": digest.hexdigest()}


def put(store: Any, key: str, path: str) -> dict[str, Any]:
    """Upload a file, and return the size that the store then has."""
    import obstore

    obstore.put(store, key, Path(path))
    return {"bytes": int(obstore.head(store, key)["size"])}


def size(store: Any, key: str) -> dict[str, Any]:
    """Return the size of an object."""
    import obstore

    return {"bytes": int(obstore.head(store, key)["size"])}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do what is requested; a failure is ``{"error": reason}``."""
    from obstore.store import from_url

    options = {
        "timeout": f"{request['timeout_s']}s",
        "connect_timeout": f"{min(10, request['timeout_s'])}s",
        "allow_http": True,  # an endpoint of one's own, such as MinIO's, may have no TLS
    }
    retries = {"max_retries": 0, "retry_timeout": timedelta(seconds=request["timeout_s"])}
    try:
        if request["url"].startswith("file:"):
            more: dict[str, Any] = {"mkdir": True}
            folder = Path(unquote(urlsplit(request["url"]).path))
            if request["action"] != "put" and not folder.is_dir():  # obstore would make it
                raise FileNotFoundError(f"there is no folder {folder}")
        else:
            more = {"client_options": options, "retry_config": retries}
        store = from_url(request["url"], **more)
        if request["action"] == "fetch":
            return fetch(store, request["key"], request["file"], request["bytes"])
        if request["action"] == "put":
            return put(store, request["key"], request["file"])
        return size(store, request["key"])
    except FileNotFoundError as error:
        if request["action"] == "size":
            return {"bytes": None}
        return {"error": _line(error), "kind": "missing"}
    except OSError as error:
        return {"error": error.strerror or _line(error), "kind": "disk"}
    except Exception as error:  # noqa: BLE001 - obstore's errors have no base but Exception
        kind = "refused" if type(error).__name__ in _REFUSALS else ""
        return {"error": _line(error), "kind": kind}


_REFUSALS = (
    "UnauthenticatedError",
    "PermissionDeniedError",
    "InvalidPathError",
    "NotSupportedError",
)


def _line(error: Exception) -> str:
    """Return the reason in a message of obstore's: its first line, without URL and page."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return re.sub(r"Error performing \w+ \S+ in \S+ - ", "", first).partition(": <")[0][:300]


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
