"""Items for the holes of files, which a filesystem without no-holes has."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from btrimg.filesystem.extents import row_of_item
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import FileExtentType, ItemType
from btrimg.ondisk.extents import FileExtent
from btrimg.ondisk.inodes import InodeItem
from btrimg.units import round_up

if TYPE_CHECKING:
    from collections.abc import Iterable

    from btrimg.trees.overlay import OverlayTree
    from btrimg.write.transaction import Transaction


def put_holes(txn: Transaction, subvolumes: Iterable[int]) -> None:
    """Put an item for every hole of every file of *subvolumes* that has none."""
    for tree_id in subvolumes:
        _put_holes_of(txn, txn.tree(tree_id))
        txn.flush(tree_id)


def _put_holes_of(txn: Transaction, tree: OverlayTree) -> None:
    ino = size = end = 0
    sectorsize = txn.volume.sectorsize
    for key, payload in tree.items():
        if key.type == ItemType.INODE_ITEM:
            _put_hole(txn, tree, ino, end, size)
            item = InodeItem.unpack(payload)
            ino, end = key.objectid, 0
            size = round_up(item.size, sectorsize) if stat.S_ISREG(item.mode) else 0
        elif key.type == ItemType.EXTENT_DATA and key.objectid == ino:
            _put_hole(txn, tree, ino, end, key.offset)
            end = round_up(row_of_item(key, payload).end, sectorsize)
    _put_hole(txn, tree, ino, end, size)


def _put_hole(txn: Transaction, tree: OverlayTree, ino: int, start: int, end: int) -> None:
    if start < end:
        length = end - start
        hole = FileExtent(txn.generation, length, 0, 0, 0, FileExtentType.REGULAR, 0, 0, 0, length)
        tree.put(Key(ino, ItemType.EXTENT_DATA, start), hole.pack())
