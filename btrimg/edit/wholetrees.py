"""Trees other than subvolumes, made and taken away whole."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import ExtentFlag, ItemType, TreeId
from btrimg.ondisk.extents import ExtentItem, TreeBlockInfo
from btrimg.ondisk.roots import RootItem
from btrimg.write.refs import Use

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.trees.overlay import OverlayTree
    from btrimg.write.transaction import Transaction

_REF = Struct("<BQ")  # type and tree of the first backref, which a block of such a tree has alone


def new_tree(txn: Transaction, tree_id: int) -> OverlayTree:
    """Return a new, empty tree, whose root item is like those of its kind."""
    like = txn.root_item(TreeId.DEV_TREE)
    item = RootItem.unpack(bytes(RootItem.SIZE)).replace(
        inode=like.inode, generation=txn.generation, generation_v2=txn.generation, refs=1
    )
    tree = txn.create_tree(tree_id)
    txn.tree(TreeId.ROOT_TREE).put(Key(tree_id, ItemType.ROOT_ITEM, 0), item.pack())
    return tree


def delete_tree(txn: Transaction, tree_id: int) -> None:
    """Delete a tree, if there is one; its blocks are found by the extent tree, so that it may be damaged."""
    if not txn.has_tree(tree_id):
        return
    for logical, level in list(_blocks_of(txn, tree_id)):
        txn.refs.use_block(logical, level, Use(ItemType.TREE_BLOCK_REF, tree_id), -1)
    txn.delete_tree(tree_id)


def _blocks_of(txn: Transaction, tree_id: int) -> Iterator[tuple[int, int]]:
    """Yield (logical, level) of the blocks that belong to a tree."""
    for key, payload in txn.tree(TreeId.EXTENT_TREE).items():
        if key.type not in (ItemType.METADATA_ITEM, ItemType.EXTENT_ITEM) or len(payload) < ExtentItem.SIZE:
            continue
        if not ExtentItem.unpack(payload).flags & ExtentFlag.TREE_BLOCK:
            continue
        at, level = ExtentItem.SIZE, key.offset
        if key.type == ItemType.EXTENT_ITEM:
            level = TreeBlockInfo.unpack(payload, at).level
            at += TreeBlockInfo.SIZE
        if len(payload) >= at + _REF.size and _REF.unpack_from(payload, at) == (ItemType.TREE_BLOCK_REF, tree_id):
            yield key.objectid, level
