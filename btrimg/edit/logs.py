"""The log tree replayed into a commit, as the kernel does when it mounts; or forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.edit.editing import one_commit
from btrimg.edit.superblocks import changed_superblocks
from btrimg.errors import CorruptError, NotFoundError
from btrimg.filesystem.image import log_root_pointer
from btrimg.filesystem.logtree import logs_of, replay_logs
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import FileExtentType, ItemType, TreeId
from btrimg.ondisk.extents import FileExtent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.edit.editing import Editing
    from btrimg.filesystem.image import Image
    from btrimg.trees.block import Pointer
    from btrimg.trees.overlay import OverlayTree
    from btrimg.volume.draft import Piece
    from btrimg.write.transaction import Transaction


def forgotten_log(image: Image) -> Iterator[Piece]:
    """Yield what is to be written for the log tree to be forgotten: what was fsynced after the last commit is lost.

    Raises NotFoundError when there is none.
    """
    _require_log(image)
    return changed_superblocks(image, lambda superblock: superblock.replace(log_root=0, log_root_level=0))


def replay_log(session: Editing) -> None:
    """Make what the log tree holds part of the filesystem, by a commit, after which there is no log tree.

    What it unlinked becomes an orphan, which the kernel deletes when it mounts. Raises NotFoundError when there is no
    log tree, CorruptError when it cannot be replayed: nothing has changed then.
    """
    image = session.image
    _require_log(image)
    logs = list(logs_of(image))
    blocks = [
        *_blocks(image, log_root_pointer(image.volume)),
        *(each for _, log in logs for each in _blocks(image, log.root)),
    ]
    with one_commit(session, log_root=0, log_root_level=0) as txn:
        for logical in blocks:  # until the commit, they are what the last state needs
            txn.space.hold(logical, txn.volume.nodesize)
        changed: list[OverlayTree] = []

        def overlay(tree_id: int) -> OverlayTree:
            tree = txn.tree(tree_id)
            if tree_id != TreeId.CSUM_TREE and tree not in changed:
                changed.append(tree)
            return tree

        replay_logs(image, logs, overlay)
        for tree in changed:
            _take_extents(txn, tree)


def _require_log(image: Image) -> None:
    if not image.superblock.log_root:
        raise NotFoundError("there is no log tree: the last commit has all that was written")


def _blocks(image: Image, root: Pointer) -> Iterator[int]:
    """Yield the address of every block of a tree."""
    pending = [root]
    while pending:
        pointer = pending.pop()
        yield pointer.logical
        if pointer.level:
            block = image.blocks.read(pointer)
            pending += block.children(range(len(block)), pointer)


def _take_extents(txn: Transaction, tree: OverlayTree) -> None:
    """Take the data extents that the changes of a subvolume use and that no commit has told of yet."""
    extents = txn.tree(TreeId.EXTENT_TREE)
    for key, payload in tree.changes():
        if key.type != ItemType.EXTENT_DATA or payload is None or len(payload) < FileExtent.SIZE:
            continue
        extent = FileExtent.unpack(payload)
        logical, length = extent.disk_bytenr, extent.disk_num_bytes
        if extent.type == FileExtentType.INLINE or not logical or logical in txn.refs.data:
            continue
        if extents.find(Key(logical, ItemType.EXTENT_ITEM, length)) is None:
            try:
                txn.space.allocate_data(length, at=logical)
            except (ValueError, CorruptError):
                raise CorruptError(
                    f"the log tree has an extent of {length} bytes at {logical}, which cannot be"
                ) from None
            txn.refs.new_data_extent(logical, length)
