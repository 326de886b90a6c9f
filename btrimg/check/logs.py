"""Log trees: what data their files use, and whether there are checksums of it.

Replaying a log takes over file extents with their checksums, which stand in the log, or in the checksum tree where a
reflink was logged (fs/btrfs/tree-log.c ``replay_one_extent``). Of the same, check/main.c ``check_log_root`` of
btrfs-progs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.filesystem import leafrows
from btrimg.filesystem.columns import COMPRESSED, REGULAR
from btrimg.filesystem.forest import item_roots
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import InodeFlag, ItemType, TreeId
from btrimg.ondisk.inodes import InodeItem
from btrimg.trees.distinct import among

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from btrimg.check.makers import Scanned
    from btrimg.errors import CorruptError
    from btrimg.trees.leafbatch import LeafBatch
    from btrimg.volume.volume import Volume

    Ints = NDArray[np.int64]
    Truths = NDArray[np.bool_]

_END = 1 << 63  # addresses from here on are in no chunk


class LogExtents(NamedTuple):
    """File extents of log trees that have data on disk, one a row."""

    inode: NDArray[np.uint64]
    offset: Ints  #: in the file
    logical: Ints  #: of the bytes that checksums must cover: all of a compressed extent
    length: Ints  #: of these


class LogInodes(NamedTuple):
    """Inodes in log trees, one a row."""

    inode: NDArray[np.uint64]
    flags: NDArray[np.uint64]  #: InodeFlag


class LogSums(NamedTuple):
    """Ranges of data that have checksums in log trees, one a row."""

    logical: Ints
    length: Ints


def extents(batch: LeafBatch) -> tuple[LeafBatch, LogExtents]:
    """Return the file extents in leaves of log trees that are regular or compressed."""
    items, rows = leafrows.file_extents(_logged(batch, ItemType.EXTENT_DATA), _told_already)
    on_disk = np.isin(rows.kind, [REGULAR, COMPRESSED])
    items, rows = items.take(on_disk), rows.take(on_disk)
    packed = rows.kind == COMPRESSED
    logical = np.where(packed, rows.extent_logical, rows.logical)
    return items, LogExtents(rows.inode, rows.offset, logical, np.where(packed, rows.extent_length, rows.length))


def inodes(batch: LeafBatch) -> tuple[LeafBatch, LogInodes]:
    """Return the inode items in leaves of log trees."""
    items = _logged(batch, ItemType.INODE_ITEM)
    items = items.take(items.size >= InodeItem.SIZE)
    return items, LogInodes(items.objectid, items.records(InodeItem)["flags"].copy())


def sums_of(volume: Volume) -> Callable[[LeafBatch], tuple[LeafBatch, LogSums]]:
    """Return what returns the checksum items in leaves of log trees of *volume*."""

    def sums(batch: LeafBatch) -> tuple[LeafBatch, LogSums]:
        items = _logged(batch, ItemType.EXTENT_CSUM)
        items = items.take((items.objectid == TreeId.EXTENT_CSUM) & (items.offset < _END))
        return items, LogSums(items.offset.astype(np.int64), items.size // volume.csum.size * volume.sectorsize)

    return sums


def _logged(batch: LeafBatch, key_type: ItemType) -> LeafBatch:
    """Return the items of one type in leaves of log trees."""
    logs = batch.heads["owner"] == TreeId.TREE_LOG
    if not logs.any():  # as in nearly all batches
        return batch.take(np.empty(0, np.int64))
    return batch.take(np.flatnonzero((batch.key_type == key_type) & logs[batch.leaf - batch.first_leaf]))


def _told_already(_error: CorruptError) -> None:
    """Ignore what making the rows of ``file_extents`` reports."""


def log_data(scanned: Scanned) -> dict[str, NDArray[Any]]:
    """Return the columns of ``log_data``."""
    scan, tables = scanned.scan, scanned.tables
    csums = scanned.gathered["csums"]
    common = csums.different["logical"][csums.rows], csums.different["length"][csums.rows]
    parts = []
    for number, subvolume in _logs(scanned):
        leaves = scan.leaves_of(number)
        extent, inode, csum = (tables[f"log_{name}"] for name in ("extents", "inodes", "sums"))
        rows = [column[extent.rows_of(leaves)] for column in extent.rows]
        unsummed = inode.rows.flags[inode.rows_of(leaves)] & int(InodeFlag.NODATASUM) != 0
        files = inode.rows.inode[inode.rows_of(leaves)][~unsummed]
        kept = among(rows[0], files)
        found = LogExtents(*(column[kept] for column in rows))
        own = LogSums(*(column[csum.rows_of(leaves)] for column in csum.rows))
        covered = _covered(found, [(own.logical, own.length), common])
        parts.append((np.full(len(covered), subvolume, np.uint64), *found, covered))
    types = (np.uint64, np.uint64, np.int64, np.int64, np.int64, np.bool_)
    columns = [
        np.concatenate([np.empty(0, kind), *(part[place] for part in parts)]) for place, kind in enumerate(types)
    ]
    return dict(zip(("subvolume", "inode", "offset", "logical", "length", "checksummed"), columns, strict=True))


def _logs(scanned: Scanned) -> list[tuple[int, int]]:
    """Return the number of each log tree among those that were scanned, and whose log it is."""
    image = scanned.image
    if not image.superblock.log_root:
        return []
    logs = {root.at.logical: root.key.offset for root in item_roots(image) if root.id == TreeId.TREE_LOG and root.key}
    trees = enumerate(scanned.scan.trees)
    return [
        (number, logs[at.logical]) for number, (tree, at) in trees if tree == TreeId.TREE_LOG and at.logical in logs
    ]


def _covered(found: LogExtents, ranges: list[tuple[Any, Any]]) -> Truths:
    """Return which extents lie in the union of *ranges*, each (starts, lengths)."""
    start = np.concatenate([starts[starts < _END].astype(np.int64) for starts, _ in ranges])
    length = np.concatenate([lengths[starts < _END].astype(np.int64) for starts, lengths in ranges])
    order = np.argsort(start, kind="stable")
    start, end = start[order], np.maximum.accumulate((start + length)[order]) if len(start) else start
    first = np.flatnonzero(np.append(True, start[1:] > end[:-1])[: len(start)])  # of each run of ranges that touch
    end = np.append(end[first[1:] - 1], end[-1:])
    run = np.searchsorted(start[first], found.logical, "right") - 1
    inside: Truths = (run >= 0) & (np.append(end, 0)[run] >= found.logical + found.length)
    return inside
