"""Uuids that follow from a seed: the same seed gives the same uuids in the same order, on every machine."""

from __future__ import annotations

from hashlib import sha256
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SIZE = 16


def seeded(seed: bytes) -> Callable[[], bytes]:
    """Return a source of uuids: each comes from the SHA-256 of *seed* and its number, and is of version 4 (RFC 9562).

    To hand out random ones, seed it with random bytes.
    """
    numbers = count()
    prefix = sha256(seed).digest()  # of a fixed length: no seed is another one followed by a number

    def next_uuid() -> bytes:
        uuid = bytearray(sha256(prefix + next(numbers).to_bytes(8, "little")).digest()[:_SIZE])
        uuid[6] = uuid[6] & 0x0F | 0x40
        uuid[8] = uuid[8] & 0x3F | 0x80
        return bytes(uuid)

    return next_uuid
