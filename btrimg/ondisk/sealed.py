"""Whether tree blocks have the CRC-32C that each begins with: of many at once, by one CRC of them all.

The checksum of a whole block is a linear map of the one that it begins with, if that is right, and a number added; so
it is known without a look at the block, and those of neighbours are joined as those of sectors are.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from btrimg.ondisk.crcjoin import BYTES, join, tables
from btrimg.ondisk.csum import crc32c, crc32c_raw

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FIELD, _SUM = 32, 4  #: bytes of a block for its checksum, of any type, and what CRC-32C takes of them


def all_sealed(blocks: NDArray[np.uint8]) -> bool:
    """Return whether each of *blocks*, rows of a power of two of bytes, has the checksum that it begins with.

    It is that of all behind the field for it, whose rest is zeros as btrfs writes it: where that is not so, False.
    """
    if blocks[:, _SUM:_FIELD].any():
        return False
    length = blocks.shape[1]
    linear, added = _of_whole(length)
    digits = np.ascontiguousarray(blocks[:, :_SUM])
    whole = np.bitwise_xor.reduce(linear[BYTES, digits], axis=1) ^ added
    return crc32c(blocks.reshape(-1).data) == int(join(whole[None], length)[0])


@cache
def _of_whole(length: int) -> tuple[NDArray[np.uint32], np.uint32]:
    """Return how the checksum of a whole block follows from the one it begins with: tables, and what is added."""
    rest = bytes(length - _SUM)
    bits = [1 << bit for bit in range(8 * _SUM)]
    linear = [crc32c_raw(0, bit.to_bytes(_SUM, "little") + rest) ^ bit for bit in bits]
    return tables(linear), np.uint32(crc32c(bytes(length)) ^ crc32c(rest[: length - _FIELD]))
