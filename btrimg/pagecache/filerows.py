"""Files as the page cache sees them: what their pages are made of, for one file or all files of an image at once.

Both come as the same columns, so that a scheme of sharing is written once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.errors import BtrimgError, CorruptError
from btrimg.filesystem import columns, strings
from btrimg.filesystem.columns import COMPRESSED, HOLE, INLINE, KINDS, PREALLOC, ExtentColumns
from btrimg.filesystem.extents import OFFSET_MAX, ExtentRef
from btrimg.filesystem.inode import Inode
from btrimg.filesystem.treepaths import find
from btrimg.named import NamedTuple
from btrimg.pagecache.pages import PAGE, PAGE_SHIFT, REFUSALS
from btrimg.volume.places import PlaceMap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from btrimg.filesystem.extents import FileExtentRow
    from btrimg.filesystem.image import Image
    from btrimg.filesystem.leafrows import Inodes
    from btrimg.filesystem.strings import Strings

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]
    Codes = NDArray[np.uint8]
    Bools = NDArray[np.bool_]

SUBVOLUME_END = 1 << 46  #: ids stay below, so that they fit a key's space; the kernel's quota groups allow 2**48

_HOLE, _INLINE, _PREALLOC, _UNALIGNED, _DAMAGED = map(
    REFUSALS.index, ("hole", "inline", "prealloc", "unaligned", "damaged")
)


class FileTable(NamedTuple):
    """Regular files, one per row; every column but *paths* is of that length."""

    subvolume: Ints  #: id
    inode: Ints
    size: Ints
    flags: Ints  #: InodeFlag
    top: Ints  #: which of the tops it is below that were asked for, the first of several; 0 if none were
    path: Ints  #: number of the first name's path in *paths*; -1 without one, or where names were not asked for
    paths: Strings  #: from the top-level subvolume (``/sv/dir/file``)

    @property
    def rows(self) -> int:
        """Return the number of files."""
        return len(self.inode)

    @property
    def pages(self) -> Ints:
        """Return how many pages each file has."""
        return -(-self.size >> PAGE_SHIFT)


class PageRuns(NamedTuple):
    """Runs of pages that one file extent makes up, in order of file and page; every page is in exactly one."""

    file: Ints
    page: Ints  #: first page in the file
    pages: Ints  #: how many
    row: Ints  #: the file extent; -1 where several make up a page, or none does: only ``Inode.read`` knows its bytes
    refusal: Codes  #: index into REFUSALS: why no scheme could give them a key by where they lie; 0 if one could


class FileRows(NamedTuple):
    """Files, the file extents that they are made of, and the same by pages."""

    image: Image
    files: FileTable
    extents: ExtentColumns  #: with holes, in order of file and offset; where they lie (``copies`` …) is not filled in
    file: Ints  #: of each row of *extents*, the row of *files*
    runs: PageRuns
    complete: bool  #: False if something could not be read: what looks like a hole may be a lost item then
    inline: Strings  #: inline data as they are stored, in no order; empty unless they were asked for
    inline_of: Ints  #: of each file, the number of its inline data there; -1 where there are none

    def path_of(self, file: int) -> bytes | None:
        """Return the path of a file, None if it has none or names were not asked for."""
        number = int(self.files.path[file])
        return self.files.paths.decode(number) if number >= 0 else None

    def place_map(self) -> PlaceMap:
        """Return the chunks, to find where extents lie."""
        return PlaceMap(self.image.volume.chunk_map)


def of_inode(inode: Inode) -> FileRows:
    """Return the rows of one regular file; where it cannot be read whole, its pages are refused as damaged.

    Raises CorruptError when the inode item cannot be read or the id of the subvolume is out of all bounds.
    """
    subvolume, item = inode.subvolume.id, inode.item
    if subvolume >= SUBVOLUME_END:
        raise _no_such_id(subvolume)
    complete = True
    rows: list[FileExtentRow] = []
    try:
        rows = list(inode.extents(holes=True)) if item.size < OFFSET_MAX else []
    except BtrimgError:
        complete = False
    files = FileTable(
        subvolume=np.array([subvolume], np.int64),
        inode=np.array([inode.ino], np.uint64).view(np.int64),
        size=np.array([min(item.size, OFFSET_MAX)], np.int64),
        flags=np.array([item.flags], np.uint64).view(np.int64),
        top=np.zeros(1, np.int64),
        path=np.full(1, -1, np.int64),
        paths=strings.EMPTY,
    )
    extents = _columns_of(rows, inode)
    found = _rows_of(inode.image, files, extents, np.zeros(extents.rows, np.int64), complete=complete)
    inline = [row.inline for row in rows if row.inline is not None]
    return found._replace(inline=strings.of_list(inline), inline_of=found.inline_of + len(inline)) if inline else found


def of_image(image: Image, tops: Sequence[Inode] = (), *, named: bool = False, inline: bool = False) -> FileRows:
    """Return the rows of all regular files of all subvolumes, or of those below *tops*, in order of subvolume, inode.

    A top is a file or a directory of *image*; what hangs below a directory counts, subvolumes too. With *named* files
    have paths, with *inline* their inline data are kept. What cannot be read is reported to the image and skipped; a
    file of which something is lost has no rows then: its pages are refused as damaged, and its holes no zeros.
    """
    # Imported here: one file is opened without it.
    from btrimg.filesystem.census import Census
    from btrimg.pagecache.below import Below

    faults = image.faults
    census = Census(image, holes=True, pieces=False, inline=inline)
    numbers = {subvolume.id: number for number, subvolume in enumerate(census.subvolumes)}
    below = Below(image, census)
    for each in tops:
        below.add(each)
    tables, parts, owners = [_table(0, census.no_files())], [census.no_rows()], [np.empty(0, np.int64)]
    small = [np.empty(0, np.int64)]
    count = 0
    for subvolume in sorted(below.by_subvolume if tops else numbers):
        if subvolume >= SUBVOLUME_END:
            image.report(_no_such_id(subvolume))
            continue
        inodes, rows = census.files_of(numbers[subvolume]), census.rows_of(numbers[subvolume], named=named)
        top = below.top_of(subvolume, inodes.inode) if tops else np.zeros(len(inodes.inode), np.int64)
        inodes = inodes.take(top >= 0)
        file = find(inodes.inode, rows.inode)
        if (file < 0).any():
            rows, file = rows.take(file >= 0), file[file >= 0]
        tables.append(_table(subvolume, inodes)._replace(top=top[top >= 0]))
        parts.append(rows)
        owners.append(file + count)
        count += len(inodes.inode)
        if inline:
            owner, data = census.inline_of(numbers[subvolume])
            small.append(np.append(data, -1)[find(owner, inodes.inode)])
    extents, file = columns.concatenate(parts), np.concatenate(owners)
    files = FileTable._make([*map(np.concatenate, zip(*(table[:-1] for table in tables), strict=True)), extents.paths])
    files.path[file] = extents.path
    complete = image.faults == faults
    if not complete:
        hole = extents.kind == HOLE
        others = np.bincount(file[~hole], minlength=files.rows)
        lost = _incomplete(image, files, np.unique(file[hole]), others)
        extents, file = extents.take(~np.isin(file, lost)), file[~np.isin(file, lost)]
    found = _rows_of(image, files, extents, file, complete=complete)
    return found._replace(inline=census.inline, inline_of=np.concatenate(small)) if inline else found


def _incomplete(image: Image, files: FileTable, holed: Ints, others: Ints) -> list[int]:
    """Return which of the files with holes are not what they are by themselves: what was lost looks like a hole.

    *others* is how many rows each file has that are no holes.
    """
    lost = []
    columns = (holed, files.subvolume[holed], files.inode[holed].view(np.uint64), others[holed])
    for file, subvolume, ino, count in zip(*(column.tolist() for column in columns), strict=True):
        try:
            inode = Inode(image, image.subvolume(subvolume), ino)
            whole = sum(row.kind != "hole" for row in inode.extents()) == count
        except BtrimgError:
            whole = False
        if not whole:
            lost.append(file)
    return lost


def _no_such_id(subvolume: int) -> CorruptError:
    return CorruptError(f"subvolume {subvolume}: no kernel gives out such an id")


def _table(subvolume: int, inodes: Inodes) -> FileTable:
    count = len(inodes.inode)
    return FileTable(
        subvolume=np.full(count, subvolume, np.int64),
        inode=inodes.inode.view(np.int64),
        size=np.minimum(inodes.size, OFFSET_MAX).astype(np.int64),
        flags=inodes.flags.view(np.int64),
        top=np.zeros(count, np.int64),
        path=np.full(count, -1, np.int64),
        paths=strings.EMPTY,
    )


def _columns_of(rows: Sequence[FileExtentRow], inode: Inode) -> ExtentColumns:
    """Return the rows of one file as columns."""
    count = len(rows)
    none = ExtentRef(0, 0, 0, 0, 0)
    extent = np.array([row.extent or none for row in rows], np.uint64).reshape(count, len(none)).T
    return ExtentColumns(
        subvolume=np.full(count, inode.subvolume.id, np.uint64),
        inode=np.full(count, inode.ino, np.uint64),
        path=np.full(count, -1, np.int64),
        offset=np.array([row.offset for row in rows], np.int64),
        length=np.array([row.length for row in rows], np.int64),
        kind=np.array([KINDS.index(row.kind) for row in rows], np.uint8),
        compression=np.array([row.compression for row in rows], np.uint8),
        logical=np.array([row.logical or 0 for row in rows], np.int64),
        extent_logical=extent[0].view(np.int64),
        extent_length=extent[1].view(np.int64),
        extent_offset=extent[2].view(np.int64),
        ram_bytes=extent[3].view(np.int64),
        generation=extent[4],
        refs=np.zeros(count, np.int64),
        copies=np.zeros(count, np.uint8),
        devid=np.zeros((0, count), np.uint64),
        physical=np.zeros((0, count), np.int64),
        paths=strings.EMPTY,
    )


def _rows_of(image: Image, files: FileTable, extents: ExtentColumns, file: Ints, *, complete: bool) -> FileRows:
    runs = _page_runs(extents, file, files, image.volume.sectorsize)
    none = np.full(files.rows, -1, np.int64)
    return FileRows(image, files, extents, file, runs, complete, inline=strings.EMPTY, inline_of=none)


def _page_runs(extents: ExtentColumns, file: Ints, files: FileTable, sectorsize: int) -> PageRuns:
    """Return the runs of pages that the rows of *extents* make up alone, and of those in between.

    A row counts up to the end of the file; inline data up to the sector's, as in the kernel.
    """
    start, end = extents.offset, extents.offset + extents.length
    end = np.where(extents.kind == INLINE, -(-end // sectorsize) * sectorsize, end)
    overlapping = np.flatnonzero((file[1:] == file[:-1]) & (start[1:] < end[:-1]))
    damaged = files.size == OFFSET_MAX  # or more: no file can be as large
    damaged[file[overlapping]] = True
    total = files.pages
    first = -(-start >> PAGE_SHIFT)
    stop = np.where(end >= files.size[file], total[file], end >> PAGE_SHIFT)
    rows = np.flatnonzero((first < stop) & (first < total[file]) & ~damaged[file])
    first, stop, file = first[rows], np.minimum(stop, total[file])[rows], file[rows]
    runs = PageRuns(file, first, stop - first, rows, _refusals(extents.take(rows)))
    return _with_gaps(runs, total, damaged)


def _refusals(extents: ExtentColumns) -> Codes:
    """Return why the pages of rows have no key by where they lie."""
    kind = extents.kind
    packed = kind == COMPRESSED
    skipped = (extents.extent_offset - extents.offset) | extents.extent_logical
    beside = np.where(packed, skipped, extents.logical - extents.offset)
    aligned = (beside & (PAGE - 1)) == 0
    plain = [kind == HOLE, kind == INLINE, kind == PREALLOC, ~aligned]
    return np.select(plain, [_HOLE, _INLINE, _PREALLOC, _UNALIGNED], 0).astype(np.uint8)


def _with_gaps(runs: PageRuns, total: Ints, damaged: Bools) -> PageRuns:
    """Return *runs* and those of the pages of files that are in none, of files with *total* pages each."""
    stop = runs.page + runs.pages
    same = np.append(False, runs.file[1:] == runs.file[:-1])[: len(stop)]
    before = np.where(same, np.append(0, stop)[:-1], 0)
    reached = np.zeros(len(total), np.int64)
    np.maximum.at(reached, runs.file, stop)
    gaps, tails = np.flatnonzero(runs.page > before), np.flatnonzero(reached < total)
    if not len(gaps) and not len(tails):
        return runs
    file = np.concatenate([runs.file[gaps], tails])
    page = np.concatenate([before[gaps], reached[tails]])
    pages = np.concatenate([runs.page[gaps], total[tails]]) - page
    # Several rows make up one page at most: behind the end of a row there is another, or a hole's.
    refusal = np.where(damaged[file] | (pages > 1), _DAMAGED, _UNALIGNED).astype(np.uint8)
    more = PageRuns(file, page, pages, np.full(len(file), -1, np.int64), refusal)
    order = np.lexsort((np.append(runs.page, page), np.append(runs.file, file)))
    return PageRuns._make(np.concatenate([old, new])[order] for old, new in zip(list(runs), list(more), strict=True))
