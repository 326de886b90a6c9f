"""P and Q of many rows at once: what large writes need. :mod:`btrimg.volume.parity` is for single rows and rebuilds.

For three columns of 64 KiB P takes 15 microseconds and Q 70, where the large integers of the other take 315 and 540.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

_REDUCED = np.uint8(0x1D)  # the polynomial less its x**8


def parity_of_rows(data: memoryview | bytearray, columns: int, element: int, parity: int) -> list[memoryview]:
    """Return P, and for *parity* 2 also Q, of whole rows that stand one after another in *data*.

    A row is *columns* elements of *element* bytes. The results hold one element of every row.
    """
    rows = np.frombuffer(data, np.uint8).reshape(-1, columns, element)
    results = np.empty((parity, len(rows), element), np.uint8)
    np.bitwise_xor.reduce(rows, axis=1, out=results[0])
    if parity == 2:
        scratch = np.empty(element, np.uint8)
        for row, q in zip(rows, results[1], strict=True):  # one by one, so that all stays in the processor's cache
            _sum_weighted(row, q, scratch)
    return [result.reshape(-1).data for result in results]


def _sum_weighted(row: Bytes, total: Bytes, scratch: Bytes) -> None:
    """Set *total* to the sum of column i times 2**i."""
    total[:] = row[-1]
    for column in row[-2::-1]:
        np.less(total.view(np.int8), 0, out=scratch.view(np.bool_))  # 1 where doubling carries out of the byte
        np.multiply(scratch, _REDUCED, out=scratch)
        np.add(total, total, out=total)
        np.bitwise_xor(total, scratch, out=total)
        np.bitwise_xor(total, column, out=total)
