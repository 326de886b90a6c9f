"""The file extents of a whole image as columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.filesystem import strings
from btrimg.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from btrimg.filesystem.strings import Strings

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]
    Codes = NDArray[np.uint8]

KINDS = ("regular", "compressed", "inline", "prealloc", "hole")  #: what the codes in ``ExtentColumns.kind`` mean
REGULAR, COMPRESSED, INLINE, PREALLOC, HOLE = range(len(KINDS))


class ExtentColumns(NamedTuple):
    """One row per file extent, in order of subvolume, inode and offset; every field is a column of equal length.

    As in ``FileExtentRow`` and ``Copy``, ``logical`` and the copies are those of the row's first byte, of the first
    compressed byte for a compressed extent. Where there is no extent (inline data, holes) its numbers are 0.
    """

    subvolume: Unsigned  #: id
    inode: Unsigned
    path: Ints  #: number of the file's path in *paths*, -1 for a file without a name or in no reachable directory
    offset: Ints  #: in the file
    length: Ints  #: bytes of the file
    kind: Codes  #: index into KINDS
    compression: Codes  #: Compression
    logical: Ints
    extent_logical: Ints
    extent_length: Ints  #: bytes allocated
    extent_offset: Ints  #: uncompressed bytes skipped at the start of the extent
    ram_bytes: Ints  #: uncompressed length of the extent
    generation: Unsigned  #: transid that wrote the extent
    refs: Ints  #: references of the extent, as the extent tree counts them; 0 where it does not say
    copies: Codes  #: how many copies there are; 0 also where no chunk maps *logical*
    devid: Unsigned  #: (copies at most, rows): row k is copy k's, 0 where there are fewer
    physical: Ints  #: likewise, the device offset
    paths: Strings  #: from the top-level subvolume (``/sv/dir/file``), one per file; the first name of each

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return len(self.inode)

    def path_of(self, row: int) -> bytes | None:
        """Return the path of the file that *row* belongs to."""
        return self.paths.decode(self.path[row]) if self.path[row] >= 0 else None

    def take(self, kept: NDArray[Any] | slice) -> ExtentColumns:
        """Return some rows: *kept* holds indexes or a truth value for each."""
        return ExtentColumns._make([*(column[..., kept] for column in self[:-1]), self.paths])


def concatenate(parts: Sequence[ExtentColumns]) -> ExtentColumns:
    """Return the rows of all *parts*, at least one, one after the other."""
    first_path = np.cumsum([0, *(part.paths.rows for part in parts)])
    moved = [
        part._replace(path=np.where(part.path < 0, part.path, part.path + first))
        for part, first in zip(parts, first_path[:-1].tolist(), strict=True)
    ]
    joined = [np.concatenate(column, axis=-1) for column in zip(*(part[:-1] for part in moved), strict=True)]
    return ExtentColumns._make([*joined, strings.concatenate([part.paths for part in parts])])


def holes(like: ExtentColumns, inode: Unsigned, offset: Ints, length: Ints) -> ExtentColumns:
    """Return rows of holes with as many places for copies as *like* has."""
    rows = np.zeros(len(inode), np.int64)
    zeros = (np.zeros((*column.shape[:-1], len(inode)), column.dtype) for column in like[:-1])
    return ExtentColumns._make([*zeros, strings.EMPTY])._replace(
        inode=inode, path=rows - 1, offset=offset, length=length, kind=np.full(len(inode), HOLE, np.uint8)
    )
