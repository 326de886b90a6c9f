"""The log tree: what was fsynced after the last commit, shown as the kernel would after replaying it.

fsync() writes the items of an inode, and of those that its names depend on, into a log tree of its subvolume. The tree
of log trees hangs on the superblock until the next commit. Mounting replays the logs into the subvolumes
(fs/btrfs/tree-log.c ``btrfs_recover_log_trees``); here they are replayed into overlays, and nothing is written.

Not as the kernel has it: the mtime and ctime of a directory that replay takes a name out of, and the ctime of that
name's inode, are "now" there; here they stay as they were logged.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from btrimg.errors import BtrimgError, CorruptError, NotFoundError
from btrimg.filesystem import edit_names as names
from btrimg.filesystem.edit_extents import drop_extents, put_csums
from btrimg.filesystem.extents import row_of_item
from btrimg.filesystem.image import root_item, root_pointer
from btrimg.filesystem.namei import Link
from btrimg.ondisk.blocks import DiskKey, Key
from btrimg.ondisk.constants import FILE_TYPES, U64_MAX, FileType, Incompat, ItemType, TreeId
from btrimg.ondisk.inodes import DirItem, DirLogItem, InodeItem
from btrimg.ondisk.items import records_of
from btrimg.trees.overlay import OverlayTree
from btrimg.trees.tree import Tree
from btrimg.units import round_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from btrimg.filesystem.image import Image


def replay_log(image: Image) -> None:
    """Make *image* show its files as the kernel would after replaying the log tree.

    Warns, and leaves the last commit to be seen, when the log cannot be replayed.
    """
    overlays: dict[int, OverlayTree] = {}

    def overlay(tree_id: int) -> OverlayTree:
        if tree_id not in overlays:
            overlays[tree_id] = OverlayTree(image.tree(tree_id))
        return overlays[tree_id]

    try:
        replay_logs(image, logs_of(image), overlay)
    except BtrimgError as error:
        image.volume.warn(
            f"the log tree cannot be replayed, and the kernel would refuse to mount: {error}; the last commit is shown"
        )
        return
    for tree_id, tree in overlays.items():
        image.lay_over(tree_id, tree)


def replay_logs(image: Image, logs: Iterable[tuple[int, Tree]], overlay: Callable[[int], OverlayTree]) -> None:
    """Replay *logs*, as (subvolume, log tree), into the trees that *overlay* gives: subvolumes, and that of checksums.

    Raises CorruptError when they cannot be replayed.
    """
    for subvolume_id, log in logs:
        try:
            subvolume = image.subvolume(subvolume_id)
        except NotFoundError:  # deleted after the fsync
            continue
        if subvolume.root.refs == 0:
            continue
        _Replay(image, log, overlay(subvolume_id)).run()
        _replay_csums(image, log, overlay)


def logs_of(image: Image) -> Iterator[tuple[int, Tree]]:
    """Yield (subvolume id, log tree)."""
    first = Key(TreeId.TREE_LOG, ItemType.ROOT_ITEM, 0)
    for key, payload in image.tree(TreeId.TREE_LOG).items(first, first._replace(offset=U64_MAX)):
        yield key.offset, Tree(image.blocks, root_pointer(TreeId.TREE_LOG, root_item(payload)))


def _replay_csums(image: Image, log: Tree, overlay: Callable[[int], OverlayTree]) -> None:
    volume = image.volume
    first = Key(TreeId.EXTENT_CSUM, ItemType.EXTENT_CSUM, 0)
    for key, sums in log.items(first, first._replace(offset=U64_MAX)):
        put_csums(overlay(TreeId.CSUM_TREE), key.offset, sums, volume.csum.size, volume.sectorsize)


class _Replay:
    """The replay of one log into the overlay of its subvolume, in the stages of fs/btrfs/tree-log.c."""

    def __init__(self, image: Image, log: Tree, tree: OverlayTree) -> None:
        self._log, self._tree = log, tree
        self._sectorsize = image.volume.sectorsize
        self._transid = image.superblock.generation + 1
        self._no_holes = bool(image.superblock.incompat_flags & Incompat.NO_HOLES)
        self._ignored: set[int] = set()  # inodes that had no name when they were logged
        self._fixup: set[int] = set()  # inodes whose names must be counted

    def run(self) -> None:
        """Replay inodes, then directory entries, then the rest; then count links."""
        for key, payload in self._log.items():
            if key.type == ItemType.INODE_ITEM:
                self._replay_inode(key.objectid, InodeItem.unpack(payload))
        for key, payload in self._log.items():
            if key.type == ItemType.DIR_INDEX and key.objectid not in self._ignored:
                entry = records_of(DirItem, ItemType.DIR_INDEX, payload)[0]
                self._replay_name(Link(key.objectid, key.offset, entry.name), entry)
        for key, payload in self._log.items():
            if key.objectid in self._ignored:
                continue
            if key.type == ItemType.XATTR_ITEM:
                self._tree.put(key, payload)
            elif key.type in (ItemType.INODE_REF, ItemType.INODE_EXTREF):
                self._replay_refs(key)
            elif key.type == ItemType.EXTENT_DATA:
                self._replay_extent(key, payload)
        while self._fixup:
            self._fix_link_count(self._fixup.pop())

    # Stage 1: inodes exist, and what was removed is gone

    def _replay_inode(self, ino: int, item: InodeItem) -> None:
        if item.nlink == 0:
            self._ignored.add(ino)
            return
        self._delete_xattrs(ino)
        if stat.S_ISDIR(item.mode):
            self._delete_logged_names(ino)
        self._overwrite_inode(ino, item)
        if stat.S_ISREG(item.mode):
            # Now, not at the end: the log may hold extents preallocated past the end of the file.
            current = InodeItem.unpack(self._tree.get(names.inode_key(ino)))
            self._drop_extents(ino, round_up(current.size, self._sectorsize), U64_MAX)
        self._fixup.add(ino)

    def _overwrite_inode(self, ino: int, item: InodeItem) -> None:
        """Take over a logged inode item but for what is kept up to date while other items are replayed."""
        key = names.inode_key(ino)
        directory = stat.S_ISDIR(item.mode)
        nbytes, size = 0, 0 if directory else item.size
        if names.has_item(self._tree, key):
            old = InodeItem.unpack(self._tree.get(key))
            if item.generation == 0:  # logged only so that it exists; size 0 then means that it was not fsynced
                if stat.S_ISREG(item.mode) and stat.S_ISREG(old.mode) and item.size:
                    self._tree.put(key, old.replace(size=item.size).pack())
                return
            nbytes = old.nbytes
            size = old.size if directory and stat.S_ISDIR(old.mode) else size
        item = item.replace(generation=item.generation or self._transid, nbytes=nbytes, size=size)
        self._tree.put(key, item.pack())

    def _delete_xattrs(self, ino: int) -> None:
        """Delete the extended attributes that the log does not have."""
        first = Key(ino, ItemType.XATTR_ITEM, 0)
        for key, payload in self._tree.items(first, first._replace(offset=U64_MAX)):
            logged = {entry.name for entry in names.records_at(self._log, DirItem, key)}
            entries = records_of(DirItem, ItemType.XATTR_ITEM, payload)
            names.put_records(self._tree, key, [entry for entry in entries if entry.name in logged])

    def _delete_logged_names(self, directory: int) -> None:
        """Delete the entries that lie in the ranges of indexes that the log speaks for, and are not in it."""
        if not self._has_inode(directory):
            return
        first = Key(directory, ItemType.DIR_LOG_INDEX, 0)
        for key, payload in self._log.items(first, first._replace(offset=U64_MAX)):
            self._delete_names(directory, key.offset, DirLogItem.unpack(payload).end, unless_logged=True)

    def _delete_names(self, directory: int, first: int, last: int, *, unless_logged: bool) -> None:
        """Delete the entries with an index from *first* to *last*."""
        start = Key(directory, ItemType.DIR_INDEX, first)
        for key, payload in self._tree.items(start, start._replace(offset=last)):
            entry = records_of(DirItem, ItemType.DIR_INDEX, payload)[0]
            if not unless_logged or not names.entry_at(self._log, Link(directory, key.offset, entry.name)):
                self._drop_entry(directory, entry)

    # Stage 2: directory entries

    def _replay_name(self, link: Link, logged: DirItem) -> None:
        """Replay one entry of a logged directory, if its inode is there: fsync of a directory does not log files."""
        self._require_inode(link.parent)
        ino = logged.location.objectid
        exists = names.has_item(self._tree, Key(*logged.location))
        is_there = [
            self._is_there(names.entry_named(self._tree, link.parent, link.name), logged, link, drop_other=exists),
            self._is_there(names.entry_at(self._tree, link), logged, link, drop_other=exists),
        ]
        if all(is_there) or not exists:
            return
        # A name that the inode's logged references tell of is added with these.
        if any(names.knows_name(tree, ino, link.parent, link.name) for tree in (self._log, self._tree)):
            return
        names.add_ref(self._tree, ino, link)
        self._add_entry(ino, link)
        if logged.type != FileType.DIR:
            self._fixup.add(ino)

    def _is_there(self, found: DirItem | None, logged: DirItem, link: Link, *, drop_other: bool) -> bool:
        """Return whether the entry *found* leads where the logged one does; if not, maybe drop it."""
        if found is None:
            return False
        if (found.location, found.type) == (logged.location, logged.type):
            return True
        if drop_other:
            self._drop_entry(link.parent, found)
        return False

    def _drop_entry(self, directory: int, entry: DirItem) -> None:
        ino = entry.location.objectid
        self._require_inode(ino)
        self._fixup.add(ino)
        names.unlink(self._tree, directory, ino, entry.name)

    def _add_entry(self, ino: int, link: Link) -> None:
        mode = InodeItem.unpack(self._tree.get(names.inode_key(ino))).mode
        file_type = FILE_TYPES.get(stat.S_IFMT(mode), FileType.UNKNOWN)
        where = DiskKey(*names.inode_key(ino))
        entry = DirItem(where, self._transid, 0, len(link.name), file_type, link.name, b"")
        names.add_entry(self._tree, link.parent, link.dir_index, entry)

    # Stage 3: references from inodes to their names, and extents

    def _replay_refs(self, key: Key) -> None:
        """Make the names in one logged item the ones that the inode has by that item."""
        ino, logged = key.objectid, names.links_at(self._log, key)
        if not self._has_inode(logged[0].parent):  # the directory was not logged
            return
        self._require_inode(ino)
        for link in logged:
            if not self._has_inode(link.parent) or self._is_linked(ino, link):
                continue
            if ino == link.parent:  # the top directory, which is its own parent and has no entry
                return
            self._make_room(ino, link)
            self._add_entry(ino, link)
        for old in names.links_at(self._tree, key):
            if not names.has_name(self._log, key, old.parent, old.name):
                names.unlink(self._tree, old.parent, ino, old.name)
        self._tree.put(key, self._log.get(key))

    def _is_linked(self, ino: int, link: Link) -> bool:
        found = names.entry_at(self._tree, link), names.entry_named(self._tree, link.parent, link.name)
        return all(entry is not None and entry.location.objectid == ino for entry in found)

    def _make_room(self, ino: int, link: Link) -> None:
        """Unlink what conflicts with a name of *ino*: its other names by that item, and the name's other inode."""
        for key in (names.ref_key(ino, link.parent), names.extref_key(ino, link.parent, link.name)):
            for old in names.links_at(self._tree, key):
                if old.parent == link.parent and not names.has_name(self._log, key, old.parent, old.name):
                    names.unlink(self._tree, old.parent, ino, old.name)
        if entry := names.entry_at(self._tree, link):
            self._drop_entry(link.parent, entry)
        if entry := names.entry_named(self._tree, link.parent, link.name):
            self._drop_entry(link.parent, entry)

    def _replay_extent(self, key: Key, payload: bytes) -> None:
        """Put one logged file extent in place of whatever the file has there."""
        self._require_inode(key.objectid)
        if names.has_item(self._tree, key) and self._tree.get(key) == payload:
            return
        row = row_of_item(key, payload)
        end = round_up(row.end, self._sectorsize) if row.kind == "inline" else row.end
        self._drop_extents(key.objectid, key.offset, end)
        if row.kind == "hole":
            if not self._no_holes:
                self._tree.put(key, payload)
            return
        self._tree.put(key, payload)
        self._add_bytes(key.objectid, row.length)

    def _drop_extents(self, ino: int, start: int, end: int) -> None:
        self._add_bytes(ino, -drop_extents(self._tree, ino, start, end))

    def _add_bytes(self, ino: int, count: int) -> None:
        item = InodeItem.unpack(self._tree.get(names.inode_key(ino)))
        names.change_inode(self._tree, ino, nbytes=max(item.nbytes + count, 0))

    # Afterwards

    def _fix_link_count(self, ino: int) -> None:
        """Count the names of an inode; without any, it and all that is below it go."""
        first, last = names.ref_key(ino, 0), Key(ino, ItemType.INODE_EXTREF, U64_MAX)
        count = sum(len(names.links_at(self._tree, key)) for key, _ in self._tree.items(first, last))
        names.change_inode(self._tree, ino, nlink=count, transid=self._transid)
        if count:
            return
        self._delete_names(ino, 0, U64_MAX, unless_logged=False)
        self._tree.put(Key(TreeId.ORPHAN, ItemType.ORPHAN_ITEM, ino), b"")

    def _has_inode(self, ino: int) -> bool:
        return names.has_item(self._tree, names.inode_key(ino))

    def _require_inode(self, ino: int) -> None:
        if not self._has_inode(ino):
            raise CorruptError(f"the log needs inode {ino}, which is not there")
