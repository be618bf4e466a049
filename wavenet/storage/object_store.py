"""Objects in a store, ``s3://``, ``gs://``, ``az://`` or ``file://``, with retries and hashes.

obstore makes the requests. Its threads do not survive a fork, and the workers of a data loader are
forked; so each request is made by a process of its own (``object_store_process``), which takes
0.1 s, and which is ended if it hangs. Credentials come from the environment, as the store's own
tools name them: ``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ``GOOGLE_APPLICATION_CREDENTIALS``.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from wavenet.storage import object_store_process
from wavenet.values.text import printable, short

logger = logging.getLogger("wavenet")

SCHEMES = ("s3", "gs", "az", "file")
ATTEMPTS = 6
"""Attempts in all; the waits between them are 1, 2, 4, 8 and 16 s."""
FIRST_WAIT_S = 1.0
REQUEST_S = 60.0
"""Longest time of one request, of at most ``object_store_process.PIECE_BYTES``."""
SLOWEST_BYTES_PER_S = 2e5
"""A transfer that is slower, over all, is given up and begun again."""
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL)
_LASTING = ("missing", "disk", "refused")
"""Failures that another attempt does not mend."""


class StoreError(ValueError):
    """Raised if an object cannot be read or written; the message has URL and reason in one line."""


def is_url(place: str) -> bool:
    """Return true for ``SCHEME://...``, of whatever scheme."""
    return _URL.fullmatch(place) is not None


def store_url(place: str) -> str:
    """Return the URL of a store, of a folder ``file://`` and its absolute path.

    Raises:
        StoreError: for an unknown scheme, or nothing behind it.
    """
    match = _URL.fullmatch(place)
    if match is None:
        return Path(place).absolute().as_uri()
    scheme, rest = match.groups()
    if scheme not in SCHEMES or not rest.strip("/"):
        raise StoreError(
            f"{short(place)} is no store; give a folder, or a URL such as s3://BUCKET/FOLDER, "
            f"with one of {', '.join(f'{scheme}://' for scheme in SCHEMES)}"
        )
    if scheme == "file" and not rest.startswith("/"):
        raise StoreError(f"{short(place)}: write file:// and an absolute path: file:///data/corpus")
    return place.rstrip("/")


def fetch(url: str, key: str, to: Path, *, size: int | None = None, sha256: str = "") -> None:
    """Write an object to a file.

    Args:
        url: of the store (``store_url``).
        key: of the object below it.
        to: file that exists; it is overwritten.
        size: size in bytes that it must have; None: any.
        sha256: hash in hexadecimal digits that it must have; empty: any.

    Raises:
        StoreError: if it cannot be read, or is another one, after all attempts.
    """
    request = {"action": "fetch", "url": url, "key": key, "file": str(to), "bytes": size}

    def check(found: dict[str, Any]) -> str:
        return "" if sha256 in ("", found["sha256"]) else "its SHA-256 is another; it is damaged"

    _asked(request, "read", size or 0, check)


def put(url: str, key: str, path: Path) -> None:
    """Upload a file.

    Raises:
        StoreError: if it cannot be written after all attempts.
    """
    size = path.stat().st_size

    def check(found: dict[str, Any]) -> str:
        return "" if found["bytes"] == size else f"the store has {found['bytes']} of {size} bytes"

    _asked({"action": "put", "url": url, "key": key, "file": str(path)}, "written", size, check)


def size_of(url: str, key: str) -> int | None:
    """Return the size of an object in bytes; None if there is none.

    Raises:
        StoreError: if the store does not answer after all attempts.
    """
    found = _asked({"action": "size", "url": url, "key": key}, "read", 0, lambda _: "")
    size: int | None = found["bytes"]
    return size


def require_obstore() -> None:
    """Raise ModuleNotFoundError, with what to install, unless obstore is installed."""
    if importlib.util.find_spec("obstore") is None:
        raise ModuleNotFoundError(
            "corpora in a store need obstore: pip install 'wavenet-audio[shard]'", name="obstore"
        )


def _asked(request: dict[str, Any], done: str, size: int, check: Any) -> dict[str, Any]:
    """Return the answer of the first attempt that succeeds and passes the check."""
    require_obstore()
    where = f"{printable(request['url'])}/{request['key']}"
    for attempt in range(1, ATTEMPTS + 1):
        found = _request(request, size)
        kind, reason = found.get("kind", ""), found.get("error") or check(found)
        if not reason:
            return found
        reason = printable(" ".join(str(reason).split()))
        if kind in _LASTING or attempt == ATTEMPTS:
            break
        wait_s = FIRST_WAIT_S * 2 ** (attempt - 1)
        logger.warning(
            "%s cannot be %s (%s); attempt %d of %d follows in %g s",
            where,
            done,
            reason,
            attempt + 1,
            ATTEMPTS,
            wait_s,
        )
        time.sleep(wait_s)
    times = "" if attempt == 1 else f" after {attempt} attempts"
    raise StoreError(
        f"{where} cannot be {done}{times}: {reason}; {_REMEDIES.get(kind, _REMEDIES[''])}"
    )


_REMEDIES = {
    "": "check the store and the network, then run the command again",
    "missing": "check the URL",
    "disk": "free some space, or choose another folder",
    "refused": "check the credentials in the environment, such as AWS_ACCESS_KEY_ID",
}


def _request(request: dict[str, Any], size: int) -> dict[str, Any]:
    """Make one attempt in a process of its own."""
    command = [sys.executable, "-P", object_store_process.__file__]
    timeout_s = REQUEST_S + size / SLOWEST_BYTES_PER_S
    try:
        made = subprocess.run(
            command,
            input=json.dumps({**request, "timeout_s": REQUEST_S}),
            capture_output=True,
            text=True,
            timeout=timeout_s + 5,
            check=False,
            start_new_session=True,  # ctrl-C is for this process to answer
        )
        found: dict[str, Any] = json.loads(made.stdout)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {timeout_s:g} s"}
    except ValueError:
        last = (made.stderr.strip().splitlines() or [f"exit code {made.returncode}"])[-1]
        return {"error": last[:300]}
    return found
