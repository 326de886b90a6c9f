"""Every file extent of every subvolume, with paths and device offsets: the bulk path of ``Image.extents``.

All subvolumes and the extent tree are scanned as one forest. From every leaf, whatever the number of snapshots that
share it, the rows are taken once; a subvolume's rows are then gathered by the numbers of its leaves. There is no loop
over items, only over batches of leaves, subvolumes and levels of directories.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.errors import CorruptError, NotFoundError
from btrimg.filesystem import columns, leafrows, namei
from btrimg.filesystem.columns import INLINE, PREALLOC, REGULAR, ExtentColumns
from btrimg.filesystem.leafrows import LeafTable
from btrimg.filesystem.treepaths import find, paths_of
from btrimg.ondisk.blocks import KEY_MAX, KEY_MIN
from btrimg.ondisk.constants import STRIPE_LEN, TreeId
from btrimg.trees.batches import ranges
from btrimg.trees.overlay import OverlayTree
from btrimg.trees.scan import Forest, leaf_of
from btrimg.volume.places import PlaceMap

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.leafrows import Inodes, Names
    from btrimg.ondisk.blocks import Key
    from btrimg.trees.scan import LeafBatch
    from btrimg.trees.tree import Report

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]
    Table = LeafTable[Any]  # of rows with an ``inode``


_S_IFMT = 0o170000
_LONGEST_EXTENT = 1 << 30  # the kernel makes none above 256 MiB (fs/btrfs/inode.c __btrfs_prealloc_file_range)


def all_extents(image: Image, *, holes: bool = False, pieces: bool = False) -> ExtentColumns:
    """Return the file extents of all regular files of all subvolumes, one row per item.

    With *holes*, gaps between items and up to the end of the file come as rows too. With *pieces*, rows are cut so that
    each is contiguous on every copy; those of compressed extents stay whole. A file with several names has one row
    set, under the first. What cannot be read is reported to *image* and skipped.
    """
    return columns.concatenate(list(extents_by_subvolume(image, holes=holes, pieces=pieces)))


def extents_by_subvolume(image: Image, *, holes: bool = False, pieces: bool = False) -> Iterator[ExtentColumns]:
    """Yield the rows of :func:`all_extents` subvolume by subvolume, in order of id; at least once.

    A subvolume whose deletion has begun to free blocks is left out; one that hangs nowhere has files without paths.
    """
    census = Census(image, holes=holes, pieces=pieces)
    yield census.no_rows()
    for number in range(len(census.subvolumes)):
        yield census.rows_of(number)


class Census:
    """The rows of all leaves, and how subvolumes are made up of them.

    *further* tables are filled in the same scan. With *holes* the inodes of regular files are kept, too.
    """

    def __init__(self, image: Image, *, holes: bool, pieces: bool, further: Sequence[Table] = ()) -> None:
        #: in order of id, without those whose deletion has begun to free blocks
        self.subvolumes = [
            kept for kept in image.subvolumes() if kept.root.refs or not kept.root.drop_progress.objectid
        ]
        self._image, self._holes, self._further = image, holes, further
        self._extents = LeafTable(lambda batch: leafrows.file_extents(batch, image.report))
        self._names = LeafTable(lambda batch: leafrows.names(batch, image.report))
        self._inodes = LeafTable(lambda batch: leafrows.inodes(batch, regular=holes))
        self._allocated = LeafTable(leafrows.data_extents)
        # By subvolume, where the log was replayed: the inodes that it changed, and the number of a leaf of their items.
        self._changed: dict[int, tuple[Unsigned, int]] = {}
        self._leaves = (-1, np.empty(0, np.int64))  # of the subvolume asked for last
        roots = [subvolume.tree.root for subvolume in self.subvolumes]
        try:
            roots.append(image.tree(TreeId.EXTENT_TREE).root)
        except (NotFoundError, CorruptError) as error:
            image.report(CorruptError(f"references of extents are not known: {error}"))
        self._forest = Forest(image.blocks, roots, image.report)
        self._scan()
        self._count_references()
        self._place(pieces)

    def _scan(self) -> None:
        tables: tuple[Table, ...] = (self._extents, self._names, self._inodes, self._allocated, *self._further)
        for batch in self._batches():
            for table in tables:
                table.add(batch)
        for table in tables:
            table.finish()

    def _batches(self) -> Iterator[LeafBatch]:
        """Yield the leaves of all trees, and behind them one for the changes of each replayed log."""
        leaves = 0
        for batch in self._forest.leaves():
            leaves += batch.leaves
            yield batch
        for number, subvolume in enumerate(self.subvolumes):
            if isinstance(subvolume.tree, OverlayTree):
                changed = subvolume.tree.changed_objectids()
                self._changed[number] = (np.array(changed, np.uint64), leaves)
                yield leaf_of(_items_of(subvolume.tree, changed, self._image.report), leaves)
                leaves += 1

    def _count_references(self) -> None:
        """Fill in the references that the extent tree counts."""
        if len(self._forest.roots) == len(self.subvolumes):
            return
        allocated = self._allocated.rows
        known = self._allocated.rows_of(self._forest.leaves_of(len(self.subvolumes)))
        if not len(known):
            return
        rows = self._extents.rows
        found = find(allocated.logical[known].view(np.int64), rows.extent_logical)
        number = known[found]
        same = (found >= 0) & (allocated.length[number].view(np.int64) == rows.extent_length)
        rows.refs[same] = allocated.refs[number[same]]

    def _place(self, pieces: bool) -> None:
        """Fill in where the rows lie; with *pieces* cut them to what is contiguous first."""
        places = PlaceMap(self._image.volume.chunk_map)
        rows = self._extents.rows
        if pieces:
            counts, rows = cut_at_stripes(rows, places)
            self._extents.replace(rows, counts)
        found = places.locate(_address(rows))
        most = places.most_copies
        self._extents.rows = rows._replace(
            copies=found.copies, devid=found.devid[:most], physical=found.physical[:most]
        )

    def no_rows(self) -> ExtentColumns:
        """Return columns of length 0."""
        return self._extents.rows.take(slice(0))

    def rows_of(self, number: int) -> ExtentColumns:
        """Return the rows of one subvolume."""
        subvolume = self.subvolumes[number]
        rows = self.file_rows(number)
        if self._holes:
            inodes = self.row_numbers(self._inodes, number)
            rows = _with_holes(rows, self._inodes.rows, inodes, self._image.volume.sectorsize)
        starts = np.flatnonzero(np.append(True, rows.inode[1:] != rows.inode[:-1])[: rows.rows])
        prefix = self.path_of(number)
        if prefix is not None:
            names, taken = self.names_of(number)
            path, paths = paths_of(rows.inode[starts], names, taken, subvolume.root.root_dirid, prefix)
            per_file = np.diff(np.append(starts, rows.rows))
            rows = rows._replace(path=np.repeat(path, per_file), paths=paths)
        return rows._replace(subvolume=np.full(rows.rows, subvolume.id, np.uint64))

    def file_rows(self, number: int) -> ExtentColumns:
        """Return the rows of the items of one subvolume's regular files, without paths."""
        rows = self._extents.rows.take(self.row_numbers(self._extents, number))
        return _without_symlinks(rows, self._inodes.rows, self.row_numbers(self._inodes, number))

    def names_of(self, number: int) -> tuple[Names, Ints]:
        """Return the names of all subvolumes, and the numbers of those of one in key order."""
        return self._names.rows, self.row_numbers(self._names, number)

    def inodes_of(self, number: int) -> Inodes:
        """Return one subvolume's inodes in order."""
        kept = self.row_numbers(self._inodes, number)
        return type(self._inodes.rows)._make(column[kept] for column in self._inodes.rows)

    def row_numbers(self, table: Table, number: int) -> Ints:
        """Return the numbers of the rows of *table* that are subvolume *number*'s, in order of inode.

        Where the log was replayed, the inodes that it changed are not those of the leaves.
        """
        rows = table.rows_of(self._leaves_of(number))
        if number not in self._changed:
            return rows
        changed, leaf = self._changed[number]
        inode = table.rows.inode
        rows = np.concatenate([rows[find(changed, inode[rows]) < 0], table.rows_of(np.array([leaf]))])
        return rows[np.argsort(inode[rows], kind="stable")]

    def _leaves_of(self, number: int) -> Ints:
        if self._leaves[0] != number:
            self._leaves = (number, self._forest.leaves_of(number))
        return self._leaves[1]

    def path_of(self, number: int) -> bytes | None:
        """Return the path of a subvolume from the top-level one, None when it hangs nowhere."""
        try:
            return namei.path_of_subvolume(self._image, self.subvolumes[number].id)
        except CorruptError as error:
            self._image.report(error)
            return None


def _items_of(tree: OverlayTree, objectids: list[int], bad: Report) -> Iterator[tuple[Key, bytes]]:
    for objectid in objectids:
        yield from tree.items(KEY_MIN._replace(objectid=objectid), KEY_MAX._replace(objectid=objectid), bad=bad)


def _address(rows: ExtentColumns) -> NDArray[np.uint64]:
    """Return the logical address of every row, and one that is in no chunk where there is none."""
    return np.where(rows.extent_logical != 0, rows.logical, -1).view(np.uint64)


def cut_at_stripes(rows: ExtentColumns, places: PlaceMap) -> tuple[Ints, ExtentColumns]:
    """Return how many pieces each of *rows* becomes so that each is contiguous on every copy, and the pieces.

    A row that reaches out of its chunk, or is longer than any extent, stays whole: there is no telling into how many
    pieces it would fall.
    """
    first = places.locate(_address(rows)).contiguous
    cuttable = (first > 0) & (first < rows.length) & ((rows.kind == REGULAR) | (rows.kind == PREALLOC))
    cuttable &= rows.length <= np.minimum(places.ends(_address(rows)) - rows.logical, _LONGEST_EXTENT)
    counts = np.where(cuttable, 1 - (first - rows.length) // STRIPE_LEN, 1)
    number = ranges(np.zeros(len(counts), np.int64), counts)
    whole = np.repeat(np.arange(len(counts)), counts)
    done = np.where(number > 0, first[whole] + (number - 1) * STRIPE_LEN, 0)
    end = np.where(
        cuttable[whole], np.minimum(first[whole] + number * STRIPE_LEN, rows.length[whole]), rows.length[whole]
    )
    pieces = rows.take(whole)
    return counts, pieces._replace(
        offset=pieces.offset + done,
        length=end - done,
        logical=pieces.logical + done,
        extent_offset=pieces.extent_offset + done,
    )


def _without_symlinks(rows: ExtentColumns, inodes: Inodes, numbers: Ints) -> ExtentColumns:
    """Return the rows of regular files, and of inodes of which no item tells what they are."""
    other = inodes.inode[numbers[~_regular(inodes.mode[numbers])]]
    kept = find(other, rows.inode) < 0
    return rows if kept.all() else rows.take(kept)


def _with_holes(rows: ExtentColumns, inodes: Inodes, numbers: Ints, sectorsize: int) -> ExtentColumns:
    """Return *rows* and those of the gaps between them and up to the ends of the files."""
    numbers = numbers[_regular(inodes.mode[numbers])]
    end = rows.offset + rows.length
    end = np.where(rows.kind == INLINE, -(-end // sectorsize) * sectorsize, end)
    before = np.append(0, end)[:-1] * (np.append(False, rows.inode[1:] == rows.inode[:-1]))[: rows.rows]
    gaps = np.flatnonzero(rows.offset > before)
    inode, size = inodes.inode[numbers], inodes.size[numbers].view(np.int64)
    last = np.searchsorted(rows.inode, inode, "right") - 1
    reached = np.where((last >= 0) & (np.append(rows.inode, 0)[last] == inode), np.append(end, 0)[last], 0)
    tails = np.flatnonzero(reached < size)
    hole_inode = np.concatenate([rows.inode[gaps], inode[tails]])
    hole_start = np.concatenate([before[gaps], reached[tails]])
    hole_end = np.concatenate([rows.offset[gaps], size[tails]])
    both = columns.concatenate([rows, columns.holes(rows, hole_inode, hole_start, hole_end - hole_start)])
    return both.take(np.lexsort((both.offset, both.inode)))


def _regular(mode: NDArray[np.uint32]) -> NDArray[np.bool_]:
    regular: NDArray[np.bool_] = mode & _S_IFMT == stat.S_IFREG
    return regular
