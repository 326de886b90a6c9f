"""One CRC-32C of many neighbours, computed from the CRC-32C of each: the bulk path's way to check sectors.

The checksum of A followed by B is that of A, shifted past the length of B, plus (XOR) that of B; the shift is a linear
map of 32 bits. So the checksums that are stored for neighbouring sectors are joined by looking up tables, and compared
with one pass over all the sectors' bytes: a call for every sector would take longer than the checksum itself.

What the one comparison can miss is what a checksum can miss anyway. CRC-32C tells apart any data that differ in up to
three bits as long as they are shorter than 2**31 bits, whether that is one sector or many; and other changes by a
chance of 2**-32.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from btrimg.ondisk.csum import crc32c_raw

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Sums = NDArray[np.uint32]

_LONG = 4096  #: bytes; the shift past more is made of shorter ones


@cache
def _shift(length: int) -> Sums:
    """Return the tables, one for each byte of a checksum, that shift it past *length* bytes."""
    if length > _LONG and not length % 2:  # twice past the half of it
        half = _shift(length // 2)
        return _shifted(half, half)
    zeros = bytes(length)
    table = np.zeros((4, 256), np.uint32)
    values = np.arange(256)
    for byte in range(4):
        for bit in range(8):
            shifted = crc32c_raw(1 << byte * 8 + bit, zeros)
            table[byte] ^= np.where(values >> bit & 1, shifted, 0).astype(np.uint32)
    return table


def join(sums: Sums, length: int) -> Sums:
    """Return for each row of *sums*, CRC-32C of pieces of *length* bytes, that of the pieces one after the other.

    A row has a power of two of sums. A shorter one is filled up with zeros in front: they change nothing.
    """
    while sums.shape[1] > 1:
        sums = _shifted(_shift(length), np.ascontiguousarray(sums[:, ::2])) ^ sums[:, 1::2]
        length *= 2
    return sums[:, 0]


def _shifted(table: Sums, sums: Sums) -> Sums:
    """Return *sums* shifted by the tables of ``_shift``."""
    left = sums.astype("<u4", copy=False)[..., None].view(np.uint8)
    shifted: Sums = table[0, left[..., 0]]
    for byte in range(1, 4):
        shifted ^= table[byte, left[..., byte]]
    return shifted


@cache
def _places(length: int, count: int) -> Sums:
    """Return for each of *count* places in a row what every byte of a checksum there is in the joined one."""
    table = np.empty((count, 4, 256), np.uint32)
    table[-1] = np.arange(256, dtype=np.uint32) << (8 * np.arange(4, dtype=np.uint32))[:, None]
    shift = _shift(length)
    for place in range(count - 1, 0, -1):
        left = table[place].astype("<u4")[..., None].view(np.uint8)
        table[place - 1] = np.bitwise_xor.reduce([shift[byte, left[..., byte]] for byte in range(4)])
    return table


def joined(sums: bytes, length: int) -> int:
    """Return the CRC-32C of up to 512 pieces of *length* bytes, one after the other, of the CRC-32C of each as stored.

    For one row it is quicker than :func:`join`, which is for many.
    """
    digits = np.frombuffer(sums, np.uint8)
    first = 4 * PIECES - len(digits)  # the last places are those of a shorter row, too
    return int(np.bitwise_xor.reduce(_places(length, PIECES).reshape(-1).take(_ROWS[first:] + digits)))


PIECES = 512  #: the most that ``joined`` takes
_ROWS = np.arange(4 * PIECES) * 256
