"""Who uses how much: what files hold alone and share, what compression saves, what deleting subvolumes would free.

All bytes are logical: a profile with two copies takes twice as much of the devices. File extents of subvolumes whose
deletion has begun to free blocks are not counted as uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from btrimg.filesystem.census import Census
from btrimg.filesystem.columns import COMPRESSED, HOLE, INLINE, PREALLOC
from btrimg.filesystem.leafrows import LeafTable
from btrimg.ondisk.constants import FileExtentType, ItemType
from btrimg.ondisk.extents import FileExtentInline
from btrimg.ondisk.inodes import InodeExtref, InodeRef
from btrimg.tables.entries import size_by_fields, split

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from numpy.typing import NDArray

    from btrimg.filesystem.image import Image
    from btrimg.trees.batches import Report
    from btrimg.trees.scan import LeafBatch

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]
    Bools = NDArray[np.bool_]

TYPES = ("none", "zlib", "lzo", "zstd", "prealloc")  #: what compsize tells apart: Compression, and never written
_PREALLOC_TYPE = TYPES.index("prealloc")
_LONGEST = 1 << 40  # more than any extent has; a lie in a file extent must not overflow sums


class Uses(NamedTuple):
    """File extents that use an extent, one per row in order of subvolume, inode and offset."""

    subvolume: Ints  #: index into ``Usage.subvolumes``
    inode: Unsigned
    length: Ints  #: bytes of the file
    logical: Ints  #: where FIEMAP says they lie: for a compressed extent, at its start
    skipped: Ints  #: uncompressed bytes of the extent before those that are used
    extent: Ints  #: index into the columns of ``Extents``
    type: NDArray[np.uint8]  #: index into TYPES
    shared: Bools  #: whether another file, or this one at another distance, uses the extent: FIEMAP's flag


class Extents(NamedTuple):
    """Extents that some file uses, one per row in order of logical address."""

    logical: Ints
    length: Ints  #: bytes allocated
    ram_bytes: Ints  #: uncompressed length
    unreachable: Ints  #: bytes allocated that no file extent uses; 0 for compressed ones, which are read as a whole
    only_user: Ints  #: the only subvolume that uses it, an index; -1 where there are several


class Inlines(NamedTuple):
    """Inline file extents, one per row; lengths in bytes."""

    inode: Unsigned
    stored: Ints
    ram_bytes: Ints
    type: NDArray[np.uint8]


class Links(NamedTuple):
    """Every name of every inode, one per row."""

    inode: Unsigned
    parent: Unsigned  #: ino of the directory


class Space(NamedTuple):
    """What ``btrfs filesystem du`` says of files, in bytes."""

    total: int  #: of file extents, holes and inline data left out
    exclusive: int  #: of these, in extents that nobody else uses
    set_shared: int  #: of the others' ranges, each counted once
    unreachable: int  #: allocated inside the extents used, but reachable through no file extent anywhere


class Usage:
    """The file extents of all subvolumes, and who shares them with whom.

    What cannot be read is reported to *image* and left out. *done* is called with subvolumes and bytes got through.
    """

    def __init__(self, image: Image, done: Callable[[int, int], None] = lambda _subvolumes, _bytes: None) -> None:
        self._inlines = LeafTable(_inlines)
        self._links = LeafTable(lambda batch: _links(batch, image.report))
        self.census = Census(image, holes=True, pieces=False, further=(self._inlines, self._links))
        self.subvolumes = [subvolume.id for subvolume in self.census.subvolumes]
        self.uses, self.extents = self._join(done)

    def _join(self, done: Callable[[int, int], None]) -> tuple[Uses, Extents]:
        """Put the rows of all subvolumes together; number their extents."""
        parts = []
        for number in range(len(self.subvolumes)):
            rows = self.census.file_rows(number)
            parts.append(_columns(number, rows.take((rows.kind != INLINE) & (rows.kind != HOLE))))
            done(1, int(rows.length.sum()))
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        address, disk_length, ram_bytes = (columns.pop(name) for name in ("address", "disk_length", "ram_bytes"))
        origin = columns.pop("origin")
        logical, first, extent = np.unique(address, return_index=True, return_inverse=True)
        head = first[extent]
        elsewhere = columns["subvolume"] != columns["subvolume"][head]
        other = elsewhere | (columns["inode"] != columns["inode"][head]) | (origin != origin[head])
        count = len(logical)
        uses = Uses(**columns, extent=extent, shared=_any(other, extent, count)[extent])
        compressed = (uses.type != 0) & (uses.type != _PREALLOC_TYPE)
        span = np.where(compressed, ram_bytes, disk_length)[first]
        unreached = np.where(compressed[first], 0, span - _covered(uses, span))
        only = np.where(_any(elsewhere, extent, count), -1, uses.subvolume[first])
        return uses, Extents(logical, disk_length[first], ram_bytes[first], np.maximum(unreached, 0), only)

    def links_of(self, number: int) -> Links:
        """Return every name of every inode of subvolume *number*, an index."""
        rows = self.census.row_numbers(self._links, number)
        return Links._make(column[rows] for column in self._links.rows)

    def inlines_of(self, number: int) -> Inlines:
        """Return the inline file extents of subvolume *number*, an index, those of symlinks among them."""
        rows = self.census.row_numbers(self._inlines, number)
        return Inlines._make(column[rows] for column in self._inlines.rows)

    def space(self, chosen: Bools | slice) -> Space:
        """Return what some of the uses take."""
        uses = Uses._make(column[chosen] for column in self.uses)
        shared = int(uses.length[uses.shared].sum())
        total = int(uses.length.sum())
        unreachable = int(self.extents.unreachable[np.unique(uses.extent)].sum())
        return Space(total, total - shared, union(uses.logical[uses.shared], uses.length[uses.shared]), unreachable)

    def freed_by(self, subvolumes: Collection[int]) -> int:
        """Return the bytes of data extents that no other subvolume than those of these ids uses.

        That is what deleting them all gives back, metadata not counted. Unknown ids free nothing.
        """
        kept = ~np.isin(np.array(self.subvolumes, np.uint64), np.array(list(subvolumes), np.uint64))
        needed = _any(kept[self.uses.subvolume], self.uses.extent, len(self.extents.logical))
        return int(self.extents.length[~needed].sum())

    def freed_by_each(self) -> Ints:
        """Return ``freed_by`` of every subvolume alone, in their order."""
        alone = self.extents.only_user >= 0
        freed = np.zeros(len(self.subvolumes), np.int64)
        np.add.at(freed, self.extents.only_user[alone], self.extents.length[alone])
        return freed


def _columns(number: int, rows: Any) -> dict[str, NDArray[Any]]:
    kind = np.where(rows.kind == PREALLOC, _PREALLOC_TYPE, rows.compression).astype(np.uint8)
    return {
        "subvolume": np.full(rows.rows, number, np.int64),
        "inode": rows.inode,
        "length": rows.length,
        "logical": rows.logical,
        "skipped": rows.extent_offset,
        "type": np.where((rows.kind == COMPRESSED) | (rows.kind == PREALLOC), kind, 0).astype(np.uint8),
        "address": rows.extent_logical,
        "disk_length": rows.extent_length,
        "ram_bytes": rows.ram_bytes,
        "origin": rows.offset - rows.extent_offset,
    }


def _any(true: Bools, group: Ints, count: int) -> Bools:
    """Return for each of *count* groups whether one of its rows is *true*."""
    found = np.zeros(count, np.bool_)
    found[group[true]] = True
    return found


def _covered(uses: Uses, span: Ints) -> Ints:
    """Return how many bytes of each extent, which is *span* long, some file extent uses."""
    span = np.minimum(span, _LONGEST)
    base = np.cumsum(span) - span
    start = np.minimum(uses.skipped, span[uses.extent])
    end = np.minimum(start + np.minimum(uses.length, _LONGEST), span[uses.extent])
    order = np.argsort(base[uses.extent] + start, kind="stable")
    extent = uses.extent[order]
    start, end = (base[uses.extent] + start)[order], (base[uses.extent] + end)[order]
    reached = np.maximum.accumulate(np.append(0, end))[:-1]
    covered = np.zeros(len(span), np.int64)
    np.add.at(covered, extent, np.maximum(end - np.maximum(start, reached), 0))
    return covered


def union(start: Ints, length: Ints) -> int:
    """Return how many bytes lie in at least one of the ranges."""
    order = np.argsort(start, kind="stable")
    start = start[order]
    end = start + np.minimum(length[order], _LONGEST)
    reached = np.maximum.accumulate(np.append(0, end))[:-1]
    return int(np.maximum(end - np.maximum(start, reached), 0).sum())


def _inlines(batch: LeafBatch) -> tuple[LeafBatch, Inlines]:
    items = batch.of_type(ItemType.EXTENT_DATA)
    items = items.take(items.size >= FileExtentInline.SIZE)
    record = items.records(FileExtentInline)
    inline = (record["type"] == FileExtentType.INLINE) & (record["compression"] < _PREALLOC_TYPE)
    items, record = items.take(inline), record[inline]
    stored = items.size - FileExtentInline.SIZE
    return items, Inlines(items.objectid, stored, record["ram_bytes"].view(np.int64), record["compression"])


def _links(batch: LeafBatch, bad: Report) -> tuple[LeafBatch, Links]:
    plain = split(batch.of_type(ItemType.INODE_REF), size_by_fields(InodeRef, "name_len"), bad)
    extended = split(batch.of_type(ItemType.INODE_EXTREF), size_by_fields(InodeExtref, "name_len"), bad)
    extended = extended._replace(offset=extended.records(InodeExtref)["parent_objectid"])
    order = np.argsort(np.concatenate([plain.leaf, extended.leaf]), kind="stable")
    columns: Iterator[tuple[NDArray[Any], NDArray[Any]]] = zip(plain.columns, extended.columns, strict=True)
    both = batch.with_columns(np.concatenate(pair)[order] for pair in columns)
    return both, Links(both.objectid, both.offset)
