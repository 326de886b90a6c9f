"""Files and directories moved from one subvolume into another.

No rename leads across subvolumes: the kernel refuses it, and mv(1) copies, and removes what it has copied. So it is
done here: the copies share the data, have all attributes, and are new inodes. Subvolumes below are moved as they are.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from btrimg.build.paths import Spot
from btrimg.build.removal import above, hangs_here, remove, remove_tree
from btrimg.errors import RefusedError
from btrimg.filesystem.edit_names import entry_named, inode_key
from btrimg.filesystem.inode import quoted
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import U64_MAX, FileType, InodeFlag, ItemType
from btrimg.ondisk.inodes import DirItem
from btrimg.ondisk.items import records_of
from btrimg.write import fileextents, inodes, names, reflink, subvolumes, xattrs
from btrimg.write.inodes import Times

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.build.paths import Paths
    from btrimg.ondisk.inodes import InodeItem

    _Known = tuple[int, int, int]  # source subvolume, inode in it, and target subvolume

_VERITY = int(InodeFlag.VERITY)


class Crossing:
    """Moves things between subvolumes; those that have several names keep them as long as one of these lives."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._made: dict[_Known, int] = {}  # what has further names where it comes from

    def move(self, parent: Spot, name: bytes, target: Spot, new_name: bytes) -> None:
        """Move *name*, which is no subvolume, to *new_name* in another subvolume.

        What has that name goes as in a rename: only an empty directory makes room for a directory, and only what is
        none for the rest. Raises RefusedError then, for a directory that would move into itself, and for files that
        are sealed by fs-verity.
        """
        names.check_name(new_name)
        entry = names.find(parent.files, parent.ino, name)
        is_directory = entry.type == FileType.DIR
        source = Spot(parent.files, entry.location.objectid)
        if is_directory and source in above(self._paths, target):
            raise RefusedError("a directory cannot be moved into itself")
        other = entry_named(target.files.tree, target.ino, new_name)
        self._refuse_sealed(source)
        if other is None:
            names.free_place(*target, new_name)
        else:
            if other.location.type == ItemType.ROOT_ITEM:
                raise RefusedError("a subvolume has the new name")
            if (other.type == FileType.DIR) != is_directory:
                what = "a directory" if is_directory else "what is no directory"
                raise RefusedError(f"{quoted(new_name)} cannot make room for {what}")
            remove(self._paths, target, new_name)
        several = self._copy(source, target, new_name)
        remove_tree(self._paths, parent, name)
        for known in several:
            if parent.files.tree.find(inode_key(known[1])) is None:  # the number may be given out again
                self._made.pop(known, None)

    def _refuse_sealed(self, source: Spot) -> None:
        due = [source]
        while due:
            files, ino = due.pop()
            item = inodes.read(files, ino)
            if item.flags & _VERITY:
                raise RefusedError(
                    f"inode {ino} of subvolume {files.id} is sealed by fs-verity, and a copy would not be"
                )
            if stat.S_ISDIR(item.mode):
                inside = (entry.location for entry in _entries(Spot(files, ino)))
                due += [Spot(files, where.objectid) for where in inside if where.type == ItemType.INODE_ITEM]

    def _copy(self, source: Spot, target: Spot, new_name: bytes) -> list[_Known]:
        """Copy the inode at *source*, with all below it, to *new_name* in the directory *target*.

        Return those of what was copied that have, or had, several names.
        """
        due, several = [(source, target, new_name)], []
        made: list[tuple[Spot, InodeItem]] = []  # directories, whose times change until all is in them
        while due:
            source, target, name = due.pop()
            item, known = inodes.read(*source), (source.files.id, source.ino, target.files.id)
            if stat.S_ISDIR(item.mode) or (item.nlink == 1 and known not in self._made):
                ino = self._new(source, item, target)
            else:
                ino = self._one_of_several(known, source, item, target)
                several.append(known)
            names.enter(target.files, target.ino, name, ino, inodes.file_type(item.mode))
            if not stat.S_ISDIR(item.mode):
                continue
            copy = Spot(target.files, ino)
            made.append((copy, item))
            entries = list(_entries(source))
            due += [
                (Spot(source.files, entry.location.objectid), copy, entry.name)
                for entry in reversed(entries)
                if entry.location.type == ItemType.INODE_ITEM
            ]
            for entry in entries:
                if entry.location.type == ItemType.INODE_ITEM:
                    continue
                if hangs_here(source, entry.name, entry):
                    subvolumes.rename(*source, entry.name, *copy, entry.name)
                else:  # in a snapshot, of a subvolume that is elsewhere: an empty directory
                    empty = inodes.create(copy.files, stat.S_IFDIR | 0o755)
                    names.enter(*copy, entry.name, empty, FileType.DIR)
        for copy, item in made:
            inodes.change(*copy, mtime=item.mtime, atime=item.atime)
        self._paths.forget()
        return several

    def _one_of_several(self, known: _Known, source: Spot, item: InodeItem, target: Spot) -> int:
        """Return the number of a copy of an inode, which has room for one more name: an older one, or a new one."""
        ino = self._made.get(known)
        if ino is None or target.files.tree.find(inode_key(ino)) is None:
            ino = self._made[known] = self._new(source, item, target)
        else:
            inodes.change(target.files, ino, nlink=inodes.read(target.files, ino).nlink + 1)
        return ino

    def _new(self, source: Spot, item: InodeItem, target: Spot) -> int:
        files, now = target.files, target.files.now
        ino, size, nbytes = files.new_ino(), 0, 0
        if stat.S_ISREG(item.mode):
            _, pieces = reflink.whole(*source)
            size, nbytes = item.size, fileextents.lay(files, ino, item.size, pieces)
        elif stat.S_ISLNK(item.mode):
            size = nbytes = item.size
            payload = source.files.tree.get(Key(source.ino, ItemType.EXTENT_DATA, 0))
            files.tree.put(Key(ino, ItemType.EXTENT_DATA, 0), payload)
        inodes.create(
            files,
            item.mode,
            ino=ino,
            uid=item.uid,
            gid=item.gid,
            rdev=item.rdev,
            flags=item.flags,
            size=size,
            nbytes=nbytes,
            times=Times(item.atime, now, item.mtime, now),
        )
        xattrs.put_all(files, ino, xattrs.read_all(*source))
        return ino


def _entries(directory: Spot) -> Iterator[DirItem]:
    first = Key(directory.ino, ItemType.DIR_INDEX, 0)
    for key, payload in directory.files.tree.items(first, first._replace(offset=U64_MAX)):
        yield from records_of(DirItem, ItemType(key.type), payload)
