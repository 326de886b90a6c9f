"""An opened filesystem: from the superblock to its trees and subvolumes."""

from __future__ import annotations

import os
import warnings

from btrimg.errors import BlockError, CorruptError, NotFoundError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.chunks import Chunk, DevItem
from btrimg.ondisk.constants import (
    DEV_ITEMS_OBJECTID,
    FIRST_CHUNK_TREE_OBJECTID,
    U64_MAX,
    ItemType,
    RootFlag,
    TreeId,
)
from btrimg.ondisk.inodes import DirItem
from btrimg.ondisk.items import records_of
from btrimg.ondisk.roots import RootItem, RootRef
from btrimg.trees.block import BlockReader, Pointer, is_subvolume
from btrimg.trees.tree import Tree
from btrimg.volume.device import Device
from btrimg.volume.volume import open_volume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

    from btrimg.filesystem.columns import ExtentColumns
    from btrimg.filesystem.csums import Csums
    from btrimg.filesystem.inode import Inode
    from btrimg.ondisk.superblock import Superblock
    from btrimg.volume.volume import Volume

    Path = str | os.PathLike[str]


class BtrimgWarning(UserWarning):
    """What is wrong with an image that could be read all the same."""


class Parent(NamedTuple):
    """Where a subvolume hangs: a name in a directory of another subvolume."""

    subvolume: int  #: id
    dirid: int  #: ino of the directory
    name: bytes


class Subvolume(NamedTuple):
    """A tree of files: the top-level subvolume (id 5), a subvolume or a snapshot."""

    id: int
    root: RootItem
    tree: Tree

    @property
    def read_only(self) -> bool:
        """Return whether the subvolume is a read-only one."""
        return bool(self.root.flags & RootFlag.SUBVOL_RDONLY)

    @property
    def has_tail(self) -> bool:
        """Return whether uuids and times of the root item are valid; an old kernel's writes leave them stale."""
        return self.root.generation_v2 == self.root.generation


def device_items(tree: Tree, bad: Callable[[CorruptError], None] | None = None) -> Iterator[tuple[int, DevItem]]:
    """Yield (devid, item) of every device that the chunk tree *tree* names.

    What cannot be read raises CorruptError; with *bad* it is handed to that and skipped.
    """
    first = Key(DEV_ITEMS_OBJECTID, ItemType.DEV_ITEM, 0)
    for key, payload in tree.items(first, first._replace(offset=U64_MAX), bad=bad):
        try:
            yield key.offset, DevItem.unpack(payload)
        except CorruptError as error:
            if bad is None:
                raise
            bad(error)


class ChunkTree:
    """The chunks of the chunk tree, one by one or all; a ``ChunkSource``."""

    def __init__(self, tree: Tree, bad: Callable[[CorruptError], None]) -> None:
        self._tree, self._bad = tree, bad

    def find(self, logical: int) -> tuple[int, Chunk] | None:
        """Return the last chunk that starts at or before *logical*.

        Raises CorruptError when the tree cannot be read there.
        """
        key = Key(FIRST_CHUNK_TREE_OBJECTID, ItemType.CHUNK_ITEM, logical)
        found = self._tree.floor(key)
        if found is None or found[0][:2] != key[:2]:
            return None
        return found[0].offset, Chunk.unpack(found[1])

    def all(self) -> Iterator[tuple[int, Chunk]]:
        """Yield all that can be read; what cannot is reported."""
        first = Key(FIRST_CHUNK_TREE_OBJECTID, ItemType.CHUNK_ITEM, 0)
        for key, payload in self._tree.items(first, first._replace(offset=U64_MAX), bad=self._bad):
            try:
                yield key.offset, Chunk.unpack(payload)
            except CorruptError as error:
                self._bad(error)


class Image:
    """An opened filesystem (context manager); *warn* of :func:`open_image` hears what was bad and got by."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.faults = 0  #: how often something was reported and skipped
        self._hear: Callable[[CorruptError], None] | None = None
        self.blocks = BlockReader(volume, volume.fsids)
        self._begin()

    def _begin(self) -> None:
        """Learn what the superblock leads to."""
        self.superblock = self.volume.superblock
        self._bootstrap()
        self.root_tree = Tree(self.blocks, root_tree_pointer(self.volume))
        self._subvolumes: dict[int, Subvolume] = {}
        self._trees: dict[int, Tree] = {}
        self._csums: Csums | None = None

    def follow(self, superblock: Superblock) -> None:
        """Read from now on the state that *superblock* leads to: what a commit on the same devices has written.

        Of a commit that failed, with the superblock that counts still, only the chunks are forgotten that it had made.
        Trees, subvolumes and inodes handed out before are those of the state before: what they lead to may be
        overwritten by the next commit.
        """
        self.volume.follow(superblock)
        self._begin()

    def _bootstrap(self) -> None:
        """Find the devices and chunks by the chunk tree, which the superblock's sys_chunk_array leads to."""
        tree = Tree(self.blocks, chunk_tree_pointer(self.volume))
        devices = [item for _, item in device_items(tree, self.report)]
        self.volume.adopt(ChunkTree(tree, self.report), devices)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the devices."""
        self.volume.close()

    def report(self, error: CorruptError) -> None:
        """Pass *error*, that something was skipped for, to whoever opened the image or listens."""
        self.faults += 1
        if self._hear:
            self._hear(error)
        else:
            self.volume.warn(str(error))

    def listen(self, hear: Callable[[CorruptError], None]) -> None:
        """Let *hear* have every error that is reported from now on, in the place of *warn*."""
        self._hear = hear

    @property
    def csums(self) -> Csums:
        """Return the stored checksums of data.

        Raises NotFoundError when the filesystem has no checksum tree.
        """
        if self._csums is None:
            from btrimg.filesystem.csums import Csums

            volume = self.volume
            self._csums = Csums(self.tree(TreeId.CSUM_TREE), volume.csum.size, volume.sectorsize)
        return self._csums

    def root_items(self, tree_id: int) -> Iterator[tuple[Key, RootItem]]:
        """Yield the root items of *tree_id*; a key's offset is 0, a snapshot's transid, or what a reloc tree copies."""
        last = Key(tree_id, ItemType.ROOT_ITEM, U64_MAX)
        for key, payload in self.root_tree.items(Key(tree_id, ItemType.ROOT_ITEM, 0), last):
            yield key, root_item(payload)

    def tree(self, tree_id: int) -> Tree:
        """Return the tree with that id; of several the newest, as the kernel's ``btrfs_get_root_ref`` does.

        Raises NotFoundError when the filesystem has none.
        """
        if tree_id not in self._trees:
            self._trees[tree_id] = self._find_tree(tree_id)
        return self._trees[tree_id]

    def _find_tree(self, tree_id: int) -> Tree:
        if tree_id == TreeId.ROOT_TREE:
            return self.root_tree
        if tree_id == TreeId.CHUNK_TREE:
            return Tree(self.blocks, chunk_tree_pointer(self.volume))
        if tree_id == TreeId.TREE_LOG and self.superblock.log_root:
            return Tree(self.blocks, log_root_pointer(self.volume))
        items = list(self.root_items(tree_id))
        if not items:
            raise NotFoundError(f"there is no tree {tree_id}")
        return Tree(self.blocks, root_pointer(tree_id, items[-1][1]))

    def subvolume(self, subvolume_id: int) -> Subvolume:
        """Return a subvolume.

        Raises NotFoundError when there is none with that id.
        """
        if subvolume_id not in self._subvolumes:
            items = list(self.root_items(subvolume_id)) if is_subvolume(subvolume_id) else []
            if not items:
                raise NotFoundError(f"there is no subvolume {subvolume_id}")
            tree = Tree(self.blocks, root_pointer(subvolume_id, items[-1][1]))
            self._subvolumes[subvolume_id] = Subvolume(subvolume_id, items[-1][1], tree)
        return self._subvolumes[subvolume_id]

    def lay_over(self, tree_id: int, tree: Tree) -> None:
        """Read *tree* from now on where the tree with that id is asked for: it has the log replayed."""
        self._trees[tree_id] = tree
        if is_subvolume(tree_id):
            self._subvolumes[tree_id] = self.subvolume(tree_id)._replace(tree=tree)

    def subvolumes(self) -> list[Subvolume]:
        """Return every subvolume in order of id, also those being deleted (``root.refs`` is 0); report bad ones."""
        first, last = Key(TreeId.FS_TREE, ItemType.ROOT_ITEM, 0), Key(TreeId.LAST_FREE, ItemType.ROOT_ITEM, U64_MAX)
        ids: dict[int, None] = {}
        for key, _ in self.root_tree.items(first, last, bad=self.report):
            if key.type == ItemType.ROOT_ITEM and is_subvolume(key.objectid):
                ids[key.objectid] = None
        found = []
        for subvolume_id in ids:
            try:
                found.append(self.subvolume(subvolume_id))
            except BlockError as error:
                self.report(error)
            except CorruptError as error:
                self.report(CorruptError(f"subvolume {subvolume_id}: {error}"))
        return found

    def parent_of(self, subvolume_id: int) -> Parent | None:
        """Return where a subvolume hangs, None for the top-level one and for one that hangs nowhere."""
        first = Key(subvolume_id, ItemType.ROOT_BACKREF, 0)
        for key, payload in self.root_tree.items(first, first._replace(offset=U64_MAX)):
            ref = records_of(RootRef, ItemType.ROOT_BACKREF, payload)[0]
            return Parent(key.offset, ref.dirid, ref.name)
        return None

    def path_of_subvolume(self, subvolume_id: int) -> bytes | None:
        """Return the path of a subvolume from the top-level one (``b""``), None when it hangs nowhere."""
        from btrimg.filesystem.namei import path_of_subvolume

        return path_of_subvolume(self, subvolume_id)

    def default_subvolume(self) -> int:
        """Return the id of the subvolume that is mounted by default (the root tree directory's ``default``)."""
        from btrimg.ondisk.csum import name_hash

        key = Key(TreeId.ROOT_TREE_DIR, ItemType.DIR_ITEM, name_hash(b"default"))
        try:
            entries = records_of(DirItem, ItemType.DIR_ITEM, self.root_tree.get(key))
        except NotFoundError:
            return TreeId.FS_TREE
        return next((entry.location.objectid for entry in entries if entry.name == b"default"), TreeId.FS_TREE)

    def open(self, path: bytes, *, subvolume: int = TreeId.FS_TREE, follow: bool = True) -> Inode:
        """Return the inode at *path*, absolute from the top directory of *subvolume*; crosses into subvolumes.

        With *follow* a symlink at the end is followed too; targets stay inside the image. Raises NotFoundError when
        a component is missing or no directory, CorruptError when a block on the way cannot be read.
        """
        from btrimg.filesystem.namei import lookup

        return lookup(self, self.subvolume(subvolume), path, follow=follow)

    def extents(self, *, holes: bool = False, pieces: bool = False) -> ExtentColumns:
        """Return every file extent of every subvolume as columns; :mod:`btrimg.filesystem.census` documents them."""
        from btrimg.filesystem.census import all_extents

        return all_extents(self, holes=holes, pieces=pieces)


def root_item(payload: bytes) -> RootItem:
    """Return a root item; a legacy one of 239 bytes is filled with zeros.

    Raises CorruptError when it is shorter.
    """
    return records_of(RootItem, ItemType.ROOT_ITEM, payload)[0]


def root_pointer(tree_id: int, item: RootItem) -> Pointer:
    """Return what a root item promises of its root block."""
    return Pointer(item.bytenr, item.level, item.generation, tree_id)


def root_tree_pointer(volume: Volume) -> Pointer:
    """Return what the superblock promises of the root tree."""
    sb = volume.superblock
    return Pointer(sb.root, sb.root_level, sb.generation, TreeId.ROOT_TREE)


def chunk_tree_pointer(volume: Volume) -> Pointer:
    """Return what the superblock promises of the chunk tree."""
    sb = volume.superblock
    return Pointer(sb.chunk_root, sb.chunk_root_level, sb.chunk_root_generation, TreeId.CHUNK_TREE)


def log_root_pointer(volume: Volume) -> Pointer:
    """Return what the superblock promises of the tree of log trees, which the next transaction wrote."""
    sb = volume.superblock
    return Pointer(sb.log_root, sb.log_root_level, sb.generation + 1, TreeId.TREE_LOG)


def open_image(
    paths: Path | Sequence[Path],
    *,
    force: bool = False,
    replay_log: bool | None = False,
    warn: Callable[[str], None] | None = None,
    opener: Callable[[str], Device] = Device,
) -> Image:
    """Open the filesystem on *paths*: an image file or block device, or all or some of its devices in any order.

    *force* opens in spite of unknown incompat bits. *replay_log* shows the files as the kernel would after replaying
    the log tree; False tells *warn* that there is one, None (for who looks at the disk as it is) does not. *warn* hears
    one sentence for each thing that was bad and could be got by, by default as a BtrimgWarning. *opener* opens each
    device. Raises DeviceError, UnsupportedError or CorruptError when it cannot be opened.
    """
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    volume = open_volume([os.fspath(path) for path in several], force=force, warn=warn or _warn, opener=opener)
    try:
        image = Image(volume)
        if image.superblock.log_root:
            _handle_log(image, replay=replay_log)
    except BaseException:
        volume.close()
        raise
    return image


def _handle_log(image: Image, *, replay: bool | None) -> None:
    if replay:
        from btrimg.filesystem.logtree import replay_log

        replay_log(image)
    elif replay is not None:
        image.volume.warn("a log tree holds changes made after the last commit; --replay-log shows them")


def _warn(message: str) -> None:
    warnings.warn(message, BtrimgWarning, stacklevel=3)
