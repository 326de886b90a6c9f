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
from btrimg.filesystem import columns, leafrows
from btrimg.filesystem.columns import INLINE, PREALLOC, REGULAR, ExtentColumns
from btrimg.filesystem.leafrows import LeafTable
from btrimg.filesystem.leaves import FileTrees
from btrimg.filesystem.treepaths import find, paths_of
from btrimg.ondisk.constants import STRIPE_LEN, TreeId
from btrimg.trees.batches import ranges
from btrimg.volume.places import PlaceMap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.leafrows import Inodes
    from btrimg.filesystem.strings import Strings

    Ints = NDArray[np.int64]


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

    With *holes* the inodes of regular files are kept, too, and with *inline* what stands in their items.
    """

    def __init__(self, image: Image, *, holes: bool, pieces: bool, inline: bool = False) -> None:
        self._image, self._holes = image, holes
        self._extents = LeafTable(lambda batch: leafrows.file_extents(batch, image.report))
        self._names = LeafTable(lambda batch: leafrows.names(batch, image.report))
        self._inodes = LeafTable(lambda batch: leafrows.inodes(batch, regular=holes))
        self._allocated = LeafTable(leafrows.data_extents)
        self._inline = LeafTable(leafrows.inline_data)
        roots = []
        try:
            roots.append(image.tree(TreeId.EXTENT_TREE).root)
        except (NotFoundError, CorruptError) as error:
            image.report(CorruptError(f"references of extents are not known: {error}"))
        self._trees = FileTrees(image, *roots)
        self.subvolumes = self._trees.subvolumes  #: in order of id
        tables: list[LeafTable[Any]] = [self._extents, self._names, self._inodes, self._allocated]
        self._trees.fill(*tables, *([self._inline] if inline else []))
        self._count_references(len(self.subvolumes) if roots else None)
        self._place(pieces)

    def _count_references(self, root: int | None) -> None:
        """Fill in the references that the extent tree counts; *root* is its number in the forest."""
        allocated = self._allocated.rows
        known = (
            self._allocated.rows_of(self._trees.forest.leaves_of(root)) if root is not None else np.empty(0, np.int64)
        )
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

    def no_files(self) -> Inodes:
        """Return columns of length 0."""
        return self._inodes.rows.take(slice(0))

    def files_of(self, number: int) -> Inodes:
        """Return the regular files of one subvolume, in order of inode; only with holes are they kept."""
        numbers = self._trees.row_numbers(self._inodes, number)
        return self._inodes.rows.take(numbers[_regular(self._inodes.rows.mode[numbers])])

    @property
    def inline(self) -> Strings:
        """Return inline data as they are stored; only those of a census that was to keep them."""
        return self._inline.rows.data

    def inline_of(self, number: int) -> tuple[NDArray[np.uint64], Ints]:
        """Return inodes of one subvolume, in order, and the number of the inline data of each."""
        numbers = self._trees.row_numbers(self._inline, number)
        return self._inline.rows.inode[numbers], numbers

    def parents_of(self, number: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return inodes of one subvolume and the directory of each: all pairs for which there is a name."""
        numbers = self._trees.row_numbers(self._names, number)
        return self._names.rows.inode[numbers], self._names.rows.parent[numbers]

    def rows_of(self, number: int, *, named: bool = True) -> ExtentColumns:
        """Return the rows of one subvolume; with paths, if *named*."""
        subvolume = self.subvolumes[number]
        inodes = self._trees.row_numbers(self._inodes, number)
        rows = self._extents.rows.take(self._trees.row_numbers(self._extents, number))
        rows = _without_symlinks(rows, self._inodes.rows, inodes)
        if self._holes:
            rows = _with_holes(rows, self._inodes.rows, inodes, self._image.volume.sectorsize)
        starts = np.flatnonzero(np.append(True, rows.inode[1:] != rows.inode[:-1])[: rows.rows])
        prefix = self._trees.path_of(number) if named else None
        if prefix is not None:
            taken = self._trees.row_numbers(self._names, number)
            path, paths = paths_of(rows.inode[starts], self._names.rows, taken, subvolume.root.root_dirid, prefix)
            per_file = np.diff(np.append(starts, rows.rows))
            rows = rows._replace(path=np.repeat(path, per_file), paths=paths)
        return rows._replace(subvolume=np.full(rows.rows, subvolume.id, np.uint64))


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
