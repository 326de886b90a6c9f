"""Rows that grow where they stand: columns in memory of their own, which is neither copied nor left behind in holes.

Parts that are kept until all are there stand between what is freed meanwhile, and are copied in the end.
"""

from __future__ import annotations

from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from btrimg.filesystem.leafrows import Parts
from btrimg.filesystem.strings import Strings

if TYPE_CHECKING:
    from numpy.typing import NDArray

Rows = TypeVar("Rows", bound=tuple[Any, ...])

_FIRST = 1 << 16  # bytes that a column has room for at first; what is not written takes no memory


class GrowingParts(Parts[Rows]):
    """Rows that come in parts, of which copies are held in memory, each column in one piece."""

    def __init__(self) -> None:
        super().__init__()
        self._kind: type[Rows] | None = None
        self._columns: list[_Growing | _GrowingStrings] = []

    def append(self, rows: Rows) -> None:
        """Take a copy of some more rows; the first ones, of which there may be none, say what columns there are."""
        self._kind = type(rows)
        self._columns = self._columns or [_growing(column) for column in rows]
        for column, values in zip(self._columns, rows, strict=True):
            column.append(values)

    def join(self) -> Rows:
        """Return all rows, and hold them no longer."""
        columns, self._columns = self._columns, []
        return self._kind._make(column.whole() for column in columns)  # type: ignore[union-attr, no-any-return]


def _growing(like: NDArray[Any] | Strings) -> _Growing | _GrowingStrings:
    return _GrowingStrings() if isinstance(like, Strings) else _Growing(like.dtype)


class _Growing:
    """An array that grows; the kernel moves its pages (``mremap``) where there is no room behind it."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype, self._used = dtype, 0
        self._room = mmap(-1, _FIRST, flags=MAP_PRIVATE | MAP_ANONYMOUS)

    def append(self, values: NDArray[Any]) -> None:
        end = self._used + len(values) * self._dtype.itemsize
        if end > len(self._room):
            self._room.resize(max(end, 2 * len(self._room)))
        np.frombuffer(self._room, self._dtype, len(values), self._used)[:] = values
        self._used = end

    def whole(self) -> NDArray[Any]:
        return np.frombuffer(self._room, self._dtype, self._used // self._dtype.itemsize)


class _GrowingStrings:
    """Strings that grow."""

    def __init__(self) -> None:
        self._offsets, self._data, self._end = _Growing(np.dtype(np.int64)), _Growing(np.dtype(np.uint8)), 0
        self._offsets.append(np.zeros(1, np.int64))

    def append(self, values: Strings) -> None:
        self._offsets.append(values.offsets[1:] + self._end)
        self._data.append(values.data)
        self._end += len(values.data)

    def whole(self) -> Strings:
        return Strings(self._offsets.whole(), self._data.whole())
