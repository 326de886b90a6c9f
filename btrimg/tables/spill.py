"""Columns that are written to temporary files when they would take too much memory, and mapped back.

The files have no names: nothing is left of them however the program ends. What is mapped is cache of the kernel, which
takes it back when memory is scarce.
"""

from __future__ import annotations

import mmap
import tempfile
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from btrimg.filesystem.strings import Strings
from btrimg.tables.growing import GrowingParts

if TYPE_CHECKING:
    from numpy.typing import NDArray

Rows = TypeVar("Rows", bound=tuple[Any, ...])


class Spill:
    """How many bytes of columns may stay in memory, and the *directory* for more; None is where tempfile puts files."""

    def __init__(self, budget: int, directory: str | None = None) -> None:
        self.directory = directory
        self._budget, self._held = budget, 0
        self._several: list[SpilledParts[Any]] = []

    def parts(self) -> SpilledParts[Any]:
        """Return a place for the rows of one more table."""
        self._several.append(SpilledParts(self))
        return self._several[-1]

    def grew(self, size: int) -> None:
        """Hear that *size* bytes more are held; write everything out when it is too much."""
        self._held += size
        if self._held > self._budget:
            for parts in self._several:
                parts.flush()
            self._held = 0


class SpilledParts(GrowingParts[Rows]):
    """Rows that come in parts, of which copies are held in memory or in files."""

    def __init__(self, spill: Spill) -> None:
        super().__init__()
        self._spill = spill
        self._files: list[_File] = []

    def append(self, rows: Rows) -> None:
        """Take a copy of some more rows."""
        super().append(rows)
        self._spill.grew(sum(_size(column) for column in rows))

    def flush(self) -> None:
        """Write out what is in memory."""
        if not self._columns:
            return
        rows = super().join()
        self._files = self._files or [_File(column, self._spill.directory) for column in rows]
        for file, column in zip(self._files, rows, strict=True):
            file.write(column)

    def join(self) -> Rows:
        """Return all rows, and hold them no longer."""
        if not self._files:
            return super().join()
        self.flush()
        files, self._files = self._files, []
        return self._kind._make(file.column() for file in files)  # type: ignore[union-attr,no-any-return]


def _size(column: NDArray[Any] | Strings) -> int:
    return column.offsets.nbytes + column.data.nbytes if isinstance(column, Strings) else column.nbytes


class _File:
    """One column in a file, or two for Strings."""

    def __init__(self, like: NDArray[Any] | Strings, directory: str | None) -> None:
        self._is_text = isinstance(like, Strings)
        arrays = like if isinstance(like, Strings) else (like,)
        self._arrays = [_ArrayFile(array.dtype, directory) for array in arrays]
        if self._is_text:
            self._arrays[0].write(np.zeros(1, np.int64))
        self._end = 0  # of the data of all strings

    def write(self, column: NDArray[Any] | Strings) -> None:
        """Append rows."""
        if isinstance(column, Strings):
            self._arrays[0].write(column.offsets[1:] + self._end)
            self._arrays[1].write(column.data)
            self._end += len(column.data)
        else:
            self._arrays[0].write(column)

    def column(self) -> NDArray[Any] | Strings:
        """Return all rows, and close the files."""
        arrays = [array.mapped() for array in self._arrays]
        return Strings(*arrays) if self._is_text else arrays[0]


class _ArrayFile:
    """One array in a file without a name."""

    def __init__(self, dtype: np.dtype[Any], directory: str | None) -> None:
        self._dtype = dtype
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115  # closed by ``mapped``

    def write(self, array: NDArray[Any]) -> None:
        """Append to the array."""
        self._file.write(np.ascontiguousarray(array, self._dtype).data)

    def mapped(self) -> NDArray[Any]:
        """Return the array, and close the file: a mapping needs it no longer."""
        with self._file:
            self._file.flush()
            if not self._file.tell():
                return np.empty(0, self._dtype)
            return np.frombuffer(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ), self._dtype)
