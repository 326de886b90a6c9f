"""Who uses how much: what files hold alone and share, and what deleting subvolumes would free.

All bytes are logical: a profile with two copies takes twice as much of the devices. File extents of subvolumes whose
deletion has begun to free blocks are not counted as uses.

Subvolumes are gone through one after the other, and what they share is kept by row of the leaves and by extent, so
that memory grows with what the image holds and not with the number of its snapshots.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from btrimg.errors import CorruptError
from btrimg.filesystem import leafrows
from btrimg.filesystem.leafrows import LeafTable
from btrimg.filesystem.leaves import FileTrees
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import FileExtentType
from btrimg.ondisk.extents import FileExtentInline

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from numpy.typing import NDArray

    from btrimg.filesystem.image import Image, Parent
    from btrimg.filesystem.strings import Strings
    from btrimg.trees.batches import Report
    from btrimg.trees.leafbatch import LeafBatch

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]
    Bools = NDArray[np.bool_]

TYPES = ("none", "zlib", "lzo", "zstd", "prealloc")  #: what compsize tells apart: Compression, and never written
PREALLOC_TYPE = TYPES.index("prealloc")
_LONGEST = 1 << 40  # more than any extent has; a lie in a file extent must not overflow sums
_NOBODY, _SEVERAL = -1, -2  # in the place of a subvolume


class FileExtents(NamedTuple):
    """File extents but holes, one row for each item, however many subvolumes share its leaf; lengths in bytes."""

    inode: Unsigned
    length: Ints  #: of the file; of inline data, uncompressed
    logical: Ints  #: where FIEMAP says they lie: for a compressed extent, at its start; 0 for inline data
    skipped: Ints  #: uncompressed bytes of the extent before those that are used
    origin: Ints  #: where in the file the extent's first byte would be
    extent: Ints  #: its logical address while leaves are read, then its index in ``Extents``; -1 for inline data
    disk_length: Ints  #: allocated, or stored inline
    ram_bytes: Ints  #: uncompressed length
    type: NDArray[np.uint8]  #: index into TYPES


class Extents(NamedTuple):
    """Extents that some file uses, one per row in order of logical address."""

    logical: Ints
    length: Ints  #: bytes allocated
    ram_bytes: Ints  #: uncompressed length
    compressed: Bools
    shared: Bools  #: whether several files, or one at several distances, use it: FIEMAP's flag
    only_user: Ints  #: the only subvolume that uses it, an index; negative where there are several or none


class Space(NamedTuple):
    """What ``btrfs filesystem du`` says of files, in bytes."""

    total: int  #: of file extents, holes and inline data left out
    exclusive: int  #: of these, in extents that nobody else uses
    set_shared: int  #: of the others' ranges, each counted once
    unreachable: int  #: allocated inside the extents used, but reachable through no file extent anywhere


class Freed(NamedTuple):
    """What deleting subvolumes would give back, in bytes."""

    data: int  #: of extents that no other subvolume uses
    metadata: int  #: of tree blocks that are part of no other subvolume


class Usage:
    """The file extents of all subvolumes, and who shares them with whom.

    What cannot be read is reported to *image* and left out. *done* is called with subvolumes and bytes got through.
    The names of files are there if they shall be *named*, and *text* is what is made of them before paths are.
    """

    def __init__(
        self,
        image: Image,
        done: Callable[[int, int], None] = lambda _subvolumes, _bytes: None,
        *,
        named: bool = False,
        text: Callable[[Strings], Strings] = lambda names: names,
    ) -> None:
        self._image, self._nodesize = image, image.volume.nodesize
        self.named, self.text = named, text
        self._extents = LeafTable(lambda batch: _file_extents(batch, image.report))
        self._entries = LeafTable(lambda batch: leafrows.entries(batch, image.report, named=named))
        self.trees = FileTrees(image)
        self.trees.fill(self._extents, self._entries)
        self.entries = self._entries.rows._replace(name=text(self._entries.rows.name))
        self.ids = [subvolume.id for subvolume in self.trees.subvolumes]  #: in order
        self.number_of = {subvolume: number for number, subvolume in enumerate(self.ids)}
        self.file_extents, self.extents = self._share(done)

    def _share(self, done: Callable[[int, int], None]) -> tuple[FileExtents, Extents]:
        """Give numbers to the extents, and find out who uses them."""
        rows = self._extents.rows
        data = np.flatnonzero(rows.extent)
        logical, first, number = np.unique(rows.extent[data], return_index=True, return_inverse=True)
        head = data[first]
        rows.extent[:] = -1
        rows.extent[data] = number
        found = _Sharing(len(logical), len(rows.inode))
        for subvolume in range(len(self.ids)):
            here = self.rows_of(subvolume)
            found.add(subvolume, here, rows)
            done(1, int(rows.length[here].sum()))
        compressed = (rows.type[head] != 0) & (rows.type[head] != PREALLOC_TYPE)
        self._used = found.used
        return rows, Extents(
            logical, rows.disk_length[head], rows.ram_bytes[head], compressed, found.shared, found.only_user
        )

    def rows_of(self, number: int) -> Ints:
        """Return the file extents of subvolume *number*, an index, as row numbers in order of inode."""
        return self.trees.row_numbers(self._extents, number)

    def entries_of(self, number: int) -> Ints:
        """Return the entries of the directories of subvolume *number* as row numbers, in order of directory."""
        return self.trees.row_numbers(self._entries, number)

    @cached_property
    def parents(self) -> list[Parent | None]:
        """Return where each subvolume hangs."""
        return [self._parent_of(subvolume) for subvolume in self.ids]

    def _parent_of(self, subvolume: int) -> Parent | None:
        try:
            return self._image.parent_of(subvolume)
        except CorruptError as error:
            self._image.report(error)
            return None

    @cached_property
    def unreachable(self) -> Ints:
        """Return for each extent how many bytes no file extent uses; none of compressed ones, which are read whole."""
        extents, rows = self.extents, self.file_extents
        span = np.where(extents.compressed, 0, extents.length)
        used = np.flatnonzero(self._used & (rows.extent >= 0))
        left = span - covered(rows.extent[used], rows.skipped[used], rows.length[used], span)
        return np.maximum(left, 0)

    def space_of(self, number: int) -> Space:
        """Return what all file extents of subvolume *number* take, those of files without a name too."""
        tally = Tally(self)
        tally.add(self.rows_of(number))
        return tally.space()

    def freed_by(self, subvolumes: Collection[int]) -> Freed:
        """Return what deleting all the subvolumes with these ids would free. Unknown ids free nothing."""
        deleted = np.isin(np.array(self.ids, np.uint64), np.array(list(subvolumes), np.uint64))
        if not deleted.any():
            return Freed(0, 0)
        needed = np.zeros(len(self.extents.logical), np.bool_)
        for number in np.flatnonzero(~deleted).tolist():
            extent = self.file_extents.extent[self.rows_of(number)]
            needed[extent[extent >= 0]] = True
        needed[self.extents.only_user == _NOBODY] = True
        blocks = self.trees.forest.own_blocks(np.where(deleted, 0, 1))
        return Freed(int(self.extents.length[~needed].sum()), blocks.get(0, 0) * self._nodesize)

    def freed_by_each(self) -> list[Freed]:
        """Return ``freed_by`` of every subvolume alone, in their order."""
        alone = self.extents.only_user >= 0
        data = np.zeros(len(self.ids), np.int64)
        np.add.at(data, self.extents.only_user[alone], self.extents.length[alone])
        blocks = self.trees.forest.own_blocks(np.arange(len(self.ids)))
        return [Freed(size, blocks.get(number, 0) * self._nodesize) for number, size in enumerate(data.tolist())]


class _Sharing:
    """Finds out subvolume by subvolume which extents several files use; see ``Extents`` for what is found."""

    def __init__(self, extents: int, rows: int) -> None:
        self.shared = np.zeros(extents, np.bool_)
        self.only_user = np.full(extents, _NOBODY, np.int64)
        self.used = np.zeros(rows, np.bool_)  #: by row of file extents
        self._inode = np.zeros(extents, np.uint64)  # of the first use, as the next one
        self._origin = np.zeros(extents, np.int64)

    def add(self, subvolume: int, numbers: Ints, rows: FileExtents) -> None:
        """Add the uses of one more subvolume, by the *numbers* of its *rows*."""
        self.used[numbers] = True
        numbers = numbers[rows.extent[numbers] >= 0]
        extent, inode, origin = rows.extent[numbers], rows.inode[numbers], rows.origin[numbers]
        new = np.flatnonzero(self.only_user[extent] == _NOBODY)[::-1]  # the first of equal ones is assigned last
        self.only_user[extent[new]] = subvolume
        self._inode[extent[new]] = inode[new]
        self._origin[extent[new]] = origin[new]
        elsewhere = self.only_user[extent] != subvolume
        other = elsewhere | (inode != self._inode[extent]) | (origin != self._origin[extent])
        self.shared[extent[other]] = True
        self.only_user[extent[elsewhere]] = _SEVERAL


class Tally:
    """Adds up what some files use."""

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._seen = np.zeros(len(usage.file_extents.inode), np.bool_)
        self._total = self._exclusive = 0

    def add(self, numbers: Ints) -> None:
        """Add file extents, by their row numbers; of one subvolume each once."""
        rows, extents = self._usage.file_extents, self._usage.extents
        numbers = numbers[rows.extent[numbers] >= 0]
        length = rows.length[numbers]
        self._total += int(length.sum())
        self._exclusive += int(length[~extents.shared[rows.extent[numbers]]].sum())
        self._seen[numbers] = True

    def space(self) -> Space:
        """Return the sums."""
        rows, extents = self._usage.file_extents, self._usage.extents
        seen = np.flatnonzero(self._seen)
        used = np.zeros(len(extents.logical), np.bool_)
        used[rows.extent[seen]] = True
        shared = seen[extents.shared[rows.extent[seen]]]
        set_shared = union(rows.logical[shared], rows.length[shared])
        return Space(self._total, self._exclusive, set_shared, int(self._usage.unreachable[used].sum()))


def covered(extent: Ints, skipped: Ints, length: Ints, span: Ints) -> Ints:
    """Return how many bytes of each extent, which is *span* long, the ranges given by the other columns cover."""
    span = np.minimum(span, _LONGEST)
    base = np.cumsum(span) - span
    start = np.minimum(skipped, span[extent])
    end = np.minimum(start + np.minimum(length, _LONGEST), span[extent])
    order = np.argsort(base[extent] + start, kind="stable")
    extent = extent[order]
    start, end = base[extent] + start[order], base[extent] + end[order]
    reached = np.maximum.accumulate(np.append(0, end))[:-1]
    found = np.zeros(len(span), np.int64)
    np.add.at(found, extent, np.maximum(end - np.maximum(start, reached), 0))
    return found


def union(start: Ints, length: Ints) -> int:
    """Return how many bytes lie in at least one of the ranges."""
    order = np.argsort(start, kind="stable")
    start = start[order]
    end = start + np.minimum(length[order], _LONGEST)
    reached = np.maximum.accumulate(np.append(0, end))[:-1]
    return int(np.maximum(end - np.maximum(start, reached), 0).sum())


def _file_extents(batch: LeafBatch, bad: Report) -> tuple[LeafBatch, FileExtents]:
    items, record, inline = leafrows.sound_file_extents(batch, bad)
    kept = np.flatnonzero(inline | (record["disk_bytenr"] != 0))
    items, record, inline = items.take(kept), record[kept], inline[kept]
    address, length, ram_bytes, skipped = (
        record[name].view(np.int64) for name in ("disk_bytenr", "num_bytes", "ram_bytes", "offset")
    )
    prealloc = ~inline & (record["type"] == FileExtentType.PREALLOC)
    compressed = ~prealloc & (record["compression"] != 0)
    return items, FileExtents(
        inode=items.objectid,
        length=np.where(inline, ram_bytes, length),
        logical=np.where(compressed, address, address + skipped),
        skipped=skipped,
        origin=items.offset.view(np.int64) - skipped,
        extent=address,
        disk_length=np.where(inline, items.size - FileExtentInline.SIZE, record["disk_num_bytes"].view(np.int64)),
        ram_bytes=ram_bytes,
        type=np.where(prealloc, PREALLOC_TYPE, record["compression"]).astype(np.uint8),
    )
