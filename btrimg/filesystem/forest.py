"""All trees of a filesystem, found as far as the root tree can be read."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from btrimg.errors import BlockError, CorruptError, ItemError
from btrimg.filesystem.image import chunk_tree_pointer, log_root_pointer, root_item, root_pointer, root_tree_pointer
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.trees.salvage import fault_of, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.image import Image
    from btrimg.ondisk.blocks import Key
    from btrimg.ondisk.roots import RootItem
    from btrimg.trees.block import Block, Pointer
    from btrimg.trees.tree import Report


class Root(NamedTuple):
    """The root of one tree; of a snapshot or reloc tree, several have the same id."""

    id: int
    key: Key | None  #: of the root item, None where the superblock leads to it
    at: Pointer
    item: RootItem | None = None  #: None where the superblock leads to it


def superblock_roots(image: Image) -> Iterator[Root]:
    """Yield the trees that the superblock leads to: root tree, chunk tree and, if there is one, tree of log trees."""
    yield Root(TreeId.ROOT_TREE, None, root_tree_pointer(image.volume))
    yield Root(TreeId.CHUNK_TREE, None, chunk_tree_pointer(image.volume))
    if image.superblock.log_root:
        yield Root(TreeId.TREE_LOG, None, log_root_pointer(image.volume))


def item_roots(image: Image, bad: Report | None = None) -> Iterator[Root]:
    """Yield the trees that root items lead to, by key: those of the root tree, then log trees.

    Reads broken blocks of these two trees as well, and tells *bad* of them. Root items that make no sense are reported.
    """
    for root in superblock_roots(image):
        if root.id == TreeId.CHUNK_TREE:
            continue
        for _, found in walk(image.blocks, root.at, depth_first=True):
            fault = fault_of(found)
            if fault and bad:
                bad(CorruptError(fault))
            if not isinstance(found, BlockError) and not found.header.level:
                yield from _roots_in(image, found)


def _roots_in(image: Image, leaf: Block) -> Iterator[Root]:
    for slot in range(len(leaf)):
        key = leaf.key(slot)
        if key.type != ItemType.ROOT_ITEM:
            continue
        try:
            item = root_item(leaf.payload(slot))
        except CorruptError as error:
            image.report(error if isinstance(error, ItemError) else ItemError(leaf.header.bytenr, key, str(error)))
        else:
            yield Root(key.objectid, key, root_pointer(key.objectid, item), item)


def deleted_pointers(image: Image, root: Root) -> dict[int, int]:
    """Return how many pointers, from the first on, of which nodes lead to what a begun deletion of a tree has freed.

    By address of the node; none where no deletion has begun. A deletion goes through a tree in the order of its keys
    and leaves the nodes as they are; the root item says how far it came (fs/btrfs/extent-tree.c
    ``btrfs_drop_snapshot``): up to ``drop_progress``, a key in a node of level ``drop_level``.
    """
    item = root.item
    if item is None or not item.drop_progress.objectid or item.refs:
        return {}
    freed: dict[int, int] = {}
    key = (item.drop_progress.objectid, item.drop_progress.type, item.drop_progress.offset)
    at = root.at
    while at.level >= max(item.drop_level, 1):
        try:
            block = image.blocks.read(at)
        except BlockError as error:
            image.report(error)
            break
        keys = [slot[:3] for slot in block.slots]
        last = at.level <= item.drop_level
        freed[at.logical] = bisect_left(keys, key) if last else max(bisect_right(keys, key) - 1, 0)
        if last or freed[at.logical] == len(keys):
            break
        at = block.child(freed[at.logical], at)
    return freed
