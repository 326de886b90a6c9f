"""Names as text: bytes that are not UTF-8 as backslash, x and two digits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.filesystem import strings
from btrimg.trees.distinct import different

if TYPE_CHECKING:
    from btrimg.filesystem.strings import Strings


def as_utf8(column: Strings) -> Strings:
    """Return *column* as valid UTF-8, each other byte as ``\\xNN``.

    All are looked at together; one by one only where one of them is not UTF-8, and then those that are not ASCII.
    """
    beyond = np.flatnonzero(column.data >= 0x80)
    if not len(beyond) or _is_utf8(column):
        return column
    rows = different(np.searchsorted(column.offsets, beyond, "right") - 1)
    texts = [column.decode(row).decode("utf-8", "backslashreplace").encode() for row in rows.tolist()]
    number = np.arange(column.rows)
    number[rows] = np.arange(column.rows, column.rows + len(rows))
    return taken(strings.concatenate([column, strings.of_list(texts)]), number)


def _is_utf8(column: Strings) -> bool:
    """Return whether every string is UTF-8: all are, joined, and no string begins within a character."""
    starts = column.offsets[:-1][column.offsets[:-1] < len(column.data)]
    if np.any(column.data[starts] & 0xC0 == 0x80):
        return False
    try:
        column.data.tobytes().decode()
    except UnicodeDecodeError:
        return False
    return True


def taken(column: Strings, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Strings:
    """Return the strings number *rows*."""
    start = column.offsets[rows]
    return strings.cut(column.data, start, column.offsets[rows + 1] - start)
