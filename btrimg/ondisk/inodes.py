"""Inodes, names and what hangs on them: items of subvolume and log trees."""

from __future__ import annotations

from btrimg.ondisk.blocks import DiskKey  # noqa: TC001
from btrimg.ondisk.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Annotated

    from btrimg.ondisk.fields import S64, U8, U16, U32, U64, counted, times


class Timespec(Record):
    """A time (``struct btrfs_timespec``)."""

    sec: S64  #: since 1970, negative before
    nsec: U32


class InodeItem(Record):
    """An inode (``struct btrfs_inode_item``); key: (ino, INODE_ITEM, 0)."""

    generation: U64  #: transid that created it
    transid: U64  #: transid that last changed it
    size: U64
    nbytes: U64  #: bytes that its extents take, uncompressed, without holes
    block_group: U64  #: unused
    nlink: U32
    uid: U32
    gid: U32
    mode: U32  #: type and permissions, as ``st_mode``
    rdev: U64  #: device number of a special file: major << 20 | minor (include/linux/kdev_t.h)
    flags: U64  #: InodeFlag
    sequence: U64  #: NFS change counter
    reserved: Annotated[tuple[int, ...], times(4, U64)]
    atime: Timespec
    ctime: Timespec
    mtime: Timespec
    otime: Timespec  #: creation


class InodeRef(Record):
    """A name of an inode (``struct btrfs_inode_ref``), several in one item; key: (ino, INODE_REF, parent ino)."""

    index: U64  #: offset of the DIR_INDEX key in the parent
    name_len: U16
    name: Annotated[bytes, counted("name_len")]


class InodeExtref(Record):
    """A name for which INODE_REF had no room (``struct btrfs_inode_extref``), several in one item.

    Key: (ino, INODE_EXTREF, extref_hash).
    """

    parent_objectid: U64  #: ino of the directory
    index: U64  #: offset of the DIR_INDEX key in the parent
    name_len: U16
    name: Annotated[bytes, counted("name_len")]


class DirItem(Record):
    """A name in a directory, or an xattr (``struct btrfs_dir_item``).

    Keys: (parent, DIR_ITEM, name_hash), several in one item when hashes collide; (parent, DIR_INDEX, index);
    (ino, XATTR_ITEM, name_hash).
    """

    location: DiskKey  #: of the inode, or of the ROOT_ITEM of a subvolume; zero for an xattr
    transid: U64  #: transid that made the entry
    data_len: U16  #: of an xattr's value
    name_len: U16
    type: U8  #: FileType, bit 0x80 for an encrypted name
    name: Annotated[bytes, counted("name_len")]
    data: Annotated[bytes, counted("data_len")]


class DirLogItem(Record):
    """A range of directory indexes that a log tree speaks for (``struct btrfs_dir_log_item``)."""

    end: U64  #: last index, inclusive; the key's offset is the first


class VerityDescriptor(Record):
    """Head of fs-verity data (``struct btrfs_verity_descriptor_item``).

    Key: (ino, VERITY_DESC_ITEM, 0); the descriptor itself follows in items from key offset 1.
    """

    size: U64  #: bytes of the descriptor
    reserved: Annotated[tuple[int, ...], times(2, U64)]
    encryption: U8
