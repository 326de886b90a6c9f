"""The free space tree, built anew from the extent tree or taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.edit.editing import one_commit
from btrimg.edit.rechunk import edges_between, extents_between
from btrimg.edit.spacecaches import drop_space_caches
from btrimg.edit.wholetrees import delete_tree, new_tree
from btrimg.errors import RefusedError
from btrimg.ondisk.constants import CompatRo, TreeId
from btrimg.write.freespace import SpaceRecord

if TYPE_CHECKING:
    from btrimg.edit.editing import Editing

_BITS = CompatRo.FREE_SPACE_TREE | CompatRo.FREE_SPACE_TREE_VALID


def build_space_tree(session: Editing) -> None:
    """Let the filesystem have a free space tree that the extent tree agrees with, whatever it had before.

    A v1 space cache goes. Raises CorruptError when the extent tree cannot be read.
    """
    image = session.image
    with one_commit(session, compat_ro_flags=image.superblock.compat_ro_flags | _BITS, cache_generation=0) as txn:
        delete_tree(txn, TreeId.FREE_SPACE_TREE)
        tree = new_tree(txn, TreeId.FREE_SPACE_TREE)
        txn.rebuilt.add(TreeId.FREE_SPACE_TREE)
        for chunk in txn.volume.chunk_map:
            record = SpaceRecord(chunk.logical, chunk.length, txn.volume.sectorsize)
            record.update(tree, edges_between(chunk.logical, chunk.end, extents_between(txn, chunk.logical, chunk.end)))
        drop_space_caches(txn)


def drop_space_tree(session: Editing, *, cache: bool) -> None:
    """Let the filesystem have no free space tree, and no v1 space cache but an empty one, if *cache* asks for that.

    Raises RefusedError when a block group tree needs the tree.
    """
    image = session.image
    flags = image.superblock.compat_ro_flags
    if flags & CompatRo.BLOCK_GROUP_TREE:
        raise RefusedError("the block group tree needs the free space tree; switch that off first")
    # Kernels write a v1 cache where this is not 0; they take none for valid, because its generation is an old one.
    generation = 1 if cache else 0
    with one_commit(session, compat_ro_flags=flags & ~_BITS, cache_generation=generation) as txn:
        txn.rebuilt.add(TreeId.FREE_SPACE_TREE)
        delete_tree(txn, TreeId.FREE_SPACE_TREE)
        drop_space_caches(txn)
