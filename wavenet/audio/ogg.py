"""Pages of an Ogg file (RFC 3533), made reproducible: the same audio gives the same bytes."""

from __future__ import annotations

import zlib
from mmap import mmap

_OGG_SERIAL = 0
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def set_ogg_serial(pages: bytearray | mmap) -> None:
    """Replace the random serial number that libsndfile writes to every page of an Ogg file.

    A page (RFC 3533, section 6) has its serial number at byte 14, a checksum at 22, the number of
    segments at 26, then their lengths. The checksum is that of the page with a checksum of zero, by
    the polynomial of zlib's CRC-32 but with the bits of bytes and result in reverse order, and
    starting from zero instead of ones.
    """
    start = 0
    while start < len(pages):
        segments = pages[start + 26]
        header = start + 27 + segments
        stop = header + sum(pages[start + 27 : header])
        pages[start + 14 : start + 18] = _OGG_SERIAL.to_bytes(4, "little")
        pages[start + 22 : start + 26] = bytes(4)
        ones = 0xFFFFFFFF  # zlib inverts the register before and after
        register = zlib.crc32(pages[start:stop].translate(_REVERSED_BITS), ones) ^ ones
        checksum = int(f"{register:032b}"[::-1], 2)
        pages[start + 22 : start + 26] = checksum.to_bytes(4, "little")
        start = stop
