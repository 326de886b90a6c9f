"""Inodes of a filesystem with the attributes that entries say."""

from __future__ import annotations

from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import ItemType
from btrimg.ondisk.inodes import InodeItem, Timespec
from btrimg.write import inodes, xattrs
from btrimg.write.inodes import Times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.build.entries import Entry
    from btrimg.write.files import Files

_pack_inode = InodeItem.STRUCT.pack


def times_of(entry: Entry) -> Times:
    """Return the times of an entry as an inode has them."""
    times = entry.times
    return Times(*(Timespec(*times[at : at + 2]) for at in (0, 2, 4, 6)))


def create(
    files: Files, ino: int, entry: Entry, *, flags: int = 0, size: int = 0, nbytes: int = 0, rdev: int = 0
) -> None:
    """Put the item of the new inode *ino*, which has one name, and its extended attributes."""
    if entry.xattrs:
        flags |= compression_flags(entry)
        xattrs.put_all(files, ino, dict(entry.xattrs))
    files.tree.put(Key(ino, ItemType.INODE_ITEM, 0), inode_item(entry, files.generation, flags, size, nbytes, rdev))


def inode_item(entry: Entry, generation: int, flags: int, size: int, nbytes: int, rdev: int = 0) -> bytes:
    """Return the item of a new inode with one name."""
    uid, gid = entry.owner
    counts = (generation, generation, size, nbytes, 0, 1)
    return _pack_inode(*counts, uid, gid, entry.mode, rdev, flags, 0, 0, 0, 0, 0, *entry.times)


def create_symlink(files: Files, ino: int, entry: Entry) -> None:
    """Put a new symlink, and its extended attributes."""
    uid, gid = entry.owner
    inodes.create_symlink(files, entry.target, ino=ino, uid=uid, gid=gid, times=times_of(entry))
    if entry.xattrs:
        xattrs.put_all(files, ino, dict(entry.xattrs))


def compression_flags(entry: Entry) -> int:
    """Return the flags that go with the property ``btrfs.compression`` of an entry."""
    value = dict(entry.xattrs).get(xattrs.COMPRESSION) if entry.xattrs else None
    return xattrs.compression_flags(value) if value else 0


def attributes_differ(files: Files, ino: int, entry: Entry) -> bool:
    """Return whether an inode has other attributes than its entry says."""
    item = inodes.read(files, ino)
    if (item.mode, item.uid, item.gid) != (entry.mode, *entry.owner):
        return True
    if (item.atime, item.ctime, item.mtime, item.otime) != times_of(entry):
        return True
    return xattrs.read_all(files, ino) != dict(entry.xattrs)


def change_attributes(files: Files, ino: int, entry: Entry) -> None:
    """Give an inode that is there the attributes of *entry*; nothing changes where it has them."""
    if not attributes_differ(files, ino, entry):
        return
    stored, wanted = xattrs.read_all(files, ino), dict(entry.xattrs)
    for name in sorted(stored.keys() - wanted.keys()):
        xattrs.remove(files, ino, name)
    for name, value in entry.xattrs:
        if stored.get(name) != value:
            xattrs.set_value(files, ino, name, value)
    atime, ctime, mtime, otime = times_of(entry)
    uid, gid = entry.owner
    inodes.change(files, ino, mode=entry.mode, uid=uid, gid=gid, atime=atime, ctime=ctime, mtime=mtime, otime=otime)
