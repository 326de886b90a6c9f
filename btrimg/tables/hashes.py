"""Numbers in the place of many names: the hash that btrfs keeps in keys, and one by which equal names are known."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.ondisk.csum import crc32c_raw, name_hash
from btrimg.trees.batches import structs_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from btrimg.filesystem.strings import Slices

    Words = NDArray[np.uint64]

_NAME_SEED = 0xFFFF_FFFE  # of ``name_hash``
_LONGEST_NAME = 255  # the kernel's BTRFS_NAME_LEN; longer ones are hashed one by one


def name_hashes(names: Slices) -> NDArray[np.uint32]:
    """Return ``name_hash`` of every name."""
    found = np.empty(len(names.start), np.uint32)
    for some, letters in _by_length(names):
        length = letters.shape[1]
        if length > _LONGEST_NAME:
            found[some] = [name_hash(row.tobytes()) for row in letters]
        else:
            found[some] = crcs(letters, _NAME_SEED)
    return found


def crcs(rows: NDArray[np.uint8], seed: int) -> NDArray[np.uint32]:
    """Return ``crc32c_raw`` with *seed* of every row, of 255 bytes at most.

    A CRC is linear: that of a row is that of as many zeros, changed by what each byte does from its place.
    """
    length = rows.shape[1]
    changes = _crc_by_distance()[np.arange(length - 1, -1, -1), rows]
    found: NDArray[np.uint32] = np.bitwise_xor.reduce(changes, axis=1) ^ np.uint32(crc32c_raw(seed, bytes(length)))
    return found


@cache
def _crc_by_distance() -> NDArray[np.uint32]:
    """Return what byte b does to a CRC-32C when k bytes follow, as ``[k, b]``."""
    table = np.empty((_LONGEST_NAME, 256), np.uint32)
    table[0] = [crc32c_raw(0, bytes([byte])) for byte in range(256)]
    for above, below in pairwise(table):
        below[:] = (above >> 8) ^ table[0][above & 0xFF]
    return table


def fingerprints(values: Slices) -> Words:
    """Return a number for each string: equal ones have equal numbers, and of others two in 2**62 do.

    Made of two multilinear hashes (Lemire, Kaser: Strongly universal string hashing is fast, 2014): the upper halves of
    the sum of all 32-bit words, each times a 64-bit random number of its own.
    """
    found = np.empty(len(values.start), np.uint64)
    for some, letters in _by_length(values):
        size = letters.shape[1]
        words = np.zeros((len(some), size // 4 + 2), "<u4")
        words.view(np.uint8)[:, :size] = letters
        words[:, -1] = size
        high, low = (
            np.einsum("ij,j->i", words, keys) for keys in _keys(words.shape[1])
        )  # without an array of products
        found[some] = high >> np.uint64(32) << np.uint64(32) | low >> np.uint64(32)
    return found


@cache
def _keys(words: int) -> Words:
    return scattered(31, 2 * words).reshape(2, words)


def scattered(seed: int, count: int) -> Words:
    """Return *count* numbers as random as any, the same for the same *seed*: SplitMix64 (Steele, Lea, Flood, 2014).

    To import ``numpy.random`` for them takes as long as to read 30 MB of tree blocks.
    """
    mixed = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15) + np.uint64(seed)
    for shift, factor in ((30, 0xBF58_476D_1CE4_E5B9), (27, 0x94D0_49BB_1331_11EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def mixed(seeds: Words, *columns: NDArray[Any]) -> Words:
    """Return a number for each row of some *columns* of u64; *seeds* are random and odd, two for each of them.

    The first column may be what was mixed before of others.
    """
    found: Words = columns[0] * seeds[0]
    for number, (column, first, second) in enumerate(zip(columns, seeds[::2], seeds[1::2], strict=False)):
        if number:
            found ^= column
            found *= first
        found ^= found >> np.uint64(32)
        found *= second
    return found


def _by_length(values: Slices) -> Iterator[tuple[NDArray[Any], NDArray[np.uint8]]]:
    """Yield for each length that occurs the numbers of the strings, and these as rows of bytes."""
    short = values.length.max(initial=0) < 1 << 16
    order = np.argsort(values.length.astype(np.uint16) if short else values.length, kind="stable")
    ordered = values.length[order]
    breaks = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    for first, end in pairwise([0, *breaks.tolist(), len(order)]):
        if first < end:
            some = order[first:end]
            size = int(ordered[first])
            if not size:
                yield some, np.empty((len(some), 0), np.uint8)
                continue
            letters = structs_at(values.data, size, values.start[some])
            yield some, letters.view(np.uint8).reshape(len(some), size)
