"""Uuids that follow from a seed: the same seed gives the same uuids in the same order, on every machine."""

from __future__ import annotations

from hashlib import shake_128
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def seeded(seed: bytes) -> Callable[[], bytes]:
    """Return a source of uuids (RFC 9562, version 4) that depend on *seed* only, and on how many were asked for before.

    To hand out random ones, seed it with random bytes.
    """
    numbers = count()

    def next_uuid() -> bytes:
        uuid = bytearray(shake_128(b"btrimg uuid %b %d" % (seed, next(numbers))).digest(16))
        uuid[6] = uuid[6] & 0x0F | 0x40
        uuid[8] = uuid[8] & 0x3F | 0x80
        return bytes(uuid)

    return next_uuid
