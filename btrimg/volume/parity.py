"""P and Q of RAID5 and RAID6, and the columns that they bring back.

P is the XOR of the data columns. Q is the sum of column i times 2**i in the field GF(2**8) of polynomial 0x11d, as in
the kernel's lib/raid6 (H. Peter Anvin, "The mathematics of RAID-6"). A column is multiplied by a constant with one
``bytes.translate``, and added with one XOR of two large integers: both run in C.
"""

from __future__ import annotations

from functools import cache

from btrimg.errors import DeviceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def _multiply(a: int, b: int) -> int:
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = a << 1 ^ (0x11D if a & 0x80 else 0)
        b >>= 1
    return product


@cache
def _times(factor: int) -> bytes:
    """Return the table for ``translate`` that multiplies every byte by *factor*."""
    return bytes(_multiply(value, factor) for value in range(256))


@cache
def _power(exponent: int) -> int:
    """Return 2**exponent in the field, whose non-zero elements are 2**0 to 2**254."""
    return 1 if exponent % 255 == 0 else _multiply(_power(exponent % 255 - 1), 2)


@cache
def _inverse(value: int) -> int:
    return next(other for other in range(1, 256) if _multiply(value, other) == 1)


def _add(*columns: bytes) -> bytes:
    total = 0
    for column in columns:
        total ^= int.from_bytes(column, "little")
    return total.to_bytes(len(columns[0]), "little")


def compute_p(data: Iterable[bytes]) -> bytes:
    """Return P of data columns of equal length."""
    return _add(*data)


def compute_q(data: Sequence[bytes]) -> bytes:
    """Return Q of data columns of equal length, in the order of their positions."""
    total = data[-1]
    for column in reversed(data[:-1]):
        total = _add(total.translate(_times(2)), column)
    return total


def rebuild(data: Sequence[bytes | None], p: bytes | None, q: bytes | None) -> list[bytes]:
    """Return all data columns of a row; None stands for what is lost, and for Q in RAID5.

    Raises DeviceError when more is lost than P and Q can bring back.
    """
    lost = [index for index, column in enumerate(data) if column is None]
    if not lost:
        return [column for column in data if column is not None]
    if len(lost) > (p is not None) + (q is not None):
        raise DeviceError(f"{len(lost)} data columns of a row are lost, more than its parity can rebuild")
    zeros = bytes(len(next(column for column in (p, q) if column is not None)))
    whole = [zeros if column is None else column for column in data]
    first, last = lost[0], lost[-1]
    if q is None or (p is not None and first == last):
        whole[first] = _add(p or zeros, *whole)
    elif p is None:
        whole[first] = _add(q, compute_q(whole)).translate(_times(_inverse(_power(first))))
    else:
        # first + last = sum, 2**first * first + 2**last * last = weighted: two equations, two unknowns
        total, weighted = _add(p, *whole), _add(q, compute_q(whole))
        factor = _inverse(_power(first) ^ _power(last))
        whole[first] = _add(total.translate(_times(_power(last))), weighted).translate(_times(factor))
        whole[last] = _add(total, whole[first])
    return whole


def column_at_fault(data: Sequence[bytes], p: bytes, q: bytes) -> int | None:
    """Return which data column, were it alone wrong, explains both P and Q of a row, of which neither adds up.

    None where no single column does.
    """
    p_error, q_error = _add(p, *data), _add(q, compute_q(data))
    return next((column for column in range(len(data)) if p_error.translate(_times(_power(column))) == q_error), None)
