"""One CRC-32C of many neighbours, computed from the CRC-32C of each: the bulk path's way to check sectors.

The checksum of A followed by B is that of A times x**n, n being the bits of B, plus (XOR) that of B, all modulo the
CRC's polynomial. So the checksums that are stored for neighbouring sectors are joined, and compared with one pass over
all the sectors' bytes: a call for every sector would take longer than the checksum itself.

What is to be added up, sums times powers of x**n, looks like a CRC, which adds up 32-bit words times powers of x**32;
and there are fast ones of those. Modulo the polynomial squaring is linear, ``(a + b)**2 == a**2 + b**2``, and undone
by doing it 30 times more, as the factors of the polynomial are of degree 31 and 1. Every byte of a sum is made a
word: a table says what it comes to in its place, un-squared so often that the powers become those of x**32. The CRC
of these words, as if they were data, is squared as often, and that is the sum.

What the one comparison can miss is what a checksum can miss anyway. CRC-32C tells apart any data that differ in up to
three bits as long as they are shorter than 2**31 bits, whether that is one sector or many; and other changes by a
chance of 2**-32.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from btrimg.named import NamedTuple
from btrimg.ondisk.csum import crc32c_raw

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Sums = NDArray[np.uint32]

# Polynomials modulo the CRC's are integers with the bit of x**0 on top, as in its checksums.
_POLYNOMIAL = 0x82F6_3B78  #: what x**32 is
_BITS, _ORDER = 32, 31  #: squaring so often changes nothing
BYTES = np.arange(_BITS // 8)  #: of a checksum: rows of ``tables``
PIECES = 512  #: the most that are well joined at once: 2 MiB of sectors, what caches hold


class _Joiner(NamedTuple):
    """How pieces of one length are joined."""

    words: Sums  #: for each byte of a checksum, and value of it, the word of which the CRC is taken
    results: list[list[int]]  #: for each byte of that CRC, and value of it, its part of the joined checksum

    def result(self, words: Sums) -> int:
        """Return the joined checksum of words that lie side by side."""
        crc = crc32c_raw(0, words.astype("<u4", copy=False).data)
        first, second, third, fourth = self.results
        return first[crc & 0xFF] ^ second[crc >> 8 & 0xFF] ^ third[crc >> 16 & 0xFF] ^ fourth[crc >> 24]


def _rows_of_bytes(count: int) -> NDArray[np.int64]:
    """Return where in a table of words the row of each byte of *count* checksums begins."""
    return _many_rows(1 << count.bit_length())[: BYTES.size * count]


@cache
def _many_rows(count: int) -> NDArray[np.int64]:
    return np.tile(BYTES * 256, count)


def join(sums: Sums, length: int) -> Sums:
    """Return for each row of *sums*, CRC-32C of pieces of *length* bytes, that of the pieces one after the other.

    The length is a power of two. A shorter row is filled up with zeros in front: they change nothing.
    """
    joiner = _joiner(length)
    digits = sums.astype("<u4").view(np.uint8)
    words = joiner.words.take(digits + _rows_of_bytes(sums.shape[1]))
    return np.array([joiner.result(row) for row in words], np.uint32)


def joined(sums: bytes, length: int) -> int:
    """Return the CRC-32C of up to 512 pieces of *length* bytes, one after the other, of the CRC-32C of each as stored.

    For one row it is quicker than :func:`join`, which is for many.
    """
    joiner = _joiner(length)
    return joiner.result(joiner.words.take(np.frombuffer(sums, np.uint8) + _PLACES[: len(sums)]))


_PLACES = np.tile(BYTES * 256, PIECES)


@cache
def _joiner(length: int) -> _Joiner:
    level = length.bit_length() - 1
    if length != 1 << level:
        raise ValueError(f"pieces of {length} bytes: it must be a power of two")
    powers = [1 << _BITS - 1]
    while len(powers) < 2 * _BITS:
        powers.append(powers[-1] >> 1 ^ (_POLYNOMIAL if powers[-1] & 1 else 0))
    square = tables(powers[-2::-2])
    times = [1 << np.arange(_BITS, dtype=np.uint32)]  # all bits, squared never, once, ...
    while len(times) < _ORDER:
        times.append(np.bitwise_xor.reduce(square[BYTES, times[-1].astype("<u4")[:, None].view(np.uint8)], 1))
    # A byte is a word of its own, and the step from one to the next a quarter of the length.
    level -= 4
    words = [_without_words(value, 4 - bit // 8) for bit, value in enumerate(times[-level % _ORDER].tolist())]
    return _Joiner(tables(words).reshape(-1), tables(times[level % _ORDER].tolist()).tolist())


def _without_words(value: int, count: int) -> int:
    """Return what is *value* when it is multiplied by x**32 so often."""
    for _ in range(count * _BITS):
        value = (value ^ _POLYNOMIAL) << 1 & 0xFFFF_FFFF | 1 if value >> _BITS - 1 else value << 1
    return value


def tables(linear: list[int]) -> Sums:
    """Return the tables, one for each byte of a checksum, of a linear map of which the values of all bits are given."""
    table = np.zeros((_BITS // 8, 256), np.uint32)
    for bit, value in enumerate(linear):
        row, first = table[bit // 8], 1 << bit % 8
        row[first : 2 * first] = row[:first] ^ np.uint32(value)
    return table
