"""Features switched on and off while nobody has the filesystem mounted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.edit.editing import one_commit
from btrimg.edit.holes import put_holes
from btrimg.edit.spacetree import build_space_tree, drop_space_tree
from btrimg.edit.wholetrees import delete_tree, new_tree
from btrimg.errors import NotFoundError, RefusedError
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import CompatRo, Incompat, ItemType, TreeId

if TYPE_CHECKING:
    from btrimg.edit.editing import Editing

ON, OFF, REBUILD = "on", "off", "rebuild"

_SPACE_TREE = CompatRo.FREE_SPACE_TREE | CompatRo.FREE_SPACE_TREE_VALID
_FLAGS_ON = {"extref": Incompat.EXTENDED_IREF, "skinny-metadata": Incompat.SKINNY_METADATA}

#: Why others cannot be switched.
_FIXED = {
    "mixed-bg": "data and metadata would have to change places; make a new filesystem, and copy",
    "raid56": "it goes with the profile of chunks; btrfs balance converts them",
    "raid1c34": "it goes with the profile of chunks; btrfs balance converts them",
    "zoned": "it says how the devices are written to; make a new filesystem, and copy",
    "quota": "its accounts are made by the kernel; btrfs quota enable and disable it",
    "simple-quota": "its accounts are made by the kernel; btrfs quota enable --simple",
    "compress-lzo": "the kernel sets it with the first extent that is compressed so",
    "compress-zstd": "the kernel sets it with the first extent that is compressed so",
    "default-subvol": "it goes with the default subvolume; see set-default",
    "metadata-uuid": "it goes with the fsid; see the verb metadata-uuid",
    "mixed-backref": "all filesystems since Linux 2.6.31 have it",
    "big-metadata": "it says that tree blocks may be larger than a page, and their size is fixed",
    "verity": "the kernel sets it with the first file that has fs-verity",
    "raid-stripe-tree": "the addresses of data go with it; make a new filesystem, and copy",
    "extent-tree-v2": "all trees go with it; make a new filesystem, and copy",
    "remap-tree": "the addresses of data go with it; make a new filesystem, and copy",
}

SWITCHED = ("no-holes", "block-group-tree", "free-space-tree", "space-cache-v1", *_FLAGS_ON)


def switch_feature(session: Editing, name: str, state: str) -> bool:
    """Let a feature be ON or OFF, or the free space tree be made anew (REBUILD); return whether it was otherwise.

    Raises NotFoundError when it is not known, RefusedError when it cannot be switched so.
    """
    if state == REBUILD and name != "free-space-tree":
        raise RefusedError(f"{name} cannot be made anew, only the free-space-tree can")
    if name in _FIXED:
        raise RefusedError(f"{name} cannot be switched: {_FIXED[name]}")
    if name not in SWITCHED:
        raise NotFoundError(f"no feature is called {name!r}; those that can be switched are {', '.join(SWITCHED)}")
    if state != REBUILD and is_on(session, name) == (state == ON):
        return False
    if name in _FLAGS_ON:
        _set_flag(session, name, state)
    elif name == "no-holes":
        _switch_no_holes(session, on=state == ON)
    elif name == "block-group-tree":
        _switch_block_group_tree(session, on=state == ON)
    elif name == "free-space-tree":
        if state == OFF:
            drop_space_tree(session, cache=False)
        else:
            build_space_tree(session)
    else:
        drop_space_tree(session, cache=state == ON)
    return True


def is_on(session: Editing, name: str) -> bool:
    """Return whether the filesystem has one of the features that can be switched."""
    superblock = session.image.superblock
    if name in _FLAGS_ON:
        return bool(superblock.incompat_flags & _FLAGS_ON[name])
    if name == "no-holes":
        return bool(superblock.incompat_flags & Incompat.NO_HOLES)
    if name == "block-group-tree":
        return bool(superblock.compat_ro_flags & CompatRo.BLOCK_GROUP_TREE)
    if name == "free-space-tree":
        return superblock.compat_ro_flags & _SPACE_TREE == _SPACE_TREE
    return bool(superblock.cache_generation) and not superblock.compat_ro_flags & CompatRo.FREE_SPACE_TREE


def _set_flag(session: Editing, name: str, state: str) -> None:
    """Allow items of a new form, beside which the old ones stay valid."""
    if state == OFF:
        raise RefusedError(f"{name} cannot be switched off: there may be items that nobody without it can read")
    with one_commit(session) as txn:
        txn.set_incompat(_FLAGS_ON[name])


def _switch_no_holes(session: Editing, *, on: bool) -> None:
    """Holes need items no longer, and those that are there stay valid; or all get one."""
    image = session.image
    flags = image.superblock.incompat_flags
    if on:
        with one_commit(session) as txn:
            txn.set_incompat(Incompat.NO_HOLES)
        return
    if image.superblock.compat_ro_flags & CompatRo.BLOCK_GROUP_TREE:
        raise RefusedError("the block group tree needs no-holes; switch that off first")
    with one_commit(session, incompat_flags=flags & ~Incompat.NO_HOLES) as txn:
        put_holes(txn, [each.id for each in image.subvolumes()])


def _switch_block_group_tree(session: Editing, *, on: bool) -> None:
    """Move the items of all block groups from the extent tree to a tree of their own, or back."""
    image = session.image
    flags = image.superblock.compat_ro_flags
    lacking = [name for name in ("free-space-tree", "no-holes") if on and not is_on(session, name)]
    if lacking:
        raise RefusedError(f"the block group tree needs {' and '.join(lacking)}; switch that on first")
    bit = CompatRo.BLOCK_GROUP_TREE
    with one_commit(session, compat_ro_flags=flags | bit if on else flags & ~bit) as txn:
        extents = txn.tree(TreeId.EXTENT_TREE)
        if on:
            delete_tree(txn, TreeId.BLOCK_GROUP_TREE)  # what an interrupted conversion may have left
        own = new_tree(txn, TreeId.BLOCK_GROUP_TREE) if on else txn.tree(TreeId.BLOCK_GROUP_TREE)
        source, target = (extents, own) if on else (own, extents)
        for chunk in txn.volume.chunk_map:
            key = Key(chunk.logical, ItemType.BLOCK_GROUP_ITEM, chunk.length)
            target.put(key, source.get(key))
            source.delete(key)
        if not on:
            delete_tree(txn, TreeId.BLOCK_GROUP_TREE)
