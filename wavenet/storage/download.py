"""Downloads: a published file whole and checked, or none; what an interruption left is continued.

The bytes go to a file beside the destination, ``NAME.part``. After an interruption they are
continued with a request for the rest (RFC 9110, section 14: ranges). The file is renamed once its
size and checksum are those published.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavenet.values.text import printable

logger = logging.getLogger("wavenet")

WAITS_S = (1.0, 2.0, 4.0, 8.0)
"""Pauses before a request is repeated, as long as none brings a byte."""
TIMEOUT_S = 60.0
"""Longest time without a byte before a connection counts as lost."""
_BLOCK = 1 << 20
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class DownloadError(OSError):
    """Raised if a file cannot be downloaded; the message has the address and the reason."""


@dataclass(frozen=True)
class Published:
    """A file as it is published.

    Attributes:
        urls: addresses of the same file, HTTP or HTTPS, in the order in which they are tried.
        size: in bytes; None where it is not known.
        digest: ``sha256:`` or ``md5:`` and hexadecimal digits; empty where none is published.
    """

    urls: tuple[str, ...]
    size: int | None = None
    digest: str = ""

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.urls[0].rpartition("/")[2]


def download(file: Published, target: str | Path) -> Path:
    """Download a file, unless it is there, and return its path.

    Progress is shown on a terminal if tqdm is installed.

    Raises:
        DownloadError: if no address has the file, or its size or checksum is another. An
            interrupted download keeps its beginning; one with a wrong checksum is removed.
    """
    target = Path(target)
    if target.is_file():
        check(file, target)
        return target
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for url in file.urls:
        try:
            _receive(url, part, file.size)
            _accept(file, part, url)
        except DownloadError as error:
            reasons.append(str(error))
            continue
        os.replace(part, target)
        return target
    raise DownloadError("; ".join(reasons))


def check(file: Published, path: Path, source: str = "") -> None:
    """Compare a file with what is published.

    Raises:
        DownloadError: if its size or checksum is another.
    """
    source = source or str(path)
    found = path.stat().st_size
    if file.size is not None and found != file.size:
        raise DownloadError(f"{source} has {found} bytes, and {file.size} are published")
    if not file.digest:
        return
    kind, _, expected = file.digest.partition(":")
    with open(path, "rb") as content:
        digest = hashlib.file_digest(content, kind).hexdigest()
    if digest != expected:
        raise DownloadError(f"{source} has {kind} {digest}, and {expected} is published")


def _accept(file: Published, part: Path, url: str) -> None:
    """Check what was received; remove it if it is not what is published."""
    try:
        check(file, part, url)
    except DownloadError:
        part.unlink()
        raise


def _receive(url: str, part: Path, size: int | None) -> None:
    """Append to the part until it is whole; a lost connection is tried again with the rest.

    Raises:
        DownloadError: if the address refuses, or nothing arrives any more.
    """
    failures = 0
    while True:
        before = _length(part)
        if before == size:
            return
        try:
            _append(url, part, size)
            return
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"HTTP {error.code} {error.reason}"
            if error.code not in _TRANSIENT:
                raise DownloadError(_line(url, reason)) from None
        except (http.client.HTTPException, ConnectionError) as error:
            reason = str(error) or type(error).__name__
        failures = 0 if _length(part) > before else failures + 1
        if failures == len(WAITS_S) + 1:
            raise DownloadError(_line(url, reason))
        pause_s = WAITS_S[max(0, failures - 1)]
        logger.info("%s; trying again in %g s", _line(url, reason), pause_s)
        time.sleep(pause_s)


def _append(url: str, part: Path, size: int | None) -> None:
    """Request what the part lacks and append it.

    Raises:
        DownloadError: if the server has a file of another size, or sends more than the file.
        urllib.error.HTTPError: if the server refuses.
        ConnectionError, http.client.HTTPException: if the connection is lost.
    """
    have = _length(part)
    headers = {"User-Agent": "wavenet", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        response = _open(request)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise
        error.close()  # nothing follows what is there: it is whole, or of another file
        if _complete_length(error.headers.get("Content-Range")) != have:
            part.unlink()
            _append(url, part, size)
        return
    with response:
        first, total = _extent(response)
        if size is not None and total not in (None, size):
            raise DownloadError(_line(url, f"has {total} bytes, and {size} are published"))
        if total is None and not response.chunked:
            total = size  # the closed connection ends the answer, be it whole or lost
        most = size if total is None else total
        if first not in (0, have):
            raise DownloadError(_line(url, f"sent the bytes from {first} on, not from {have}"))
        with open(part, "r+b" if first else "wb") as out, _bar(url, first, total) as bar:
            out.seek(first)
            while block := _read(response):
                out.write(block)
                bar.update(len(block))
                if most is not None and out.tell() > most:
                    break
            received = out.tell()
    if most is not None and received > most:
        part.unlink()
        raise DownloadError(_line(url, f"sends more than the {most} bytes of the file"))
    if total is not None and received != total:
        raise http.client.IncompleteRead(b"", total - received)


def _open(request: urllib.request.Request) -> Any:
    """Send a request; whatever keeps it from the server is a ConnectionError."""
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError:
        raise
    except OSError as error:
        raise ConnectionError(str(getattr(error, "reason", error))) from error


def _read(response: Any) -> bytes:
    """Read a block; an error of the network is a ConnectionError, unlike one of the disk."""
    try:
        block: bytes = response.read(_BLOCK)
    except OSError as error:
        raise ConnectionError(str(error)) from error
    return block


def _extent(response: Any) -> tuple[int, int | None]:
    """Return where a response begins in the file, and the file's length if the server says it."""
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found is None:
            return 0, None
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _complete_length(content_range: str | None) -> int | None:
    """Return the length in ``bytes */LENGTH``."""
    found = re.fullmatch(r"bytes \*/(\d+)", content_range or "")
    return None if found is None else int(found[1])


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _line(url: str, reason: str) -> str:
    return f"{url}: {printable(' '.join(reason.split()))}"


@contextlib.contextmanager
def _bar(url: str, first: int, total: int | None) -> Iterator[Any]:
    """Yield a tqdm bar of bytes, or a counter that shows nothing."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        yield _NoBar()
        return
    name = url.rpartition("/")[2]
    options: dict[str, Any] = {"unit": "B", "unit_scale": True, "leave": False, "disable": None}
    with tqdm(desc=name, initial=first, total=total, **options) as bar:
        yield bar


class _NoBar:
    """Replaces a bar where none can be drawn."""

    def update(self, _: int) -> None:
        """Show nothing."""
