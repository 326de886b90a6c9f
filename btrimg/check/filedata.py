"""File extents held against each other, their inodes and the checksums: which have to be looked at one by one.

Of most files every one is as it must be, begins where the one before ends and has checksums, and all together are as
long as the inode says, which is counted in :mod:`sums`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.check.sums import Sums, first_of_each, odd_ranges, slices, some_of
from btrimg.filesystem.columns import COMPRESSED, HOLE, INLINE, PREALLOC, REGULAR
from btrimg.filesystem.extents import OFFSET_MAX
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Header, Item
from btrimg.ondisk.constants import Incompat, InodeFlag
from btrimg.ondisk.extents import FileExtentInline
from btrimg.tables.relation import Relation, u64
from btrimg.trees.distinct import among, different, segments

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.ondisk.superblock import Superblock
    from btrimg.tables.leafscan import Gathered

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]
    Truths = NDArray[np.bool_]
    Columns = dict[str, NDArray[Any]]

ODD_SIZES = Relation(
    "odd_sizes",
    "256 inode numbers in which inodes count other bytes than their file extents have: these inodes are looked at one"
    " by one.",
    (u64("subvolume", "id"), u64("range", "inode number, divided by 256")),
)

_OF_EXTENTS = (
    *("inode", "offset", "length", "kind", "compression", "extent", "extent_length", "extent_offset", "ram_bytes"),
    *("generation", "inline_stored", "inline_ram_bytes"),
)
_OF_INODES = ("inode", "nbytes", "nlink", "mode", "flags")
COLUMNS = {*_OF_EXTENTS, *_OF_INODES}  #: of ``file_extents`` and ``inodes``, that must be there

_DIRECTORY, _REGULAR, _SYMLINK = 4, 8, 10  # upper bits of a mode


class FileData(NamedTuple):
    """What there is to look at."""

    extents: Gathered  #: those that rules may find fault with, alone or beside others
    odd_sizes: Columns


def file_data(
    extents: Gathered, inodes: Gathered, inodes_differ: Truths, csums: Gathered, superblock: Superblock
) -> FileData:
    """Return which file *extents* have to be looked at; of *inodes*, all that are linked, those that differ are judged.

    Without the feature NO_HOLES what is between them has to be known of every file, so all are kept.
    """
    if not superblock.incompat_flags & Incompat.NO_HOLES:
        kept = np.ones(len(extents.rows), np.bool_)
    else:
        extents = _by_file(extents)
        kept = _apart(extents, superblock.sectorsize) | _unlike_inodes(extents, inodes, inodes_differ)
        kept |= _odd_by_themselves(extents, superblock) | _unsummed(extents, csums)
    sums = Sums(1)
    places: list[Unsigned] = []
    for _, tree, column in slices(extents, ("inode", "kind", "length")):
        place = sums.place(tree, column["inode"] >> np.uint64(8))
        places.append(place)
        said = sums.said(place, column["inode"]) * column["length"].view(np.uint64)
        sums.subtract(0, place, column["kind"] != HOLE, said)
    for some, tree, column in slices(inodes, _OF_INODES):
        place, kind = sums.place(tree, column["inode"] >> np.uint64(8)), column["mode"] >> 12
        counted = inodes_differ[some] & ((kind == _REGULAR) | (kind == _SYMLINK)) & (column["nlink"] > 0)
        sums.add(0, place, counted, sums.said(place, column["inode"]) * column["nbytes"])
    kept |= np.concatenate([np.zeros(0, np.bool_), *map(sums.odd, places)])
    return FileData(some_of(extents, np.flatnonzero(kept)).in_order(), odd_ranges(sums, inodes, extents))


def _by_file(extents: Gathered) -> Gathered:
    """Return the same rows, those of a file together and in order, as in most trees they are."""
    inode, offset = (np.asarray(extents.different[name])[extents.rows] for name in ("inode", "offset"))
    order = np.arange(len(inode))
    for start, end in segments(extents.trees):
        some = slice(start, end)
        ino, at = inode[some], offset[some]
        if ((ino[1:] < ino[:-1]) | ((ino[1:] == ino[:-1]) & (at[1:] < at[:-1]))).any():
            order[some] = start + np.lexsort((at, ino))
    return extents._replace(rows=extents.rows[order])


def _apart(extents: Gathered, sector: int) -> Truths:
    """Return the rows of files in which one does not begin where the one before ends; inline data fills a sector."""
    inode, at, length, kind = (
        np.asarray(extents.different[name])[extents.rows] for name in ("inode", "offset", "length", "kind")
    )
    ending = at + np.where(kind == INLINE, (length + (sector - 1)) // sector * sector, length)
    first = first_of_each(extents.trees, inode)
    file = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(inode))))
    wrong = np.flatnonzero((at[1:] != ending[:-1]) & (file[1:] == file[:-1]))
    apart = np.zeros(len(first), np.bool_)
    apart[file[wrong]] = True
    return apart[file]


def _unlike_inodes(extents: Gathered, inodes: Gathered, inodes_differ: Truths) -> Truths:
    """Return which rows are of no inode, or of one that should have none like them, or none with checksums."""
    number, mode, flags = (np.asarray(inodes.different[name])[inodes.rows] for name in ("inode", "mode", "flags"))
    kind = mode >> 12
    special = inodes_differ & ((kind == _DIRECTORY) | (kind == _SYMLINK) | (flags & int(InodeFlag.NODATASUM) != 0))
    of_tree = {int(inodes.trees[start]): slice(start, end) for start, end in segments(inodes.trees)}
    inode = np.asarray(extents.different["inode"])
    found = np.ones(len(extents.rows), np.bool_)
    for start, end in segments(extents.trees):
        there = of_tree.get(int(extents.trees[start]))
        if there is not None:
            mine = inode[extents.rows[start:end]]
            found[start:end] = ~among(mine, number[there]) | among(mine, number[there][special[there]])
    return found


def _odd_by_themselves(extents: Gathered, superblock: Superblock) -> Truths:
    """Return which rows cannot be so, or are preallocated or of an extent that is preallocated somewhere."""
    found = np.empty(len(extents.rows), np.bool_)
    columns: Any = extents.different
    waiting = different(columns["extent"][columns["kind"] == PREALLOC].view(np.uint64))
    for some, _, column in slices(extents, _OF_EXTENTS):
        kind = column["kind"]
        odd = cannot_be(column, superblock.sectorsize, superblock.nodesize, superblock.generation) | (kind == PREALLOC)
        odd |= column["offset"] == OFFSET_MAX - column["length"]  # the last sector that a file can have
        if len(waiting):
            odd |= (kind == REGULAR) & among(column["extent"].view(np.uint64), waiting)
        found[some] = odd
    return found


def cannot_be(column: Any, sectorsize: int, nodesize: int, last: int) -> Truths:
    """Return which file extents have numbers that cannot be, by columns of ``file_extents``; *last* is a transid."""
    most_inline = min(sectorsize - 1, nodesize - Header.SIZE - Item.SIZE - FileExtentInline.SIZE)
    stored, ram = column["inline_stored"], column["inline_ram_bytes"]
    inline = (ram == 0) | (stored > most_inline) | (ram > sectorsize) | ((column["compression"] == 0) & (ram != stored))
    numbers = column["extent"] | column["extent_length"] | column["extent_offset"]
    numbers = numbers | column["length"] | column["ram_bytes"]
    found: Truths = np.where(column["kind"] == INLINE, inline, numbers % sectorsize != 0)
    found |= column["generation"] > last
    return found


def _unsummed(extents: Gathered, csums: Gathered) -> Truths:
    """Return which rows use data that have not all checksums; compressed extents are used whole."""
    logical, length = (np.asarray(csums.different[name])[csums.rows] for name in ("logical", "length"))
    start, end, before = _joined(logical, length.astype(np.uint64))
    found = np.empty(len(extents.rows), np.bool_)
    for some, _, column in slices(extents, ("kind", "extent", "extent_length", "extent_offset", "length")):
        whole = column["kind"] == COMPRESSED
        extent, skipped = column["extent"].view(np.uint64), column["extent_offset"].view(np.uint64)
        first = np.where(whole, extent, extent + skipped)
        length = np.where(whole, column["extent_length"], column["length"]).view(np.uint64)

        def summed(at: Unsigned) -> Unsigned:
            run = np.searchsorted(start, at, "right") - 1
            within: Unsigned = np.minimum(at, end[run]) - start[run]
            return np.where(run < 0, np.uint64(0), before[run] + within)

        used = whole | (column["kind"] == REGULAR)
        found[some] = used & (summed(first + length) - summed(first) != length if len(start) else True)
    return found


def _joined(logical: Unsigned, length: Unsigned) -> tuple[Unsigned, Unsigned, Unsigned]:
    """Return starts and ends of ranges in order, those that touch or overlap joined, and the bytes in those before."""
    order = np.argsort(logical, kind="stable")
    logical, ends = logical[order], np.maximum.accumulate((logical + length)[order])
    first = np.flatnonzero(np.append(True, logical[1:] > ends[:-1])[: len(logical)])
    start, end = logical[first], ends[np.append(first[1:], len(ends))[: len(first)] - 1]
    return start, end, np.cumsum(end - start) - (end - start)
