"""What stands in the trees of a new filesystem: the items that no part of the engine keeps by itself.

Chunks, device extents, block groups, free space and the records of tree blocks come with space and with the commit;
here are the devices, the directories, the trees' own root items and the uuid. Facts: what mkfs.btrfs 6.19 writes (the
tests hold both against each other), and fs/btrfs/ioctl.c ``create_subvol``.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from btrimg.ondisk.blocks import DiskKey, Key
from btrimg.ondisk.chunks import DevItem, DevStats
from btrimg.ondisk.constants import (
    DEV_ITEMS_OBJECTID,
    DEV_STATS_OBJECTID,
    U64_MAX,
    FileType,
    InodeFlag,
    ItemType,
    TreeId,
)
from btrimg.ondisk.csum import name_hash
from btrimg.ondisk.inodes import DirItem, InodeItem, InodeRef, Timespec
from btrimg.ondisk.roots import RootItem, UuidSubvolume, uuid_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.write.options import NewDevice, Options

_DIRECTORY = stat.S_IFDIR | 0o755
_NEVER = Timespec(0, 0)
_DEFAULT = b"default"


def trees_of(options: Options) -> list[int]:
    """Return the trees that a new filesystem has beside the root tree and the chunk tree."""
    trees = [TreeId.EXTENT_TREE, TreeId.DEV_TREE, TreeId.FS_TREE, TreeId.CSUM_TREE, TreeId.UUID_TREE]
    trees += [TreeId.FREE_SPACE_TREE] if options.free_space_tree else []
    trees += [TreeId.BLOCK_GROUP_TREE] if options.block_group_tree else []
    return [*trees, TreeId.DATA_RELOC_TREE]


def first_items(options: Options, generation: int, now: Timespec) -> Iterator[tuple[int, Key, bytes]]:
    """Yield (tree, key, payload) of the items of a new filesystem whose first transaction is *generation*."""
    for tree_id in trees_of(options):
        root = _root_item(tree_id, options, generation, now)
        yield TreeId.ROOT_TREE, Key(tree_id, ItemType.ROOT_ITEM, 0), root.pack()
    yield from _directory(TreeId.ROOT_TREE, TreeId.ROOT_TREE_DIR, options.nodesize, generation, now)
    yield from _default_subvolume(generation)
    for tree_id in (TreeId.FS_TREE, TreeId.DATA_RELOC_TREE):
        yield from _directory(tree_id, TreeId.FIRST_FREE, options.nodesize, generation, now)
    key = uuid_key(options.subvolume_uuid, ItemType.UUID_KEY_SUBVOL)
    yield TreeId.UUID_TREE, key, UuidSubvolume(TreeId.FS_TREE).pack()
    for device in options.devices:
        key = Key(DEV_ITEMS_OBJECTID, ItemType.DEV_ITEM, device.devid)
        yield TreeId.CHUNK_TREE, key, dev_item(device, options).pack()
        key = Key(DEV_STATS_OBJECTID, ItemType.PERSISTENT_ITEM, device.devid)
        yield TreeId.DEV_TREE, key, DevStats(0, 0, 0, 0, 0).pack()


def dev_item(device: NewDevice, options: Options) -> DevItem:
    """Return the item of a device of which nothing is allocated yet."""
    size = options.sectorsize
    return DevItem(device.devid, device.size, 0, size, size, size, 0, 0, 0, 0, 0, 0, device.uuid, options.fsid)


def _root_item(tree_id: int, options: Options, generation: int, now: Timespec) -> RootItem:
    """Return the root item of a tree whose blocks have no addresses yet: the commit fills in where they are."""
    is_files = tree_id in (TreeId.FS_TREE, TreeId.DATA_RELOC_TREE)
    item = RootItem.unpack(bytes(RootItem.SIZE)).replace(
        inode=_inode(_DIRECTORY, options.nodesize, 1, _NEVER).replace(
            transid=0, size=3, flags=InodeFlag.ROOT_ITEM_INIT if is_files else 0
        ),
        generation=generation,
        root_dirid=TreeId.FIRST_FREE if is_files else 0,
        refs=1,
        generation_v2=generation,
    )
    if tree_id != TreeId.FS_TREE:
        return item
    return item.replace(uuid=options.subvolume_uuid, ctransid=generation, otransid=generation, ctime=now, otime=now)


def _inode(mode: int, nbytes: int, generation: int, now: Timespec) -> InodeItem:
    return InodeItem(
        generation,
        generation,
        0,
        nbytes,
        0,
        1,
        0,
        0,
        mode,
        0,
        0,
        0,
        (0,) * 4,
        atime=now,
        ctime=now,
        mtime=now,
        otime=now,
    )


def _directory(
    tree_id: int, ino: int, nodesize: int, generation: int, now: Timespec
) -> Iterator[tuple[int, Key, bytes]]:
    """Yield the items of an empty directory that is its own parent."""
    yield tree_id, Key(ino, ItemType.INODE_ITEM, 0), _inode(_DIRECTORY, nodesize, generation, now).pack()
    yield tree_id, Key(ino, ItemType.INODE_REF, ino), InodeRef(0, 2, b"..").pack()


def _default_subvolume(generation: int) -> Iterator[tuple[int, Key, bytes]]:
    """Yield the entry ``default`` of the root tree's directory, which names what a plain mount shows, and its ref."""
    location = DiskKey(TreeId.FS_TREE, ItemType.ROOT_ITEM, U64_MAX)
    entry = DirItem(location, generation, 0, len(_DEFAULT), FileType.DIR, _DEFAULT, b"")
    yield TreeId.ROOT_TREE, Key(TreeId.ROOT_TREE_DIR, ItemType.DIR_ITEM, name_hash(_DEFAULT)), entry.pack()
    ref = InodeRef(0, len(_DEFAULT), _DEFAULT)
    yield TreeId.ROOT_TREE, Key(TreeId.FS_TREE, ItemType.INODE_REF, TreeId.ROOT_TREE_DIR), ref.pack()
