"""What must hold of an item by the type of its key alone: one table, applied to all items of many leaves at once.

Kernel: fs/btrfs/tree-checker.c, the functions named by ``check_leaf_item``; of types that it does not look at, what
fs/btrfs writes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from btrimg.ondisk import chunks, inodes, roots
from btrimg.ondisk.constants import (
    DEV_ITEMS_OBJECTID,
    FIRST_CHUNK_TREE_OBJECTID,
    MAX_LEVEL,
    U64_MAX,
    ItemType,
    TreeId,
)
from btrimg.ondisk.extents import ExtentDataRef, ExtentItem, FileExtent, FileExtentInline, SharedDataRef
from btrimg.ondisk.items import ITEM_KINDS
from btrimg.trees.block import is_subvolume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from btrimg.trees.scan import LeafBatch

    Kinds = NDArray[np.intp]
    Numbers = NDArray[np.uint64]

_SIZES = 512  # payloads of this size or more are judged one by one
_NO_LIMIT = 1 << 32  # more bytes than any payload has


class Law(NamedTuple):
    """What must hold of the key and the size of an item of one type."""

    least: int = 0  #: bytes of payload
    most: int = _NO_LIMIT
    step: int = 1  #: what bytes there are beyond *least* are a multiple of it
    objectid: tuple[int, int] = (0, U64_MAX)  #: least and greatest
    offset: tuple[int, int] = (0, U64_MAX)
    aligned: Sequence[str] = ()  #: which of "objectid" and "offset" are multiples of the sector size


def _exactly(size: int, **more: object) -> Law:
    return Law(size, size, **more)  # type: ignore[arg-type]


_INODE = (TreeId.FIRST_FREE, TreeId.LAST_FREE)
_ADDRESS, _START, _RANGE = ("objectid",), ("offset",), ("objectid", "offset")
_ZERO = (0, 0)
_NAME = 1  # of the shortest name


def laws(csum_size: int) -> dict[int, Law]:
    """Return the law for each type of item that there is one for."""
    one_dir_item, uuid = inodes.DirItem.SIZE + _NAME, roots.UuidSubvolume.SIZE
    chunk, stripe = chunks.Chunk.SIZE, chunks.Stripe.SIZE
    legacy, root = roots.LEGACY_ROOT_ITEM_SIZE, roots.RootItem.SIZE
    return {
        ItemType.UNTYPED: _exactly(chunks.FreeSpaceHeader.SIZE, objectid=(TreeId.FREE_INO, TreeId.FREE_SPACE)),
        ItemType.INODE_ITEM: _exactly(inodes.InodeItem.SIZE, objectid=_INODE, offset=_ZERO),
        ItemType.INODE_REF: Law(inodes.InodeRef.SIZE + _NAME, objectid=_INODE),
        ItemType.INODE_EXTREF: Law(inodes.InodeExtref.SIZE + _NAME, objectid=_INODE),
        ItemType.XATTR_ITEM: Law(one_dir_item, objectid=_INODE),
        ItemType.ORPHAN_ITEM: _exactly(0, objectid=(TreeId.ORPHAN,) * 2),
        ItemType.DIR_LOG_ITEM: _exactly(inodes.DirLogItem.SIZE, objectid=_INODE),
        ItemType.DIR_LOG_INDEX: _exactly(inodes.DirLogItem.SIZE, objectid=_INODE),
        ItemType.DIR_ITEM: Law(one_dir_item, objectid=_INODE),
        ItemType.DIR_INDEX: Law(one_dir_item, objectid=_INODE),
        ItemType.EXTENT_DATA: Law(FileExtentInline.SIZE, objectid=_INODE, aligned=_START),
        ItemType.EXTENT_CSUM: Law(csum_size, step=csum_size, objectid=(TreeId.EXTENT_CSUM,) * 2, aligned=_START),
        ItemType.ROOT_ITEM: Law(legacy, root, root - legacy, objectid=(1, U64_MAX)),
        ItemType.ROOT_BACKREF: Law(roots.RootRef.SIZE + _NAME),
        ItemType.ROOT_REF: Law(roots.RootRef.SIZE + _NAME),
        ItemType.EXTENT_ITEM: Law(ExtentItem.SIZE, aligned=_RANGE),
        ItemType.METADATA_ITEM: Law(ExtentItem.SIZE, offset=(0, MAX_LEVEL - 1), aligned=_ADDRESS),
        ItemType.TREE_BLOCK_REF: _exactly(0, aligned=_ADDRESS),
        ItemType.EXTENT_DATA_REF: Law(ExtentDataRef.SIZE, step=ExtentDataRef.SIZE, aligned=_ADDRESS),
        ItemType.SHARED_BLOCK_REF: _exactly(0, aligned=_RANGE),
        ItemType.SHARED_DATA_REF: _exactly(SharedDataRef.SIZE, aligned=_RANGE),
        ItemType.BLOCK_GROUP_ITEM: _exactly(chunks.BlockGroupItem.SIZE, aligned=_RANGE),
        ItemType.FREE_SPACE_INFO: _exactly(chunks.FreeSpaceInfo.SIZE, aligned=_RANGE),
        ItemType.FREE_SPACE_EXTENT: _exactly(0, aligned=_RANGE),
        ItemType.FREE_SPACE_BITMAP: Law(1, aligned=_RANGE),
        ItemType.DEV_EXTENT: _exactly(chunks.DevExtent.SIZE, aligned=_START),
        ItemType.DEV_ITEM: _exactly(chunks.DevItem.SIZE, objectid=(DEV_ITEMS_OBJECTID,) * 2),
        ItemType.CHUNK_ITEM: Law(
            chunk + stripe, step=stripe, objectid=(FIRST_CHUNK_TREE_OBJECTID,) * 2, aligned=_START
        ),
        ItemType.RAID_STRIPE: Law(chunks.RaidStride.SIZE, step=chunks.RaidStride.SIZE, aligned=_RANGE),
        ItemType.QGROUP_STATUS: Law(32, roots.QgroupStatus.SIZE, 8, objectid=_ZERO, offset=_ZERO),
        ItemType.QGROUP_INFO: _exactly(roots.QgroupInfo.SIZE, objectid=_ZERO),
        ItemType.QGROUP_LIMIT: _exactly(roots.QgroupLimit.SIZE, objectid=_ZERO),
        ItemType.QGROUP_RELATION: _exactly(0),
        # A balance, or a change of checksums, which has no payload.
        ItemType.TEMPORARY_ITEM: Law(0, chunks.BalanceItem.SIZE, chunks.BalanceItem.SIZE),
        ItemType.PERSISTENT_ITEM: Law(0, chunks.DevStats.SIZE, 8, objectid=_ZERO),
        ItemType.DEV_REPLACE: _exactly(chunks.DevReplace.SIZE, objectid=_ZERO, offset=_ZERO),
        ItemType.UUID_KEY_SUBVOL: Law(uuid, step=uuid),
        ItemType.UUID_KEY_RECEIVED_SUBVOL: Law(uuid, step=uuid),
    }


class Bounds:
    """What numbers are in order, as arrays by type of key: from *least* to *most*, in steps."""

    def __init__(self, least: Sequence[int], most: Sequence[int], step: Sequence[int]) -> None:
        self._least, self._most, self._step = (np.array(each, np.uint64) for each in (least, most, step))
        self._span, self._in_steps = self._most - self._least, self._step > 1

    def broken(self, kind: Kinds, values: Numbers) -> NDArray[np.int64]:
        """Return the indexes of the *values* of items of that *kind* which are not in order."""
        beyond = values - self._least[kind]  # what is below the least wraps
        wrong = beyond > self._span[kind]
        some = np.flatnonzero(self._in_steps[kind])
        wrong[some] |= beyond[some] % self._step[kind[some]] != 0
        return np.flatnonzero(wrong)

    def zeros(self) -> tuple[Numbers, NDArray[np.bool_]]:
        """Return the bits that are 0 in every number that is in order, and of which types no other is not."""
        masks = np.where(self._least == 0, ~self._most | (self._step - np.uint64(1)), 0)
        powers = [values & (values - np.uint64(1)) == 0 for values in (self._most + np.uint64(1), self._step)]
        return np.where(powers[0] & powers[1], masks, 0), (self._least == 0) & powers[0] & powers[1]

    def unlimited(self) -> NDArray[np.bool_]:
        """Return of which types every large number is in order."""
        unlimited: NDArray[np.bool_] = (self._most == _NO_LIMIT) & ~self._in_steps
        return unlimited

    def within(self, kind: Kinds, values: Numbers) -> NDArray[np.bool_]:
        """Return which of the *values* are from least to most."""
        within: NDArray[np.bool_] = values - self._least[kind] <= self._span[kind]
        return within

    def nearest(self, kind: Kinds, values: Numbers) -> Numbers:
        """Return the nearest number at or below each of the *values* that is in order, else the least."""
        least = self._least[kind]
        beyond = np.clip(values, least, self._most[kind]) - least
        return least + beyond // self._step[kind] * self._step[kind]


# What may stand in which tree; trees of files share a row, and the last row is for trees that nobody knows.
_TREES = (*(tree for tree in TreeId if tree < TreeId.FIRST_FREE and tree != TreeId.ROOT_TREE_DIR), TreeId.TREE_LOG)
_UNKNOWN_TREE = len(_TREES)
STANDS_IN: NDArray[np.bool_] = np.zeros((len(_TREES) + 1, 256), np.bool_)
STANDS_IN[_UNKNOWN_TREE] = True
for _key_type, _kind in ITEM_KINDS.items():
    STANDS_IN[[_TREES.index(tree) for tree in _kind.trees], _key_type] = True
STANDS_IN[_TREES.index(TreeId.FS_TREE), ItemType.UNTYPED] = True  # caches of inode numbers, of old kernels
STANDS_IN[_TREES.index(TreeId.UUID_TREE), [ItemType.INODE_ITEM, ItemType.INODE_REF]] = True  # mkfs 4.x put them there


def row_of_tree(owner: int) -> int:
    """Return the row of ``STANDS_IN`` for leaves of a tree; reloc trees hold what the trees that they copy hold."""
    if is_subvolume(owner) or owner in (TreeId.DATA_RELOC_TREE, TreeId.TREE_RELOC):
        owner = TreeId.FS_TREE
    return _TREES.index(owner) if owner in _TREES else _UNKNOWN_TREE


class LawTable:
    """The laws as arrays by type of key."""

    def __init__(self, sectorsize: int, csum_size: int) -> None:
        known = laws(csum_size)
        each = [known.get(key_type, Law()) for key_type in range(256)]
        self.size = Bounds([law.least for law in each], [law.most for law in each], [law.step for law in each])
        self.objectid, self.offset = (
            Bounds(
                [getattr(law, name)[0] for law in each],
                [getattr(law, name)[1] for law in each],
                [sectorsize if name in law.aligned else 1 for law in each],
            )
            for name in _RANGE
        )
        inode = np.array([law.objectid == _INODE for law in each])
        self._zeros_of_objectid, told = self.objectid.zeros()
        self._zeros_of_offset, told_too = self.offset.zeros()
        self._suspects = self._make_suspects((told | inode) & told_too)

    def _make_suspects(self, told: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return by tree, type and size whether an item has to be looked at; *told* says whose keys masks judge."""
        kind, size = np.divmod(np.arange(256 * _SIZES), _SIZES)
        suspects = ~told[kind]
        suspects[self.size.broken(kind, size.astype(np.uint64))] = True
        by_type = suspects.reshape(256, _SIZES)
        by_type[:, -1] = ~self.size.unlimited() | ~told  # of this size or larger
        by_type[ItemType.EXTENT_DATA] = np.arange(_SIZES) != FileExtent.SIZE
        return (by_type | ~STANDS_IN[:, :, np.newaxis]).reshape(-1)

    def suspects(self, row: NDArray[np.intp], items: LeafBatch) -> NDArray[np.intp]:
        """Return the indexes of all *items* that break a law, and of some that do not; *row* is that of the tree.

        A few operations over all items spare many over most of them.
        """
        kind = items.key_type.astype(np.intp)
        suspect = self._suspects[(row * 256 + kind) * _SIZES + np.minimum(items.size, _SIZES - 1)]
        suspect |= items.objectid - np.uint64(_INODE[0]) > np.uint64(_INODE[1] - _INODE[0])
        zeros = items.objectid & self._zeros_of_objectid[kind] | items.offset & self._zeros_of_offset[kind]
        return np.flatnonzero(suspect | (zeros != 0))


@lru_cache(maxsize=1)
def law_table(sectorsize: int, csum_size: int) -> LawTable:
    """Return the laws of a volume; making the table takes 6 ms, and it is the same for most volumes."""
    return LawTable(sectorsize, csum_size)
