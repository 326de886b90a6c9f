"""The v1 space caches, which any commit but the kernel's makes invalid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.ondisk.blocks import Key
from btrimg.ondisk.chunks import FreeSpaceHeader
from btrimg.ondisk.constants import U64_MAX, FileExtentType, ItemType, TreeId
from btrimg.ondisk.extents import FileExtent
from btrimg.write.refs import Use

if TYPE_CHECKING:
    from btrimg.write.transaction import Transaction


def drop_space_caches(txn: Transaction) -> None:
    """Delete the v1 space caches: files of the root tree, with a head for each block group."""
    tree = txn.tree(TreeId.ROOT_TREE)
    first = Key(TreeId.FREE_SPACE, 0, 0)
    for key, payload in list(tree.items(first, first._replace(offset=U64_MAX))):
        tree.delete(key)
        ino = FreeSpaceHeader.unpack(payload).location.objectid
        for part, content in list(tree.items(Key(ino, 0, 0), Key(ino, 255, U64_MAX))):
            if part.type in (ItemType.INODE_ITEM, ItemType.EXTENT_DATA):
                tree.delete(part)
            if part.type == ItemType.EXTENT_DATA and len(content) >= FileExtent.SIZE:
                extent = FileExtent.unpack(content)
                if extent.type != FileExtentType.INLINE and extent.disk_bytenr:
                    start = (part.offset - extent.offset) & U64_MAX
                    use = Use(ItemType.EXTENT_DATA_REF, TreeId.ROOT_TREE, ino, start)
                    txn.refs.use_data(extent.disk_bytenr, extent.disk_num_bytes, use, -1)
