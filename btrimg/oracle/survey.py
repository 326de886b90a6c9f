"""What there is to compare in an image, by one scan of all its trees, and a choice spread evenly over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.errors import BtrimgError
from btrimg.filesystem.forest import item_roots, superblock_roots
from btrimg.filesystem.leafrows import LeafTable
from btrimg.filesystem.namei import paths_of
from btrimg.filesystem.walk import walk
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import MAX_LEVEL, ExtentFlag, InodeFlag, ItemType
from btrimg.ondisk.extents import ExtentItem
from btrimg.ondisk.inodes import InodeItem
from btrimg.trees.scan import Forest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeVar

    from numpy.typing import NDArray

    from btrimg.errors import CorruptError
    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode
    from btrimg.trees.leafbatch import LeafBatch

    Thing = TypeVar("Thing")
    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]

_S_IFMT = 0o170000


class Extents(NamedTuple):
    """Allocated extents, one per row."""

    logical: Unsigned
    length: Unsigned
    data: NDArray[np.bool_]  #: False for a tree block
    first: NDArray[np.bool_]  #: whether the item is the first of its leaf; True too where that is not known


class Inodes(NamedTuple):
    """Inodes, one per row."""

    inode: Unsigned
    mode: NDArray[np.uint32]
    flags: Unsigned


class Subject(NamedTuple):
    """An inode to be compared."""

    subvolume: int
    ino: int
    path: bytes  #: from the top-level subvolume


class Survey:
    """Tree blocks, extents and inodes of an image, without subvolumes whose deletion has begun to free blocks."""

    def __init__(self, image: Image) -> None:
        every = image.subvolumes()
        dropped = {each.id for each in every if not each.root.refs and each.root.drop_progress.objectid}
        roots = [root for root in (*superblock_roots(image), *item_roots(image)) if root.id not in dropped]
        self.dropped = len(dropped)  #: subvolumes that are left out
        self.unreadable = 0  #: tree blocks and items
        self.subvolumes = [each for each in every if each.root.refs]
        self._first = len(roots)
        trees = [*(root.at for root in roots), *(each.tree.root for each in self.subvolumes)]
        self._forest = Forest(image.blocks, trees, self._bad)
        nodesize = image.volume.nodesize
        self._extents = LeafTable(lambda batch: _extents(batch, nodesize))
        self._inodes = LeafTable(_inodes)
        for batch in self._forest.leaves():
            self._extents.add(batch)
            self._inodes.add(batch)
        self._extents.finish()
        self._inodes.finish()

    def _bad(self, _error: CorruptError) -> None:
        self.unreadable += 1

    def blocks(self) -> Unsigned:
        """Return the logical addresses of all tree blocks of all trees, log trees included, that can be read."""
        found = np.concatenate([self._forest.heads(level)["bytenr"] for level in range(MAX_LEVEL)])
        return np.unique(found[found != 0]).astype(np.uint64)

    def extents(self) -> Extents:
        """Return the allocated extents in order of address."""
        rows = self._extents.rows
        _, order = np.unique(rows.logical, return_index=True)
        return Extents(rows.logical[order], rows.length[order], rows.data[order], rows.first[order])

    def count(self, kind: int = 0, *, nocow: bool = False) -> int:
        """Return how many inodes there are, of all subvolumes together; of one *kind* (S_IFREG …) if that is given."""
        return sum(len(self._numbers(each, kind, nocow)) for each in range(len(self.subvolumes)))

    def pick(self, most: int | None, kind: int = 0, *, nocow: bool = False) -> Iterator[tuple[int, int]]:
        """Yield (subvolume, ino) of at most *most* inodes, spread evenly over all subvolumes; None for all."""
        chosen = spread(self.count(kind, nocow=nocow), most)
        before = 0
        for number, subvolume in enumerate(self.subvolumes):
            rows = self._numbers(number, kind, nocow)
            here = chosen[(chosen >= before) & (chosen < before + len(rows))] - before
            before += len(rows)
            for ino in self._inodes.rows.inode[rows[here]].tolist():
                yield subvolume.id, ino

    def _numbers(self, number: int, kind: int, nocow: bool) -> Ints:
        rows = self._inodes.rows_of(self._forest.leaves_of(self._first + number))
        if kind:
            rows = rows[self._inodes.rows.mode[rows] & _S_IFMT == kind]
        return rows[self._inodes.rows.flags[rows] & np.uint64(InodeFlag.NODATACOW) != 0] if nocow else rows


def _extents(batch: LeafBatch, nodesize: int) -> tuple[LeafBatch, Extents]:
    first = np.append(True, batch.leaf[1:] != batch.leaf[:-1])[: len(batch.leaf)]
    kept = (batch.key_type == ItemType.EXTENT_ITEM) | (batch.key_type == ItemType.METADATA_ITEM)
    kept &= batch.size >= ExtentItem.SIZE
    items = batch.take(kept)
    data = items.records(ExtentItem)["flags"] & int(ExtentFlag.DATA) != 0
    length = np.where(items.key_type == ItemType.METADATA_ITEM, nodesize, items.offset).astype(np.uint64)
    return items, Extents(items.objectid, length, data, first[kept])


def _inodes(batch: LeafBatch) -> tuple[LeafBatch, Inodes]:
    items = batch.of_type(ItemType.INODE_ITEM)
    items = items.take(items.size >= InodeItem.SIZE)
    record = items.records(InodeItem)
    return items, Inodes(items.objectid, record["mode"].copy(), record["flags"].copy())


def spread(count: int, most: int | None) -> Ints:
    """Return *most* of the numbers below *count*, spread evenly, the first and the last among them; None for all."""
    if most is None or most >= count:
        return np.arange(count)
    chosen: Ints = np.arange(most) * (count - 1) // max(most - 1, 1)
    return chosen


def some_of(things: Sequence[Thing], most: int | None) -> list[Thing]:
    """Return at most *most* of *things*, spread evenly."""
    return [things[number] for number in spread(len(things), most).tolist()]


def subjects_below(top: Inode) -> list[Subject]:
    """Return the inode *top* and, if it is a directory, all that is below it; one for each name."""
    prefix = paths_of(top.image, top.subvolume.id, top.ino)
    start = prefix[0].rstrip(b"/") if prefix else b""
    found = [Subject(top.subvolume.id, top.ino, start or b"/")]
    if top.is_directory:
        cut = len(top.path)
        inodes = (inode for inode in walk(top) if not inode.is_placeholder)
        found += (Subject(inode.subvolume.id, inode.ino, start + inode.path[cut:]) for inode in inodes)
    return found


def subject_of(image: Image, subvolume: int, ino: int) -> Subject | None:
    """Return an inode with its first path, None for one that hangs nowhere."""
    try:
        paths = paths_of(image, subvolume, ino)
    except BtrimgError:
        return None
    return Subject(subvolume, ino, paths[0]) if paths else None
