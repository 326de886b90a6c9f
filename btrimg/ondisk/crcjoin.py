"""One CRC-32C of many neighbours, computed from the CRC-32C of each: the bulk path's way to check sectors.

The checksum of A followed by B is that of A times x**n, n being the bits of B, plus (XOR) that of B, all modulo the
CRC's polynomial. So the checksums that are stored for neighbouring sectors are joined, and compared with one pass over
all the sectors' bytes: a call for every sector would take longer than the checksum itself.

What is to be added up, sums s times powers of x**n, looks like a CRC, which adds up 32-bit words w times powers of
x**32; and there are fast ones of those. Modulo the polynomial squaring is linear, ``(a + b)**2 == a**2 + b**2``, and
undone by doing it 30 times more, as the factors of the polynomial are of degree 31 and 1. With sectors of 4 * 2**k
bytes x**n is x**32 squared k times: so each sum is un-squared k times by looking up tables, the CRC of those is taken
as if they were data, and the result is squared k times.

What the one comparison can miss is what a checksum can miss anyway. CRC-32C tells apart any data that differ in up to
three bits as long as they are shorter than 2**31 bits, whether that is one sector or many; and other changes by a
chance of 2**-32.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from btrimg.ondisk.csum import crc32c_raw

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Sums = NDArray[np.uint32]

# Polynomials modulo the CRC's are integers with the bit of x**0 on top, as in its checksums.
_POLYNOMIAL = 0x82F6_3B78  #: what x**32 is
_BITS, _ORDER = 32, 31  #: squaring so often changes nothing


def _powers(count: int) -> list[int]:
    """Return x**0, x**1, ..., *count* of them."""
    found = [1 << _BITS - 1]
    while len(found) < count:
        last = found[-1]
        found.append(last >> 1 ^ (_POLYNOMIAL if last & 1 else 0))
    return found


def _before_a_word(value: int) -> int:
    """Return what is *value* when it is multiplied by x**32."""
    for _ in range(_BITS):
        value = (value ^ _POLYNOMIAL) << 1 & 0xFFFF_FFFF | 1 if value >> _BITS - 1 else value << 1
    return value


def _tables(linear: Iterable[int]) -> Sums:
    """Return the tables, one for each byte of a checksum, of a linear map of which the values of all bits are given."""
    table = np.zeros((4, 256), np.uint32)
    for bit, value in enumerate(linear):
        row, first = table[bit // 8], 1 << bit % 8
        row[first : 2 * first] = row[:first] ^ np.uint32(value)
    return table


def _mapped(tables: Sums, values: Sums) -> Sums:
    """Return every value as the *tables* map it."""
    digits = values.astype("<u4", copy=False)[..., None].view(np.uint8)
    mapped: Sums = tables[0].take(digits[..., 0])
    for byte in range(1, 4):
        mapped ^= tables[byte].take(digits[..., byte])
    return mapped


class _Joiner(NamedTuple):
    """The two maps for pieces of one length."""

    words: Sums  #: tables that make of a checksum the word of which the CRC is taken
    results: list[list[int]]  #: tables that make of that CRC the joined checksum

    def result(self, words: Sums) -> int:
        """Return the joined checksum of words that lie side by side."""
        crc = crc32c_raw(0, words.astype("<u4", copy=False).data)
        first, second, third, fourth = self.results
        return first[crc & 0xFF] ^ second[crc >> 8 & 0xFF] ^ third[crc >> 16 & 0xFF] ^ fourth[crc >> 24]


@cache
def _joiner(length: int) -> _Joiner:
    level = length.bit_length() - 3
    if length != 4 << level:
        raise ValueError(f"pieces of {length} bytes: it must be a power of two, 4 or more")
    square = _tables(_powers(2 * _BITS)[-2::-2])
    bits = np.uint32(1) << np.arange(_BITS, dtype=np.uint32)
    times = [bits]  # squared never, once, ...
    for _ in range(_ORDER):
        times.append(_mapped(square, times[-1]))
    words = _tables(map(_before_a_word, times[(_ORDER - level) % _ORDER].tolist()))
    return _Joiner(words, _tables(times[level % _ORDER].tolist()).tolist())


def join(sums: Sums, length: int) -> Sums:
    """Return for each row of *sums*, CRC-32C of pieces of *length* bytes, that of the pieces one after the other.

    The length is a power of two, 4 or more. A shorter row is filled up with zeros in front: they change nothing.
    """
    joiner = _joiner(length)
    return np.array([joiner.result(row) for row in _mapped(joiner.words, sums)], np.uint32)


def joined(sums: bytes, length: int) -> int:
    """Return the CRC-32C of pieces of *length* bytes, one after the other, of the CRC-32C of each as stored."""
    joiner = _joiner(length)
    return joiner.result(_mapped(joiner.words, np.frombuffer(sums, "<u4")))


PIECES = 512  #: the most that are well joined at once: 2 MiB of sectors, what caches hold
