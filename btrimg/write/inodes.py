"""Inodes made, changed and deleted (fs/btrfs/inode.c)."""

from __future__ import annotations

import stat

from btrimg.errors import CorruptError, NotFoundError, RefusedError
from btrimg.filesystem.edit_names import inode_key
from btrimg.filesystem.inode import quoted
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import FILE_TYPES, U64_MAX, FileExtentType, InodeFlag, ItemType
from btrimg.ondisk.extents import FileExtentInline
from btrimg.ondisk.inodes import InodeItem, Timespec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.ondisk.constants import FileType
    from btrimg.ondisk.record import Value
    from btrimg.write.files import Files

PATH_MAX = 4096  #: include/uapi/linux/limits.h; with the NUL that ends a path
_TRANSID, _SIZE, _SEQUENCE = (InodeItem.places()[name].start for name in ("transid", "size", "sequence"))
_COMPRESSED = InodeFlag.COMPRESS | InodeFlag.NOCOMPRESS


class Times(NamedTuple):
    """The four times of an inode."""

    access: Timespec
    change: Timespec
    modification: Timespec
    creation: Timespec


def file_type(mode: int) -> FileType:
    """Return what a directory entry says of an inode with this *mode*.

    Raises RefusedError when the mode has no type of file.
    """
    kind = FILE_TYPES.get(stat.S_IFMT(mode))
    if kind is None:
        raise RefusedError(f"mode {mode:#o} says nothing of a type of file: add one, as 0o100000 for a regular file")
    return kind


def device_number(major: int, minor: int) -> int:
    """Return the ``rdev`` of a special file (include/linux/kdev_t.h ``MKDEV``).

    Raises RefusedError when a number has too many bits.
    """
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        raise RefusedError(f"there is no device {major}:{minor}: the major number has 12 bits, the minor one 20")
    return major << 20 | minor


def inherited_flags(directory_flags: int, mode: int) -> int:
    """Return the flags of a new inode in a directory with those flags (fs/btrfs/inode.c ``btrfs_inherit_iflags``)."""
    flags = directory_flags & InodeFlag.NODATACOW
    if flags and stat.S_ISREG(mode):
        flags |= InodeFlag.NODATASUM
    compressed = directory_flags & _COMPRESSED
    return int(flags | (InodeFlag.NOCOMPRESS if compressed & InodeFlag.NOCOMPRESS else compressed))


def create(
    files: Files,
    mode: int,
    *,
    ino: int | None = None,
    uid: int = 0,
    gid: int = 0,
    rdev: int = 0,
    flags: int = 0,
    size: int = 0,
    nbytes: int = 0,
    nlink: int = 1,
    times: Times | None = None,
) -> int:
    """Put the item of a new inode, whose names and data the caller adds; return its number.

    *mode* has type and permissions, *times* is now unless said. *size* of a directory and *nbytes* may be given here
    by who knows them already, and grow by what is added later. *ino* must be new.
    """
    if ino is None:
        ino = files.new_ino()
    else:
        files.reserve_ino(ino)
    now, generation = files.now, files.generation
    access, change, modification, creation = times or (now, now, now, now)
    files.tree.put(
        inode_key(ino),
        InodeItem.STRUCT.pack(
            *(generation, generation, size, nbytes, 0, nlink, uid, gid, mode, rdev, flags, 0),
            *(0, 0, 0, 0),
            *(*access, *change, *modification, *creation),
        ),
    )
    return ino


def create_symlink(
    files: Files,
    target: bytes,
    *,
    ino: int | None = None,
    uid: int = 0,
    gid: int = 0,
    flags: int = 0,
    times: Times | None = None,
) -> int:
    """Put a new symlink, whose names the caller adds; return its number (fs/btrfs/inode.c ``btrfs_symlink``).

    Raises RefusedError when the target is empty, has a NUL or is too long.
    """
    longest = min(PATH_MAX - 1, files.room - FileExtentInline.SIZE)
    if not 0 < len(target) <= longest or b"\0" in target:
        shown = f"{quoted(target[:50])}{'…' * (len(target) > 50)}" if target else "nothing"
        raise RefusedError(f"a symlink to {shown} cannot be: a target has 1 to {longest} bytes and no NUL")
    size = len(target)
    ino = create(
        files, stat.S_IFLNK | 0o777, ino=ino, uid=uid, gid=gid, flags=flags, size=size, nbytes=size, times=times
    )
    head = FileExtentInline.STRUCT.pack(files.generation, size, 0, 0, 0, FileExtentType.INLINE)
    files.tree.put(Key(ino, ItemType.EXTENT_DATA, 0), head + target)
    return ino


def read(files: Files, ino: int) -> InodeItem:
    """Return the inode item.

    Raises NotFoundError when there is none.
    """
    return InodeItem.unpack(_payload(files, ino))


def change(files: Files, ino: int, *, growth: int = 0, **fields: Value) -> None:
    """Overwrite *fields* of an inode item, which changes in this transaction; its ``sequence`` rises by one.

    Its size grows by *growth* bytes. Raises NotFoundError when there is none.
    """
    flat = list(InodeItem.STRUCT.unpack_from(_payload(files, ino)))
    places = InodeItem.places()
    if growth:
        flat[_SIZE] = min(max(flat[_SIZE] + growth, 0), U64_MAX)
    flat[_TRANSID], flat[_SEQUENCE] = files.generation, flat[_SEQUENCE] + 1 & U64_MAX
    for name, value in fields.items():
        flat[places[name]] = value if isinstance(value, tuple) else (value,)
    files.tree.put(inode_key(ino), InodeItem.STRUCT.pack(*flat))


def _payload(files: Files, ino: int) -> bytes:
    payload = files.tree.find(inode_key(ino))
    if payload is None:
        raise NotFoundError(f"subvolume {files.id} has no inode {ino}")
    if len(payload) < InodeItem.SIZE:
        raise CorruptError(f"the item of inode {ino} of subvolume {files.id} has {len(payload)} bytes")
    return payload


def delete(files: Files, ino: int) -> None:
    """Delete every item of an inode: its names, xattrs, extents, verity data (fs/btrfs/inode.c ``btrfs_evict_inode``).

    Its entries in directories are the caller's.
    """
    tree = files.tree
    for key, _ in tree.items(Key(ino, 0, 0), Key(ino, 255, U64_MAX)):
        tree.delete(key)
    files.forget_directory(ino)
