"""All trees of a filesystem, found as far as the root tree can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from btrimg.errors import BlockError, CorruptError
from btrimg.filesystem.image import chunk_tree_pointer, log_root_pointer, root_item, root_pointer, root_tree_pointer
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.trees.salvage import fault_of, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.image import Image
    from btrimg.ondisk.blocks import Key
    from btrimg.trees.block import Block, Pointer
    from btrimg.trees.tree import Report


class Root(NamedTuple):
    """The root of one tree; of a snapshot or reloc tree, several have the same id."""

    id: int
    key: Key | None  #: of the root item, None where the superblock leads to it
    at: Pointer


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
            image.report(CorruptError(f"root item {tuple(key)}: {error}"))
        else:
            yield Root(key.objectid, key, root_pointer(key.objectid, item))
